//! What is stored of a user: `GET /api/admin/users/{id}/export` and `POST /api/admin/users/{id}/erase`.

use super::described;
use crate::accounts::{AccountsError, Actor, Export};
use crate::base::Chain;
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E3, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::Reading;
use crate::http::write::{Write, kept};
use crate::protocol::account::User;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

/// All that is stored of a user, but the hash of their password.
#[utoipa::path(
    get, path = "/api/admin/users/{id}/export", tag = "admin",
    params(("id" = i64, Path, description = "The user's number", example = 2)),
    responses(
        (
            status = 200, description = "It is broken off where it cannot be read to its end", body = docs::UserExport,
            headers(("Content-Disposition" = String)),
        ),
        Fails<(docs::AdminReads, docs::UnknownUser)>,
    ),
)]
pub(in crate::http) async fn export(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    id: Result<InPath<i64>, ApiError>,
) -> Result<Response, ApiError> {
    let (actor, id) = (credentials.acting_admin(&edge).await?, known_id(id)?);
    let user = reading.seen(&edge, edge.accounts.seen(id)).await?.ok_or(AccountsError::Unknown)?;
    let place = edge.place_of_exports()?;
    Ok(answer(kept(edge.accounts.export(user, &actor)).await?, place))
}

/// All of `export`, as it is read, and `place` held until its end. It is broken off where it cannot be read so far.
pub(in crate::http) fn answer(export: Export, place: impl Send + 'static) -> Response {
    let name = format!("attachment; filename=\"user-{}.json\"", export.user().id);
    let pieces = stream::try_unfold((export, place), async |(mut export, place)| {
        let piece = export.next().await.inspect_err(|error| {
            tracing::warn!(error = %Chain(error), "what is stored of a user is broken off");
        })?;
        Ok::<_, crate::store::StoreError>(piece.map(|piece| (Bytes::from(piece), (export, place))))
    });
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(pieces)).into_response()
}

/// Erases a user, who is not oneself. The account is gone with the answer; what it has left goes behind it.
#[utoipa::path(
    post, path = "/api/admin/users/{id}/erase", tag = "admin",
    params(("id" = i64, Path, description = "The user's number", example = 2)),
    responses(
        (status = 202, description = "It has begun", body = E3<docs::Erasing>),
        Fails<(docs::AdminWrites, docs::UnknownUser, docs::LastAdmin)>,
    ),
)]
pub(in crate::http) async fn erase(
    State(edge): State<Edge>,
    credentials: Credentials,
    id: Result<InPath<i64>, ApiError>,
    write: Write,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    drop(write.release());
    let (actor, id) = (credentials.acting_admin(&edge).await?, known_id(id)?);
    if matches!(&actor, Actor::Admin(login, _) if login.user.id == id) {
        return Err(error::validation("id", "must be another's: nobody erases themselves"));
    }
    let user = kept(edge.accounts.erase(id, &actor)).await?;
    let username = user.as_ref().map(|user: &User| user.username.as_str());
    Ok((StatusCode::ACCEPTED, Json(described(&json!({ "id": id, "username": username, "status": "erasing" })))))
}

fn known_id(id: Result<InPath<i64>, ApiError>) -> Result<i64, ApiError> {
    id.map(|InPath(id)| id).map_err(|_| error::validation("id", "must be a user's number"))
}
