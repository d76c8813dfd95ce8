//! What a client says of the conversations that it wants, as checked types.
//!
//! Front ends write a filter's names plain or in brackets, `search` or `filter[search]`, `filter[dateRange][start]`.

use crate::base::{AgentId, Label, Owner, SessionId, UnixMillis};
use crate::http::api::pages;
use crate::http::error::{self, ApiError};
use crate::sessions::sort;
use crate::store::{Filter, Key, Order, Page};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The longest part of a title to look for, in letters.
const SEARCH_CHARS_MAX: usize = 200;
/// Conversations of one batch.
const BATCH_MAX: usize = 100;
/// No conversation was used before that.
const NEVER: UnixMillis = UnixMillis(i64::MIN);
/// Letters of a day, as in `2026-11-26`.
const DATE_CHARS: usize = 10;

const PAGING: [&str; 7] = ["page", "pageSize", "limit", "sortBy", "sortOrder", "format", "q"];
const FILTERS: [&str; 11] = [
    "search",
    "status",
    "agentId",
    "userId",
    "tags",
    "dateFrom",
    "dateTo",
    "startDate",
    "endDate",
    "dateRange.start",
    "dateRange.end",
];

pub(in crate::http::api) type Asking = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// A query's names and values. A name that is not known is left out, but for a filter's: that one would show more than was
/// asked for.
pub(in crate::http::api) struct Asked(Vec<Named>);

struct Named {
    known: &'static str,
    /// As the client has written it.
    name: String,
    value: String,
}

impl Asked {
    pub(in crate::http::api) fn of(asking: Asking) -> Result<Self, ApiError> {
        let Query(pairs) = asking.map_err(|_| error::validation("query", "must be names with values"))?;
        let mut named = Vec::<Named>::new();
        for (name, value) in pairs {
            match known(&name) {
                Some("tags") => named.push(Named { known: "tags", name, value }),
                Some(known) if named.iter().any(|other| other.known == known) => {
                    return Err(error::validation(&name, "must be given once"));
                }
                Some(known) => named.push(Named { known, name, value }),
                None if name.starts_with("filter[") => return Err(error::validation(&name, "is not known")),
                None => {}
            }
        }
        Ok(Self(named))
    }

    /// The filter of a body, whose names are plain.
    pub(in crate::http::api) fn filter_of(pairs: Vec<(String, String)>, zone: &TimeZone) -> Result<Filter, ApiError> {
        if let Some((name, _)) =
            pairs.iter().find(|(name, _)| known(name).is_none_or(|known| !FILTERS.contains(&known)))
        {
            return Err(error::validation(name, "is not known"));
        }
        Self::of(Ok(Query(pairs)))?.filter(zone)
    }

    /// The value of that name, and the name as the client has written it; an empty one is none.
    fn get(&self, known: &str) -> Option<(&str, &str)> {
        let named = self.0.iter().find(|named| named.known == known && !named.value.is_empty())?;
        Some((&named.value, &named.name))
    }

    pub(in crate::http::api) fn value(&self, known: &str) -> Option<&str> {
        self.get(known).map(|(value, _)| value)
    }

    /// What filters there are, by name, for the audit. What is searched for is nobody's to read there.
    pub(in crate::http::api) fn filters(&self) -> serde_json::Value {
        let said = self.0.iter().filter(|named| FILTERS.contains(&named.known) && !named.value.is_empty());
        let said = said.map(|named| {
            let value = if named.known == "search" { "(given)" } else { named.value.as_str() };
            (named.known.to_owned(), value.chars().take(SEARCH_CHARS_MAX).collect::<String>().into())
        });
        serde_json::Value::Object(said.collect())
    }

    /// A filter, as the client has written it.
    pub(in crate::http::api) fn first_filter(&self) -> Option<&str> {
        let filter = self.0.iter().find(|named| FILTERS.contains(&named.known) && !named.value.is_empty());
        filter.map(|filter| filter.name.as_str())
    }

    pub(in crate::http::api) fn page(&self) -> Result<(Page, u32), ApiError> {
        pages::page(self.value("page"), self.value("pageSize"), self.value("limit"))
    }

    pub(in crate::http::api) fn sort(&self) -> Result<(Key, Order), ApiError> {
        let (by, order) = (self.value("sortBy"), self.value("sortOrder"));
        sort(by, None).map_err(|rule| error::validation("sortBy", &rule.to_string()))?;
        sort(by, order).map_err(|rule| error::validation("sortOrder", &rule.to_string()))
    }

