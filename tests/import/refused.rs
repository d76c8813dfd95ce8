//! What cannot be imported from is refused in words, without the password.

use crate::server::{self, Postgres};
use crate::support::{Home, Ran, Upstream};
use crate::{import, old, rows};
use std::net::TcpListener;

#[track_caller]
fn refused(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(server::PASSWORD), "{}", ran.stderr);
}

#[test]
fn what_is_no_old_database_is_refused_in_words_and_changes_nothing() {
    let postgres = Postgres::start();
    let home = Home::new(&[]);
    refused(&import(&home, &postgres.url(), &[]), "no node runs here");
    let node = home.start();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
    let hush = Some(server::PASSWORD);
    refused(&import(&home, &server::url_of(closed, hush, "disable"), &[]), "connect to the old database at ");
    let no_such_mode = import(&home, &server::url_of(postgres.port(), hush, "maybe"), &[]);
    assert_eq!(no_such_mode.code, Some(64), "{}", no_such_mode.stderr);
    assert!(no_such_mode.stderr.contains("sslmode is disable, prefer or require"), "{}", no_such_mode.stderr);
    refused(&import(&home, &server::url_of(postgres.port(), hush, "require"), &[]), "server does not support TLS");
    let wrong = format!("{}x", server::PASSWORD);
    let wrong = import(&home, &server::url_of(postgres.port(), Some(&wrong), "disable"), &[]);
    refused(&wrong, "password authentication failed");
    assert!(wrong.stderr.contains("can be read by everybody on this machine"), "{}", wrong.stderr);
    refused(&import(&home, "postgres://old@name.invalid/d", &[]), "find the old database's host");

    refused(&import(&home, &postgres.url(), &[]), "has no table `users`");
    old::make(&postgres);
    postgres.sql("ALTER TABLE audit_logs RENAME status TO state");
    refused(&import(&home, &postgres.url(), &[]), "table `audit_logs` has no column `status`");
    postgres.sql("ALTER TABLE audit_logs RENAME state TO status; ALTER TABLE chat_messages ALTER created_at TYPE text");
    refused(&import(&home, &postgres.url(), &[]), "`chat_messages.created_at` is of the type text");
    assert_eq!(rows(&home, "SELECT count(*) FROM imported"), ["0"]);
    assert!(!node.log().contains(server::PASSWORD));
    let nothing = home.run(&["import"]);
    assert_eq!(nothing.code, Some(64), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("<--postgres <URL>|--postgres-file <FILE>>"), "{}", nothing.stderr);
}

#[test]
fn an_address_is_read_from_a_file_and_a_password_from_where_psql_reads_it() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 2);
    postgres.sql("DROP TABLE logs");
    let home = Home::new(&[]);
    let _node = home.start();
    home.put("address", format!("{}\n", server::url_of(postgres.port(), Some(server::PASSWORD), "prefer")));
    let file = home.path("address").display().to_string();
    let ran = home.run(&["import", "--json", "--postgres-file", &file]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("can be read by everybody"), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"logs\": null"), "{}", ran.stdout);
    home.put("pgpass", format!("localhost:*:postgres:old:{}\n", server::PASSWORD));
    let mut by_socket = home.command(&["import", "--postgres", &postgres.socket_url()]);
    by_socket.env("PGPASSFILE", home.path("pgpass"));
    let ran = Home::ran(by_socket);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("All of it was here already"), "{}", ran.stdout);
}
