//! Reads conversations by their keys, a page at a time.

use crate::clock;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use crate::store::{Filter, Said, SaidPage, SessionRow};
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Conversations that are found at once; what was said in them is read one by one.
const SESSIONS_AT_ONCE: u32 = 100;
/// Whoever has not read an export to its end by then does not read it.
pub(in crate::http::api) const EXPORT_WITHIN: Duration = Duration::from_hours(2);
/// Between the tries of what could not be had at once: a primary that changes, or a store that is busy, is back by then.
const AGAIN_AFTER: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(2)];

/// Some turns of one conversation.
pub(super) struct Part {
    pub(super) session: SessionRow,
    /// Nothing of this conversation came before.
    pub(super) is_first: bool,
    pub(super) turns: Vec<Said>,
    /// Nothing of this conversation comes behind.
    pub(super) is_last: bool,
}

/// Where an export has come to.
pub(super) struct Reader {
    /// Conversations that were found, and not read yet.
    found: VecDeque<SessionRow>,
    /// The one that is being read, and its last turn that was.
    current: Option<(SessionRow, i64)>,
    more: Option<More>,
    by: Instant,
    /// Something was read. Whoever has nothing yet is told at once what fails, and asks again.
    is_begun: bool,
}

/// Conversations that are not found yet.
struct More {
    filter: Filter,
    after: i64,
    /// Those that begin while the export runs are none of it.
    last: Option<i64>,
}

impl Reader {
    /// Reads `sessions`.
    pub(super) fn of(sessions: Vec<SessionRow>) -> Self {
        Self { found: sessions.into(), current: None, more: None, by: clock::now() + EXPORT_WITHIN, is_begun: false }
    }

    /// Reads all conversations of `filter`.
    pub(super) fn all(filter: Filter) -> Self {
        let more = Some(More { filter, after: 0, last: None });
        Self { found: VecDeque::new(), current: None, more, by: clock::now() + EXPORT_WITHIN, is_begun: false }
    }

    /// How many lines it is, two of each turn.
    pub(super) async fn lines(&self, edge: &Edge, reading: &Reading) -> Result<u64, ApiError> {
        let found = self.found.iter().map(|session| (2 * session.turns).max(1)).sum();
        let Some(more) = &self.more else { return Ok(found) };
        let place = edge.wide_read().await?;
        let lines = reading.seen(edge, edge.history.export_lines(more.filter.clone())).await?;
        drop(place);
        Ok(lines.saturating_add(found))
    }

    /// When it is over, whatever is left of it.
    pub(super) fn by(&self) -> Instant {
        self.by
    }

    /// Up to when something is tried again.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.is_begun.then_some(self.by)
    }

    /// The next part; `None` behind the last. A conversation that is deleted before it is read is left out.
    ///
    /// # Errors
    ///
    /// Also where one is deleted while it is read: half of it would look like all of it.
    pub(super) async fn next(&mut self, edge: &Edge, reading: &Reading) -> Result<Option<Part>, ApiError> {
        loop {
            if clock::now() >= self.by {
                return Err(error::soon("the export takes too long"));
            }
            if let Some((session, after)) = self.current.take() {
                let page = || reading.seen(edge, edge.history.said_after(session.id, after));
                let page = again(self.patience(), page).await?;
                let page = page.ok_or_else(|| error::soon("a chat was deleted while it was exported"))?;
                return Ok(Some(self.part((session, after), page)));
            }
            if let Some(session) = self.found.pop_front() {
                let page = || reading.seen(edge, edge.history.said_after(session.id, 0));
                match again(self.patience(), page).await? {
                    Some(page) => return Ok(Some(self.part((session, 0), page))),
                    None => continue,
                }
            }
            if !self.find(edge, reading).await? {
                return Ok(None);
            }
        }
    }

    fn part(&mut self, (session, after): (SessionRow, i64), page: SaidPage) -> Part {
        let SaidPage { turns, is_last } = page;
        self.is_begun = true;
        // A page has a turn at least, unless it is the last.
        if let Some(last) = turns.last().filter(|_| !is_last) {
            self.current = Some((session.clone(), last.place));
        }
        Part { session, is_first: after == 0, turns, is_last: self.current.is_none() }
    }

    /// Looks for more conversations; whether there were any left to look at.
    async fn find(&mut self, edge: &Edge, reading: &Reading) -> Result<bool, ApiError> {
        let patience = self.patience();
        let Some(more) = &mut self.more else { return Ok(false) };
        let last = match more.last {
            Some(last) => last,
            None => again(patience, || reading.seen(edge, edge.history.last())).await?,
        };
        more.last = Some(last);
        let between = (more.after, last);
        let found = || reading.seen(edge, edge.history.after(more.filter.clone(), between, SESSIONS_AT_ONCE));
        let found = again(patience, found).await?;
        more.after = found.reached;
        if found.reached >= last {
            self.more = None;
        }
        self.found = found.sessions.into();
        Ok(true)
    }
}

/// What `had` gives; where that is not to be had at this time, up to five tries, the last of them begun before `by`.
pub(in crate::http::api) async fn again<T, F>(by: Option<Instant>, had: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    for pause in AGAIN_AFTER {
        let error = match had().await {
            Err(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => error,
            done => return done,
        };
        if by.is_none_or(|by| clock::now() + pause >= by) {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
    had().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// What comes of something that fails so often, and how often it was tried.
    async fn tried(fails: u32, error: ApiError, by: Option<Instant>) -> (Result<u32, &'static str>, u32) {
        let tries = AtomicU32::new(0);
        let had = || async {
            let count = tries.fetch_add(1, Ordering::Relaxed);
            if count < fails { Err(error.clone()) } else { Ok(count) }
        };
        let done = again(by, had).await.map_err(|error| error.code);
        (done, tries.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_to_be_had_is_tried_five_times_and_what_is_wrong_once() {
        let by = Some(clock::now() + EXPORT_WITHIN);
        let busy = || error::soon("busy");
        assert_eq!(tried(4, busy(), by).await, (Ok(4), 5));
        assert_eq!(tried(5, busy(), by).await, (Err("SERVICE_UNAVAILABLE"), 5));
        assert_eq!(tried(1, busy(), None).await, (Err("SERVICE_UNAVAILABLE"), 1), "before anything was read");
        assert_eq!(tried(1, busy(), Some(clock::now())).await, (Err("SERVICE_UNAVAILABLE"), 1), "past its time");
        assert_eq!(tried(1, error::validation("x", "is wrong"), by).await, (Err("VALIDATION_ERROR"), 1));
    }
}
