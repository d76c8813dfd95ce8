//! What is stored of a user: `GET /api/admin/users/{id}/export` and `POST /api/admin/users/{id}/erase`.

use super::described;
use super::export::pieces::{self, MAKING_BYTES, PIECE_BYTES, Piece, Source};
use super::export::read::{EXPORT_WITHIN, again};
use crate::accounts::{AccountsError, Actor, Export};
use crate::base::Chain;
use crate::clock;
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
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

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
    let export = kept(edge.accounts.export(user, &actor)).await?;
    let (head, by) = (head(&export), clock::now() + EXPORT_WITHIN);
    let stall = edge.settings.client_stall;
    let body = pieces::body_of(UnderWay { edge, export, by, is_begun: false, place }, (by, stall), "").await?;
    Ok((head, body).into_response())
}

fn head(export: &Export) -> [(HeaderName, String); 2] {
    let name = format!("attachment; filename=\"user-{}.json\"", export.user().id);
    [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, name)]
}

/// What is left of an export.
struct UnderWay {
    edge: Edge,
    export: Export,
    by: Instant,
    /// Something was made. Whoever has nothing yet is told at once what fails, and asks again.
    is_begun: bool,
    #[expect(dead_code, reason = "held, not read")]
    place: OwnedSemaphorePermit,
}

impl Source for UnderWay {
    async fn piece(&mut self) -> Result<Piece, ApiError> {
        let share = || async { self.edge.share_of_bodies(Some(MAKING_BYTES)) };
        let share = again(self.is_begun.then_some(self.by), share).await?;
        let mut out = String::new();
        while out.len() < PIECE_BYTES && !self.export.is_over() {
            let piece = self.export.next().await.map_err(|error| {
                tracing::warn!(error = %Chain(&error), "what is stored of a user cannot be read");
                error::soon("what is stored of the user cannot be read; try again")
            })?;
            out.push_str(&piece.unwrap_or_default());
        }
        self.is_begun = true;
        Ok(Piece::new(out, share, self.export.is_over()))
    }
}

/// All of `export` as it is read, for the operator of this node. It is broken off where it cannot be read so far.
pub(in crate::http) fn answer(export: Export) -> Response {
    let head = head(&export);
    let pieces = stream::try_unfold(export, async |mut export| {
        let piece = export.next().await.inspect_err(|error| {
            tracing::warn!(error = %Chain(error), "what is stored of a user is broken off");
        })?;
        Ok::<_, crate::store::StoreError>(piece.map(|piece| (Bytes::from(piece), export)))
    });
    (head, Body::from_stream(pieces)).into_response()
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
