//! The values of all layers, flat: dotted key, value, and which layer gave it.

use crate::config::otlp::headers_without_values;
use crate::config::problems::{Problem, Problems};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The lowest layer and the documentation of every key.
pub(super) const SHIPPED: &str = include_str!("../../data/llmchat.toml");
/// A value shown back to the operator is cut here, in characters: enough to recognise it.
const SHOWN_CHARS_MAX: usize = 120;

/// Which layer gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    /// A variable of the environment, by its name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "env {name}"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Every key of the shipped file with its winning value. No layer can add a key or change a value's kind.
pub(super) struct Layers(BTreeMap<String, Entry>);

impl Layers {
    /// The lowest layer alone.
    pub(super) fn shipped() -> Self {
        let table: Table = SHIPPED.parse().expect("a test parses the shipped file");
        let mut entries = BTreeMap::new();
        flatten("", table, &mut entries);
        Self(entries)
    }

    /// Sorted by section, a section's own keys before those of sections inside it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let mut entries: Vec<_> = self.0.iter().map(|(key, entry)| (key.as_str(), entry)).collect();
        entries.sort_by_key(|(key, _)| key.rsplit_once('.').unwrap_or(("", key)));
        entries.into_iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.0.get(key).map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Lays a file's text over what is there.
    pub(super) fn lay_text(&mut self, path: &Path, text: &str, problems: &mut Problems) {
        match text.parse::<Table>() {
            Ok(table) => {
                for (key, value) in table {
                    self.lay(&key, value, &Origin::File(path.to_owned()), problems);
                }
            }
            Err(error) => {
                // Only the message: the whole of it quotes the line, and a line may hold a password.
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                problems.add(Problem {
                    key: format!("{}, line {line}", path.display()),
                    rule: format!("must be TOML: {}", error.message()),
                    got: None,
                    origin: Origin::Default,
                });
            }
        }
    }

    /// Lays one variable's text over what is there: TOML where the key wants more than text, or where it is quoted.
    pub(super) fn lay_variable(&mut self, name: &str, key: &str, text: &str, problems: &mut Problems) {
        let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        let wants_text = matches!(self.0.get(key), Some(entry) if entry.value.is_str());
        let value = match parsed {
            Some(value) if !wants_text || value.is_str() => value,
            Some(_) | None => Value::String(text.to_owned()),
        };
        self.lay(key, value, &Origin::Variable(name.to_owned()), problems);
    }

    /// Lays `value` over `key`, or over the keys below it when it is a table.
    pub(super) fn lay(&mut self, key: &str, value: Value, origin: &Origin, problems: &mut Problems) {
        let section = self.is_section(key);
        let value = match value {
            Value::Table(table) if section => {
                for (name, value) in table {
                    self.lay(&format!("{key}.{name}"), value, origin, problems);
                }
                return;
            }
            value => value,
        };
        let rule = match self.0.get_mut(key) {
            Some(entry) => match mismatch(&entry.value, &value) {
                Some(rule) => rule.to_owned(),
                None => {
                    *entry = Entry { value, origin: origin.clone() };
                    return;
                }
            },
            None if section => "must be a section with keys".to_owned(),
            None => self.unknown(key),
        };
        problems.add(Problem { key: key.to_owned(), rule, got: Some(shown(key, &value)), origin: origin.clone() });
    }

    fn is_section(&self, key: &str) -> bool {
        let prefix = format!("{key}.");
        self.0.range(prefix.clone()..).next().is_some_and(|(known, _)| known.starts_with(&prefix))
    }

    /// The rule that an unknown key breaks, with the key that was probably meant.
    fn unknown(&self, key: &str) -> String {
        let near = |known: &&String| {
            known.strip_prefix(key).is_some_and(|rest| rest.starts_with('_')) || edits(known, key) <= EDITS_MAX
        };
        if key.len() > KEY_BYTES_MAX {
            return "unknown key".to_owned();
        }
        match self.0.keys().filter(near).min_by_key(|known| edits(known, key)) {
            Some(known) => format!("unknown key (did you mean {known}?)"),
            None => "unknown key".to_owned(),
        }
    }

