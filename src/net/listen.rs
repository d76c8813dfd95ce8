use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they are accepted; it takes no more than `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 1_024;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("listen on {address}: another process does already")]
    InUse { address: SocketAddr },
    #[error("listen on {address}: not permitted; a port below 1024 needs CAP_NET_BIND_SERVICE")]
    Denied { address: SocketAddr },
    #[error("listen on {address}: this machine has no such address")]
    NotOurs { address: SocketAddr },
    #[error("listen on {address}")]
    Other { address: SocketAddr, source: io::Error },
}

impl ListenError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse { address },
            ErrorKind::PermissionDenied => Self::Denied { address },
            ErrorKind::AddrNotAvailable => Self::NotOurs { address },
            _ => Self::Other { address, source },
        }
    }
}

/// Listens on `address`; `[::]` takes IPv4 as well, port 0 is any free port. Needs a runtime.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let socket = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Else a restart would wait a minute for the connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    socket().map_err(|source| ListenError::new(address, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_taken_once_and_its_second_taker_is_told() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert!(matches!(listen(address), Err(ListenError::InUse { .. })));
        drop(first);
        assert_eq!(listen(address).unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused_by_name() {
        let error = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "listen on 192.0.2.1:0: this machine has no such address");
        let denied = ListenError::new("0.0.0.0:443".parse().unwrap(), ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().ends_with("needs CAP_NET_BIND_SERVICE"));
    }
}
