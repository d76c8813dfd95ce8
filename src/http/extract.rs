//! From a request's parts to checked types.

use super::edge::Edge;
use super::error::{self, ApiError};
use crate::accounts::Caller;
use crate::base::{Cidr, Label};
use crate::upstream::Origin;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Browsers send some 60; what is longer names no language that anybody speaks.
const LANGUAGES_BYTES_MAX: usize = 256;
const VISITOR_COOKIE: &str = "llmchat_visitor";
/// A year: a visitor's chats are theirs for as long as they come back.
const VISITOR_COOKIE_SECONDS: u32 = 365 * 24 * 3600;
/// 10 MiB at 100 kB/s and some more; past that the sender is a slow loris.
const BODY_TIME_MAX: Duration = Duration::from_mins(2);

/// A JSON body's bytes, within the limits of size and time, and its share of the memory for bodies.
pub(super) struct JsonBody(pub(super) Bytes, #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl JsonBody {
    /// Of a request that has none.
    pub(super) fn empty(edge: &Edge) -> Result<Self, ApiError> {
        Ok(Self(Bytes::new(), edge.share_of_bodies(Some(0))?))
    }

    /// The body as `T`. What is refused is named by its field, and its value never repeated.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        parse_json(&self.0)
    }
}

/// A JSON object as `T`. What is refused is named by its field, and its value never repeated.
pub(super) fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // A list would be taken for an object's fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(error::validation("body", "must be an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let (inner, text) = (error.inner(), error.inner().to_string());
        if inner.is_syntax() || inner.is_eof() {
            let rule = format!("is not JSON, at line {} column {}", inner.line(), inner.column());
            return error::validation("body", &rule);
        }
        let named = text.split('`').nth(1).unwrap_or_default();
        let field = if path == "." { "body" } else { path.as_str() };
        match text.split(' ').next() {
            Some("missing") => error::validation(named, "must be given"),
            Some("unknown") if text.starts_with("unknown field") => error::validation(named, "is not known"),
            _ => error::validation(field, "is not of the kind that it must be"),
        }
    })?;
    reader.end().map_err(|_| error::validation("body", "has more behind its end"))?;
    Ok(parsed)
}

impl FromRequest<Edge> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "the body must be application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        let share = edge.share_of_bodies(content_length(request.headers()))?;
        let body = tokio::time::timeout(BODY_TIME_MAX, Bytes::from_request(request, edge)).await;
        let body = body
            .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body came too slowly"))?;
        match body {
            Ok(body) => Ok(Self(body, share)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body is longer than {} bytes", edge.settings.body_bytes_max);
                Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message))
            }
            Err(_) => Err(error::validation("body", "broke off before its end")),
        }
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body without a type is taken for JSON; any other type is refused by name.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A part of the path. One that cannot be read is refused as everything is, by [`ApiError`].
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let part = Path::from_request_parts(parts, state).await;
        part.map(|Path(part)| Self(part)).map_err(|_| error::validation("path", "is not as it has to be"))
    }
}

pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(known, value)| (known == name).then_some(value))
}

/// The header that makes `caller` known next time, where they are new.
pub(super) fn set_cookie(caller: &Caller, secure: bool) -> Option<HeaderValue> {
    let value = caller.new_cookie.as_ref()?;
    let secure = if secure { "; Secure" } else { "" };
    let cookie =
        format!("{VISITOR_COOKIE}={value}; Path=/; Max-Age={VISITOR_COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}");
    Some(HeaderValue::try_from(cookie).expect("hex, base64 and our own text are good header bytes"))
}

/// The visitor that a cookie names, or one whom nobody knows yet.
pub(super) fn visitor(headers: &HeaderMap, edge: &Edge) -> Caller {
    edge.visitors.caller(cookie(headers, VISITOR_COOKIE))
}

/// The visitor that a request is of, where nobody is logged in.
pub(super) struct Visitor(pub(super) Caller);

impl FromRequestParts<Edge> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Self::Rejection> {
        Ok(Self(visitor(&parts.headers, edge)))
    }
}

/// What a chat's head says, all but the question.
pub(super) struct Asker {
    pub(super) caller: Caller,
    /// The caller's own name for this turn, if they gave one.
    pub(super) key: Option<Label>,
    pub(super) language: Language,
    pub(super) origin: Origin,
}

