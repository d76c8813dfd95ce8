//! Connections: HTTP/1.1, as FastGPT's own server speaks it.

use super::chats::Chats;
use super::routes::{self, Shared};
use super::script::Script;
use super::stats::Stats;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower::Service;

/// Connections at once; past that the next ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// After the process ran out of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a simulated FastGPT until it is dropped; dropping it closes every connection and ends every run.
pub(crate) async fn serve(listener: TcpListener, script: Script) -> io::Result<()> {
    accept(listener, shared(script)).await;
    Ok(())
}

/// A simulated FastGPT that runs beside its maker, and ends when it is dropped.
pub(crate) struct Sim {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Sim {
    pub(crate) fn start(listener: TcpListener, script: Script) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = shared(script);
        let task = TaskTracker::new().spawn(accept(listener, shared));
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn shared(script: Script) -> Shared {
    Shared {
        script: Arc::new(script),
        chats: Arc::new(Chats::default()),
        stats: Arc::new(Stats::default()),
        runs: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let _stop = shared.stop.clone().drop_guard();
    let router = routes::router(shared);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => drop(connections.spawn(connection(socket, router.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "the simulator accepts no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: TcpStream, router: Router) {
    // Without it the second write of a frame waits for the first one's acknowledgement.
    if socket.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    let reset = ResetFlag::default();
    let socket = Socket { inner: socket, reset: reset.clone() };
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(reset.clone());
        router.clone().call(request)
    });
    // It ends with an error when the client leaves, which is the client's right.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// Raised by a run that wants its connection reset.
#[derive(Clone, Default)]
pub(super) struct ResetFlag(Arc<AtomicBool>);

impl ResetFlag {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A socket that is closed by a reset if its flag is raised.
struct Socket {
    inner: TcpStream,
    reset: ResetFlag,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Relaxed) {
            // Without it the end of the stream would look like a polite one.
            let _ = self.inner.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(())); // A shutdown would send a polite end before the reset.
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
