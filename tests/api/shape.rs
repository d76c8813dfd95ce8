//! A small language for what an answer looks like, written as JSON.
//!
//! Numbers, booleans, null and most texts are themselves. A text in angle brackets is a kind: `<string>`, `<text>` (not
//! empty), `<integer>`, `<number>`, `<bool>`, `<time>` (RFC 3339, UTC, milliseconds), `<date>`, `<any>`; `<kind?>` may be null;
//! `<one|other>` is one of these texts. `<kind> -> name` also remembers what was there. An object has exactly its keys: `key?`
//! may be missing, `...` lets others be there too, and `*` stands for every key. `[shape]` is a list of one or more, `["*",
//! shape]` of any number, `["=", one, other]` of exactly these, `[]` is empty.

use crate::support::Response;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What has been remembered, by name.
pub(crate) type Names = HashMap<String, String>;

/// Says each difference of `found` from `shape`, and remembers what it is told to.
pub(crate) fn check(shape: &Value, found: &Value, at: &str, names: &mut Names) -> Vec<String> {
    match (shape, found) {
        (Value::String(text), _) if text.starts_with('<') => kind(text, found, at, names),
        (Value::Object(shape), Value::Object(found)) => object(shape, found, at, names),
        (Value::Array(shape), Value::Array(found)) => list(shape, found, at, names),
        _ if shape == found => Vec::new(),
        _ => vec![format!("{at}: expected {shape}, found {found}")],
    }
}

/// Envelope E1 of the contract.
pub(crate) fn e1(data: &Value) -> Value {
    let metadata = json!({ "version": "1.0.0" });
    json!({ "code": "OK", "message": "<text>", "timestamp": "<time>", "metadata": metadata, "data": data })
}

/// Envelope E2, of accounts.
pub(crate) fn e2(data: &Value) -> Value {
    json!({ "code": "SUCCESS", "message": "<text>", "timestamp": "<time>", "data": data })
}

/// The answer is good, and looks like that.
#[track_caller]
pub(crate) fn is_like(answer: &Response, status: u16, shape: &Value) {
    assert_eq!(answer.status, status, "{}", answer.text());
    looks(&answer.json(), shape);
}

#[track_caller]
pub(crate) fn looks(found: &Value, shape: &Value) {
    assert_eq!(check(shape, found, "", &mut Names::new()), [""; 0], "{found}");
}

fn kind(text: &str, found: &Value, at: &str, names: &mut Names) -> Vec<String> {
    let (kind, name) = text.split_once(" -> ").map_or((text, None), |(kind, name)| (kind, Some(name)));
    let word = kind.trim_matches(['<', '>']);
    let is_one = match word.strip_suffix('?') {
        Some(_) if found.is_null() => true,
        Some(word) => is(word, found),
        None => is(word, found),
    };
    if !is_one {
        return vec![format!("{at}: expected {kind}, found {found}")];
    }
    if let Some(name) = name {
        let found = found.as_str().map_or_else(|| found.to_string(), ToOwned::to_owned);
        names.insert(name.to_owned(), found);
    }
    Vec::new()
}

fn is(word: &str, found: &Value) -> bool {
    let text = found.as_str();
    match word {
        "any" => true,
        "string" => text.is_some(),
        "text" => text.is_some_and(|text| !text.is_empty()),
        "integer" => found.is_i64() || found.is_u64(),
        "number" => found.is_number(),
        "bool" => found.is_boolean(),
        "time" => text.is_some_and(|text| looks_like("0000-00-00T00:00:00.000Z", text)),
        "date" => text.is_some_and(|text| looks_like("0000-00-00", text)),
        words if words.contains('|') => text.is_some_and(|text| words.split('|').any(|word| word == text)),
        _ => panic!("`{word}` is no kind"),
    }
}

/// A digit for each 0, and every other letter as it is.
fn looks_like(pattern: &str, text: &str) -> bool {
    let is_same = |(wanted, found): (char, char)| if wanted == '0' { found.is_ascii_digit() } else { wanted == found };
    pattern.chars().count() == text.chars().count() && pattern.chars().zip(text.chars()).all(is_same)
}

