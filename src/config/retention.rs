//! `[retention]`: how long what was stored is kept.

use crate::config::rules::Rules;
use crate::config::sections;
use std::time::Duration;

/// Longer than anybody keeps anything, and far from where a clock could overflow.
const DAYS_MAX: u64 = 36_500;
const DAY_SECONDS: u64 = 86_400;

/// What goes once it is older; `None` is kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Conversations, since somebody has last asked or changed something in them.
    pub(crate) messages: Option<Duration>,
    /// Rows of the audit.
    pub(crate) audit: Option<Duration>,
    /// Lines of the log that are kept in memory.
    pub(crate) logs: Option<Duration>,
    /// Files that no question names.
    pub(crate) attachments: Option<Duration>,
}

impl sections::Retention {
    pub(super) fn check(self, rules: &mut Rules) -> Retention {
        let Self { messages, audit, logs, attachments } = self;
        Retention {
            messages: age("retention.messages", &messages, rules),
            audit: age("retention.audit", &audit, rules),
            logs: age("retention.logs", &logs, rules),
            attachments: age("retention.attachments", &attachments, rules),
        }
    }
}

/// "180d": a whole number and s, m, h or d; "0" and "" are no age at all.
fn age(key: &str, text: &str, rules: &mut Rules) -> Option<Duration> {
    if ["", "0"].contains(&text) {
        return None;
    }
    let age = parsed(text).filter(|seconds| (1..=DAYS_MAX * DAY_SECONDS).contains(seconds));
    let rule =
        "must be an age such as \"180d\", \"36h\", \"90m\" or \"30s\", of 100 years at most, or \"0\" to keep all";
    rules.need_text(age.is_some(), key, rule, text);
    age.map(Duration::from_secs)
}

fn parsed(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => DAY_SECONDS,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_plain)?.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::Problems;

    #[test]
    fn an_age_is_a_number_with_a_unit_and_anything_else_is_refused() {
        let check = |text: &str| {
            let mut problems = Problems::default();
            let age = age("retention.audit", text, &mut Rules(&mut problems));
            (age.map(|age| age.as_secs()), problems.is_empty())
        };
        for (text, seconds) in [("180d", 15_552_000), ("36h", 129_600), ("90m", 5_400), ("1s", 1)] {
            assert_eq!(check(text), (Some(seconds), true), "{text}");
        }
        for nothing in ["", "0"] {
            assert_eq!(check(nothing), (None, true));
        }
        for bad in ["0d", "1", "d", "-1d", "+1d", "1.5d", "1 d", "36501d", "99999999999999999999d", "1w", "é", "١d"] {
            assert_eq!(check(bad), (None, false), "{bad}");
        }
    }
}
