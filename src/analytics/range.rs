use crate::base::UnixMillis;
use crate::store::QUARTER_MS;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A year, also a leap year.
const DAYS_MAX: usize = 366;
/// Where nothing is said: the last so many, today among them.
const DAYS_USUAL: i32 = 30;
/// `2026-11-26`.
const DATE_CHARS: usize = 10;
/// Longer is no time.
const TIME_CHARS_MAX: usize = 64;

/// Days in a row, as the operator's time zone has them: at least one, 366 at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    dates: Vec<Date>,
    /// Quarters of an hour since 1970 that each begins with, and the first after the last of them.
    bounds: Vec<i64>,
}

/// What was asked for is no such range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub(crate) struct RangeError {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl Range {
    /// The days from `start` to `end`, both included. Each is a date, or a time, which stands for its day: `2026-11-26`,
    /// `2026-11-26T08:00:00Z`, or without an offset as clocks in `zone` show it. Without `end` up to today; without `start`
    /// the last 30 days up to `end`.
    pub(crate) fn parse(
        (start, end): (Option<&str>, Option<&str>),
        zone: &TimeZone,
        now: UnixMillis,
    ) -> Result<Self, RangeError> {
        let today = zone.to_datetime(timestamp(now)).date();
        let end = end.map_or(Ok(today), |end| day("end", end, zone))?;
        let start = match start {
            Some(start) => day("start", start, zone)?,
            None => end.saturating_sub((DAYS_USUAL - 1).days()),
        };
        Self::between(start, end, zone)
    }

    /// The day that `now` is in.
    pub(crate) fn today(zone: &TimeZone, now: UnixMillis) -> Result<Self, RangeError> {
        let today = zone.to_datetime(timestamp(now)).date();
        Self::between(today, today, zone)
    }

    fn between(start: Date, end: Date, zone: &TimeZone) -> Result<Self, RangeError> {
        if end < start {
            return Err(RangeError { field: "end", rule: "must not be before start" });
        }
        let mut dates = vec![start];
        let far = RangeError { field: "end", rule: "must be at most 366 days from start, both included" };
        while let Some(last) = dates.last()
            && *last < end
        {
            if dates.len() >= DAYS_MAX {
                return Err(far);
            }
            dates.push(last.tomorrow().map_err(|_| far)?);
        }
        let after = end.tomorrow().map_err(|_| far)?;
        let bounds: Option<Vec<i64>> = dates.iter().chain([&after]).map(|date| quarter(*date, zone)).collect();
        Ok(Self { dates, bounds: bounds.ok_or(far)? })
    }

    pub(crate) fn start(&self) -> String {
        self.dates.first().map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn end(&self) -> String {
        self.dates.last().map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn dates(&self) -> &[Date] {
        &self.dates
    }

    pub(super) fn bounds(&self) -> &[i64] {
        &self.bounds
    }

    /// From the first quarter up to the one after the last.
    pub(super) fn whole(&self) -> (i64, i64) {
        (self.bounds.first().copied().unwrap_or_default(), self.bounds.last().copied().unwrap_or_default())
    }
}

fn timestamp(at: UnixMillis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or_default()
}

/// The quarter of an hour that a day begins in: not at midnight, where clocks leap over that. Every offset since 1972 is
/// whole quarters.
fn quarter(date: Date, zone: &TimeZone) -> Option<i64> {
    let begins = date.to_zoned_datetime(zone.clone()).ok()?.start_of_day().ok()?;
    Some(begins.timestamp().as_millisecond().div_euclid(QUARTER_MS))
}

fn day(field: &'static str, text: &str, zone: &TimeZone) -> Result<Date, RangeError> {
    let wrong = RangeError { field, rule: "must be a date such as 2026-11-26, or a time such as 2026-11-26T08:00:00Z" };
    let is_plain = text.len() <= TIME_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'[');
    let year = text.split('-').next().filter(|year| year.len() == 4);
    if !is_plain || year.is_none() {
        return Err(wrong);
    }
    let date = if text.len() == DATE_CHARS {
        text.parse::<Date>().ok()
    } else if text.as_bytes().get(DATE_CHARS) != Some(&b'T') {
        None
    } else if let Ok(at) = text.parse::<Timestamp>() {
        Some(zone.to_datetime(at).date())
    } else {
        text.parse::<DateTime>().ok().map(DateTime::date)
    };
    // Nothing happened before, and far days have no beginning that can be counted.
    date.filter(|date| (1970..=9000).contains(&date.year())).ok_or(wrong)
}
