//! The agents file: `{"agents": [{…}]}`, with `${NAME}` replaced from the environment.

use super::check;
use crate::base::UnixMillis;
use crate::clock;
use crate::disk::{self, DiskError};
use crate::protocol::agent::{Agent, Source};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// What an agents file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Import {
    pub(crate) agents: Vec<Agent>,
    pub(crate) rejected: Vec<Rejected>,
    /// Names that the file asks the environment for, and that are not set there.
    pub(crate) unset: BTreeSet<String>,
}

/// One entry that is no agent at all; the others are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Its place in the file, from 0.
    pub(crate) index: usize,
    pub(crate) id: String,
    /// Field and rule, each.
    pub(crate) problems: Vec<String>,
}

/// The file cannot be taken at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Read(#[from] DiskError),
    #[error("the agents file is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("the agents file must be {{\"agents\": […]}}")]
    Shape,
    #[error("the agents file holds more than {AGENTS_MAX} agents")]
    TooMany,
}

/// Reads the agents file at `path`, with this process's environment. Stores nothing.
pub(crate) fn read(path: &Path, source: Source) -> Result<Import, FileError> {
    let text = disk::read_text(path)?;
    parse(&text, source)
}

/// As [`read`], for somebody else's environment, in which `variable` looks a name up.
pub(crate) fn read_for(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Import, FileError> {
    let text = disk::read_text(path)?;
    Import::parse(&text, Source::File, clock::unix_millis(), variable)
}

/// As [`read`], of a text.
pub(crate) fn parse(text: &str, source: Source) -> Result<Import, FileError> {
    Import::parse(text, source, clock::unix_millis(), &|name| std::env::var(name).ok())
}

/// An operator knows their agents by name; more is a mistake, and every one is kept in memory.
const AGENTS_MAX: usize = 10_000;

impl Import {
    /// Reads the text of an agents file. `variable` looks a name up in the environment.
    ///
    /// A name that is not set leaves its agent inactive with a problem that says so.
    pub(crate) fn parse(
        text: &str,
        source: Source,
        now: UnixMillis,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, FileError> {
        let quoted = quote_bare_placeholders(text, variable);
        let mut file: Value = serde_json::from_str(&quoted).map_err(FileError::Json)?;
        let Some(Value::Array(entries)) = file.get_mut("agents").map(Value::take) else {
            return Err(FileError::Shape);
        };
        if entries.len() > AGENTS_MAX {
            return Err(FileError::TooMany);
        }
        let mut import = Self::default();
        for (index, mut entry) in entries.into_iter().enumerate() {
            let id = entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut unset = Vec::new();
            fill(&mut entry, "", variable, &mut unset);
            import.unset.extend(unset.iter().map(|unset| unset.variable.clone()));
            let checked = check::agent(entry, &unset, source, now);
            match checked {
                Ok(agent) if import.agents.iter().any(|other| other.id == agent.id) => {
                    let problems = vec![format!("id: `{id}` stands in the file twice")];
                    import.rejected.push(Rejected { index, id, problems });
                }
                Ok(agent) => import.agents.push(agent),
                Err(problems) => import.rejected.push(Rejected { index, id, problems }),
            }
        }
        Ok(import)
    }
}

/// A field whose `${NAME}` has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unset {
    pub(super) field: String,
    pub(super) variable: String,
}

/// Replaces every `${NAME}` inside the strings of `value`.
fn fill(value: &mut Value, field: &str, variable: &dyn Fn(&str) -> Option<String>, unset: &mut Vec<Unset>) {
    match value {
        Value::String(text) => {
            if let Some(filled) = filled(text, field, variable, unset) {
                *text = filled;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, field, variable, unset)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
                fill(value, &path, variable, unset);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled(
    text: &str,
    field: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<Unset>,
) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = placeholder(rest) {
        out.push_str(before);
        match variable(name) {
            Some(value) => out.push_str(&value),
            None => {
                unset.push(Unset { field: field.to_owned(), variable: name.to_owned() });
                out.push_str(&rest[before.len()..rest.len() - after.len()]);
            }
        }
        rest = after;
    }
    (rest.len() < text.len()).then(|| out + rest)
}

/// Splits at the first `${NAME}`.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| from + at) {
        let inner = &text[at + 2..];
        if let Some(end) = inner.find('}') {
            let name = &inner[..end];
            if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Some((&text[..at], name, &inner[end + 1..]));
            }
        }
        from = at + 2;
    }
    None
}

