//! How fast a file has to come or go, and how much at once one client may send or read: what one holds, others lack.

use super::edge::Edge;
use super::extract::address_of;
use crate::limiter::Client;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So long it may take at any rate.
pub(super) const FREE: Duration = Duration::from_secs(20);
/// From then on at least, in the mean: less than a poor mobile line.
const BYTES_PER_SECOND_MIN: u64 = 8 << 10;

/// Whether so many bytes are enough after so long.
pub(super) fn is_enough(took: Duration, bytes: u64) -> bool {
    took < FREE || bytes >= BYTES_PER_SECOND_MIN.saturating_mul(took.as_secs())
}

/// What has come so far, and how long it was waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts a piece that came after `waited`; whether its sender is fast enough so far.
    pub(super) fn goes_on(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        is_enough(self.waited, self.bytes)
    }
}

/// Who asks, by where they are: somebody without an address is one client with all such.
pub(super) fn at(headers: &HeaderMap, extensions: &Extensions, edge: &Edge) -> Client {
    let address = address_of(headers, extensions, &edge.settings.trusted_proxies);
    Client::at(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

/// As [`at`], for a handler.
pub(super) struct At(pub(super) Client);

impl FromRequestParts<Edge> for At {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        Ok(Self(at(&parts.headers, &parts.extensions, edge)))
    }
}

/// What each client holds of something. As large as what all of them hold, which has a limit elsewhere.
#[derive(Debug)]
pub(super) struct PerClient {
    each: usize,
    held: Mutex<HashMap<Client, usize>>,
}

impl PerClient {
    /// At most `each` for every client.
    pub(super) fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { each, held: Mutex::default() })
    }

    /// `count` more for `who`, unless that would be more than anybody may have; though one who has none may take any number.
    pub(super) fn take(self: &Arc<Self>, who: Client, count: usize) -> Option<Place> {
        self.take_or_first(who, count).map(|(place, _)| place)
    }

    /// As [`PerClient::take`]; and whether they had none.
    pub(super) fn take_or_first(self: &Arc<Self>, who: Client, count: usize) -> Option<(Place, bool)> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(who).or_default();
        if *held > 0 && held.saturating_add(count) > self.each {
            return None;
        }
        let is_first = *held == 0;
        *held += count;
        Some((Place { of: Arc::clone(self), who, count }, is_first))
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<PerClient>,
    who: Client,
    count: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.who) {
            *count = count.saturating_sub(self.count);
            if *count == 0 {
                held.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([203, 0, 113, last]))
    }

    #[test]
    fn who_trickles_is_too_slow_once_its_time_is_over_and_who_sends_in_bursts_is_not() {
        let mut trickle = Pace::default();
        let second = Duration::from_secs(1);
        let seconds = (0..60).take_while(|_| trickle.goes_on(second, 100)).count();
        assert_eq!(seconds, 19, "at the end of the time that anybody may take");
        let mut slow = Pace::default();
        assert!((0..600).all(|_| slow.goes_on(second, 8 << 10)), "a poor line");
        let mut bursts = Pace::default();
        assert!((0..20).all(|_| bursts.goes_on(9 * second, 80 << 10)));
        let mut stops = Pace::default();
        assert!(stops.goes_on(second, 1 << 20));
        let seconds = (0..600).take_while(|_| stops.goes_on(second, 0)).count();
        assert_eq!(seconds, 127, "what came quickly lasts for so long");
    }

    #[test]
    fn a_client_holds_so_many_and_keeps_nobody_else_out() {
        let places = PerClient::new(2);
        let (one, other) = (client(1), client(2));
        let first = places.take(one, 1).expect("it is free");
        let second = places.take(one, 1).expect("it is free");
        assert!(places.take(one, 1).is_none());
        let of_other = places.take(other, 1).expect("another's");
        drop(first);
        let again = places.take(one, 1).expect("it was given back");
        assert!(places.take(one, 1).is_none());
        drop((second, again));
        let large = places.take(one, 9).expect("whoever has none may take any number");
        assert!(places.take(one, 1).is_none());
        drop((large, of_other));
        assert_eq!(places.held.lock().unwrap().len(), 0, "nobody is remembered who holds nothing");
    }
}
