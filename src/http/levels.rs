//! How fresh a read has to be, as its client says, and which node can answer it.
//!
//! Every answer says where in the history of all primaries it was read, in the transaction that read it. A client that
//! gives this back never sees less than it has seen. Nothing is told that is not durable, on whichever node.

use super::edge::Edge;
use super::error::{self, ApiError};
use crate::agents::Roster;
use crate::base::{Chain, Position};
use crate::replica::{HistoryError, Role};
use crate::store::{Snapshot, StoreError};
use crate::upstream::MayAsk;
use crate::watched::Watched;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Of a request: the level that it asks for.
pub(super) const LEVEL: HeaderName = HeaderName::from_static("x-llmchat-read");
/// Of an answer: where it was read.
pub(super) const POSITION: HeaderName = HeaderName::from_static("x-llmchat-position");
/// Of an answer to a question: who has answered.
const NODE: HeaderName = HeaderName::from_static("x-llmchat-node");
/// A read keeps the node what it is, and a change of that waits no longer for what has begun.
const READS_WITHIN: Duration = Duration::from_secs(1);
const RULE: &str =
    "must be any, max_staleness=<milliseconds>, at_least=<X-LLMChat-Position of an answer> or linearizable, once";

/// What a client is content with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Whatever a node has that was ever acknowledged.
    Any,
    /// Everything that was acknowledged so long before the request.
    MaxStaleness(Duration),
    /// Everything up to there.
    AtLeast(Position),
    /// Everything that is acknowledged: the primary alone knows.
    Linearizable,
}

impl Level {
    /// Of a request; without a word it is answered by the primary.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(LEVEL).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Ok(Self::Linearizable) };
        let level = value.to_str().ok().filter(|_| second.is_none()).and_then(Self::parse);
        level.ok_or_else(|| error::validation("X-LLMChat-Read", RULE))
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once('=') {
            None if text == "any" => Some(Self::Any),
            None if text == "linearizable" => Some(Self::Linearizable),
            Some(("max_staleness", ms)) if ms.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Self::MaxStaleness(Duration::from_millis(ms.parse().ok()?)))
            }
            Some(("at_least", position)) => Some(Self::AtLeast(position.parse().ok()?)),
            _ => None,
        }
    }
}

/// A read under way, as the handler and what is around it share it.
#[derive(Clone)]
pub(super) struct Reading(Arc<Inner>);

struct Inner {
    level: Level,
    /// Where it was read; not set while it was not.
    position: OnceLock<Position>,
    /// This node cannot answer it as it was asked for.
    is_elsewhere: OnceLock<()>,
    /// It was read as the primary, and not as a standby that may be behind.
    is_of_primary: OnceLock<()>,
}

impl FromRequestParts<Edge> for Reading {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Edge) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(error::internal)
    }
}

