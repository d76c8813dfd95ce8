//! What goes by itself, on the primary: what is older than it is to be kept, and what erased users have left.

use super::holds::{Gate, Holds};
use crate::accounts::{Accounts, AccountsError};
use crate::base::{Chain, Owner, UnixMillis};
use crate::clock;
use crate::config::Retention;
use crate::replica::Pair;
use crate::sessions::{History, HistoryError};
use crate::store::{Store, StoreError};
use crate::supervisor::Supervisor;
use crate::telemetry::Telemetry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between looks for somebody who is to be erased.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between runs, and a share of the shortest age where that is less.
const RUN_EVERY_MAX: Duration = Duration::from_hours(1);
const RUNS_PER_AGE: u32 = 24;
/// So often the time is committed, that the next reign may know how long nobody has led.
const TIME_EVERY: Duration = Duration::from_hours(1);
/// Between steps that remove rows of the audit, or files.
const REST: Duration = Duration::from_millis(50);
/// What was asked as a user who is being erased is stored by then, if it is.
const ERASED_AFTER_MS: i64 = 60_000;
/// What went wrong is tried again after so long.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What was removed since the start.
#[derive(Debug, Default)]
struct Removed {
    sessions: AtomicU64,
    audit: AtomicU64,
    erased: AtomicU64,
    files: AtomicU64,
}

/// Removes what has to go.
pub(super) struct Keeper {
    history: History,
    accounts: Accounts,
    store: Store,
    rule: Retention,
    removed: Arc<Removed>,
}

/// Has what is too old removed for as long as a node runs; when things may be.
pub(super) fn keep(
    tasks: &mut Supervisor,
    (history, accounts, pair): (History, Accounts, &Pair),
    rule: Retention,
    telemetry: &Telemetry,
) -> Gate {
    let gate = Gate::new(telemetry);
    let keeper = Keeper::new((history, accounts, pair.store().clone()), rule, telemetry);
    let holds = Holds::new(pair.clone(), gate.clone());
    tasks.spawn("retention", async move |stop| {
        keeper.follow(holds, stop).await;
        Ok(())
    });
    gate
}

