//! `/api/upload`: files that users keep here, and administrators look after.

use super::attachments::file_name;
use super::{PageQuery, Pagination, envelope};
use crate::accounts::Actor;
use crate::attachments::{AttachmentsError, Sent};
use crate::base::{Owner, UnixMillis};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::Reading;
use crate::http::upload::{FORM_FILES_MAX, Form};
use crate::http::write::Write;
use crate::protocol::attachment::{UPLOADS, UploadName};
use crate::store::{AttachmentRow, AttachmentSource, Login, NewAttachment};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Keeps a file, until somebody removes it.
#[utoipa::path(
    post, path = "/api/upload/single", tag = "files",
    request_body(content = docs::FileForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "It is kept", body = E1<docs::LibraryFile>), Fails<docs::UserWrites>),
)]
pub(in crate::http) async fn single(
    State(edge): State<Edge>,
    credentials: Credentials,
    form: Form,
) -> Result<Response, ApiError> {
    let files = Form::within(take(&edge, &credentials, form, (&["file"], 1))).await?;
    let file = files.into_iter().next().ok_or_else(error::internal)?;
    Ok(Json(envelope("OK", file)).into_response())
}

/// Keeps files, until somebody removes them: all of them, or none.
#[utoipa::path(
    post, path = "/api/upload/multiple", tag = "files",
    request_body(content = docs::FilesForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "They are kept", body = E1<Vec<docs::LibraryFile>>), Fails<docs::UserWrites>),
)]
pub(in crate::http) async fn multiple(
    State(edge): State<Edge>,
    credentials: Credentials,
    form: Form,
) -> Result<Response, ApiError> {
    let files = Form::within(take(&edge, &credentials, form, (&["files", "files[]", "file"], FORM_FILES_MAX))).await?;
    Ok(Json(envelope("OK", files)).into_response())
}

/// Takes the files of a form, one after the other: all of them, or none.
async fn take(
    edge: &Edge,
    credentials: &Credentials,
    mut form: Form,
    (fields, most): (&[&str], usize),
) -> Result<Vec<Value>, ApiError> {
    let login = credentials.user(edge).await?;
    let field = fields.first().copied().unwrap_or_default();
    let mut sending = edge.attachments.send(&Owner::user(login.user.id));
    let mut count = 0;
    while let Some(file) = form.next(edge, fields).await? {
        count += 1;
        if count > most {
            return Err(error::validation(field, &format!("must be given {most} times at most")));
        }
        let original_name = file_name(field, &file.name)?;
        let (bytes, claimed_type) = (file.bytes.clone(), file.claimed_type.clone());
        sending.take(Sent { bytes, original_name, claimed_type, source: AttachmentSource::Library }).await?;
    }
    if count == 0 {
        return Err(error::validation(field, "must be given"));
    }
    let (files, at) = sending.finish().await?;
    Ok(files.iter().map(|file| new(file, &login, at)).collect())
}

fn new(file: &NewAttachment, login: &Login, at: UnixMillis) -> Value {
    json!({
        "filename": file.name, "originalName": file.original_name, "size": file.size, "mimetype": file.media_type,
        "path": format!("{UPLOADS}{}", file.name), "uploadedBy": login.user.id, "uploadedAt": at.to_string(),
    })
}

fn shown(file: &AttachmentRow) -> Value {
    // A visitor has no number.
    let user = file.owner.strip_prefix("user:").and_then(|id| id.parse::<i64>().ok());
    json!({
        "filename": file.name, "originalName": file.original_name, "size": file.size, "mimetype": file.media_type,
        "path": format!("{UPLOADS}{}", file.name), "uploadedBy": user.map_or_else(|| json!(file.owner), Value::from),
        "uploadedAt": file.created_at.to_string(),
    })
}

/// Whose files somebody may see: an administrator everybody's.
fn reach(login: &Login) -> Option<Owner> {
    (!login.user.is_admin()).then(|| Owner::user(login.user.id))
}

/// The files of the user, the last first; for an administrator, everybody's.
#[utoipa::path(
    get, path = "/api/upload/list", tag = "files", params(PageQuery),
    responses((status = 200, description = "A page", body = E1<Vec<docs::LibraryFile>>), Fails<docs::UserReads>),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let login = credentials.user(&edge).await?;
    let Query(asked) = asked.map_err(|_| error::validation("query", "must have each name once"))?;
    let (page, number) = asked.check()?;
    let owner = reach(&login);
    let listed = reading.seen(&edge, edge.attachments.list(owner.as_ref(), page)).await?;
    let mut body = envelope("OK", listed.rows.iter().map(shown).collect::<Vec<_>>());
    body.metadata.pagination = Some(Pagination::of(number, page, listed.total));
    Ok(Json(body).into_response())
}

type Named = Result<InPath<String>, ApiError>;

/// A name that no file can have names none.
fn known(name: Named) -> Result<UploadName, ApiError> {
    let name = name.ok().and_then(|InPath(name)| UploadName::parse(&name));
    name.ok_or_else(|| AttachmentsError::Unknown.into())
}

/// What a file is; an administrator may ask for everybody's.
#[utoipa::path(
    get, path = "/api/upload/{file}/info", tag = "files",
    params(("file" = String, Path, description = "The file's name here", pattern = r"^[0-9a-f]{32}\.[0-9a-z]+$", example = "00000000000000000000000000000000.png")),
    responses(
        (status = 200, description = "It is there", body = E1<docs::LibraryFile>),
        Fails<(docs::UserReads, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn info(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    name: Named,
) -> Result<Response, ApiError> {
    let login = credentials.user(&edge).await?;
    let (name, owner) = (known(name)?, reach(&login));
    let found = reading.seen(&edge, edge.attachments.find(&name)).await?;
    let theirs = |file: &AttachmentRow| owner.as_ref().is_none_or(|owner| owner.as_str() == file.owner);
    let file = found.filter(theirs).ok_or(AttachmentsError::Unknown)?;
    Ok(Json(envelope("OK", shown(&file))).into_response())
}

/// Removes a file; an administrator may remove everybody's.
#[utoipa::path(
    delete, path = "/api/upload/{file}", tag = "files",
    params(("file" = String, Path, description = "The file's name here", pattern = r"^[0-9a-f]{32}\.[0-9a-z]+$", example = "00000000000000000000000000000000.png")),
    responses(
        (status = 200, description = "It is gone", body = E1<docs::RemovedFile>),
        Fails<(docs::UserWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn remove(
    State(edge): State<Edge>,
    credentials: Credentials,
    name: Named,
    write: Write,
) -> Result<Response, ApiError> {
    drop(write.release());
    let login = credentials.user(&edge).await?;
    let (name, owner) = (known(name)?, reach(&login));
    // By the right to everybody's files, which may be gone by the time that it is done.
    let actor = if owner.is_none() { Actor::Admin } else { Actor::User };
    let entry = actor(login, credentials.from).entry("remove-upload", ("upload", name.as_str()), &json!({}));
    edge.attachments.remove(&name, owner.as_ref(), entry).await?;
    Ok(Json(envelope("OK", json!({ "filename": name.as_str(), "deleted": true }))).into_response())
}
