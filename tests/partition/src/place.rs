//! Who is where.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A namespace with one end of a wire to the bridge.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    A,
    B,
    /// The witness.
    W,
    Clients,
    Upstream,
}

pub(crate) const DATA: [Place; 2] = [Place::A, Place::B];
pub(crate) const ALL: [Place; 5] = [Place::A, Place::B, Place::W, Place::Clients, Place::Upstream];
/// The bridge's own address, where the chaos proxies listen.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::W => "w",
            Self::Clients => "clients",
            Self::Upstream => "upstream",
        }
    }

    pub(crate) fn index(self) -> usize {
        ALL.iter().position(|place| *place == self).expect("it is one of them")
    }

    pub(crate) fn ip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(self.index() + 1).expect("there are five"))
    }

    pub(crate) fn of_ip(ip: IpAddr) -> Option<Self> {
        ALL.into_iter().find(|place| IpAddr::V4(place.ip()) == ip)
    }

    /// The other data node.
    pub(crate) fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }

    /// Where its clients find it.
    pub(crate) fn api(self) -> SocketAddr {
        SocketAddr::from((self.ip(), 3001))
    }

    /// Where other nodes find it.
    pub(crate) fn peer(self) -> SocketAddr {
        SocketAddr::from((self.ip(), 7443))
    }

    /// Where other nodes find it through the chaos proxy.
    pub(crate) fn proxied(self) -> SocketAddr {
        SocketAddr::from((HUB, 7441 + u16::try_from(self.index()).expect("there are five")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
