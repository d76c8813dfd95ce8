//! A collector on a real socket, in both of OTLP's transports, that behaves as it is told.

use crate::support::{PATIENCE, now};
use bytes::{Buf, Bytes};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How the next exports are answered.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    Good,
    /// Takes everything and never answers.
    Frozen,
    /// A status that is no success.
    Refusing(u16),
    /// A success in HTML, as a captive portal gives it.
    Html,
    /// A success whose body never ends.
    Endless,
    /// The right kind, and bytes that decode to nothing.
    Garbage,
    /// Took it, but rejected so many points, with this to say.
    Partial(i64, String),
}

/// One export, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) headers: HeaderMap,
    pub(crate) path: String,
    pub(crate) export: ExportMetricsServiceRequest,
}

struct State {
    mood: Mutex<Mood>,
    arrived: Mutex<Vec<Arrived>>,
    /// Exports that a frozen collector has not answered.
    held: Mutex<usize>,
    one_more_held: Condvar,
    more: Condvar,
}

/// Dropping it kills it: the port refuses connections from then on, until another takes it.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Collector {
    pub(crate) fn start(mood: Mood) -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), None, mood)
    }

    pub(crate) fn start_with_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), Some(tls.into()), Mood::Good)
    }

    /// Where another was killed.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, None, Mood::Good)
    }

    fn listen(address: SocketAddr, tls: Option<TlsAcceptor>, mood: Mood) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(address)).expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            arrived: Mutex::default(),
            held: Mutex::default(),
            more: Condvar::new(),
            one_more_held: Condvar::new(),
        });
        let served = Arc::clone(&state);
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&served), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, state).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, runtime: Some(runtime) }
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *lock(&self.state.mood) = mood;
    }

    /// Waits for an export for which `enough` finds what it looks for.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, enough: impl Fn(&Arrived) -> Option<T>) -> T {
        let by = now() + PATIENCE;
        let mut arrived = lock(&self.state.arrived);
        loop {
            if let Some(found) = arrived.last().and_then(&enough) {
                return found;
            }
            let left = by.saturating_duration_since(now());
            assert!(!left.is_zero(), "{what} never arrived; the last of {}: {:?}", arrived.len(), arrived.last());
            arrived = self.state.more.wait_timeout(arrived, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Freezes, and returns when an export hangs in it.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        self.behave(Mood::Frozen);
        let by = now() + PATIENCE;
        let mut held = lock(&self.state.held);
        while *held == 0 {
            let left = by.saturating_duration_since(now());
            assert!(!left.is_zero(), "no export came to be frozen");
            held = self.state.one_more_held.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last export that has come.
    pub(crate) fn last(&self) -> Option<Arrived> {
        lock(&self.state.arrived).last().cloned()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // At once, connections included; as a kill does.
        self.runtime.take().expect("it is dropped once").shutdown_background();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await?.to_bytes();
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        // One message: a flag for compression and the length.
        assert_eq!(body.get_u8(), 0, "nobody asked for compression");
        assert_eq!(usize::try_from(body.get_u32()), Ok(body.len()), "one whole message");
    }
    let mood = lock(&state.mood).clone();
    let export = ExportMetricsServiceRequest::decode(body).expect("an export decodes");
    let path = head.uri.path().to_owned();
    // A frozen one reads nothing: what came meanwhile does not count as arrived.
    if matches!(mood, Mood::Frozen) {
        *lock(&state.held) += 1;
        state.one_more_held.notify_all();
        pending::<()>().await;
    }
    lock(&state.arrived).push(Arrived { headers: head.headers, path, export });
    state.more.notify_all();
    Ok(if is_grpc { grpc(mood) } else { http(mood) })
}

fn reply(partial: Option<(i64, String)>) -> Vec<u8> {
    let partial_success = partial.map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
        rejected_data_points,
        error_message,
    });
    ExportMetricsServiceResponse { partial_success }.encode_to_vec()
}

fn http(mood: Mood) -> Response<Body> {
    let whole = |status: u16, kind: &'static str, bytes: Vec<u8>| {
        let body = Full::new(Bytes::from(bytes)).boxed_unsync();
        let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
        response.body(body).expect("a good head")
    };
    let otlp = "application/x-protobuf";
    match mood {
        Mood::Good | Mood::Frozen => whole(200, otlp, reply(None)),
        Mood::Partial(points, message) => whole(200, otlp, reply(Some((points, message)))),
        Mood::Refusing(status) => whole(status, "text/plain", b"no".to_vec()),
        Mood::Html => whole(200, "text/html", b"<html>Log in to the guest network</html>".to_vec()),
        Mood::Garbage => whole(200, otlp, vec![0xff; 32]),
        Mood::Endless => Response::builder().header(CONTENT_TYPE, otlp).body(endless()).expect("a good head"),
    }
}

/// Real bytes without end; the reader decides when it has had enough.
fn endless() -> Body {
    let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 16 << 10])));
    StreamBody::new(stream::repeat_with(frame)).boxed_unsync()
}

fn grpc(mood: Mood) -> Response<Body> {
    let message = |bytes: Vec<u8>| {
        let length = u32::try_from(bytes.len()).expect("it is short").to_be_bytes();
        Bytes::from([&[0], length.as_slice(), &bytes].concat())
    };
    let trailers = |code: &'static str| {
        HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static(code))])
    };
    let framed = |frames: Vec<Frame<Bytes>>| {
        StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>))).boxed_unsync()
    };
    let with = |status: u16, kind: &'static str, body: Body| {
        Response::builder().status(status).header(CONTENT_TYPE, kind).body(body).expect("a good head")
    };
    let whole = |bytes| framed(vec![Frame::data(message(bytes)), Frame::trailers(trailers("0"))]);
    let kind = "application/grpc";
    match mood {
        Mood::Good | Mood::Frozen => with(200, kind, whole(reply(None))),
        Mood::Partial(points, text) => with(200, kind, whole(reply(Some((points, text))))),
        // gRPC refuses in its own words, below an HTTP that is always well.
        Mood::Refusing(status) => {
            let mut refused = with(200, kind, Full::default().boxed_unsync());
            refused.headers_mut().extend(trailers(if status == 401 { "16" } else { "14" }));
            refused
        }
        Mood::Html => with(200, "text/html", Full::new(Bytes::from_static(b"<html>Log in</html>")).boxed_unsync()),
        Mood::Garbage => with(200, kind, whole(vec![0xff; 32])),
        // A message that says it is 4 GiB long, and begins to come.
        Mood::Endless => {
            let head = Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])));
            let more = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 16 << 10]))));
            let body = StreamBody::new(futures_util::StreamExt::chain(stream::iter([head]), more));
            with(200, kind, body.boxed_unsync())
        }
    }
}