    /// The sum of the layers as one table, for the sections to be read from.
    pub(super) fn table(&self) -> Table {
        let mut root = Table::new();
        for (key, entry) in &self.0 {
            let mut names: Vec<&str> = key.split('.').collect();
            let leaf = names.pop().unwrap_or_default();
            let mut table = &mut root;
            for name in names {
                let section = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
                table = section.as_table_mut().expect("a key of the shipped file is a section or a value, never both");
            }
            table.insert(leaf.to_owned(), entry.value.clone());
        }
        root
    }
}

fn flatten(prefix: &str, table: Table, entries: &mut BTreeMap<String, Entry>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) => flatten(&key, table, entries),
            value => drop(entries.insert(key, Entry { value, origin: Origin::Default })),
        }
    }
}

/// The rule that `given` breaks by being of another kind than the default.
fn mismatch(default: &Value, given: &Value) -> Option<&'static str> {
    match (default, given) {
        (Value::Integer(_), Value::Integer(0..))
        | (Value::String(_), Value::String(_))
        | (Value::Boolean(_), Value::Boolean(_)) => None,
        (Value::Array(_), Value::Array(items)) if items.iter().all(Value::is_str) => None,
        (Value::Integer(_), _) => Some("must be a whole number, 0 or more"),
        (Value::String(_), _) => Some("must be text"),
        (Value::Boolean(_), _) => Some("must be true or false"),
        (Value::Array(_), _) => Some("must be a list of texts such as [\"a\", \"b\"]"),
        (Value::Float(_) | Value::Datetime(_) | Value::Table(_), _) => Some("is of a kind that no key has"),
    }
}

/// `value` as the operator may see it again: no passwords, and not endless.
pub(super) fn shown(key: &str, value: &Value) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    if ["secret", "password", "token", "api_key", "apikey"].iter().any(|word| name.ends_with(word)) {
        return "\"***\"".to_owned();
    }
    let text = match blotted(key, value) {
        // Whatever is in there, nobody asked for it here.
        Value::Table(_) => "a section".to_owned(),
        Value::Array(items) if items.iter().any(|item| item.is_table() || item.is_array()) => "a list".to_owned(),
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What the name of a key ends in whose whole value is nobody's business.
const SECRET: [&str; 3] = ["secret", "password", "token"];

/// `value` of `key` without passwords: those of URLs, headers but for their names, and all of a value that is one by name.
pub(super) fn blotted(key: &str, value: &Value) -> Value {
    // By the last word alone, so that a key that was misspelt or misplaced keeps its secret too.
    let word = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    if SECRET.iter().any(|ending| word.ends_with(ending)) && *value != Value::String(String::new()) {
        return Value::String("***".to_owned());
    }
    if !word.contains("header") {
        return without_userinfo(value);
    }
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|item| blotted(key, item)).collect()),
        Value::String(text) => Value::String(headers_without_values(text)),
        other => other.clone(),
    }
}

/// `value` with `user:password@` of every URL in it blotted out.
fn without_userinfo(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(url_without_userinfo(text)),
        Value::Array(items) => Value::Array(items.iter().map(without_userinfo).collect()),
        other => other.clone(),
    }
}

fn url_without_userinfo(text: &str) -> String {
    // Up to the last `@`, not up to the path: a password may hold a slash that its owner forgot to escape.
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

/// No key is half as long; what is longer is not compared.
const KEY_BYTES_MAX: usize = 80;
/// A slip of the finger or two.
const EDITS_MAX: usize = 2;

/// Levenshtein's distance: insertions, deletions and replacements from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_a_secret_by_its_name_is_shown_nowhere() {
        let text = |text: &str| Value::String(text.to_owned());
        for key in ["auth.token_secret", "x.admin_password", "otlp.TOKEN", "password"] {
            for secret in [text("hunter2"), Value::Integer(7), Value::Array(vec![text("hunter2")])] {
                assert_eq!(blotted(key, &secret), text("***"), "{key}");
            }
            assert_eq!(blotted(key, &text("")), text(""), "{key}: that there is none is no secret");
        }
        assert_eq!(blotted("upstream.first_token_ms", &Value::Integer(7)), Value::Integer(7));
        assert_eq!(blotted("secret.listen", &text("x")), text("x"));
    }
}
