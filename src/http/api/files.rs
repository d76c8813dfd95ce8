//! `GET /uploads/:file`: a file, to whoever knows its name, or has a link to it that is still good.

use crate::attachments::{Attachments, Links};
use crate::clock;
use crate::http::docs::{self, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::layers::AsItIs;
use crate::http::levels::Reading;
use crate::http::pace::{At, Place};
use crate::limiter::Client;
use crate::protocol::attachment::UploadName;
use crate::protocol::media::Media;
use crate::store::{AttachmentRow, CHUNK_BYTES};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use tokio::sync::OwnedSemaphorePermit;

/// Whatever it is, it may do nothing and load nothing.
const POLICY: &str = "default-src 'none'; sandbox";
/// What a name stands for never changes; that the file is removed shows a day later at most.
const CACHE: &str = "private, max-age=86400, immutable";
/// It is not good for longer than it says itself.
const CACHE_OF_LINK: &str = "private, no-store";

/// A file, or a part of it, by its name, or by an address that an upstream was given and that ends.
#[utoipa::path(
    get, path = "/uploads/{file}", tag = "files", security(()),
    params(
        ("file" = String, Path, description = "The file's name here, or `~` and a link's token", example = "00000000000000000000000000000000.png"),
        docs::PartOfFile,
    ),
    responses(
        (
            status = 200, description = "All of it: png, jpeg, gif and webp to be shown, everything else to be saved",
            body = inline(docs::FileBytes), content_type = "*/*",
            headers(("ETag" = String), ("Accept-Ranges" = String), ("Content-Disposition" = String)),
        ),
        (
            status = 206, description = "The part that was asked for", body = inline(docs::FileBytes), content_type = "*/*",
            headers(("ETag" = String), ("Content-Range" = String), ("Content-Disposition" = String)),
        ),
        (status = 304, description = "The client has it", headers(("ETag" = String))),
        (status = 416, description = "It has no such part", headers(("ETag" = String), ("Content-Range" = String))),
        Fails<(docs::Always, docs::Invalid, docs::StaleToken, docs::LinkExpired, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn file(
    State(edge): State<Edge>,
    reading: Reading,
    name: Result<InPath<String>, ApiError>,
    At(who): At,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let InPath(segment) = name.map_err(|_| error::unlisted())?;
    let (name, cache) = match Links::token(&segment) {
        Some(token) => {
            let opened = edge.attachments.links().open(token, clock::unix_millis());
            (opened.ok_or_else(expired)?, CACHE_OF_LINK)
        }
        None => (UploadName::parse(&segment).ok_or_else(error::unlisted)?, CACHE),
    };
    let found = reading.seen(&edge, edge.attachments.find(&name)).await?;
    let file = found.ok_or_else(error::unlisted)?;
    answer((&edge, who), file, (&asked, cache))
}

fn expired() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "LINK_EXPIRED", "the link is not good any more")
}

fn answer(
    (edge, who): (&Edge, Client),
    file: AttachmentRow,
    (asked, cache): (&HeaderMap, &'static str),
) -> Result<Response, ApiError> {
    let tag = tag(&file)?;
    let (size, part) = (file.size, part(asked, &tag, file.size));
    let mut response = if is_known(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if part == Part::Nowhere {
        let mut refused = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        put(refused.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"))?;
        refused
    } else {
        let slot = edge.slot_of_downloads(who)?;
        let (status, range) = match part {
            Part::Of(range) => (StatusCode::PARTIAL_CONTENT, range),
            Part::Whole | Part::Nowhere => (StatusCode::OK, 0..size),
        };
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if status == StatusCode::PARTIAL_CONTENT {
            put(headers, header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1))?;
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        put(headers, header::CONTENT_TYPE, &content_type(&file.media_type))?;
        put(headers, header::CONTENT_DISPOSITION, &disposition(&file))?;
        *response.body_mut() = body((edge.attachments.clone(), file), range, slot);
        response
    };
    response.extensions_mut().insert(AsItIs);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// Of the name, and not the name itself: whoever came by a link is not to learn what is good for as long as the file.
fn tag(file: &AttachmentRow) -> Result<HeaderValue, ApiError> {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(&file.name));
    HeaderValue::try_from(format!("\"{digest}\"")).map_err(|_| error::internal())
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) -> Result<(), ApiError> {
    headers.insert(name, HeaderValue::try_from(value).map_err(|_| error::internal())?);
    Ok(())
}

/// All text is UTF-8 here.
fn content_type(media_type: &str) -> String {
    let is_text = media_type.starts_with("text/") || media_type == "image/svg+xml";
    format!("{media_type}{}", if is_text { "; charset=utf-8" } else { "" })
}

/// A name in letters that every browser reads, and the true one for those that read it.
fn disposition(file: &AttachmentRow) -> String {
    let kind = if Media::is_inline(&file.media_type) { "inline" } else { "attachment" };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_. ()".contains(letter);
    let name: String = file.original_name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
    let whole = utf8_percent_encode(&file.original_name, NON_ALPHANUMERIC);
    format!("{kind}; filename=\"{name}\"; filename*=UTF-8''{whole}")
}

/// Whether the client has it already.
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
    let mut given = lines.flat_map(|line| line.split(',')).map(str::trim);
    given.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given).as_bytes() == tag.as_bytes())
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// Bytes, at least one.
    Of(Range<u64>),
    /// Behind its end.
    Nowhere,
}

/// One range; several, and what is none, are as good as no word.
fn part(asked: &HeaderMap, tag: &HeaderValue, size: u64) -> Part {
    let is_of_this = asked.get(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = asked.get(header::RANGE).filter(|_| is_of_this).and_then(|range| range.to_str().ok());
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Part::Whole;
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Part::Whole,
    };
    if range.is_empty() { Part::Nowhere } else { Part::Of(range) }
}

/// A part of a file, piece by piece: each is read once the one before is on its way, in a transaction of its own. Holds `slot`
/// meanwhile.
fn body((files, file): (Attachments, AttachmentRow), range: Range<u64>, slot: (OwnedSemaphorePermit, Place)) -> Body {
    let chunk = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
    Body::from_stream(stream::try_unfold((range, files, file, slot), move |(range, files, file, slot)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let place = usize::try_from(range.start / chunk).map_err(io::Error::other)?;
        let piece = files.piece(&file, place).await.map_err(io::Error::other)?;
        let piece = Bytes::from(piece.ok_or_else(|| io::Error::other("the file is gone"))?);
        let begin = range.start % chunk;
        let end = begin.saturating_add(range.end - range.start).min(chunk);
        let (from, to) = (usize::try_from(begin), usize::try_from(end));
        let within = from.unwrap_or(usize::MAX)..to.unwrap_or(usize::MAX);
        if piece.get(within.clone()).is_none() {
            return Err(io::Error::other("a piece of the file is shorter than it was"));
        }
        let next = range.start + (end - begin)..range.end;
        Ok(Some((piece.slice(within), (next, files, file, slot))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixMillis;

    fn asks(range: &'static str) -> Part {
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
        part(&headers, &HeaderValue::from_static("\"a\""), 10)
    }

    #[test]
    fn one_range_is_given_and_anything_else_is_no_word() {
        assert_eq!(part(&HeaderMap::new(), &HeaderValue::from_static("\"a\""), 10), Part::Whole);
        for (range, expected) in [
            ("bytes=0-0", Part::Of(0..1)),
            ("bytes=2-5", Part::Of(2..6)),
            ("bytes=2-", Part::Of(2..10)),
            ("bytes=-3", Part::Of(7..10)),
            ("bytes=-99", Part::Of(0..10)),
            ("bytes=9-99999999999999999999999", Part::Of(9..10)),
            ("bytes=10-", Part::Nowhere),
            ("bytes=99999999999999999999999-", Part::Nowhere),
            ("bytes=-0", Part::Nowhere),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(asks(range), expected, "{range}");
        }
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-1"))]);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"b\""));
        assert_eq!(part(&headers, &HeaderValue::from_static("\"a\""), 10), Part::Whole, "of another file");
    }

    #[test]
    fn a_name_breaks_out_of_no_header() {
        let file = |original_name: &str, media_type: &str| {
            disposition(&AttachmentRow::sample(original_name, media_type, UnixMillis(1)))
        };
        assert_eq!(
            file("a\"; x=\"图.png", "image/png"),
            "inline; filename=\"a__ x___.png\"; filename*=UTF-8''a%22%3B%20x%3D%22%E5%9B%BE%2Epng"
        );
        assert!(file("x.svg", "image/svg+xml").starts_with("attachment; "));
    }
}
