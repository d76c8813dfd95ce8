//! Checks what the compiler cannot: rooms name only lower floors, every heavy dependency has one
//! home, and files stay short. The messages say what to do; the tables below are the architecture.

use std::fs;
use std::path::{Path, PathBuf};

/// Ground first. A room may name rooms on lower floors only.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["protocol"],
    &["breaker", "limiter", "register"],
    &["clock", "disk", "net", "watched"],
    &["telemetry"],
    &["cache", "store", "journal", "node_state", "upstream", "postgres"],
    &["replica"],
    &["accounts", "agents", "attachments", "sessions", "analytics", "alert", "backup"],
    &["gateway", "doctor"],
    &["http", "fastgpt_sim"],
    &["config"],
    &["supervisor"],
    &["app"],
    &["cli"],
];
/// Below this floor nothing waits, reads a clock or touches the world.
const FIRST_IMPURE_FLOOR: usize = 3;

/// Words with one home.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["http", "fastgpt_sim"]),
    ("maxminddb", &["analytics"]),
    ("opentelemetry", &["telemetry"]),
    ("Instant::now", &["clock"]),
    ("rusqlite", &["store"]),
    ("std::fs", &["disk", "store", "journal", "backup", "config", "cli"]),
    ("redb", &["node_state"]),
    ("tokio_postgres", &["postgres"]),
    ("indicatif", &["cli"]),
    ("utoipa", &["http"]),
    ("reqwest", &["upstream", "replica"]),
    ("sd_notify", &["supervisor"]),
    ("unbounded_channel", &[]),
];
const FILE_LINES_MAX: usize = 500;

#[test]
fn rooms_name_only_lower_floors_and_dependencies_stay_home() {
    let mut faults = Vec::new();
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).expect("source is UTF-8");
        if path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests") {
            continue; // Tests may reach for anything.
        }
        if text.lines().count() > FILE_LINES_MAX {
            faults.push(format!("{}: over {FILE_LINES_MAX} lines, split it", path.display()));
        }
        let room = room_of(&path);
        let Some(floor) = floor_of(&room) else { continue };
        for (index, line) in text.lines().enumerate() {
            let at = format!("{}:{}", path.display(), index + 1);
            for other in line.split("crate::").skip(1).map(first_word) {
                if other != room && floor_of(other).is_some_and(|f| f >= floor) {
                    faults.push(format!("{at}: `{room}` must not name `{other}`, its own floor or above"));
                }
            }
            if line.contains("crate::{") {
                faults.push(format!("{at}: one room a `use`, so that this test can read it"));
            }
            if floor < FIRST_IMPURE_FLOOR && ["tokio", "tracing", "std::thread"].iter().any(|word| line.contains(word))
            {
                faults.push(format!("{at}: `{room}` computes only; move the waiting to its driver"));
            }
            for (word, homes) in HOMES {
                if line.contains(word) && !homes.contains(&room.as_str()) {
                    faults.push(format!("{at}: `{word}` lives in {homes:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Parts of a histogram, which exporters name themselves.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

#[test]
fn dashboards_and_alerts_name_metrics_that_are_measured() {
    let source: String =
        rust_files(Path::new("src")).iter().map(|path| fs::read_to_string(path).expect("source is UTF-8")).collect();
    for file in ["packaging/grafana/llmchat.json", "packaging/prometheus/llmchat.rules.yml"] {
        let text = fs::read_to_string(file).expect("it is in the tree");
        if Path::new(file).extension().is_some_and(|kind| kind == "json") {
            let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let panels = board["panels"].as_array().expect("a list");
            let asks = |panel: &serde_json::Value| panel["targets"][0]["expr"].is_string();
            assert!(!panels.is_empty() && panels.iter().all(asks), "{file}: a panel shows nothing");
        }
        let names: Vec<&str> = text.match_indices("llmchat_").map(|(at, _)| first_word(&text[at..])).collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            let base = OF_HISTOGRAM.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(source.contains(&format!("\"{base}\"")), "{file}: nothing measures `{name}`");
        }
    }
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// `src/store.rs` and `src/store/writer.rs` are both in `store`.
fn room_of(path: &Path) -> String {
    let below_src = path.components().nth(1).expect("paths start with src/");
    first_word(&below_src.as_os_str().to_string_lossy()).to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("readable directory");
    let paths = entries.map(|entry| entry.expect("readable entry").path());
    let files = paths.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|ext| ext == "rs")).collect()
}
