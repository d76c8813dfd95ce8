//! What is here under the same name.

use crate::server::Postgres;
use crate::support::{Agent, Home, Ran, Upstream};
use crate::whole::{log_in, told};
use crate::{import, imported, numbers, old, problems, rows};
use serde_json::json;

#[track_caller]
fn does(home: &Home, command: &[&str]) -> Ran {
    let ran = home.run(command);
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    ran
}

/// Goal: who and what is here already stays as it is; a user is taken for the one of that name only where the operator says
/// so, and has their chats then.
#[test]
fn who_is_here_already_is_not_touched_and_merged_only_when_told() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 10);
    let home = Home::new(&[Agent::of("old-agent", &upstream)]);
    let node = home.start();
    does(&home, &["user", "add", "user2"]);
    let here = rows(&home, "SELECT id, password, role FROM users WHERE username = 'user2'");
    let report = imported(&home, &postgres, &[]);
    assert_eq!(numbers(&report, "users"), "found 5, imported 4, conflict 1");
    assert_eq!(problems(&report, "users"), ["2: username: a user of this name is here already"]);
    assert_eq!(numbers(&report, "agents"), "found 1, conflict 1");
    assert_eq!(numbers(&report, "sessions"), "found 10, imported 10, ownerless 2");
    let mine = "SELECT count(*) FROM sessions WHERE owner = 'user:2'";
    assert_eq!(rows(&home, mine), ["0"]);
    let again = imported(&home, &postgres, &[]);
    assert_eq!((&again["changed"], numbers(&again, "users")), (&json!(false), "found 5, already 4, conflict 1".into()));

    let merged = imported(&home, &postgres, &["--merge-users"]);
    assert_eq!(numbers(&merged, "users"), "found 5, already 4, merged 1");
    assert_eq!(numbers(&merged, "sessions"), "found 10, already 8, handedOver 2");
    assert_eq!(rows(&home, "SELECT id, password, role FROM users WHERE username = 'user2'"), here, "as it was");
    let (id, _) = here[0].split_once('|').expect("columns");
    let owned = format!("SELECT count(*) FROM turns WHERE owner = 'user:{id}'");
    assert_eq!(rows(&home, &owned), ["6"]);
    assert_eq!(rows(&home, "SELECT count(*) FROM turns WHERE owner = 'visitor:imported'"), ["0"]);
    assert_eq!(imported(&home, &postgres, &["--merge-users"])["changed"], false);
    assert_eq!(told(&mut log_in(&node, "user3"), "session_1"), old::said(&postgres, "session_1"));
}

/// Goal: a number that somebody was given here is given to nobody else, or they would see each other's chats.
#[test]
fn a_number_that_was_given_here_is_not_given_to_an_imported_user() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 10);
    let home = Home::new(&[]);
    let _node = home.start();
    for name in ["b", "c"] {
        does(&home, &["user", "add", name]); // 2 and 3
    }
    does(&home, &["user", "remove", "c"]);
    let report = imported(&home, &postgres, &[]);
    assert_eq!(numbers(&report, "users"), "found 5, imported 5, renumbered 2");
    let ids = rows(&home, "SELECT id, username FROM users ORDER BY id");
    assert_eq!(ids, ["1|admin", "2|b", "4|user4", "5|user5", "6|user6", "7|user2", "8|user3"]);
    assert_eq!(rows(&home, "SELECT count(*) FROM sessions WHERE owner IN ('user:2', 'user:3')"), ["0"]);
    assert_eq!(rows(&home, "SELECT count(*) FROM sessions WHERE owner = 'user:7'"), ["2"]);
    does(&home, &["user", "add", "d"]);
    assert_eq!(rows(&home, "SELECT id FROM users WHERE username = 'd'"), ["9"]);
}

/// Goal: what people do here with what was imported stays as they did it.
#[test]
fn what_was_removed_here_does_not_come_again() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 10);
    let home = Home::new(&[]);
    let node = home.start();
    imported(&home, &postgres, &[]);
    let mut browser = log_in(&node, "user3");
    assert_eq!(browser.request("DELETE", "/api/chat/history/session_1", None).status, 200);
    does(&home, &["user", "remove", "user4"]);
    does(&home, &["agents", "remove", "old-agent"]);
    let again = imported(&home, &postgres, &[]);
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(numbers(&again, "messages"), "found 60, already 54, skipped 6");
    assert!(problems(&again, "messages")[0].ends_with("its session was imported, and deleted here since"));
    assert_eq!(browser.get("/api/chat/history/session_1").code(404), "NOT_FOUND");
    assert_eq!(rows(&home, "SELECT count(*) FROM users WHERE username = 'user4'"), ["0"]);
}

/// Goal: nobody gets the chats of somebody else who has the same number in another old database. Method: an import of a
/// second one is refused and changes nothing, and the first one goes on, also when some of its oldest users are gone.
#[test]
fn a_second_old_database_is_refused_and_the_first_goes_on() {
    let (first, second, upstream) = (Postgres::start(), Postgres::start(), Upstream::saying("an answer"));
    for postgres in [&first, &second] {
        old::make(postgres);
        old::fill(postgres, &upstream, 10);
    }
    second.sql("UPDATE users SET username = 'other' || id, created_at = created_at + interval '1 day'");
    let home = Home::new(&[]);
    let _node = home.start();
    imported(&home, &first, &[]);
    let before = rows(&home, "SELECT count(*) FROM imported");
    let refused = import(&home, &second.url(), &["--merge-users"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("an import of another old database was begun here"), "{}", refused.stderr);
    assert_eq!(rows(&home, "SELECT count(*) FROM imported"), before);
    first.sql("DELETE FROM users WHERE id = 2; INSERT INTO users (id, username, password_hash) VALUES (9, 'new', 'x')");
    assert_eq!(imported(&home, &first, &[])["changed"], false);
}
