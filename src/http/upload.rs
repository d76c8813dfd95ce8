//! Files on their way in: bodies that are longer than questions, and take no more memory than their share.

use super::credentials::Credentials;
use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::{content_length, is_json};
use super::form::{Fields, PIECE_WITHIN, Pieces};
use super::forward::{self, Asked, Once, Place as Where};
use super::pace::{At, Pace, Place};
use crate::attachments::FILE_BYTES_MAX;
use crate::clock;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A file of the largest size in base64, and what is said of it.
const JSON_BYTES_MAX: usize = 30 << 20;
/// Files in one form, and its own bytes beside them.
pub(super) const FORM_FILES_MAX: usize = 10;
pub(super) const FORM_BYTES_MAX: usize = FORM_FILES_MAX * FILE_BYTES_MAX + (1 << 20);
/// 30 MiB at 100 kB/s.
const JSON_WITHIN: Duration = Duration::from_mins(5);
/// Ten files at ten times that; far below the age at which what is being sent is taken for left over.
const FORM_WITHIN: Duration = Duration::from_mins(20);

/// The memory that one upload takes, which grows with it: who says much and sends nothing keeps nobody out.
pub(super) struct Share(OwnedSemaphorePermit, Option<Place>);

impl Share {
    pub(super) fn none(edge: &Edge) -> Result<Self, ApiError> {
        edge.share_of_uploads(0).map(|memory| Self(memory, None))
    }

    /// Takes as much as `bytes` more. Never waits.
    pub(super) fn grow(&mut self, edge: &Edge, bytes: usize) -> Result<(), ApiError> {
        self.0.merge(edge.share_of_uploads(bytes)?);
        Ok(())
    }
}

pub(super) fn slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body came too slowly")
}

pub(super) fn broken_off() -> ApiError {
    error::validation("body", "broke off before its end, or is no form")
}