impl FromRequestParts<Edge> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        let languages = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let languages = languages.filter(|languages| languages.len() <= LANGUAGES_BYTES_MAX);
        Ok(Self {
            caller: visitor(&parts.headers, edge),
            key: idempotency_key(&parts.headers)?,
            language: Language::preferred(languages.unwrap_or_default()),
            origin: Origin {
                address: client_address(parts, &edge.settings.trusted_proxies),
                languages: languages.map(ToOwned::to_owned),
            },
        })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Label>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let label = value.to_str().ok().and_then(|text| Label::parse(text).ok());
    label.map(Some).ok_or_else(|| error::validation("Idempotency-Key", "must match [A-Za-z0-9_.:-]{1,128}"))
}

/// The language of sentences for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Chinese,
    English,
}

impl Language {
    /// The one of ours that stands highest in an `Accept-Language`; Chinese where none does.
    fn preferred(accepted: &str) -> Self {
        let weighed = accepted.split(',').filter_map(|range| {
            let mut parts = range.split(';');
            let tag = parts.next()?.trim();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let language = match tag.get(..2)?.to_ascii_lowercase().as_str() {
                "zh" => Self::Chinese,
                "en" => Self::English,
                _ => return None,
            };
            (weight > 0.0).then_some((weight, language))
        });
        let best = weighed.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Self::Chinese, |(_, language)| language)
    }
}

/// The address that the connection comes from, put there where it was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The client's address: the peer's, or, behind trusted proxies, the last hop of
/// `X-Forwarded-For` that is none of them.
pub(super) fn client_address(parts: &Parts, trusted: &[Cidr]) -> Option<IpAddr> {
    address_of(&parts.headers, &parts.extensions, trusted)
}

/// As [`client_address`], of a request that is still whole.
pub(super) fn address_of(headers: &HeaderMap, extensions: &Extensions, trusted: &[Cidr]) -> Option<IpAddr> {
    let mut address = extensions.get::<Peer>()?.0.ip().to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let lines = headers.get_all("x-forwarded-for").into_iter().rev().filter_map(|line| line.to_str().ok());
    for hop in lines.flat_map(|line| line.rsplit(',')) {
        if !is_trusted(address) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(hop) => address = hop.to_canonical(),
            Err(_) => break,
        }
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object_and_no_list_of_its_fields() {
        #[derive(Deserialize)]
        struct Body {
            name: Option<String>,
        }
        let parsed =
            |text: &'static str| parse_json(text.as_bytes()).map(|Body { name }| name).map_err(|error| error.code);
        assert_eq!(parsed(" {\"name\": \"a\"}"), Ok(Some("a".to_owned())));
        for bad in ["[\"a\"]", " \n[null]", "[]", "\"a\"", "null", "", "{", "{}{}"] {
            assert_eq!(parsed(bad), Err("VALIDATION_ERROR"), "{bad}");
        }
    }

    #[test]
    fn the_language_is_the_best_loved_of_ours_and_else_chinese() {
        for (accepted, expected) in [
            ("", Language::Chinese),
            ("en-US,en;q=0.9", Language::English),
            ("fr, en;q=0.3, zh-CN;q=0.4", Language::Chinese),
            ("de", Language::Chinese),
            ("en;q=0, zh;q=0.1", Language::Chinese),
            (",;q=x, e", Language::Chinese),
        ] {
            assert_eq!(Language::preferred(accepted), expected, "{accepted}");
        }
    }

    fn parts(peer: &str, forwarded: &[&str]) -> Parts {
        let mut request = Request::builder();
        for line in forwarded {
            request = request.header("x-forwarded-for", *line);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
        parts
    }

    #[test]
    fn a_forwarded_address_is_believed_only_from_trusted_proxies() {
        let trusted = [Cidr::parse("10.0.0.0/8").unwrap()];
        let ask = |peer, forwarded: &[&str]| client_address(&parts(peer, forwarded), &trusted).unwrap().to_string();
        assert_eq!(ask("203.0.113.1", &["127.0.0.1"]), "203.0.113.1", "the peer is nobody we trust");
        assert_eq!(
            ask("10.0.0.1", &["198.51.100.7, 203.0.113.9", "10.0.0.2"]),
            "203.0.113.9",
            "the first forged hop is not read"
        );
        assert_eq!(ask("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(ask("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
    }
}