    /// Days begin and end as they do in `zone`.
    pub(in crate::http::api) fn filter(&self, zone: &TimeZone) -> Result<Filter, ApiError> {
        let mut filter = Filter::default();
        if let Some((id, name)) = self.get("agentId") {
            filter.agent_id = Some(agent_id(name, id)?);
        }
        if let Some((id, name)) = self.get("userId") {
            filter.owner = Some(owner(id).ok_or_else(|| error::validation(name, "must be a user's id"))?);
        }
        if let Some((part, name)) = self.get("search") {
            if part.chars().count() > SEARCH_CHARS_MAX {
                return Err(error::validation(name, "must have 200 letters at most"));
            }
            filter.title = Some(part.to_owned());
        }
        for (known, is_end) in [
            ("dateFrom", false),
            ("startDate", false),
            ("dateRange.start", false),
            ("dateTo", true),
            ("endDate", true),
            ("dateRange.end", true),
        ] {
            let Some((text, name)) = self.get(known) else { continue };
            let rule = "must be a day as in 2026-11-26, or a time as in 2026-11-26T08:00:00Z";
            let at = Some(time(text, is_end, zone).ok_or_else(|| error::validation(name, rule))?);
            if is_end {
                filter.until = at;
            } else {
                filter.since = at;
            }
        }
        match self.get("status") {
            None => {}
            Some(("active", _)) => filter.is_archived = Some(false),
            Some(("archived", _)) => filter.is_archived = Some(true),
            // What is deleted is gone.
            Some(("deleted", _)) => filter.until = Some(NEVER),
            Some((_, name)) => return Err(error::validation(name, "must be active or archived")),
        }
        // No conversation has a tag.
        if self.get("tags").is_some() {
            filter.until = Some(NEVER);
        }
        Ok(filter)
    }
}

/// The name that `written` stands for.
fn known(written: &str) -> Option<&'static str> {
    let name = match written.strip_prefix("filter[").and_then(|rest| rest.split_once(']')) {
        Some(("dateRange", "[start]")) => "dateRange.start",
        Some(("dateRange", "[end]")) => "dateRange.end",
        Some(("tags", index)) if is_index(index) => "tags",
        Some((name, "")) => return FILTERS.into_iter().find(|known| *known == name),
        Some(_) => return None,
        None if written.strip_prefix("tags").is_some_and(is_index) => "tags",
        None => written,
    };
    FILTERS.into_iter().chain(PAGING).find(|known| *known == name)
}

/// Of a list's item: `[]`, `[0]`, or nothing.
fn is_index(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    text.is_empty() || inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The beginning of a day or a time itself; of an end, what comes right behind. Days begin as they do in `zone`:
/// not at midnight, where clocks leap over that.
fn time(text: &str, is_end: bool, zone: &TimeZone) -> Option<UnixMillis> {
    if text.chars().count() == DATE_CHARS {
        let day: Date = text.parse().ok()?;
        let day = if is_end { day.tomorrow().ok()? } else { day };
        let begins = day.to_zoned_datetime(zone.clone()).ok()?.start_of_day().ok()?;
        return Some(UnixMillis(begins.timestamp().as_millisecond()));
    }
    let at = text.parse::<Timestamp>().ok()?.as_millisecond();
    Some(UnixMillis(if is_end { at + 1 } else { at }))
}

/// As it is shown, or a user's bare number.
fn owner(text: &str) -> Option<Owner> {
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_plain && *number > 0).map(Owner::user)
    };
    match text.split_once(':') {
        None => number(text),
        Some(("user", id)) => number(id),
        Some(("visitor", id)) => Label::parse(id).ok().map(|id| Owner::visitor(id.as_str())),
        Some(_) => None,
    }
}

pub(in crate::http::api) fn agent_id(name: &str, text: &str) -> Result<AgentId, ApiError> {
    AgentId::parse(text).map_err(|rule| error::validation(name, &rule.to_string()))
}

pub(in crate::http::api) fn session_id(name: &str, text: &str) -> Result<SessionId, ApiError> {
    text.parse().map_err(|rule: crate::base::SessionIdError| error::validation(name, &rule.to_string()))
}

