//! How the process reaches the network and is reached: the one resolver, the roots that it trusts, TLS, and
//! connections for HTTP.
//!
//! Whoever opens a connection, to an upstream, a collector or a peer, takes the [`Resolver`] and the roots from
//! here, so that an operator who mends a name or adds an authority has mended it everywhere.

mod authority;
mod certificate;
mod cluster;
mod connect;
mod listen;
mod peer;
mod pinned;
mod resolver;
mod roots;
#[cfg(test)]
mod tests;
mod timeless;
mod tls;
mod unchecked;

pub(crate) use authority::{Authority, CertifyError};
pub(crate) use cluster::{Certified, ClusterTlsError, Credentials, NodeKey, PeerProtocol, Shown, belongs};
pub(crate) use connect::{Connector, Speaks};
pub(crate) use listen::listen;
pub(crate) use peer::{PeerConnector, PeerError, PeerStream, set_up};
pub(crate) use pinned::pinned;
pub(crate) use resolver::{ResolveError, Resolver};
pub(crate) use roots::{RootsError, check_roots, client_tls, roots};
pub(crate) use tls::{ServerTls, TlsFiles};
pub(crate) use unchecked::unchecked_tls;
