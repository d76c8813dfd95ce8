//! The embedded store: one writer thread, many readers, and a watermark that releases replies.
//!
//! A commit's path, top to bottom: [`handle`] puts a job into the queue and returns a [`Pending`] ·
//! [`writer`] takes what is there and runs each job in a savepoint of one transaction · [`commit`] moves the position
//! row and commits, without waiting for the disk, reads the transaction's pages back from `SQLite`'s own log ([`tail`])
//! and appends them to the journal ([`log`]) as a record · [`sync`] flushes the journal,
//! once for all that was committed meanwhile, and advances the watermark in [`durable`] · every reply
//! passes the gate in [`job`], which opens when the watermark has reached what the reply rests on; so
//! do the answers of [`readers`] · [`checkpoint`] may move pages home, and only what is durable.
//!
//! After a failed flush nothing is tried again: the kernel may have dropped the bytes. The store is
//! *fenced*: it accepts nothing more, leaves its files as they are, and the process ends. The next one
//! brings database and journal together again ([`recover`], by way of [`revive`] and [`apply`]). SQL lives in this room only.

mod agents;
mod apply;
mod attachments;
mod audit;
mod backup;
mod belongings;
mod busy;
mod checkpoint;
mod clock_note;
mod commit;
mod copy;
mod counts;
mod cut;
mod diverged;
mod durable;
mod erasures;
mod error;
mod fence;
mod follow;
mod hand_over;
mod handle;
mod history;
mod import;
mod import_users;
mod index;
mod job;
mod lease;
mod leftovers;
mod lists;
mod log;
mod logins;
mod open;
mod pause;
mod quota;
mod readers;
mod recover;
mod reign;
mod retire;
mod retry;
mod revive;
mod saved;
mod seal;
mod search;
mod session_events;
mod session_export;
mod session_make;
mod session_stats;
mod sessions;
mod settings;
mod sums;
mod sync;
mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod trim;
mod turns;
mod usage;
mod users;
mod verify;
mod writer;

pub(crate) use apply::ApplyError;
pub(crate) use attachments::{AttachmentRow, AttachmentSource, CHUNK_BYTES, Draft, NewAttachment};
pub(crate) use audit::{AuditCheck, AuditEntry, AuditFilter, AuditRow};
pub(crate) use backup::{inspect, schema_supported};
pub(crate) use belongings::Belonging;
pub(crate) use clock_note::{ClockNote, Inherited, LEAD_MAX_MS, Now};
pub(crate) use commit::Rested;
pub(crate) use copy::{PAGE_BYTES, PageFile, Piece, Replacement};
pub(crate) use counts::Counts;
pub(crate) use diverged::{Candidates, GivenUp, KeepError};
pub(crate) use durable::Durable;
pub(crate) use erasures::Erasing;
pub(crate) use error::{OpenError, StoreError};
pub(crate) use follow::Follower;
#[cfg(test)]
pub(crate) use handle::Opening;
pub(crate) use handle::{Base, Store};
pub(crate) use history::{Place, Told, TurnRow, Verdict};
pub(crate) use import::{ImportedAudit, ImportedSession, ImportedTurn, UNANSWERED};
pub(crate) use import_users::ImportedUser;
pub(crate) use job::Pending;
pub(crate) use lease::Leave;
pub(crate) use log::{Flush, Log, LogError};
pub(crate) use logins::{Login, NewLogin, Renewed};
pub(crate) use open::{Expect, NAMES};
pub(crate) use quota::{Exceeded, Quota};
pub(crate) use readers::{Budget, Snapshot};
pub(crate) use retire::{DELETED_AT_ONCE, Idle, Retired};
pub(crate) use search::{Found, Reach, Sought};
pub(crate) use session_events::TurnEvent;
pub(crate) use session_export::{Said, SaidPage, Walked};
pub(crate) use session_make::NewSession;
pub(crate) use session_stats::SessionStats;
#[cfg(test)]
pub(crate) use sessions::Spent;
pub(crate) use sessions::{Change, Filter, Key, Listed, Order, Page, SessionRow};
pub(crate) use settings::Settings;
#[cfg(test)]
pub(crate) use tests::opened;
pub(crate) use trim::Trimmed;
pub(crate) use turns::{NewTurn, Past, Session, StoredEvent, Turn, TurnEnd, TurnState};
pub(crate) use usage::{Census, PastAgent, QUARTER_MS, Usage};
pub(crate) use users::{Changed, EmailChange, NewUser, UserChange};
pub(crate) use verify::Checked;
