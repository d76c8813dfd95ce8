//! How often a client may ask: counted where it asks, and not again where the other node passes that on.

use super::credentials;
use super::edge::Edge;
use super::error::{self, ApiError, seconds};
use super::extract::address_of;
use super::forward::Forwarded;
use crate::limiter::{Client, Limiter, Rule, Standing, Verdict};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
/// What a page from another origin may read of them.
pub(super) const EXPOSED: [HeaderName; 4] = [POLICY, LIMIT, REMAINING, RESET];

/// The limiter as the edge uses it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limits {
    limiter: Arc<Limiter>,
    said: Option<Said>,
}

/// What is the same in every answer.
#[derive(Clone)]
struct Said {
    policy: HeaderValue,
    limit: HeaderValue,
}

impl Limits {
    pub(super) fn new(limiter: Arc<Limiter>) -> Self {
        let said = limiter.rules().api.map(|Rule { max, window, .. }| {
            let policy = format!("{max};w={}", seconds(window));
            Said { policy: HeaderValue::try_from(policy).expect("digits and signs"), limit: HeaderValue::from(max) }
        });
        Self { limiter, said }
    }

    /// Counts a request where it is one to the API, and was not counted by another node.
    pub(super) fn count(&self, request: &Request, edge: &Edge, now: Instant) -> Counted {
        let path = request.uri().path();
        if !path.starts_with("/api/") || request.extensions().get::<Forwarded>().is_some() {
            return Counted { said: None, refused: None };
        }
        let is_chat = *request.method() == Method::POST && path.starts_with("/api/chat/");
        let client = credentials::token_of(request.headers()).and_then(|token| edge.accounts.named(token));
        let client = client.map_or_else(
            || {
                let address = address_of(request.headers(), request.extensions(), &edge.settings.trusted_proxies);
                // Every connection has an address.
                Client::at(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
            },
            Client::User,
        );
        let Verdict { standing, admitted } = self.limiter.request(client, is_chat, now);
        Counted {
            said: self.said.clone().zip(standing),
            refused: admitted.err().map(|refused| error::too_many(refused.retry_after)),
        }
    }
}

/// What the limiter says of one request.
pub(super) struct Counted {
    said: Option<(Said, Standing)>,
    refused: Option<ApiError>,
}

impl Counted {
    /// Why the request is not answered, if it is not.
    pub(super) fn refusal(&mut self) -> Option<ApiError> {
        self.refused.take()
    }

    /// Says in the answer how the client stands.
    pub(super) fn say(self, headers: &mut HeaderMap) {
        let Some((Said { policy, limit }, Standing { remaining, reset })) = self.said else { return };
        headers.insert(POLICY, policy);
        headers.insert(LIMIT, limit);
        headers.insert(REMAINING, HeaderValue::from(remaining));
        headers.insert(RESET, HeaderValue::from(seconds(reset)));
    }
}
