//! Reads conversations by their keys, a page at a time.

use crate::clock;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use crate::store::{Filter, Said, SaidPage, SessionRow};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Conversations that are found at once; what was said in them is read one by one.
const SESSIONS_AT_ONCE: u32 = 100;
/// Whoever has not read an export to its end by then does not read it.
const EXPORT_WITHIN: Duration = Duration::from_hours(2);

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
        Self { found: sessions.into(), current: None, more: None, by: clock::now() + EXPORT_WITHIN }
    }

    /// Reads all conversations of `filter`.
    pub(super) fn all(filter: Filter) -> Self {
        let more = Some(More { filter, after: 0, last: None });
        Self { found: VecDeque::new(), current: None, more, by: clock::now() + EXPORT_WITHIN }
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
                let page = reading.seen(edge, edge.history.said_after(session.id, after)).await?;
                let page = page.ok_or_else(|| error::soon("a chat was deleted while it was exported"))?;
                return Ok(Some(self.part((session, after), page)));
            }
            if let Some(session) = self.found.pop_front() {
                match reading.seen(edge, edge.history.said_after(session.id, 0)).await? {
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
        // A page has a turn at least, unless it is the last.
        if let Some(last) = turns.last().filter(|_| !is_last) {
            self.current = Some((session.clone(), last.place));
        }
        Part { session, is_first: after == 0, turns, is_last: self.current.is_none() }
    }

    /// Looks for more conversations; whether there were any left to look at.
    async fn find(&mut self, edge: &Edge, reading: &Reading) -> Result<bool, ApiError> {
        let Some(more) = &mut self.more else { return Ok(false) };
        let last = match more.last {
            Some(last) => last,
            None => reading.seen(edge, edge.history.last()).await?,
        };
        more.last = Some(last);
        let filter = more.filter.clone();
        let found = reading.seen(edge, edge.history.after(filter, (more.after, last), SESSIONS_AT_ONCE)).await?;
        more.after = found.reached;
        if found.reached >= last {
            self.more = None;
        }
        self.found = found.sessions.into();
        Ok(true)
    }
}
