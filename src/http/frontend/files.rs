use super::base::with_base;
use super::path::Wanted;
use super::tag::{Tag, name_packed};
use crate::base::Chain;
use crate::cache::Cache;
use crate::clock;
use crate::disk::{self, Found};
use crate::http::error::{self, ApiError};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::services::ServeDir;

/// Names of contents: a front end has some hundred files, and a name takes some 200 bytes.
const TAGS_BYTES_MAX: u64 = 1 << 20;
const TAG_TTL: Duration = Duration::from_hours(24);
/// A page that loads the application is a few KB.
const PAGE_BYTES_MAX: u64 = 1 << 20;
const PAGE: &str = "index.html";
/// What the application is made of. A part that is older than the others breaks it, and no name says how old it is.
const PARTS: [&str; 8] = ["html", "htm", "js", "mjs", "css", "json", "webmanifest", "map"];
/// Pictures, fonts and sounds may be an hour old.
const OTHERS_MAY_BE_OLD: &str = "public, max-age=3600";
/// Files that were packed beforehand lie beside what they are packed from.
const PACKED: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// A directory that holds no front end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontendError {
    #[error("there is no such directory, or it may not be read")]
    Directory,
    #[error("there is no index.html in it that may be read, or it is a link that leads out of it")]
    Page,
    #[error("read its index.html")]
    Unread(#[source] io::Error),
    #[error("its index.html has no <head>, so that its files could not be found from every path")]
    NoHead,
}

/// Whether `dir` holds a front end that can be served.
pub(crate) fn check(dir: &Path) -> Result<(), FrontendError> {
    if !dir.is_dir() {
        return Err(FrontendError::Directory);
    }
    page(dir).map(drop)
}

/// Reads the page of `dir`, with its base.
fn page(dir: &Path) -> Result<Vec<u8>, FrontendError> {
    let found = disk::find_within(dir, PAGE).ok_or(FrontendError::Page)?;
    let page = disk::read_found(&found, PAGE_BYTES_MAX).map_err(FrontendError::Unread)?;
    with_base(&page).ok_or(FrontendError::NoHead)
}

/// Serves `dir` at every path that is not ours.
pub(in crate::http) fn routes(dir: &Path) -> Router {
    let packs = DefaultPredicate::new()
        .and(NotForContentType::const_new("font/"))
        .and(NotForContentType::const_new("audio/"))
        .and(NotForContentType::const_new("video/"));
    let files = ServeDir::new(dir).append_index_html_on_directories(false).precompressed_br().precompressed_gzip();
    let tags = Cache::new(TAGS_BYTES_MAX, |found: &Found, _: &Tag| {
        u64::try_from(found.path.as_os_str().len()).unwrap_or(u64::MAX)
    });
    Router::new()
        .fallback(serve)
        .layer(CompressionLayer::new().compress_when(packs))
        .layer(middleware::map_response(async |mut response: Response| {
            name_packed(response.headers_mut());
            response
        }))
        .with_state(Frontend { dir: dir.into(), files, tags })
}

#[derive(Clone)]
struct Frontend {
    dir: Arc<Path>,
    files: ServeDir,
    /// By where a file really is, and what it is.
    tags: Cache<Found, Tag>,
}

async fn serve(State(frontend): State<Frontend>, request: Request) -> Result<Response, ApiError> {
    // Neither a page nor a file has a body to ask for it with.
    let head = request.into_parts().0;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(error::unlisted());
    }
    match Wanted::of(head.uri.path()).ok_or_else(error::unlisted)? {
        Wanted::Page => frontend.page(&head.headers).await,
        Wanted::File { relative, has_extension } => match frontend.find(relative.clone()).await? {
            Some(variants) => frontend.file(&head, &relative, variants).await,
            None if has_extension => Err(error::unlisted()),
            None => frontend.page(&head.headers).await,
        },
    }
}

/// A file, and those that were packed from it.
struct Variants {
    plain: Found,
    packed: [Option<Found>; PACKED.len()],
}

impl Variants {
    /// `None` where there is no such file, or any of them leads out of the directory: the library opens them by name.
    fn find(dir: &Path, relative: &str) -> Option<Self> {
        let plain = disk::find_within(dir, relative)?;
        let mut packed = [const { None }; PACKED.len()];
        for ((_, ending), packed) in PACKED.iter().zip(&mut packed) {
            let name = format!("{relative}{ending}");
            if dir.join(&name).symlink_metadata().is_ok() {
                *packed = Some(disk::find_within(dir, &name)?);
            }
        }
        Some(Self { plain, packed })
    }

    /// The one that was chosen.
    fn of(&self, encoding: Option<&HeaderValue>) -> Option<&Found> {
        let Some(encoding) = encoding else { return Some(&self.plain) };
        let at = PACKED.iter().position(|(name, _)| encoding == *name)?;
        self.packed[at].as_ref()
    }
}

