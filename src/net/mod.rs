//! How the process reaches the network: one resolver, one set of roots, one place for TLS and listening sockets.

mod tls;

pub(crate) use tls::TlsFiles;