fn object(shape: &Map<String, Value>, found: &Map<String, Value>, at: &str, names: &mut Names) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, shape) in shape {
        let name = key.trim_end_matches('?');
        match found.get(name) {
            _ if matches!(key.as_str(), "..." | "*") => {}
            Some(found) => faults.extend(check(shape, found, &format!("{at}.{name}"), names)),
            None if key.ends_with('?') => {}
            None => faults.push(format!("{at}.{name}: is missing")),
        }
    }
    for (key, found) in found {
        if shape.contains_key(key) || shape.contains_key(&format!("{key}?")) || shape.contains_key("...") {
            continue;
        }
        match shape.get("*") {
            Some(shape) => faults.extend(check(shape, found, &format!("{at}.{key}"), names)),
            None => faults.push(format!("{at}.{key}: is not expected, found {found}")),
        }
    }
    faults
}

fn list(shape: &[Value], found: &[Value], at: &str, names: &mut Names) -> Vec<String> {
    let of = |index: usize| format!("{at}[{index}]");
    let each = |shape: &Value, names: &mut Names| {
        let items = found.iter().enumerate();
        items.flat_map(|(index, found)| check(shape, found, &of(index), names)).collect()
    };
    match shape {
        [] if found.is_empty() => Vec::new(),
        [Value::String(star), shape] if star == "*" => each(shape, names),
        [Value::String(equals), shapes @ ..] if equals == "=" && shapes.len() == found.len() => {
            let pairs = shapes.iter().zip(found).enumerate();
            pairs.flat_map(|(index, (shape, found))| check(shape, found, &of(index), names)).collect()
        }
        [shape] if !found.is_empty() => each(shape, names),
        _ => vec![format!("{at}: expected {}, found {} of them", Value::from(shape), found.len())],
    }
}

#[test]
fn every_difference_is_told_and_nothing_else() {
    let shape = serde_json::json!({
        "a": "<integer>", "b?": "<string?>", "c": ["*", "<time>"], "d": [{ "e": "<x|y>" }], "f": ["=", 1, "<text>"],
        "g": { "*": "<bool>" }, "h": { "...": true }, "i": "<number> -> number", "j": "<date>", "k": "literal", "l": [],
    });
    let good = serde_json::json!({
        "a": 1, "b": null, "c": [], "d": [{ "e": "x" }], "f": [1, "t"], "g": { "p": true }, "h": { "q": 1 }, "i": 1.5,
        "j": "2026-01-31", "k": "literal", "l": [],
    });
    let mut names = Names::new();
    assert_eq!(check(&shape, &good, "", &mut names), Vec::<String>::new());
    assert_eq!(names["number"], "1.5");
    for (path, bad) in [
        ("/a", serde_json::json!("1")),
        ("/a", serde_json::json!(1.5)),
        ("/b", serde_json::json!(1)),
        ("/c", serde_json::json!(["2026-01-31"])),
        ("/d", serde_json::json!([])),
        ("/d", serde_json::json!([{ "e": "z" }])),
        ("/d", serde_json::json!([{ "e": "x", "more": 1 }])),
        ("/f", serde_json::json!([1])),
        ("/f", serde_json::json!([1, ""])),
        ("/g", serde_json::json!({ "p": 1 })),
        ("/h", serde_json::json!([])),
        ("/j", serde_json::json!("2026-1-31")),
        ("/k", serde_json::json!("other")),
        ("/l", serde_json::json!([1])),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(path).unwrap() = bad.clone();
        assert_eq!(check(&shape, &changed, "", &mut names).len(), 1, "{path}: {bad}");
    }
    let mut lacking = good.clone();
    lacking.as_object_mut().unwrap().remove("a");
    assert_eq!(check(&shape, &lacking, "", &mut names), [".a: is missing"]);
}