impl Reading {
    pub(super) fn new(level: Level) -> Self {
        let (position, is_elsewhere, is_of_primary) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { level, position, is_elsewhere, is_of_primary }))
    }

    /// Of what the primary alone is asked for, in the course of a write.
    pub(super) fn of_primary() -> Self {
        Self::new(Level::Linearizable)
    }

    /// Whether the primary has to be asked instead, whatever the answer here was.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.0.is_elsewhere.get().is_some()
    }

    /// Whether an upstream may be asked for what was read: as its primary, as long as this node is that.
    pub(super) fn may_act(&self, edge: &Edge) -> MayAsk {
        let (is_of_primary, leave) = (self.0.is_of_primary.get().is_some(), edge.store.leave().clone());
        Arc::new(move || !is_of_primary || leave.holds())
    }

    /// Says in `response` where it was read.
    pub(super) fn stamp(&self, mut response: Response) -> Response {
        if let Some(position) = self.0.position.get() {
            put_position(&mut response, *position);
        }
        response
    }

    /// Every agent, as fresh as the client asks for.
    pub(super) async fn roster(&self, edge: &Edge) -> Result<Roster, ApiError> {
        self.seen(edge, edge.agents.snapshot()).await
    }

    /// What `read` sees of this node's database, if that is as fresh as the client asks for. It has a second.
    pub(super) async fn seen<T>(
        &self,
        edge: &Edge,
        read: impl Future<Output = Result<Snapshot<T>, StoreError>>,
    ) -> Result<T, ApiError> {
        // The role stays what it is while the database is read: what a primary reads, no later one has added to.
        let entered = edge.pair.enter().await.ok_or_else(|| error::no_primary("the primary changes"))?;
        let is_primary = *entered.role() == Role::Primary;
        if !is_primary && !self.may_be_read_here(edge).await {
            return Err(self.elsewhere());
        }
        let read = tokio::time::timeout(READS_WITHIN, read).await.unwrap_or(Err(StoreError::Unavailable));
        drop(entered);
        let settled = match read {
            Ok(Snapshot { position, value }) => edge.pair.settled(position).await.map(|()| (position, value)),
            Err(error) => Err(error),
        };
        let (position, value) = match settled {
            Ok(settled) => settled,
            Err(_) if !is_primary => return Err(self.elsewhere()),
            Err(error) => return Err(failed(&error)),
        };
        if let Level::AtLeast(seen) = self.0.level {
            let included = edge.pair.includes(position, seen).await.inspect_err(|error| {
                tracing::warn!(error = %Chain(error), "a position is not looked up");
            });
            match included {
                Ok(true) => {}
                Ok(false) if is_primary => return Err(error::stale_token()),
                Err(HistoryError::Busy) if is_primary => {
                    return Err(error::no_primary("too many positions are looked up; ask again"));
                }
                Err(_) if is_primary => return Err(error::internal()),
                Ok(false) | Err(_) => return Err(self.elsewhere()),
            }
        }
        // Only the last try comes so far: whoever cannot answer has said so before.
        let _ = self.0.position.set(position);
        if is_primary {
            let _ = self.0.is_of_primary.set(());
        }
        Ok(value)
    }

    /// Whether a standby may answer it; waits a moment for one that may soon.
    async fn may_be_read_here(&self, edge: &Edge) -> bool {
        let Some(primary) = edge.pair.readable() else { return false };
        match self.0.level {
            Level::Any => true,
            Level::MaxStaleness(bound) => primary.staleness().is_some_and(|age| age <= bound),
            Level::AtLeast(position) => edge.pair.caught_up(position).await,
            Level::Linearizable => false,
        }
    }

    fn elsewhere(&self) -> ApiError {
        let _ = self.0.is_elsewhere.set(()); // Said twice, it is as true.
        error::no_primary("this node is not the primary")
    }
}

/// Says in `response` up to where in the history everything is durable that it tells of.
pub(super) fn put_position(response: &mut Response, position: Position) {
    let value = HeaderValue::try_from(position.to_string()).expect("digits and a dash are good header bytes");
    response.headers_mut().insert(POSITION, value);
}

/// Says in `response` which node has answered as the primary.
pub(super) fn name_node(edge: &Edge, response: &mut Response) {
    let config = edge.pair.config();
    let name = config.now().member(edge.pair.me()).map(|member| HeaderValue::try_from(member.name.as_str()));
    if let Some(Ok(name)) = name {
        response.headers_mut().insert(NODE, name);
    }
}

/// A read that the primary could not make, or must not tell of.
fn failed(error: &StoreError) -> ApiError {
    tracing::warn!(error = %Chain(error), "a read is not answered");
    error::no_primary("what there is to say is not on both disks yet, or cannot be read; ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(values: &[&'static str]) -> Result<Level, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LEVEL, HeaderValue::from_static(value));
        }
        Level::of(&headers).map_err(|error| error.code)
    }

    #[test]
    fn a_level_is_one_of_four_and_everything_else_is_refused() {
        assert_eq!(level(&[]), Ok(Level::Linearizable), "as it was before there were levels");
        assert_eq!(level(&["any"]), Ok(Level::Any));
        assert_eq!(level(&["linearizable"]), Ok(Level::Linearizable));
        assert_eq!(level(&["max_staleness=1500"]), Ok(Level::MaxStaleness(Duration::from_millis(1500))));
        let position = "10f-42".parse().unwrap();
        assert_eq!(level(&["at_least=10f-42"]), Ok(Level::AtLeast(position)));
        for bad in [
            "",
            "Any",
            "any=1",
            "max_staleness",
            "max_staleness=",
            "max_staleness=+5",
            "max_staleness=-1",
            "max_staleness=1.5",
            "max_staleness=99999999999999999999",
            "at_least=",
            "at_least=42",
            "at_least=10F-42",
            "linearizable ",
        ] {
            assert_eq!(level(&[bad]), Err("VALIDATION_ERROR"), "{bad}");
        }
        assert_eq!(level(&["any", "any"]), Err("VALIDATION_ERROR"));
    }
}
