//! `llmchat import` with a real PostgreSQL, filled as the old service filled it.
//!
//! The server's programs must be installed (Debian: `postgresql`, or `postgresql-15` and `postgresql-client-15`); without
//! them these tests fail. Each server is this test's own: in a temporary directory, on loopback, as a user who is not root,
//! and killed with its handle.

mod conflicts;
mod old;
mod pair;
mod proxy;
mod refused;
mod resume;
mod server;
mod tls;
mod whole;

#[path = "../support/mod.rs"]
mod support;

use crate::server::Postgres;
use crate::support::{Home, Ran};
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// The report of an import that ends well.
#[track_caller]
fn imported(home: &Home, postgres: &Postgres, more: &[&str]) -> Value {
    let ran = import(home, &postgres.url(), more);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

/// Runs an import from `url`, for a report in JSON; the password comes by the environment.
fn import(home: &Home, url: &str, more: &[&str]) -> Ran {
    let mut command = home.command(&["import", "--json", "--postgres", url]);
    command.args(more).env("PGPASSWORD", server::PASSWORD);
    Home::ran(command)
}

/// The numbers of a report: of `kind`, those that are not zero.
#[track_caller]
fn numbers(report: &Value, kind: &str) -> String {
    let of = report[kind].as_object().unwrap_or_else(|| panic!("no {kind} in {report}"));
    let numbers = of.iter().filter(|(_, value)| value.as_u64().is_some_and(|number| number > 0));
    numbers.map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join(", ")
}

/// The problems of a report, as `id: what`.
#[track_caller]
fn problems(report: &Value, kind: &str) -> Vec<String> {
    let text = |problem: &Value, name: &str| problem[name].as_str().expect("a text").to_owned();
    let of = report[kind]["problems"].as_array().expect("a list");
    of.iter().map(|problem| format!("{}: {}", text(problem, "id"), text(problem, "problem"))).collect()
}

/// What a statement finds in the node's database, which goes on meanwhile.
fn rows(home: &Home, sql: &str) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(home.state().join("llmchat.db"), flags).expect("the database is there");
    let mut statement = database.prepare(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let cells = (0..columns).map(|at| {
            Ok(match row.get::<_, Cell>(at)? {
                Cell::Text(text) => text,
                Cell::Integer(number) => number.to_string(),
                Cell::Null => "-".to_owned(),
                other => format!("{other:?}"),
            })
        });
        Ok(cells.collect::<rusqlite::Result<Vec<_>>>()?.join("|"))
    };
    statement.query_map([], row).and_then(Iterator::collect).unwrap_or_else(|error| panic!("{error}: {sql}"))
}

/// All that an import writes, without what is random or of the node itself. Users of the node's own are left out by their
/// names.
fn everything(home: &Home) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT 'user', id, username, email, role, status, password, created_at, updated_at, last_login_at, last_login_ip
         FROM users WHERE username <> 'admin' ORDER BY username",
        "SELECT 'agent', id, profile, source, created_at, updated_at FROM agents ORDER BY id",
        "SELECT 'session', owner, agent_id, chat_id, title, created_at, updated_at FROM sessions
         ORDER BY owner, agent_id, chat_id",
        "SELECT 'turn', turns.owner, agent_id, chat_id, label, question, answer, events, state, failure, turns.created_at,
         finished_at FROM turns JOIN sessions ON sessions.id = session_id ORDER BY 2, 3, 4, turns.id",
        "SELECT 'audit', at, user_id, username, action, resource_type, resource_id, details, ip_address, user_agent, status,
         error_message FROM audit WHERE action LIKE 'imported:%' ORDER BY id",
        "SELECT 'imported', kind, old_id FROM imported ORDER BY kind, old_id",
    ] {
        all.extend(rows(home, sql));
    }
    all
}
