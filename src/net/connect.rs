use super::resolver::{ResolveError, Resolver};
use hyper::Uri;
use hyper_util::client::legacy::connect::{self, Connected};
use hyper_util::rt::TokioIo;
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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("`{uri}` names no host")]
    NoHost { uri: Uri },
    #[error("find the address of `{host}`")]
    Resolve { host: String, source: ResolveError },
    #[error("connect to {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("connect to {address}: no answer within {within:?}")]
    Silent { address: SocketAddr, within: Duration },
    #[error("`{host}` wants TLS, which was not set up")]
    NoTls { host: String },
    #[error("agree on TLS with `{host}`")]
    Tls { host: String, source: io::Error },
    #[error("agree on TLS with `{host}`: no end of it within {within:?}")]
    TlsSilent { host: String, within: Duration },
    #[error("`{host}` does not speak {protocol} inside TLS")]
    Protocol { host: String, protocol: &'static str },
}

/// Which HTTP is spoken inside; TLS agrees on it by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

impl Speaks {
    fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// Opens connections for HTTP clients other than the upstreams' own: names by the one resolver, TLS for `https`.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    tls: Option<Arc<ClientConfig>>,
    speaks: Speaks,
    /// For all addresses together, and then again for TLS.
    within: Duration,
}

impl Connector {
    /// `tls` is for `https` and may be missing where there is none; its ALPN is replaced.
    pub(crate) fn new(resolver: Resolver, tls: Option<ClientConfig>, speaks: Speaks, within: Duration) -> Self {
        let tls = tls.map(|mut tls| {
            tls.alpn_protocols = vec![speaks.alpn().as_bytes().to_vec()];
            Arc::new(tls)
        });
        Self(Arc::new(Inner { resolver, tls, speaks, within }))
    }

    /// Connects to the host and port of `uri`. Needs a runtime.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was half open is closed.
    pub(crate) async fn connect(&self, uri: &Uri) -> Result<Connection, ConnectError> {
        let is_https = uri.scheme_str() == Some("https");
        let Some(host) = uri.host() else { return Err(ConnectError::NoHost { uri: uri.clone() }) };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let resolved = self.0.resolver.resolve(host).await;
        let addresses = resolved.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
        let tcp = self.tcp(&addresses, port).await?;
        // Small requests that wait for their answer: nothing is gained by gathering bytes.
        let _ = tcp.set_nodelay(true);
        if is_https { self.tls(host, tcp).await } else { Ok(Connection(Box::pin(tcp))) }
    }

    /// One address after the other, each with its share of the time, so that a dead first one does not use up all.
    async fn tcp(&self, addresses: &[SocketAddr], port: u16) -> Result<TcpStream, ConnectError> {
        let within = self.0.within / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = None;
        for address in addresses {
            let address = SocketAddr::new(address.ip(), port);
            match tokio::time::timeout(within, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(source)) => last = Some(ConnectError::Tcp { address, source }),
                Err(_) => last = Some(ConnectError::Silent { address, within }),
            }
        }
        Err(last.expect("the resolver answers with at least one address, or an error"))
    }

    async fn tls(&self, host: &str, tcp: TcpStream) -> Result<Connection, ConnectError> {
        let Inner { tls, speaks, within, .. } = &*self.0;
        let host = || host.to_owned();
        let tls = tls.as_ref().ok_or_else(|| ConnectError::NoTls { host: host() })?;
        let bare = host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|error| ConnectError::Tls { host: host(), source: io::Error::other(error) })?;
        let shaken = tokio::time::timeout(*within, TlsConnector::from(Arc::clone(tls)).connect(name, tcp)).await;
        let tls = shaken
            .map_err(|_| ConnectError::TlsSilent { host: host(), within: *within })?
            .map_err(|source| ConnectError::Tls { host: host(), source })?;
        // A server without ALPN speaks HTTP/1.1, as all did before there was another.
        match (tls.get_ref().1.alpn_protocol(), speaks) {
            (None, Speaks::Http2) => Err(ConnectError::Protocol { host: host(), protocol: speaks.alpn() }),
            (Some(_), _) | (None, Speaks::Http1) => Ok(Connection(Box::pin(tls))),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&uri).await.map(TokioIo::new) })
    }
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// An open connection, in TLS where that was asked for.
pub(crate) struct Connection(Pin<Box<dyn Io>>);

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// hyper's client asks what it may assume of a connection: nothing.
impl connect::Connection for Connection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
