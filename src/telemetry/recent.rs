//! The last lines of the log, in memory: for administrators who have no shell on the machine.

use crate::base::UnixMillis;
use crate::clock;
use std::collections::VecDeque;
use std::fmt::{self, Debug, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A day of a node that is well, and the last minutes of one that is not.
const LINES_MAX: usize = 2_000;
/// Of all texts, and what is kept beside each: with the lines' places below 1 MiB.
const BYTES_MAX: usize = 768 << 10;
const LINE_BYTES: usize = 128;
/// Of one text; what is longer is cut.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// How grave a line is. What is less than `Info` is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Info,
    Warn,
    Error,
}

impl Severity {
    pub(crate) const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    fn of(level: Level) -> Option<Self> {
        match level {
            Level::ERROR => Some(Self::Error),
            Level::WARN => Some(Self::Warn),
            Level::INFO => Some(Self::Info),
            _ => None,
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counts the lines of this process, from 1.
    pub(crate) id: u64,
    pub(crate) at: UnixMillis,
    pub(crate) severity: Severity,
    /// What happened, and its fields as `name=value`; it may have more than one line of text.
    pub(crate) message: String,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    last: u64,
    /// Older lines are forgotten.
    keep: Option<Duration>,
}

impl Ring {
    fn push(&mut self, at: UnixMillis, severity: Severity, message: String) {
        self.last += 1;
        self.bytes += message.len() + LINE_BYTES;
        self.lines.push_back(Arc::new(Line { id: self.last, at, severity, message }));
        self.forget(at);
    }

    fn forget(&mut self, now: UnixMillis) {
        let keep_ms = self.keep.map(|keep| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        while let Some(first) = self.lines.front() {
            let is_old = keep_ms.is_some_and(|keep_ms| first.at.0 < now.0.saturating_sub(keep_ms));
            if !is_old && self.lines.len() <= LINES_MAX && self.bytes <= BYTES_MAX {
                return;
            }
            self.bytes -= first.message.len() + LINE_BYTES;
            self.lines.pop_front();
        }
    }
}

/// The last lines of this process's log. Clones are one; nobody waits under its lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<Ring>>);

/// There is one log a process.
static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);

/// The last lines of the log that [`super::log()`] has started.
pub(crate) fn recent() -> Recent {
    RECENT.clone()
}

impl Recent {
    /// Forgets lines that are older than `keep`, from now on; `None` forgets none for its age.
    pub(crate) fn keep_for(&self, keep: Option<Duration>) {
        self.ring().keep = keep;
    }

    /// Every line that is kept, oldest first.
    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        let mut ring = self.ring();
        ring.forget(clock::unix_millis());
        ring.lines.iter().cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(severity) = Severity::of(*event.metadata().level()) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        self.ring().push(clock::unix_millis(), severity, text.whole());
    }
}

/// A text that takes no more than it may.
#[derive(Default)]
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = MESSAGE_BYTES_MAX - self.0.len();
        if more.len() <= room {
            self.0.push_str(more);
            return Ok(());
        }
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        Err(fmt::Error) // Whoever writes need not go on.
    }
}

/// What an event says, and its fields.
#[derive(Default)]
struct Text {
    message: Cut,
    fields: Cut,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // What is longer is cut, and cut there is no error.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Text {
    fn whole(self) -> String {
        let Self { mut message, fields } = self;
        let is_whole = message.write_str(&fields.0).is_ok() && fields.0.len() < MESSAGE_BYTES_MAX;
        let mut text = message.0;
        if !is_whole || text.len() >= MESSAGE_BYTES_MAX {
            text.push('…');
        }
        text.trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::prelude::*;

    fn logged(work: impl FnOnce()) -> Vec<Arc<Line>> {
        let recent = Recent::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recent.clone()), work);
        recent.lines()
    }

    #[test]
    fn a_line_is_what_was_said_with_its_fields_and_debug_is_not_kept() {
        let lines = logged(|| {
            tracing::info!(count = 3, name = "a\nb", "two\nlines");
            tracing::debug!("nothing");
            tracing::warn!(shown = %"x y");
            tracing::error!("é{}", "é".repeat(MESSAGE_BYTES_MAX));
        });
        let said: Vec<_> = lines.iter().map(|line| (line.id, line.severity.as_str(), line.message.as_str())).collect();
        assert_eq!(said[0], (1, "INFO", "two\nlines count=3 name=\"a\\nb\""));
        assert_eq!(said[1], (2, "WARN", "shown=x y"));
        assert_eq!((said[2].0, said[2].1, lines.len()), (3, "ERROR", 3));
        assert!(said[2].2.len() <= MESSAGE_BYTES_MAX + 3 && said[2].2.ends_with("é…"), "{}", said[2].2.len());
    }

    #[test]
    fn neither_lines_nor_bytes_are_more_than_they_may_be_and_the_oldest_go() {
        let mut ring = Ring::default();
        for at in 0..5_000 {
            ring.push(UnixMillis(at), Severity::Info, String::new());
        }
        assert_eq!((ring.lines.len(), ring.lines[0].id), (LINES_MAX, 3_001));
        for at in 5_000..6_000 {
            ring.push(UnixMillis(at), Severity::Info, "x".repeat(MESSAGE_BYTES_MAX));
        }
        let counted: usize = ring.lines.iter().map(|line| line.message.len() + LINE_BYTES).sum();
        assert!(ring.bytes == counted && counted <= BYTES_MAX, "{} {counted}", ring.bytes);
        ring.keep = Some(Duration::from_secs(1));
        ring.forget(UnixMillis(6_990));
        assert_eq!(ring.lines.front().map(|line| line.at.0), Some(5_990));
        ring.forget(UnixMillis(60_000));
        assert_eq!((ring.lines.len(), ring.bytes), (0, 0));
    }
}
