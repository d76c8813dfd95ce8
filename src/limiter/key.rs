use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Somebody who has logged in, by the number of the account.
    User(i64),
    /// Anybody else: an address, or the /64 network of one of IPv6, which is what one subscriber is given.
    Network(Ipv6Addr),
}

impl Client {
    /// Whoever is at `address`.
    pub fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)),
        })
    }
}

/// Who tries to log in as whom, as a digest: what people type into that field by mistake is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    pair: u128,
    pub(super) from: Client,
}

impl Login {
    /// A try from `address` as `username`, in whatever case and with whatever space around it.
    pub fn new(address: IpAddr, username: &str) -> Self {
        let from = Client::at(address);
        let Client::Network(network) = from else { unreachable!("an address is a network") };
        Self { pair: digest(&[&network.octets(), username.trim().to_lowercase().as_bytes()]), from }
    }
}

/// What is counted of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Requests,
    Tokens,
}

/// One count of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OfAgent(u128);

impl OfAgent {
    pub(super) fn new(agent: &str, counted: Counted) -> Self {
        let counted: &[u8] = match counted {
            Counted::Requests => b"requests",
            Counted::Tokens => b"tokens",
        };
        Self(digest(&[counted, agent.as_bytes()]))
    }
}

/// Of two parts, of which the first has a fixed length or cannot begin like another one.
fn digest(parts: &[&[u8]]) -> u128 {
    let digest: [u8; 32] = parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes are more than 16");
    u128::from_le_bytes(*first)
}
