//! Connections: accept, TLS, HTTP/1.1 or 2, and the way to a clean stop.

use super::edge::Edge;
use super::extract::Peer;
use super::line::Line;
use super::router;
use crate::net::ServerTls;
use axum::Router;
use axum::extract::Request;
use axum::http::Version;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A handshake takes two round trips; who needs longer is not talking TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// After a failed `accept`: file descriptors come back only when connections end.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// For the last bytes of answers that have ended, once the drain is over.
const LAST_BYTES_MAX: Duration = Duration::from_secs(2);

/// Where the edge listens.
pub(crate) struct Listen {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<ServerTls>,
    /// How long requests in flight may go on after the stop.
    pub(crate) grace: Duration,
}

/// Serves until `stop`, then drains: new requests are refused, those in flight end by themselves
/// within the grace, and after it are ended. Returns when no connection is left.
pub(crate) async fn serve(listen: Listen, edge: Edge, stop: CancellationToken) {
    let Listen { listener, tls, grace } = listen;
    let connections = Arc::new(Connections::new(&edge));
    let drained = async {
        stop.cancelled().await;
        edge.drain.start();
        tracing::info!(turns = edge.gateway.running(), "draining: no new requests");
        if tokio::time::timeout(grace, edge.drain.finished()).await.is_err() {
            tracing::warn!(turns = edge.gateway.running(), "the grace is over: ending the turns that still run");
            edge.gateway.close().await;
            let _ = tokio::time::timeout(LAST_BYTES_MAX, edge.drain.finished()).await;
        }
    };
    tokio::pin!(drained);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => connections.take(socket, peer, tls.clone()),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
            () = &mut drained => break,
            // Whoever leads next must not find this node at work.
            () = edge.pair.deposed() => {
                edge.drain.start();
                drop(listener);
                edge.gateway.cut();
                return connections.abort();
            }
        }
    }
    drop(listener);
    connections.close().await;
}

/// The open connections, each on a task of its own.
struct Connections {
    router: Router,
    edge: Edge,
    http: Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
    aborting: CancellationToken,
}

impl Connections {
    fn new(edge: &Edge) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(edge.settings.head_timeout);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        Self {
            router: router::router(edge),
            edge: edge.clone(),
            http,
            slots: Arc::new(Semaphore::new(edge.settings.connections_max)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }
    }

    /// Takes a connection in, or closes it unanswered when there are too many.
    fn take(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, tls: Option<ServerTls>) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        let connections = Arc::clone(self);
        self.tasks.spawn(async move {
            let _ = socket.set_nodelay(true); // Only a socket that is gone already refuses it.
            let mut socket = TimeoutStream::new(socket);
            socket.set_write_timeout(Some(connections.edge.settings.client_stall));
            let line = Line::default();
            let socket = line.counted(Box::pin(socket));
            match tls {
                None => connections.speak((socket, line), peer, slot).await,
                Some(tls) => {
                    let shaken =
                        tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.config()).accept(socket)).await;
                    match shaken {
                        Ok(Ok(socket)) => connections.speak((socket, line), peer, slot).await,
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                        Err(_) => tracing::debug!("TLS handshake took too long"),
                    }
                }
            }
        });
    }

    async fn speak<S>(&self, (socket, line): (S, Line), peer: SocketAddr, slot: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.edge.telemetry.connection_opened();
        let router = self.router.clone();
        let spoke = CancellationToken::new();
        let first = spoke.clone();
        let by = line.clone();
        let is_proxy = self.edge.settings.trusted_proxies.iter().any(|proxy| proxy.contains(peer.ip()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            first.cancel();
            request.extensions_mut().insert(Peer(peer));
            // By a proxy's HTTP/2 go the answers of many: one that is slow must not end the others'.
            if !is_proxy || request.version() != Version::HTTP_2 {
                request.extensions_mut().insert(by.clone());
            }
            let answered = router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answered.await.unwrap_or_else(|never| match never {})) }
        });
        let connection = self.http.serve_connection(TokioIo::new(socket), service);
        tokio::pin!(connection);
        // Hyper's own timer begins only once it knows which HTTP this is.
        let silent = async {
            if tokio::time::timeout(self.edge.settings.head_timeout, spoke.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let stalls = async {
            line.is_too_slow().await;
            tracing::debug!("what waits for a client is taken too slowly");
        };
        tokio::pin!(stalls);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent => Ok(()),
            () = &mut stalls => Ok(()),
            () = self.aborting.cancelled() => Ok(()),
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = &mut stalls => Ok(()),
                    () = self.aborting.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
        self.edge.telemetry.connection_closed();
        drop(slot);
    }

    /// Closes every connection as it is.
    fn abort(&self) {
        self.closing.cancel();
        self.aborting.cancel();
    }

    /// Closes idle connections at once and the others after their last bytes.
    async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST_BYTES_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "some connections were cut");
        }
    }
}
