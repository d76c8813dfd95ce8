//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A range of addresses such as `10.0.0.0/8` or `::1/128`; a bare address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// IPv4 is kept mapped into IPv6, so that `::ffff:10.0.0.1` cannot slip by.
    network: u128,
    /// Leading bits of `network` that count, out of 128.
    bits: u32,
    v4: bool,
}

/// The text is no [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a range such as 10.0.0.0/8")]
pub struct CidrError;

impl Cidr {
    /// Checks an operator's text; bits below the prefix are ignored.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| CidrError)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(CidrError);
        }
        let bits = prefix + (128 - width);
        Ok(Self { network: mapped(address) & mask(bits), bits, v4: address.is_ipv4() })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address) & mask(self.bits) == self.network
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from(self.network);
        match address.to_ipv4_mapped().filter(|_| self.v4) {
            Some(v4) => write!(f, "{}/{}", v4, self.bits - 96),
            None => write!(f, "{address}/{}", self.bits),
        }
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_addresses_mapped_ones_included() {
        let private = Cidr::parse("10.1.2.3/8").unwrap();
        for inside in ["10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1"] {
            assert!(private.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.0", "9.255.255.255", "::1", "::10.0.0.1"] {
            assert!(!private.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!(Cidr::parse("::/0").unwrap().contains("203.0.113.9".parse().unwrap()));
        assert_eq!(private.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "host", "10.0.0.0/-1"] {
            assert_eq!(Cidr::parse(text), Err(CidrError), "{text}");
        }
    }
}