/// Why nothing goes for now.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("remove conversations")]
    History(#[from] HistoryError),
    #[error("look after accounts and their audit")]
    Accounts(#[from] AccountsError),
}

impl Failed {
    /// Chats have all that there is, somebody else leads by now, or a turn does not stop: worth no word.
    fn is_passing(&self) -> bool {
        let (Self::History(HistoryError::Store(cause)) | Self::Accounts(AccountsError::Store(cause))) = self else {
            return matches!(self, Self::History(HistoryError::Busy));
        };
        matches!(cause, StoreError::NotHere | StoreError::Conflict | StoreError::Overloaded | StoreError::Unavailable)
    }
}

/// Says, as often as it is asked, whether things may be removed for their age at this moment.
trait Leave {
    fn look(&mut self) -> bool;
}

impl Leave for Holds {
    fn look(&mut self) -> bool {
        Holds::look(self)
    }
}

impl Keeper {
    fn new((history, accounts, store): (History, Accounts, Store), rule: Retention, telemetry: &Telemetry) -> Self {
        let removed = Arc::new(Removed::default());
        let seen = Arc::clone(&removed);
        telemetry.observe_totals_by(
            "llmchat_retention_removed_total",
            "Conversations and rows of the audit that were removed for their age, and conversations and files of erased users.",
            "kind",
            move || {
                let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
                vec![
                    ("sessions", count(&seen.sessions)),
                    ("audit", count(&seen.audit)),
                    ("erased", count(&seen.erased)),
                    ("erased_files", count(&seen.files)),
                ]
            },
        );
        Self { history, accounts, store, rule, removed }
    }

    /// Removes what has to go, as long as this node leads, and for its age while nothing `holds`; until `stop`.
    async fn follow(self, mut holds: Holds, stop: CancellationToken) {
        let mut pause = LOOK_EVERY;
        let (mut next_run, mut next_time) = (None, clock::now() + TIME_EVERY);
        let mut has_failed = false;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            holds.look();
            if !holds.leads() {
                // Whoever begins to lead does so with a run.
                (pause, next_run) = (LOOK_EVERY, None);
                continue;
            }
            if clock::now() >= next_time {
                next_time = clock::now() + TIME_EVERY;
                // Nobody waits for it, and where it is refused there are commits enough.
                drop(self.store.mark_time());
            }
            let Some(done) = stop.run_until_cancelled(self.once(&mut next_run, &mut holds)).await else {
                return;
            };
            pause = match done {
                Ok(()) => {
                    has_failed = false;
                    LOOK_EVERY
                }
                Err(error) => {
                    if !has_failed && !error.is_passing() {
                        tracing::error!(error = %Chain(&error), "what has to go cannot be removed; it is tried again");
                        has_failed = true;
                    }
                    AFTER_FAILURE.min(self.every().max(LOOK_EVERY))
                }
            };
        }
    }

    /// Users are erased because somebody has said so: that has nothing to do with their age.
    async fn once(&self, next_run: &mut Option<Instant>, leave: &mut impl Leave) -> Result<(), Failed> {
        let erased = self.erase().await;
        let buried = self.history.bury().await.map_err(Failed::from);
        let every = self.every();
        if next_run.is_none_or(|at| clock::now() >= at) && leave.look() {
            let is_done = self.run(leave).await?;
            *next_run = is_done.then(|| clock::now() + every);
        }
        graver(erased, buried.map(drop))
    }

    fn every(&self) -> Duration {
        let shortest = [self.rule.messages, self.rule.audit].into_iter().flatten().min();
        shortest.map_or(RUN_EVERY_MAX, |age| (age / RUNS_PER_AGE).clamp(LOOK_EVERY, RUN_EVERY_MAX))
    }

    async fn erase(&self) -> Result<(), Failed> {
        let mut done = Ok(());
        for (user, since) in self.accounts.erasures().await? {
            // One who cannot be erased holds up nobody.
            done = graver(done, self.erase_one(user, since).await);
        }
        done
    }

    async fn erase_one(&self, user: i64, since: UnixMillis) -> Result<(), Failed> {
        let deleted = self.history.erase(&Owner::user(user)).await?;
        count(&self.removed.erased, deleted);
        let files = self.erase_files(user).await?;
        if deleted + files > 0 {
            tracing::info!(user.id = user, sessions = deleted, files, "what an erased user has left is removed");
        }
        if clock::unix_millis().0.saturating_sub(since.0) >= ERASED_AFTER_MS {
            self.accounts.end_erasure(user).await?;
            tracing::info!(user.id = user, "a user is erased");
        }
        Ok(())
    }

    async fn erase_files(&self, user: i64) -> Result<usize, Failed> {
        let mut files = 0;
        loop {
            match self.accounts.erase_files(user).await? {
                0 => return Ok(files),
                some => {
                    count(&self.removed.files, some);
                    files += some;
                }
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Looks before every step: none lasts long, and all of them may. Whether it has come to its end.
    async fn run(&self, leave: &mut impl Leave) -> Result<bool, Failed> {
        let began = clock::now();
        let (mut sessions, mut audit, mut is_done) = (0, 0, true);
        if let Some(keep) = self.rule.messages {
            let mut after = Some(0);
            while let Some(from) = after {
                if !leave.look() {
                    is_done = false;
                    break;
                }
                // By the clock of the look: it may have been set right since the run began.
                let before = UnixMillis(clock::unix_millis().0.saturating_sub(millis(keep)));
                let swept = self.history.expire(before, from).await?;
                count(&self.removed.sessions, swept.deleted);
                (sessions, after) = (sessions + swept.deleted, swept.next);
            }
        }
        if let Some(keep) = self.rule.audit {
            let mut goes_on = true;
            while goes_on {
                if !leave.look() {
                    is_done = false;
                    break;
                }
                let trimmed = self.accounts.trim_audit(keep).await?;
                count(&self.removed.audit, trimmed.removed);
                audit += trimmed.removed;
                goes_on = trimmed.goes_on;
                if goes_on {
                    tokio::time::sleep(REST).await;
                }
            }
        }
        if sessions + audit > 0 {
            let took_ms = millis(clock::now() - began);
            tracing::info!(sessions, audit, took_ms, "removed what is older than it is to be kept");
        }
        Ok(is_done)
    }
}

/// The first failure of two, or the first that is worth a word.
fn graver(before: Result<(), Failed>, after: Result<(), Failed>) -> Result<(), Failed> {
    match (&before, &after) {
        (Ok(()), _) => after,
        (Err(first), Err(second)) if first.is_passing() && !second.is_passing() => after,
        (Err(_), _) => before,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn count(total: &AtomicU64, more: usize) {
    total.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Lifetimes, Parts, Settings};
    use crate::base::{AgentId, Label};
    use crate::cache::Cache;
    use crate::sessions::{KNOWN_BYTES, Known, Sessions};
    use crate::store::{Filter, ImportedSession, Key, Login, Order, Page, opened};

    /// A keeper of conversations of a second, and its store with one of 1970.
    async fn keeper(dir: &std::path::Path) -> (Keeper, Store) {
        let store = opened(dir);
        let known = Cache::new(1 << 20, |_: &(Owner, AgentId, Label), _: &Arc<Known>| KNOWN_BYTES);
        let history = History::new(store.clone(), Sessions::new(None, known, Duration::from_mins(5)));
        let lifetimes = Lifetimes { access: 3600, refresh: 7200 };
        let accounts = Accounts::new(Parts {
            store: store.clone(),
            token_secret: [3; 32],
            settings: Settings { anonymous_chat: true, registration: false, lifetimes },
            logins: Cache::new(1 << 16, |_: &String, _: &Arc<Login>| 512),
            cores: 1,
        });
        let old = ImportedSession {
            old_id: "s".to_owned(),
            old_user: None,
            agent_id: AgentId::parse("a").unwrap(),
            chat: Label::parse("c").unwrap(),
            otherwise: Label::parse("d").unwrap(),
            title: String::new(),
            began: UnixMillis(5),
            updated_at: UnixMillis(6),
        };
        store.import_sessions(vec![old]).await.unwrap();
        let rule = Retention { messages: Some(Duration::from_secs(1)), ..Retention::default() };
        (Keeper::new((history, accounts, store.clone()), rule, &Telemetry::new().unwrap()), store)
    }

    /// So many times it may.
    struct Given(u32);

    impl Leave for Given {
        fn look(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 > 0
        }
    }

    async fn kept(store: &Store) -> usize {
        let (sort, page) = ((Key::CreatedAt, Order::Ascending), Page { offset: 0, limit: 10 });
        store.sessions_list(Filter::default(), sort, page).await.unwrap().value.rows.len()
    }

    #[tokio::test]
    async fn nothing_is_removed_for_its_age_while_something_holds_and_the_run_comes_once_nothing_does() {
        let dir = tempfile::TempDir::new().unwrap();
        let (keeper, store) = keeper(dir.path()).await;
        let mut next_run = None;
        keeper.once(&mut next_run, &mut Given(0)).await.unwrap();
        assert_eq!((kept(&store).await, next_run), (1, None));
        keeper.once(&mut next_run, &mut Given(2)).await.unwrap();
        assert_eq!((kept(&store).await, next_run), (1, None), "it is held since the run has begun, and begins again");
        keeper.once(&mut next_run, &mut Given(9)).await.unwrap();
        assert_eq!((kept(&store).await, next_run.is_some()), (0, true));
        store.close().await.unwrap();
    }

    #[test]
    fn the_failure_that_is_worth_a_word_is_the_one_that_is_told() {
        let busy = || Err(Failed::History(HistoryError::Busy));
        let unknown = || Err(Failed::Accounts(AccountsError::Unknown));
        let last = || Err(Failed::Accounts(AccountsError::LastAdmin));
        let told = [Ok(()), busy(), unknown(), last(), Ok(())].into_iter().fold(Ok(()), graver);
        assert!(matches!(told, Err(Failed::Accounts(AccountsError::Unknown))), "{told:?}");
        assert!(matches!(graver(busy(), Ok(())), Err(Failed::History(HistoryError::Busy))));
        assert!(graver(Ok(()), Ok(())).is_ok());
    }
}