pub(super) fn too_large(most: usize) -> ApiError {
    let message = format!("the body, or a file in it, is longer than {most} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
}

/// Pieces that come, as one.
struct Gathered {
    bytes: Vec<u8>,
    share: Share,
    /// How long it will be, as its sender says.
    expected: Option<usize>,
    most: usize,
}

/// What is set aside at once, at least.
const STEP_BYTES: usize = 64 << 10;

impl Gathered {
    fn new(edge: &Edge, expected: Option<usize>, most: usize) -> Result<Self, ApiError> {
        if expected.is_some_and(|expected| expected > most) {
            return Err(too_large(most));
        }
        Ok(Self { bytes: Vec::new(), share: Share::none(edge)?, expected, most })
    }

    fn push(&mut self, edge: &Edge, piece: &[u8]) -> Result<(), ApiError> {
        let (has, room) = (self.bytes.len(), self.bytes.capacity());
        let needs = has + piece.len();
        if needs > self.most {
            return Err(too_large(self.most));
        }
        if needs > room {
            // Not all that is promised, and never twice what has come.
            let ahead = (has + (has / 4).max(STEP_BYTES)).min(self.expected.unwrap_or(self.most));
            let target = needs.max(ahead);
            self.share.grow(edge, target - room)?;
            self.bytes.reserve_exact(target - has);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

async fn gather(edge: &Edge, mut body: Body, expected: Option<usize>) -> Result<(Bytes, Share), ApiError> {
    let mut gathered = Gathered::new(edge, expected, JSON_BYTES_MAX)?;
    let (mut pace, mut asked_at) = (Pace::default(), clock::now());
    while let Some(frame) = tokio::time::timeout(PIECE_WITHIN, body.frame()).await.map_err(|_| slow())? {
        let piece = frame.map_err(|_| broken_off())?.into_data().unwrap_or_default();
        if !pace.goes_on(clock::now() - asked_at, piece.len()) {
            return Err(slow());
        }
        gathered.push(edge, &piece)?;
        asked_at = clock::now();
    }
    Ok((gathered.bytes.into(), gathered.share))
}

/// A file within JSON, on the node that is to keep it.
pub(super) struct JsonFile {
    pub(super) body: Bytes,
    pub(super) share: Share,
}

impl FromRequest<Edge> for JsonFile {
    type Rejection = Response;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let message = "the body must be application/json";
            let refused = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message);
            return Err(refused.into_response());
        }
        let credentials =
            Credentials::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        credentials.may_chat(edge).map_err(IntoResponse::into_response)?;
        let asked = Asked::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        let At(who) = At::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        let place = edge.place_of_uploads(who).map_err(IntoResponse::into_response)?;
        let gathered = gather(edge, body, content_length(&parts.headers));
        let gathered = tokio::time::timeout(JSON_WITHIN, gathered).await.unwrap_or_else(|_| Err(slow()));
        let (body, mut share) = gathered.map_err(IntoResponse::into_response)?;
        share.1 = Some(place);
        match forward::place(edge, &asked, &body).await {
            // It takes many commits, and nobody has to stay what they are for that long: each says where it is done.
            Ok(Where::Here(entered)) => drop(entered),
            Ok(Where::There(answered)) => return Err(answered),
            Err(error) => return Err(error.into_response()),
        }
        Ok(Self { body, share })
    }
}

/// A form with files, on the node that is to keep them, or why it is none; elsewhere it is sent on as it comes.
pub(super) struct Form {
    fields: Result<Fields, ApiError>,
    #[expect(dead_code, reason = "held, not read")]
    place: Place,
}

impl FromRequest<Edge> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let asked = Asked::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        if content_length(&parts.headers).is_some_and(|length| length > FORM_BYTES_MAX) {
            return Err(too_large(FORM_BYTES_MAX).into_response());
        }
        let At(who) = At::from_request_parts(&mut parts, edge).await.unwrap_or_else(|never| match never {});
        let place = edge.place_of_uploads(who).map_err(IntoResponse::into_response)?;
        let body = match forward::place_once(edge, &asked, body).await {
            Ok(Once::Here(body)) => body,
            Ok(Once::There(answered)) => return Err(answered),
            Err(error) => return Err(error.into_response()),
        };
        let fields = Fields::of(Request::from_parts(parts, body), edge).await;
        Ok(Self { fields, place })
    }
}

/// A file of a form.
pub(super) struct FormFile {
    pub(super) bytes: Bytes,
    pub(super) name: String,
    pub(super) claimed_type: String,
    #[expect(dead_code, reason = "held, not read")]
    share: Share,
}

impl Form {
    /// What comes of `work` on the form, unless that takes too long.
    pub(super) async fn within<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        tokio::time::timeout(FORM_WITHIN, work).await.unwrap_or_else(|_| Err(slow()))
    }

    /// The next file among the fields of these names; others are passed over.
    pub(super) async fn next(&mut self, edge: &Edge, names: &[&str]) -> Result<Option<FormFile>, ApiError> {
        let fields = self.fields.as_mut().map_err(|error| error.clone())?;
        while let Some(mut pieces) = fields.next().await? {
            let name = pieces.field.name().unwrap_or_default().to_owned();
            if names.contains(&name.as_str()) {
                return file(edge, pieces, &name).await.map(Some);
            }
            while pieces.next().await?.is_some() {}
        }
        Ok(None)
    }
}

async fn file(edge: &Edge, mut pieces: Pieces<'_>, at: &str) -> Result<FormFile, ApiError> {
    let name = pieces.field.file_name().ok_or_else(|| error::validation(at, "must be a file with a name"))?.to_owned();
    let claimed_type = pieces.field.content_type().unwrap_or_default().to_owned();
    let mut gathered = Gathered::new(edge, None, FILE_BYTES_MAX)?;
    while let Some(piece) = pieces.next().await? {
        gathered.push(edge, &piece)?;
    }
    Ok(FormFile { bytes: gathered.bytes.into(), name, claimed_type, share: gathered.share })
}
