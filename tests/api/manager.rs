//! What systemd hears of a node, at the socket that it gives its services.

use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Upstream, timed};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// A node whose service manager listens at `socket` and whose watchdog waits so long.
fn start(home: &Home, socket: &Path, watchdog: Duration) -> Node {
    let mut command = home.command(&["serve"]);
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    Home::started(command)
}

fn hear(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let read = manager.recv(&mut bytes).expect("the node says something in time");
    String::from_utf8(bytes[..read].to_vec()).expect("what it says is UTF-8")
}

#[test]
fn systemd_hears_ready_once_it_listens_then_signs_of_life_then_stopping() {
    let home = Home::new(&[]);
    home.configure("server.shutdown_grace_ms = 7000");
    let socket = home.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket of our own");
    manager.set_read_timeout(Some(PATIENCE)).expect("a patience above zero");
    let mut node = start(&home, &socket, Duration::from_secs(2));
    assert_eq!(hear(&manager), "READY=1\nSTATUS=serving\n");
    assert_eq!(node.browser().get("/health/ready").status, 200);
    let ((), took) = timed(|| (0..3).for_each(|_| assert_eq!(hear(&manager), "WATCHDOG=1\n", "{}", node.log())));
    assert!(took >= Duration::from_secs(1), "twice in the watchdog's time, and not without pause: {took:?}");
    node.terminate();
    let mut last = hear(&manager);
    if last == "WATCHDOG=1\n" {
        last = hear(&manager); // It was on its way.
    }
    assert_eq!(last, "STOPPING=1\nEXTEND_TIMEOUT_USEC=27000000\nSTATUS=draining: no new requests\n");
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
    manager.set_nonblocking(true).expect("a socket can be asked without waiting");
    assert!(manager.recv(&mut [0; 64]).is_err(), "it said something after its end");
}

#[test]
fn a_service_manager_that_hears_nothing_or_is_gone_does_not_hinder_the_service() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let (deaf, gone) = (home.path("deaf"), home.path("gone"));
    // Its queue is full after a few datagrams, and the next one blocks its sender.
    let _manager = UnixDatagram::bind(&deaf).expect("a socket of our own");
    for socket in [deaf, gone] {
        let mut node = start(&home, &socket, Duration::from_millis(40));
        node.wait_logged("the service manager was not told");
        assert_eq!(node.browser().chat(&question("hi", false)).status, 200);
        let (code, took) = timed(|| {
            node.terminate();
            node.ended().code()
        });
        assert_eq!(code, Some(0), "{}", node.log());
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
