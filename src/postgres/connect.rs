use super::address::{Address, Place};
use super::error::SourceError;
use crate::net::{self, Resolver};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Client;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// To one address, and then for the login.
const CONNECT_MAX: Duration = Duration::from_secs(15);

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

type Wire = Pin<Box<dyn Io>>;

/// Connects and logs in; the connection lives as long as the second.
///
/// With `sslmode=require` the server's certificate is checked, by the system's roots and those of `ca_file`; with
/// `prefer`, the default, what is said is encrypted where the server can do so, by whatever certificate it shows.
pub(super) async fn connect(
    address: &Address,
    resolver: &Resolver,
    ca_file: Option<&Path>,
) -> Result<(Client, AbortOnDropHandle<()>), SourceError> {
    let place = || address.place.to_string();
    let (wire, name): (Wire, _) = match &address.place {
        Place::Socket(path) => {
            let stream = UnixStream::connect(path).await;
            (Box::pin(stream.map_err(|source| SourceError::Connect { place: place(), source })?), None)
        }
        Place::Tcp { host, port } => {
            (Box::pin(tcp(resolver, host, *port).await?), ServerName::try_from(host.clone()).ok())
        }
    };
    let is_checked = address.config.get_ssl_mode() == SslMode::Require;
    let config = match (name.is_some(), is_checked) {
        (false, _) => None,
        (true, true) => Some(net::client_tls(net::roots(ca_file)?)),
        (true, false) => Some(net::unchecked_tls()),
    };
    let tls = Tls { config: config.map(Arc::new), name };
    let logged_in = tokio::time::timeout(CONNECT_MAX, address.config.connect_raw(wire, tls)).await;
    let (client, connection) = logged_in
        .map_err(|_| SourceError::Silent { place: place(), within: CONNECT_MAX })?
        .map_err(|source| SourceError::LogIn { place: place(), source })?;
    // What ends it is told to whoever waits for a row.
    let connection = TaskTracker::new().spawn(async move { drop(connection.await) });
    Ok((client, AbortOnDropHandle::new(connection)))
}

async fn tcp(resolver: &Resolver, host: &str, port: u16) -> Result<TcpStream, SourceError> {
    let mut failed = None;
    for mut address in resolver.resolve(host).await.map_err(SourceError::Resolve)? {
        address.set_port(port);
        let place = address.to_string();
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A server whose machine is gone is found out.
                let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                return Ok(stream);
            }
            Ok(Err(source)) => failed = Some(SourceError::Connect { place, source }),
            Err(_) => failed = Some(SourceError::Silent { place, within: CONNECT_MAX }),
        }
    }
    Err(failed.expect("the resolver answers with at least one address, or an error"))
}

/// How a connection is encrypted, if it is to be.
struct Tls {
    config: Option<Arc<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Wire> for Tls {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, wire: Wire) -> Self::Future {
        Box::pin(async move {
            let (Some(config), Some(name)) = (self.config, self.name) else {
                return Err(io::Error::other("the server wants TLS, and has no name that a certificate could be of"));
            };
            Ok(Encrypted(TlsConnector::from(config).connect(name, wire).await?))
        })
    }
}

struct Encrypted(tokio_rustls::client::TlsStream<Wire>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
