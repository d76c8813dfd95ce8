//! `POST /api/chat/attachments`: a file that a question will name.

use super::envelope;
use crate::accounts::{AccountsError, TokenError};
use crate::attachments::{AttachmentsError, FILE_BYTES_MAX, Sent};
use crate::base::{Chain, random_id};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::{Visitor, parse_json, set_cookie};
use crate::http::levels;
use crate::http::upload::{JsonFile, Share, too_large};
use crate::protocol::attachment::UPLOADS;
use crate::store::{AttachmentSource, Exceeded, NewAttachment, StoreError};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;

const FILE_NAME_CHARS_MAX: usize = 256;
const MEDIA_TYPE_BYTES_MAX: usize = 128;
/// Somebody may have removed something by then.
const FULL_FOR: Duration = Duration::from_hours(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    #[serde(borrow)]
    filename: Cow<'a, str>,
    #[serde(borrow)]
    mime_type: Cow<'a, str>,
    size: u64,
    /// In base64.
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
}

/// Takes a file that a question will name. One that none names within a day is removed.
#[utoipa::path(
    post, path = "/api/chat/attachments", tag = "files", request_body = docs::SentFile,
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "It is kept", body = E1<docs::StoredFile>),
        Fails<(docs::Writes, docs::NoVisitors, docs::UserGone)>,
    ),
)]
pub(in crate::http) async fn send(
    State(edge): State<Edge>,
    credentials: Credentials,
    Visitor(visitor): Visitor,
    file: JsonFile,
) -> Response {
    let caller = match credentials.caller(&edge, visitor).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let taken = async {
        let (sent, share) = decoded(&edge, file).await?;
        let mut sending = edge.attachments.send(&caller.owner);
        sending.take(sent).await?;
        drop(share);
        Ok::<_, ApiError>(sending.finish().await?.0)
    };
    let mut response = match taken.await {
        Ok(files) => files.first().map_or_else(|| error::internal().into_response(), shown),
        Err(error) => error.into_response(),
    };
    levels::name_node(&edge, &mut response);
    if let Some(cookie) = set_cookie(&caller, edge.settings.secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn shown(file: &NewAttachment) -> Response {
    let data = json!({
        "id": random_id(), "name": file.original_name, "mimeType": file.media_type, "size": file.size,
        "url": format!("{UPLOADS}{}", file.name), "source": file.source.as_str(),
    });
    Json(envelope("OK", data)).into_response()
}

/// The file out of its JSON, where the work keeps nobody waiting.
async fn decoded(edge: &Edge, JsonFile { body, mut share }: JsonFile) -> Result<(Sent, Share), ApiError> {
    // Both are there for a moment.
    share.grow(edge, body.len() / 4 * 3)?;
    let edge = edge.clone();
    let decoded = tokio::task::spawn_blocking(move || {
        let mut body = Vec::from(body);
        if body.contains(&b'\\') {
            share.grow(&edge, COPIES_OF_ESCAPED * without_solidus(&mut body))?;
        }
        Ok((decode(&body)?, share))
    });
    decoded.await.map_err(|_| error::internal())?
}

/// A string with an escape in it is written anew by the parser, in a buffer that doubles, and then copied.
const COPIES_OF_ESCAPED: usize = 3;

/// Writes each `\/` as `/`, which is the same: PHP writes it so, all over a file in base64. How many bytes those strings have
/// that need no less than that for their other escapes.
fn without_solidus(json: &mut Vec<u8>) -> usize {
    let (mut to, mut from, mut escaped) = (0, 0, 0);
    // Where the string began, and whether an escape is left in it.
    let mut string: Option<(usize, bool)> = None;
    while let Some(&byte) = json.get(from) {
        let escape = if byte == b'\\' { json.get(from + 1).copied() } else { None };
        let kept = match escape {
            Some(b'/') => [Some(b'/'), None],
            Some(other) => {
                string = string.map(|(began, _)| (began, true));
                [Some(byte), Some(other)]
            }
            None => [Some(byte), None],
        };
        from += if escape.is_some() { 2 } else { 1 };
        if byte == b'"' {
            string = match string {
                None => Some((to, false)),
                Some((began, is_escaped)) => {
                    escaped += if is_escaped { to - began } else { 0 };
                    None
                }
            };
        }
        for byte in kept.into_iter().flatten() {
            json[to] = byte;
            to += 1;
        }
    }
    json.truncate(to);
    escaped + string.map_or(0, |(began, _)| to - began)
}

fn decode(body: &[u8]) -> Result<Sent, ApiError> {
    let Posted { filename, mime_type, size, data, source } = parse_json(body)?;
    let source = match source.as_deref() {
        None | Some("upload") => AttachmentSource::Upload,
        Some("voice") => AttachmentSource::Voice,
        Some(_) => return Err(error::validation("source", "must be upload or voice")),
    };
    let original_name = file_name("filename", &filename)?;
    if mime_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Err(error::validation("mimeType", "must have 128 bytes at most"));
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > FILE_BYTES_MAX {
        return Err(too_large(FILE_BYTES_MAX));
    }
    // Some front ends leave the head of a data URL before it.
    let data = data.strip_prefix("data:").and_then(|url| url.split_once(";base64,")).map_or(&*data, |(_, data)| data);
    let bytes = STANDARD.decode(data).map_err(|_| error::validation("data", "must be base64"))?;
    if bytes.len() != size || size == 0 {
        return Err(error::validation("size", "must be the number of bytes in data, and at least 1"));
    }
    Ok(Sent { bytes: Bytes::from(bytes), original_name, claimed_type: mime_type.into_owned(), source })
}

/// What a file is called, without where it lay on somebody's disk.
pub(super) fn file_name(field: &str, given: &str) -> Result<String, ApiError> {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let holds = (1..=FILE_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if holds { Ok(name.to_owned()) } else { Err(error::validation(field, "must be one line of 1 to 256 letters")) }
}

impl From<AttachmentsError> for ApiError {
    fn from(error: AttachmentsError) -> Self {
        let message = error.to_string();
        match error {
            AttachmentsError::Kind => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message),
            AttachmentsError::TooLarge => too_large(FILE_BYTES_MAX),
            AttachmentsError::Empty => error::validation("file", "must not be empty"),
            AttachmentsError::Unknown => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            AttachmentsError::Store(StoreError::Quota(exceeded)) => full(exceeded),
            AttachmentsError::Store(StoreError::NotPermitted) => error::not_admin(),
            AttachmentsError::Store(StoreError::NoOwner) => AccountsError::Token(TokenError::Revoked).into(),
            AttachmentsError::Store(cause) => {
                tracing::warn!(error = %Chain(&cause), "a file is not stored");
                error::soon("the file is not stored; send it again")
            }
        }
    }
}

fn full(exceeded: Exceeded) -> ApiError {
    let message = exceeded.to_string();
    match exceeded {
        Exceeded::Day { left_ms } => {
            let refused = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message);
            refused.after(Duration::from_millis(left_ms))
        }
        Exceeded::Owner => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message),
        Exceeded::Visitors => {
            tracing::warn!("attachments.visitors_bytes is reached: no file of a visitor is taken");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message).after(FULL_FOR)
        }
        Exceeded::Total => {
            tracing::warn!("attachments.total_bytes is reached: no file is taken");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message).after(FULL_FOR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solidus_needs_no_escape_and_other_escapes_are_counted() {
        for (json, expected, escaped) in [
            (r#"{"data":"a\/b\/\/"}"#, r#"{"data":"a/b//"}"#, 0),
            (r#"{"name":"\u56fe","data":"a\/b"}"#, r#"{"name":"\u56fe","data":"a/b"}"#, 7),
            (r#"{"a":"\\/","b":"\"\/","c":"d"}"#, r#"{"a":"\\/","b":"\"/","c":"d"}"#, 4 + 4),
            (r#"{"a":"\\\/"}"#, r#"{"a":"\\/"}"#, 4),
            ("{\"a\":\"bc", "{\"a\":\"bc", 3),
            ("\\", "\\", 0),
            ("\"\\", "\"\\", 2),
            ("", "", 0),
        ] {
            let mut bytes = json.as_bytes().to_vec();
            let counted = without_solidus(&mut bytes);
            assert_eq!((std::str::from_utf8(&bytes), counted), (Ok(expected), escaped), "{json}");
        }
    }
}
