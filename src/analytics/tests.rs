//! Days of time zones, and places of addresses.

use super::geo::Geo;
use super::range::Range;
use super::service::{Analytics, sum};
use crate::base::{AgentId, Label, Owner, Region, RegionClass, UnixMillis};
use crate::store::{NewTurn, opened};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tempfile::TempDir;

#[path = "../../tests/api/mmdb.rs"]
mod mmdb;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn range(start: &str, end: &str, zone: &TimeZone) -> Range {
    Range::parse((Some(start), Some(end)), zone, UnixMillis(0)).unwrap()
}

fn lengths(range: &Range) -> Vec<i64> {
    range.bounds().windows(2).map(|day| day[1] - day[0]).collect()
}

#[test]
fn days_are_as_long_as_they_are_where_the_operator_lives() {
    let nepal = range("2026-03-01", "2026-03-02", &zone("Asia/Kathmandu"));
    assert_eq!(lengths(&nepal), [96, 96]);
    assert_eq!(nepal.whole().0 * 15 * 60 * 1000, at("2026-02-28T18:15:00Z").0, "5:45 before");
    let new_york = zone("America/New_York");
    assert_eq!(lengths(&range("2026-03-07", "2026-03-09", &new_york)), [96, 92, 96], "clocks leap on");
    assert_eq!(lengths(&range("2026-10-31", "2026-11-02", &new_york)), [96, 100, 96], "and back");
    // Where clocks leap over midnight a day begins later.
    let beirut = range("2026-03-28", "2026-03-30", &zone("Asia/Beirut"));
    assert_eq!(lengths(&beirut), [96, 92, 96]);
    assert_eq!((nepal.start().as_str(), nepal.end().as_str()), ("2026-03-01", "2026-03-02"));
}

#[test]
fn a_range_is_dates_or_times_and_thirty_days_where_nothing_is_said() {
    let shanghai = zone("Asia/Shanghai");
    let now = at("2026-11-26T16:30:00Z");
    let parse = |start, end| {
        let range = Range::parse((start, end), &shanghai, now)?;
        Ok::<_, super::RangeError>((range.start(), range.end(), range.dates().len()))
    };
    let days = |start: &str, end: &str, count| Ok((start.to_owned(), end.to_owned(), count));
    assert_eq!(parse(None, None), days("2026-10-29", "2026-11-27", 30), "there it is the next day already");
    assert_eq!(parse(None, Some("2026-03-01")), days("2026-01-31", "2026-03-01", 30));
    assert_eq!(parse(Some("2026-11-26"), None), days("2026-11-26", "2026-11-27", 2));
    for day in [
        "2026-11-27",
        "2026-11-26T16:00:00Z",
        "2026-11-26T16:00:00.000Z",
        "2026-11-26T17:00:00+01:00",
        "2026-11-27T00:00",
    ] {
        assert_eq!(parse(Some(day), Some(day)), days("2026-11-27", "2026-11-27", 1), "{day}");
    }
    assert_eq!(parse(Some("2024-01-01"), Some("2024-12-31")).unwrap().2, 366);
    for (start, end, field) in [
        ("2024-01-01", "2025-01-01", "end"),
        ("2026-01-02", "2026-01-01", "end"),
        ("1970-01-01", "9999-12-31", "end"),
        ("1969-12-31", "1970-01-01", "start"),
    ] {
        assert_eq!(parse(Some(start), Some(end)).unwrap_err().field, field, "{start} {end}");
    }
    for bad in [
        "x",
        "2026-1-1",
        "20260101",
        "2026-02-30",
        "2026-11-26 08:00:00Z",
        "2026-11-26T",
        "2026-11-26T25:00:00Z",
        "2026-11-26T08:00:00Z[Asia/Shanghai]",
        "-02026-01-01T00:00:00Z",
        "1700000000000",
        "2026-330",
        &"2".repeat(1000),
    ] {
        assert_eq!(parse(Some(bad), None).unwrap_err().field, "start", "{bad}");
        assert_eq!(parse(None, Some(bad)).unwrap_err().field, "end", "{bad}");
    }
}

