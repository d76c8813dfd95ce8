use super::authority::name_of;
use super::resolver::{ResolveError, Resolver};
use hyper::Uri;
use hyper_util::client::legacy::connect::{self, Connected};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why another node cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("`{address}` is no host and port")]
    Address { address: String },
    #[error("find the address of `{address}`")]
    Resolve { address: String, source: Box<ResolveError> },
    #[error("connect to `{address}`")]
    Tcp { address: String, source: io::Error },
    #[error("agree on TLS with `{address}`")]
    Tls { address: String, source: io::Error },
    #[error("no connection to `{address}` within {within:?}")]
    Silent { address: String, within: Duration },
}

/// Opens connections to one node of the cluster, at whatever address. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerConnector {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    address: String,
    member: u8,
    within: Duration,
}

impl PeerConnector {
    pub(crate) fn new(
        resolver: Resolver,
        tls: Arc<ClientConfig>,
        (address, member): (String, u8),
        within: Duration,
    ) -> Self {
        Self { resolver, tls, address, member, within }
    }

    /// Connects and agrees on TLS; the other end has proved that it is the member.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was half open is closed.
    pub(crate) async fn connect(&self) -> Result<PeerStream, PeerError> {
        let within = self.within;
        let silent = |_| PeerError::Silent { address: self.address.clone(), within };
        tokio::time::timeout(within, self.open()).await.map_err(silent)?
    }

    async fn open(&self) -> Result<PeerStream, PeerError> {
        let address = || self.address.clone();
        let parts = self.address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let (host, port) = parts.ok_or_else(|| PeerError::Address { address: address() })?;
        let found = self.resolver.resolve(host).await;
        let found = found.map_err(|source| PeerError::Resolve { address: address(), source: Box::new(source) })?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for to in found {
            match TcpStream::connect(SocketAddr::new(to.ip(), port)).await {
                Ok(tcp) => {
                    set_up(&tcp);
                    let name = ServerName::try_from(name_of(self.member)).expect("letters, digits and dots");
                    let shaken = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
                    let tls = shaken.map_err(|source| PeerError::Tls { address: address(), source })?;
                    return Ok(PeerStream(Box::new(tls)));
                }
                Err(error) => last = error,
            }
        }
        Err(PeerError::Tcp { address: address(), source: last })
    }
}

/// Of a connection between nodes over which nothing goes: whether the other end is there is asked after so long, so often,
/// and so many times.
const IDLE: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASKED_MAX: u32 = 3;

/// Has a connection between nodes send at once, and end where the other end is gone without a word.
pub(crate) fn set_up(tcp: &TcpStream) {
    let set = || {
        sockopt::set_tcp_nodelay(tcp, true)?;
        sockopt::set_socket_keepalive(tcp, true)?;
        sockopt::set_tcp_keepidle(tcp, IDLE)?;
        sockopt::set_tcp_keepintvl(tcp, ASK_EVERY)?;
        sockopt::set_tcp_keepcnt(tcp, ASKED_MAX)
    };
    let _ = set(); // Only a socket that is gone already refuses it.
}

impl tower::Service<Uri> for PeerConnector {
    type Response = TokioIo<PeerStream>;
    type Error = PeerError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, PeerError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PeerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

/// A connection to another node, in TLS.
pub(crate) struct PeerStream(Box<TlsStream<TcpStream>>);

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

impl connect::Connection for PeerStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
