//! Broken off anywhere, an import goes on.

use crate::server::{self, Postgres};
use crate::support::{Home, PATIENCE, Upstream};
use crate::{everything, imported, numbers, old, proxy, rows};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::sync::mpsc;

/// Bytes of PostgreSQL's answers after which something dies: of about three million.
const MOMENTS: [usize; 4] = [40_000, 400_000, 1_100_000, 2_200_000];

fn importing(home: &Home, port: u16) -> Command {
    let url = server::url_of(port, None, "disable");
    let mut command = home.command(&["import", "--json", "--postgres", &url]);
    command.env("PGPASSWORD", server::PASSWORD).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What an import that nobody disturbed leaves.
fn undisturbed(postgres: &Postgres) -> Vec<String> {
    let home = Home::new(&[]);
    let _node = home.start();
    imported(&home, postgres, &[]);
    everything(&home)
}

/// Goal: a command that is killed, and a PostgreSQL that goes away, cost a second run and nothing else; the command killed at
/// four moments, and after each it is run anew. Checked against an import that nobody disturbed.
#[test]
fn a_command_that_is_killed_goes_on_where_it_was() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 700);
    let home = Home::new(&[]);
    let _node = home.start();
    let mut so_far = Vec::new();
    for moment in MOMENTS {
        let (tell, told) = mpsc::channel::<Pid>();
        let address = proxy::cut(postgres.port(), moment, move || {
            let pid = told.recv().expect("it was started");
            kill_process(pid, Signal::KILL).expect("it is ours, and not yet waited for");
        });
        let mut child = importing(&home, address.port()).spawn().expect("the binary starts");
        tell.send(Pid::from_child(&child)).expect("the proxy waits");
        let ended = child.wait().expect("it is ours");
        assert_eq!(ended.code(), None, "it was killed");
        so_far.push(rows(&home, "SELECT count(*) FROM turns")[0].parse::<u64>().expect("a number"));
    }
    assert!(so_far.is_sorted() && so_far[3] > 0 && so_far[3] < 2100, "{so_far:?}");
    // The old database goes away.
    let address = proxy::cut(postgres.port(), 2_600_000, || ());
    let mut gone = importing(&home, address.port());
    gone.stdout(Stdio::piped());
    let gone = Home::ran(gone);
    assert_eq!(gone.code, Some(1), "{}", gone.stderr);
    let words = "run the same command again, and it goes on where it was: read `";
    assert!(gone.stderr.contains(words) && !gone.stderr.contains(server::PASSWORD), "{}", gone.stderr);

    let report = imported(&home, &postgres, &[]);
    let brought = report["messages"]["imported"].as_u64().expect("a number");
    assert!(brought > 0 && report["messages"]["already"].as_u64() == Some(4200 - brought), "{report}");
    assert_eq!(everything(&home), undisturbed(&postgres));
    assert_eq!(numbers(&imported(&home, &postgres, &[]), "messages"), "found 4200, already 4200");
}

/// The same with the node killed, at other moments.
#[test]
fn a_node_that_is_killed_goes_on_where_it_was() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 700);
    let home = Home::new(&[]);
    for moment in [60_000, 900_000, 2_000_000] {
        let node = home.start();
        let (tell, killed) = mpsc::channel();
        let address = proxy::cut(postgres.port(), moment, move || {
            node.kill();
            tell.send(()).expect("the test waits");
        });
        let mut broken = importing(&home, address.port());
        broken.stdout(Stdio::piped());
        let broken = Home::ran(broken);
        assert!(matches!(broken.code, Some(1 | 3)), "{:?}: {}", broken.code, broken.stderr);
        killed.recv_timeout(PATIENCE).expect("it is dead by now");
    }
    let _node = home.start();
    imported(&home, &postgres, &[]);
    assert_eq!(everything(&home), undisturbed(&postgres));
    let audit = home.run(&["audit", "verify"]);
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}