#[tokio::test]
async fn what_happened_is_on_the_day_that_the_calendar_of_the_place_says() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let begins = at("2026-10-28T00:00:00Z").0;
    // Every 35 minutes through the end of summer time, so that all hours of all days have some.
    let times: Vec<i64> = (0..300).map(|step| begins + step * 35 * 60 * 1000).collect();
    for (number, time) in times.iter().enumerate() {
        let new = NewTurn {
            owner: Owner::visitor("1"),
            agent_id: AgentId::parse(if number % 3 == 0 { "a" } else { "b" }).unwrap(),
            chat: Label::parse(&format!("c{}", number / 2)).unwrap(),
            upstream_chat_id: format!("up{number}"),
            turn_id: format!("id{number}"),
            label: Label::parse("t").unwrap(),
            idempotency_key: None,
            body_hash: [1; 32],
            upstream_item_id: String::new(),
            question: "{}".to_owned(),
            title: String::new(),
            settings: None,
            replaces: None,
            region: None,
            at: UnixMillis(*time),
        };
        // The second of two in one chat is refused where the agent is the same: another upstream chat.
        drop(store.turn_begin(new).unwrap().await);
    }
    let listed: BTreeMap<i64, u64> = {
        let all = crate::store::Page { offset: 0, limit: 999 };
        let by = (crate::store::Key::CreatedAt, crate::store::Order::Ascending);
        let rows = store.sessions_list(crate::store::Filter::default(), by, all).await.unwrap().value.rows;
        rows.iter().map(|row| (row.id.began.0, row.turns)).collect()
    };
    assert!(listed.len() > 150, "{}", listed.len());
    for name in ["UTC", "Asia/Kathmandu", "America/New_York", "Asia/Shanghai", "Pacific/Chatham", "Australia/Lord_Howe"]
    {
        let zone = zone(name);
        let analytics = Analytics::new(store.clone(), zone.clone(), Geo::new(None, "CN".into()));
        let range = analytics.range((Some("2026-10-29"), Some("2026-11-03")), UnixMillis(0)).unwrap();
        let usage = analytics.usage(&range, None).await.unwrap().value;
        let mut found = BTreeMap::<String, (u64, u64)>::new();
        for ((day, _), count) in &usage.cells {
            let counts = found.entry(range.dates()[*day].to_string()).or_default();
            *counts = (counts.0 + count.sessions, counts.1 + count.turns);
        }
        let mut expected = BTreeMap::<String, (u64, u64)>::new();
        for (began, turns) in &listed {
            let date = zone.to_datetime(Timestamp::from_millisecond(*began).unwrap()).date();
            if range.dates().contains(&date) {
                let counts = expected.entry(date.to_string()).or_default();
                *counts = (counts.0 + 1, counts.1 + turns);
            }
        }
        assert_eq!(found, expected, "{name}");
        let places = analytics.places(&range, None).await.unwrap().value;
        assert_eq!((places.total, places.local, places.overseas), (sum(&usage).sessions, 0, 0));
    }
    store.close().await.unwrap();
}

fn loaded(bytes: &[u8]) -> (TempDir, Geo) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("places.mmdb");
    crate::disk::replace(&path, bytes).unwrap();
    let geo = Geo::new(Some(path), "CN".to_owned());
    geo.load();
    (dir, geo)
}

#[test]
fn an_address_is_in_a_province_of_home_or_in_another_country_or_nobody_knows() {
    let (_dir, geo) = loaded(&mmdb::of_documentation());
    let find = |address: &str| geo.region(address.parse::<IpAddr>().unwrap());
    let region = |class, country: &str, province: &str| {
        Some(Region { class, country: country.to_owned(), province: province.to_owned() })
    };
    assert_eq!(find("192.0.2.7"), region(RegionClass::Local, "CN", "浙江省"), "as people there call it");
    assert_eq!(find("::ffff:192.0.2.7"), find("192.0.2.7"));
    assert_eq!(find("198.51.100.7"), region(RegionClass::Local, "CN", "Beijing"));
    assert_eq!(find("198.51.100.200"), region(RegionClass::Unknown, "CN", ""));
    assert_eq!(find("203.0.113.9"), region(RegionClass::Overseas, "DE", ""));
    for unknown in ["10.0.0.1", "127.0.0.1", "192.0.3.1", "::1", "2001:db8::1"] {
        assert_eq!(find(unknown), None, "{unknown}");
    }
}

#[test]
fn a_database_that_is_missing_or_broken_knows_nothing_and_does_not_replace_a_good_one() {
    let none = Geo::new(None, "CN".to_owned());
    none.load();
    let missing = Geo::new(Some("/nonexistent/places.mmdb".into()), "CN".to_owned());
    missing.load();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert!(!none.is_loaded() && !missing.is_loaded() && missing.region(address).is_none());
    let (dir, geo) = loaded(b"no database");
    assert!(!geo.is_loaded());
    let path = dir.path().join("places.mmdb");
    crate::disk::replace(&path, &mmdb::of_documentation()).unwrap();
    geo.load();
    assert!(geo.region(address).is_some(), "read again");
    crate::disk::replace(&path, b"").unwrap();
    geo.load();
    assert!(geo.region(address).is_some(), "the old one stays in use");
    let nonsense = mmdb::database(&[("192.0.2.0".parse().unwrap(), 24, mmdb::text("nothing"))]);
    let (_dir, geo) = loaded(&nonsense);
    assert!(geo.is_loaded() && geo.region(address).is_none(), "a record of another form says nothing");
    let long = "省".repeat(80);
    let odd = mmdb::database(&[
        ("192.0.2.0".parse().unwrap(), 25, mmdb::place("CN", &[("en", &format!("\u{7} {}\n", &long[..150]))])),
        ("192.0.2.128".parse().unwrap(), 25, mmdb::place("China", &[("en", "x")])),
    ]);
    let (_dir, geo) = loaded(&odd);
    assert_eq!(geo.region(address).unwrap().province, &long[..150], "without what is no letter");
    assert_eq!(geo.region("192.0.2.200".parse().unwrap()), None, "that is no country");
}

proptest! {
    /// Goal: no file takes the service down. Method: a good one with some of its bytes changed, or cut.
    #[test]
    fn a_damaged_database_is_refused_or_says_something_and_panics_never(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = mmdb::of_documentation();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        let (_dir, geo) = loaded(&bytes);
        for address in ["192.0.2.7", "198.51.100.7", "203.0.113.9", "10.0.0.1", "2001:db8::1"] {
            let _ = geo.region(address.parse().unwrap());
        }
    }
}
