//! The variables of the service that this one replaces: a machine that was set up for it starts, and is told what
//! to write instead.

use crate::config::layers::{Layers, Origin};
use crate::config::problems::{Note, Problem, Problems};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use toml::Value;

/// What an old name means now.
#[derive(Clone, Copy)]
enum Meaning {
    /// The value of a key, as it stands.
    Key(&'static str),
    /// The value of a key in milliseconds, given in seconds.
    Seconds(&'static str),
    /// The port of `server.listen`; its address stays.
    Port,
    /// `log.level`, in the words of another logger.
    Level,
    /// One or more of `server.cors_origins`.
    Origins,
    /// Something that this version does not do.
    Nothing,
}

/// In this order; a later one wins over an earlier one with the same key.
const OLD_NAMES: &[(&str, Meaning)] = &[
    ("PORT", Meaning::Port),
    ("LOG_LEVEL", Meaning::Level),
    ("AGENTS_CONFIG_PATH", Meaning::Key("agents.file")),
    ("REQUEST_TIMEOUT", Meaning::Key("upstream.first_byte_ms")),
    ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", Meaning::Key("breaker.failures_to_open")),
    ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", Meaning::Key("breaker.successes_to_close")),
    ("CIRCUIT_BREAKER_TIMEOUT", Meaning::Key("breaker.cooldown_ms")),
    ("CIRCUIT_BREAKER_RESET_TIMEOUT", Meaning::Key("breaker.cooldown_ms")),
    ("CORS_ORIGIN", Meaning::Origins),
    ("FRONTEND_URL", Meaning::Origins),
    ("TOKEN_SECRET", Meaning::Nothing),
    ("JWT_SECRET", Meaning::Nothing),
    ("TOKEN_TTL_SECONDS", Meaning::Key("auth.access_seconds")),
    ("RATE_LIMIT_WINDOW_MS", Meaning::Key("limits.api_window_ms")),
    ("RATE_LIMIT_MAX_REQUESTS", Meaning::Key("limits.api_requests_max")),
    ("RATE_LIMIT_POINTS", Meaning::Key("limits.chat_requests_max")),
    ("RATE_LIMIT_DURATION", Meaning::Seconds("limits.chat_window_ms")),
    ("RATE_LIMIT_BLOCK_DURATION", Meaning::Seconds("limits.chat_block_ms")),
];

/// Servers that are not needed any more.
const GONE: &[&str] = &["DB_", "REDIS_"];

/// Whether `name` is a variable of the old service.
pub(super) fn knows(name: &str) -> bool {
    is_gone(name) || OLD_NAMES.iter().any(|(old, _)| *old == name)
}

fn is_gone(name: &str) -> bool {
    GONE.iter().any(|prefix| name.starts_with(prefix))
}

/// Lays what `variables` say over `layers`, with a note for each. An empty variable is as good as none.
pub(super) fn lay(
    variables: &BTreeMap<String, String>,
    layers: &mut Layers,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) {
    let mut origins = (Vec::new(), Vec::new());
    for (name, meaning) in OLD_NAMES {
        let Some(text) = variables.get(*name).map(|text| text.trim()).filter(|text| !text.is_empty()) else { continue };
        let key = match meaning {
            Meaning::Key(key) => {
                layers.lay_variable(name, key, text, problems);
                key
            }
            Meaning::Seconds(key) => {
                lay_seconds((name, text), key, layers, problems);
                key
            }
            Meaning::Port => {
                lay_port(name, text, layers, problems);
                "server.listen"
            }
            Meaning::Level => {
                layers.lay_variable(name, "log.level", level(text), problems);
                "log.level"
            }
            Meaning::Origins => {
                if text == "*" {
                    let why = "any site could act for its visitors; name the sites in server.cors_origins";
                    notes.push(Note(format!("{name}=* is ignored: {why}")));
                    continue;
                }
                origins.0.push(*name);
                origins.1.extend(text.split(',').map(|url| Value::String(origin(url.trim()).to_owned())));
                "server.cors_origins"
            }
            Meaning::Nothing => {
                notes.push(Note(format!("{name} has no effect yet")));
                continue;
            }
        };
        notes.push(Note(format!("{name} is an old name: write {key}, or {}", variable(key))));
    }
    if !origins.0.is_empty() {
        let origin = Origin::Variable(origins.0.join(" and "));
        layers.lay("server.cors_origins", Value::Array(origins.1), &origin, problems);
    }
    let gone: Vec<&str> = variables.keys().map(String::as_str).filter(|name| is_gone(name)).collect();
    if !gone.is_empty() {
        notes.push(Note(format!("ignored, because the store and the cache are built in: {}", gone.join(", "))));
    }
}

fn lay_seconds((name, text): (&str, &str), key: &str, layers: &mut Layers, problems: &mut Problems) {
    match text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000)) {
        Some(millis) => layers.lay_variable(name, key, &millis.to_string(), problems),
        None => problems.add(Problem {
            key: name.to_owned(),
            rule: "must be whole seconds, 0 or more".to_owned(),
            got: Some(format!("{text:?}")),
            origin: Origin::Default,
        }),
    }
}

fn lay_port(name: &str, text: &str, layers: &mut Layers, problems: &mut Problems) {
    let Ok(port) = text.parse::<u16>() else {
        problems.add(Problem {
            key: name.to_owned(),
            rule: "must be a port from 0 to 65535".to_owned(),
            got: Some(format!("{text:?}")),
            origin: Origin::Default,
        });
        return;
    };
    let listen = layers.get("server.listen").and_then(|entry| entry.value.as_str()?.parse::<SocketAddr>().ok());
    // No address there: that is a problem already, and the check names it.
    if let Some(mut listen) = listen {
        listen.set_port(port);
        layers.lay_variable(name, "server.listen", &listen.to_string(), problems);
    }
}

/// The old logger had levels that ours would take for parts of the program.
fn level(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "http" | "verbose" => "debug",
        "silly" => "trace",
        _ => text,
    }
}

/// `https://host/path` without its path: what a browser calls its origin.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |path| &url[..host + path])
}

/// `server.listen` as `LLMCHAT__SERVER__LISTEN`.
fn variable(key: &str) -> String {
    format!("LLMCHAT__{}", key.to_ascii_uppercase().replace('.', "__"))
}