/// The conversations of a batch.
pub(in crate::http::api) fn ids(texts: &[String]) -> Result<Vec<SessionId>, ApiError> {
    if !(1..=BATCH_MAX).contains(&texts.len()) {
        return Err(error::validation("sessionIds", "must be 1 to 100 sessions"));
    }
    texts.iter().enumerate().map(|(index, text)| session_id(&format!("sessionIds[{index}]"), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked, ApiError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Asked::of(Ok(Query(pairs.collect())))
    }

    fn filter(pairs: &[(&str, &str)]) -> Result<Filter, &'static str> {
        asked(pairs).and_then(|asked| asked.filter(&TimeZone::UTC)).map_err(|error| error.code)
    }

    #[test]
    fn a_day_begins_and_ends_where_the_zone_says() {
        let day = |zone: &str, text: &str| {
            let zone = jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap();
            let filter =
                asked(&[("filter[startDate]", text), ("filter[endDate]", text)]).unwrap().filter(&zone).unwrap();
            [filter.since.unwrap().to_string(), filter.until.unwrap().to_string()]
        };
        assert_eq!(day("Asia/Shanghai", "2026-11-26"), ["2026-11-25T16:00:00.000Z", "2026-11-26T16:00:00.000Z"]);
        // An hour is left out, and here midnight with it.
        assert_eq!(day("America/Santiago", "2026-09-06"), ["2026-09-06T04:00:00.000Z", "2026-09-07T03:00:00.000Z"]);
        // What is a time is no day of any zone.
        let at = "2026-11-26T00:00:00Z";
        assert_eq!(day("Asia/Shanghai", at), ["2026-11-26T00:00:00.000Z", "2026-11-26T00:00:00.001Z"]);
    }

    #[test]
    fn filters_are_read_plain_and_in_brackets_and_strange_ones_are_refused() {
        let found = filter(&[
            ("filter[search]", "50%"),
            ("filter[status]", "archived"),
            ("filter[agentId]", "a"),
            ("filter[userId]", "7"),
            ("filter[dateRange][start]", "2026-11-26"),
            ("filter[dateRange][end]", "2026-11-26"),
            ("_", "1"),
        ]);
        let found = found.unwrap();
        assert_eq!((found.title.as_deref(), found.is_archived), (Some("50%"), Some(true)));
        assert_eq!(found.agent_id.map(|id| id.to_string()).as_deref(), Some("a"));
        assert_eq!(found.owner, Some(Owner::user(7)));
        let day = 1_795_651_200_000;
        assert_eq!((found.since, found.until), (Some(UnixMillis(day)), Some(UnixMillis(day + 24 * 3600 * 1000))));
        let plain =
            filter(&[("dateFrom", "2026-11-26T01:00:00+01:00"), ("dateTo", "2026-11-26T00:00:00.000Z")]).unwrap();
        assert_eq!(
            (plain.since, plain.until),
            (Some(UnixMillis(day)), Some(UnixMillis(day + 1))),
            "its end belongs to it"
        );
        let nothing = filter(&[("filter[status]", ""), ("filter[tags][]", ""), ("search", "")]).unwrap();
        assert!(nothing.is_archived.is_none() && nothing.title.is_none() && nothing.until.is_none());
        for none in [("filter[tags][]", "x"), ("filter[tags][0]", "x"), ("filter[tags]", "x"), ("tags", "x")] {
            assert_eq!(filter(&[none]).unwrap().until, Some(NEVER), "{none:?}");
        }
        let many: String = "天".repeat(201);
        for bad in [
            ("filter[status]", "ACTIVE"),
            ("filter[agentId]", "a b"),
            ("filter[userId]", "root:1"),
            ("filter[userId]", "-1"),
            ("filter[startDate]", "yesterday"),
            ("filter[endDate]", "2026-02-30"),
            ("filter[dateRange]", "2026-02-03"),
            ("filter[owner]", "1"),
            ("filter[messageCountMin]", "1"),
            ("filter[]", "1"),
            ("filter[tags][x]", "1"),
            ("filter[search]", &many),
        ] {
            assert_eq!(filter(&[bad]).unwrap_err(), "VALIDATION_ERROR", "{bad:?}");
        }
        assert!(asked(&[("filter[search]", "a"), ("search", "b")]).is_err(), "said twice");
    }

    #[test]
    fn a_list_is_sorted_and_paged_as_it_is_asked_for() {
        let sorted = |pairs: &[(&str, &str)]| asked(pairs).unwrap().sort().map_err(|error| error.code);
        assert_eq!(sorted(&[("sortBy", "messageCount"), ("sortOrder", "asc")]), Ok((Key::Turns, Order::Ascending)));
        assert_eq!(sorted(&[]), Ok((Key::AskedAt, Order::Descending)));
        assert_eq!(sorted(&[("sortBy", "owner")]), Err("VALIDATION_ERROR"));
        assert_eq!(sorted(&[("sortOrder", "down")]), Err("VALIDATION_ERROR"));
        let (page, number) = asked(&[("page", "2"), ("pageSize", "5")]).unwrap().page().unwrap();
        assert_eq!((page, number), (Page { offset: 5, limit: 5 }, 2));
    }

    #[test]
    fn a_batch_has_its_limits_and_names_what_is_no_session() {
        let texts = |count: usize| (0..count).map(|row| format!("{row}-1")).collect::<Vec<_>>();
        assert_eq!(ids(&texts(100)).unwrap().len(), 100);
        assert!(ids(&texts(101)).is_err() && ids(&[]).is_err());
        assert!(ids(&["1-1".to_owned(), "x".to_owned()]).is_err());
    }

    #[test]
    fn the_audit_learns_of_filters_and_not_of_what_is_searched_for() {
        let asked = asked(&[("filter[search]", "a secret"), ("filter[status]", "active"), ("page", "1")]).unwrap();
        assert_eq!(asked.filters(), serde_json::json!({ "search": "(given)", "status": "active" }));
    }
}
