//! What surrounds every route: the request's id, the drain, security headers, the metrics.

use super::drain::Drain;
use super::edge::Edge;
use super::error::{self, ApiError};
use super::forward;
use super::going::{self, To};
use super::levels;
use super::limits;
use super::line::Line;
use super::pace;
use crate::base::random_id;
use crate::clock;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::cors::CorsLayer;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Ours have 32; what a proxy sends is rarely longer than a UUID with a prefix.
const REQUEST_ID_BYTES_MAX: usize = 128;
const CORS_AGE: Duration = Duration::from_mins(10);

/// Puts the layers around `routes`; the last one named here is the first to see a request.
pub(super) fn around(routes: Router<Edge>, edge: &Edge) -> Router<Edge> {
    let routes = routes
        .layer(CompressionLayer::new().compress_when(may_be_packed()))
        .layer(CatchPanicLayer::custom(|_| error::internal().into_response()));
    let routes = match cors(&edge.settings.cors_origins) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(middleware::from_fn_with_state(edge.clone(), surround))
}

/// Of an answer whose bytes are to be those that were stored, with their length.
#[derive(Clone, Copy)]
pub(super) struct AsItIs;

/// Never event streams: that is in the default.
fn may_be_packed() -> impl Predicate {
    let is_ours =
        |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| extensions.get::<AsItIs>().is_none();
    DefaultPredicate::new().and(is_ours)
}

/// `None` where nobody may call from another site.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let headers = ["authorization", "content-type", "accept-language", "idempotency-key", "last-event-id"];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(
            headers.map(HeaderName::from_static).into_iter().chain([REQUEST_ID, levels::LEVEL]).collect::<Vec<_>>(),
        )
        .expose_headers(
            [REQUEST_ID, header::RETRY_AFTER, levels::POSITION].into_iter().chain(limits::EXPOSED).collect::<Vec<_>>(),
        )
        .max_age(CORS_AGE);
    Some(layer)
}

async fn surround(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let known = HeaderValue::from_str(&id).expect("checked to be visible ASCII");
    // Whoever it is passed on to shall call it the same.
    request.headers_mut().insert(REQUEST_ID, known);
    let is_api = request.uri().path().starts_with("/api/");
    // HTTP/2 has no such header; there the connection is told to go away when the drain is over.
    let can_close = request.version() < Version::HTTP_2;
    let to = To {
        who: pace::at(request.headers(), request.extensions(), &edge),
        version: request.version(),
        line: request.extensions().get::<Line>().cloned(),
    };
    let watched = Watched::begin(&edge, &request);
    let refused = edge.drain.is_draining() && !is_probe(request.uri().path());
    let span = tracing::info_span!("request", id = id.as_str());
    let mut counted = edge.limits.count(&request, &edge, watched.began);
    let refusal = if refused { Some(error::draining()) } else { counted.refusal() };
    let response = match refusal {
        Some(error) => refuse(&edge, request, error).await,
        None => forward::or_run(&edge, request, next).instrument(span).await,
    };
    let mut response = match response.extensions().get::<ApiError>() {
        Some(error) => keep_headers(response.headers(), error.render(&id)),
        None => response,
    };
    let headers = response.headers_mut();
    if refused && can_close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("checked to be visible ASCII"));
    counted.say(headers);
    secure(headers, is_api, edge.settings.secure);
    watched.attach(going::counted(response, &edge.answers, to))
}

/// Refuses a request before any route sees it. A page from another origin may know why all the same.
async fn refuse(edge: &Edge, request: Request, error: ApiError) -> Response {
    let Some(cors) = cors(&edge.settings.cors_origins).filter(|_| request.headers().contains_key(header::ORIGIN))
    else {
        return error.into_response();
    };
    let refused = cors.layer(service_fn(async |_: Request| Ok::<_, Infallible>(error.clone().into_response())));
    refused.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// Those who must see a draining process: load balancers and the collector.
pub(super) fn is_probe(path: &str) -> bool {
    path == "/metrics" || path == "/health" || path.starts_with("/health/")
}

/// The caller's id if it is sane, else ours.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let sane = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    given.filter(sane).map_or_else(random_id, ToOwned::to_owned)
}

/// What inner layers and the handler said in headers (a cookie, CORS, Allow) stands beside the rendered error.
fn keep_headers(from: &HeaderMap, mut rendered: Response) -> Response {
    for (name, value) in from {
        if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    rendered
}

fn secure(headers: &mut HeaderMap, is_api: bool, tls: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "SAMEORIGIN");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    if tls {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if is_api {
        set(header::CACHE_CONTROL, "no-store");
    }
}

/// A request from its head to the last byte of its answer.
struct Watched {
    edge: Edge,
    method: Method,
    /// The full template, or `unmatched`: a bounded label.
    route: Box<str>,
    began: Instant,
    status: u16,
    _counted: Option<TaskTrackerToken>,
}

impl Watched {
    fn begin(edge: &Edge, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).into();
        let drain: &Drain = &edge.drain;
        // A probe every second must not keep a draining process from its end.
        let counted = (!is_probe(request.uri().path())).then(|| drain.enter());
        let method = request.method().clone();
        Self { edge: edge.clone(), method, route, began: clock::now(), status: 0, _counted: counted }
    }

    fn attach(mut self, response: Response) -> Response {
        self.status = response.status().as_u16();
        response.map(|inner| Body::new(WatchedBody { inner, _watched: self }))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Without a status the client left before there was an answer: nginx's 499.
        let status = if self.status == 0 { 499 } else { self.status };
        self.edge.telemetry.http_finished(self.method.as_str(), &self.route, status, clock::now() - self.began);
    }
}

/// A body that tells when it was read to its end or dropped.
struct WatchedBody {
    inner: Body,
    _watched: Watched,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