impl Frontend {
    async fn find(&self, relative: String) -> Result<Option<Variants>, ApiError> {
        let dir = Arc::clone(&self.dir);
        blocking(move || Variants::find(&dir, &relative)).await
    }

    async fn file(&self, head: &Parts, relative: &str, before: Variants) -> Result<Response, ApiError> {
        let mut response = self.open(head, before.plain.clone()).await?;
        if !response.status().is_success() && response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(error::unlisted());
        }
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let tag = match before.of(encoding.as_ref()) {
            Some(opened) => self.tag(relative, encoding.as_ref(), opened.clone()).await?,
            None => None,
        };
        let headers = response.headers_mut();
        headers.remove(header::LAST_MODIFIED);
        headers.insert(header::VARY, HeaderValue::from_name(header::ACCEPT_ENCODING));
        name_charset(headers);
        let is_part = Path::new(relative).extension().and_then(|ending| ending.to_str());
        let is_part = is_part.is_some_and(|ending| PARTS.iter().any(|part| part.eq_ignore_ascii_case(ending)));
        // One that changes under our hands is asked for anew.
        let age = if is_part || tag.is_none() { "no-cache" } else { OTHERS_MAY_BE_OLD };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(age));
        Ok(named(tag, &head.headers, response))
    }

    /// Opens what the client may have of a file: a part of it as it is, or all of it, perhaps packed.
    async fn open(&self, head: &Parts, plain: Found) -> Result<Response, ApiError> {
        let has = |name| head.headers.contains_key(name);
        let wants_part = has(header::RANGE)
            && (!has(header::IF_RANGE) || self.known(plain).await.is_some_and(|tag| tag.allows_range(&head.headers)));
        let name = if wants_part { header::RANGE } else { header::ACCEPT_ENCODING };
        let mut asked = Request::builder().method(head.method.clone()).uri(head.uri.clone());
        if let Some(value) = head.headers.get(&name) {
            asked = asked.header(name, value.clone());
        }
        let asked = asked.body(Body::empty()).map_err(|_| error::internal())?;
        match self.files.clone().oneshot(asked).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(never) => match never {},
        }
    }

    /// The name of what has just been opened; `None` where the file has changed since it was found.
    async fn tag(
        &self,
        relative: &str,
        encoding: Option<&HeaderValue>,
        opened: Found,
    ) -> Result<Option<Tag>, ApiError> {
        let tag = self.known(opened.clone()).await;
        let ending = PACKED.iter().find(|(name, _)| encoding.is_some_and(|encoding| encoding == name));
        let name = format!("{relative}{}", ending.map_or("", |(_, ending)| ending));
        let dir = Arc::clone(&self.dir);
        let now = blocking(move || disk::find_within(&dir, &name)).await?;
        Ok(tag.filter(|_| now.is_some_and(|now| now == opened)))
    }

    /// The name of a file's content, by reading it once however many ask; `None` where it cannot be read.
    async fn known(&self, found: Found) -> Option<Tag> {
        let read = found.clone();
        let load = async || match blocking(move || disk::digest_found(&read)).await {
            Ok(digest) => digest.map(Tag),
            Err(_) => Err(io::Error::other("the thread that reads it has died")),
        };
        self.tags.get_or_load(found, clock::now(), TAG_TTL, load).await.ok()
    }

    async fn page(&self, request: &HeaderMap) -> Result<Response, ApiError> {
        let dir = Arc::clone(&self.dir);
        let page = blocking(move || page(&dir)).await?.map_err(|error| {
            tracing::error!(error = %Chain(&error), "the page of the front end is not served");
            error::no_primary("the front end is being replaced")
        })?;
        let tag = Tag(xxhash_rust::xxh3::xxh3_128(&page));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::VARY, HeaderValue::from_name(header::ACCEPT_ENCODING)),
        ];
        Ok(named(Some(tag), request, (headers, page).into_response()))
    }
}

/// Names the content of an answer; a client that has it already is not sent it again.
fn named(tag: Option<Tag>, request: &HeaderMap, mut response: Response) -> Response {
    let Some(tag) = tag else { return response };
    if let Some(known) = tag.known_to(request) {
        let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
        for name in [header::CACHE_CONTROL, header::VARY] {
            if let Some(value) = response.headers_mut().remove(&name) {
                unchanged.headers_mut().insert(name, value);
            }
        }
        unchanged.headers_mut().insert(header::ETAG, known);
        return unchanged;
    }
    response.headers_mut().insert(header::ETAG, tag.header());
    response
}

/// Everything is UTF-8 by now, and a browser that is not told so guesses.
fn name_charset(headers: &mut HeaderMap) {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.filter(|kind| kind.starts_with("text/") && !kind.contains("charset"));
    if let Some(kind) = kind.and_then(|kind| HeaderValue::try_from(format!("{kind}; charset=utf-8")).ok()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
}

/// Has `work` done where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| error::internal())
}