/// `"maxTokens": ${MAX}` is no JSON: a number takes the placeholder's place, and what is no
/// number is quoted, so that it gets its own problem further on.
fn quote_bare_placeholders(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if !in_string
            && rest.starts_with("${")
            && let Some(("", name, after)) = placeholder(rest)
        {
            match variable(name).filter(|value| value.parse::<serde_json::Number>().is_ok()) {
                Some(number) => out.push_str(&number),
                None => out.extend(["\"${", name, "}\""]),
            }
            rest = after;
            continue;
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        out.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","name":"A","provider":"fastgpt","endpoint":"http://f:3000","apiKey":"${KEY}","appId":"6700aa00bb11cc22dd33ee10","maxTokens":${MAX}}"#;

    fn parse(entries: &str, variables: &[(&str, &str)]) -> Import {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Import::parse(&format!(r#"{{"agents":[{entries}]}}"#), Source::File, UnixMillis(1), &variable).unwrap()
    }

    #[test]
    fn placeholders_are_filled_also_where_a_number_stands_unquoted() {
        let import = parse(GOOD, &[("KEY", "fastgpt-\"x"), ("MAX", "4096")]);
        let agent = &import.agents[0];
        assert_eq!((agent.api_key.expose(), agent.profile.max_tokens), ("fastgpt-\"x", Some(4096)));
        assert!(agent.profile.is_served(), "{:?}", agent.profile.problems);
    }

    #[test]
    fn an_unset_variable_leaves_its_agent_inactive_with_a_named_problem_and_the_rest_load() {
        let other = GOOD.replace(r#""id":"a""#, r#""id":"b""#).replace("${KEY}", "k");
        let import = parse(&format!("{GOOD},{other}"), &[("MAX", "1")]);
        assert_eq!(import.agents.len(), 2, "{:?}", import.rejected);
        assert_eq!(import.agents[0].profile.problems, ["apiKey: the environment variable KEY is not set"]);
        assert!(!import.agents[0].profile.is_served());
        assert!(import.agents[1].profile.is_served());
    }

    #[test]
    fn an_entry_that_is_no_agent_is_rejected_by_field_and_the_rest_load() {
        let import =
            parse(&format!(r#"{{"id":"x y","provider":"telnet"}},{GOOD},{GOOD}"#), &[("KEY", "k"), ("MAX", "1")]);
        assert_eq!(import.agents.len(), 1);
        assert_eq!(import.rejected.iter().map(|rejected| rejected.index).collect::<Vec<_>>(), [0, 2]);
        assert!(import.rejected[1].problems[0].contains("twice"));
    }

    #[test]
    fn a_brace_that_is_no_placeholder_stays() {
        let text =
            r#"{"id":"a","name":"cost $5 ${} ${a b} {x}","provider":"openai","endpoint":"http://h/v1","model":"m"}"#;
        assert_eq!(parse(text, &[]).agents[0].profile.name, "cost $5 ${} ${a b} {x}");
    }

    #[test]
    fn every_provider_has_its_own_address_and_its_own_needs() {
        for (provider, more, url, missing) in [
            ("openai", "", "http://h/v1/chat/completions", "model"),
            ("anthropic", "", "http://h/v1/messages", "model"),
            ("dify", "", "http://h/v1/chat-messages", "apiKey"),
            ("dashscope", "", "http://h/api/v1/services/aigc/text-generation/generation", "model"),
            ("custom", r#","features":{"customPath":"/ask"}"#, "http://h/ask", ""),
        ] {
            let entry = |id: &str, key: &str, model: &str| {
                let (id, rest) = (format!(r#"{{"id":"{id}","provider":"{provider}","endpoint":"http://h""#), more);
                format!(r#"{id},"apiKey":"{key}","model":"{model}"{rest}}}"#)
            };
            let import = parse(&entry("a", "k", "m"), &[]);
            assert_eq!(import.agents[0].profile.endpoint, url, "{:?}", import.rejected);
            assert!(import.agents[0].profile.is_served(), "{provider}");
            let import = parse(&entry("a", "", ""), &[]);
            let problems = import.rejected.first().map(|rejected| rejected.problems.join("\n")).unwrap_or_default();
            assert_eq!(
                problems.contains(missing) && !problems.is_empty(),
                !missing.is_empty(),
                "{provider}: {problems}"
            );
        }
    }

    #[test]
    fn a_checked_agent_of_a_custom_server_is_checked_again_without_change_and_its_headers_are_never_written() {
        let features = r#"{"customPath":"/ask?x=1","customHeaders":{"X-Token":"${TOKEN}"}}"#;
        let entry = |endpoint: &str| {
            format!(r#"{{"id":"a","provider":"custom","endpoint":"{endpoint}","features":{features}}}"#)
        };
        let first = parse(&entry("http://h/base"), &[("TOKEN", "secret")]);
        let profile = &first.agents[0].profile;
        assert_eq!(profile.endpoint, "http://h/base/ask?x=1");
        assert_eq!(profile.features.custom_headers.0["x-token"].expose(), "secret");
        let again = parse(&entry(&profile.endpoint), &[("TOKEN", "secret")]);
        assert_eq!(&again.agents[0].profile, profile);
        let written = serde_json::to_string(profile).unwrap();
        assert!(written.contains(r#""customHeaders":{"x-token":""}"#) && !written.contains("secret"), "{written}");
        assert!(!format!("{profile:?}").contains("secret"));
        let unset = parse(&entry("http://h"), &[]);
        let problem = "features.customHeaders.X-Token: the environment variable TOKEN is not set";
        assert_eq!(unset.agents[0].profile.problems, [problem]);
        let other = entry("http://h").replace("custom\"", "openai\"").replace("http://h", "http://h/v1");
        assert!(parse(&other, &[("TOKEN", "x")]).rejected[0].problems[0].contains("for the provider custom only"));
        for path in ["ask", "//evil.example/", "/a/../b", "/a b", "/a#b", "/é"] {
            let entry = entry("http://h").replace("/ask?x=1", path);
            assert!(!parse(&entry, &[("TOKEN", "x")]).rejected.is_empty(), "{path}");
        }
    }
}
