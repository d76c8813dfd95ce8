//! One sick upstream after another, all behind one node, each asked both ways at the same time.

use crate::support::{Agent, Home, Node, Upstream, Wire, frame, timed};
use crate::{CONNECT, FIRST_BYTE, FIRST_TOKEN, IDLE, SLACK, TIMERS, TOTAL, ask, failed_inside};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use std::any::Any;
use std::iter::from_fn;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// A sickness and how it must show.
struct Case {
    id: &'static str,
    endpoint: String,
    /// The timer that ends it; zero where nothing has to be waited for.
    within: Duration,
    /// Its status and code where the failure comes before the head.
    status: u16,
    code: &'static str,
    /// It has spoken before, so a stream fails inside.
    spoke: bool,
    /// What must stay open as long as the case.
    held: Vec<Held>,
}

/// Kept for its drop alone.
type Held = Box<dyn Any + Send + Sync>;

fn case(id: &'static str, within: Duration, status: u16, script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Case {
    let upstream = Upstream::start(move |_, wire| script(wire));
    let code = if status == 504 { "UPSTREAM_TIMEOUT" } else { "UPSTREAM_FAILED" };
    Case { id, endpoint: upstream.endpoint(), within, status, code, spoke: false, held: vec![Box::new(upstream)] }
}

fn spoke(mut case: Case) -> Case {
    case.spoke = true;
    case
}

fn at(id: &'static str, address: SocketAddr, within: Duration, status: u16) -> Case {
    let mut case = case(id, within, status, |_| {});
    case.endpoint = format!("http://{address}/api/v1/chat/completions");
    case
}

fn refused() -> Case {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    at("refused", listener.local_addr().expect("bound"), CONNECT, 502)
}

/// The kernel completes the handshake and nobody ever accepts.
fn never_accepted() -> Case {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut case = at("never-accepted", listener.local_addr().expect("bound"), FIRST_BYTE, 504);
    case.held.push(Box::new(listener));
    case
}

/// A full backlog: packets are dropped, as a firewall drops them.
fn black_hole() -> Case {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listen(&listener, 0).expect("it listens");
    let name = getsockname(&listener).expect("bound");
    let address: SocketAddr = name.try_into().expect("an internet address");
    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    let filling: Vec<TcpStream> = std::iter::from_fn(fill).take(64).collect();
    assert!(filling.len() < 64, "the backlog is never full");
    let mut case = at("black-hole", address, CONNECT, 502);
    case.held.push(Box::new(listener));
    case.held.push(Box::new(filling));
    case
}

fn before_the_first_word() -> Vec<Case> {
    let html = "<!DOCTYPE html><html><head><title>502</title></head><body>Bad Gateway</body></html>";
    let none = Duration::ZERO;
    vec![
        refused(),
        never_accepted(),
        black_hole(),
        case("silent", FIRST_BYTE, 504, |wire| _ = wire.hung_up()),
        case("hangs-up", none, 502, |_| {}),
        case("resets", none, 502, Wire::reset),
        case("half-a-head", FIRST_BYTE, 504, |wire| {
            wire.raw("HTTP/1.1 200 OK\r\ncontent-ty");
            wire.hung_up();
        }),
        case("not-http", none, 502, |wire| wire.raw("SSH-2.0-OpenSSH_9.6\r\n")),
        case("html-200", none, 502, move |wire| wire.whole(200, "text/html; charset=utf-8", html)),
        case("html-502", none, 502, move |wire| wire.whole(502, "text/html", html)),
        case("html-504", none, 502, move |wire| wire.whole(504, "text/html", html)),
        case("plain-503", none, 502, |wire| wire.whole(503, "text/plain", "Service Unavailable")),
        case("plain-200", none, 502, |wire| wire.whole(200, "text/plain", "it works!")),
        case("html-called-a-stream", none, 502, move |wire| wire.whole(200, "text/event-stream", html)),
        case("torn-json", none, 502, |wire| wire.whole(200, "application/json", "{\"choices\":[{\"mess")),
        case("other-json", none, 502, |wire| wire.whole(200, "application/json", "{\"hello\":\"world\"}")),
        case("empty-200", none, 502, |wire| wire.whole(200, "application/json", "")),
        case("empty-stream", none, 502, |wire| {
            wire.stream();
            wire.finish();
        }),
        case("redirect", none, 502, |wire| {
            wire.head(302, &[("location", "http://127.0.0.1:9/login")]);
            wire.finish();
        }),
        case("json-500", none, 502, |wire| {
            wire.whole(500, "application/json", r#"{"code":500,"statusText":"error","message":"x","data":null}"#);
        }),
    ]
}

fn after_the_first_word() -> Vec<Case> {
    let none = Duration::ZERO;
    let cases = vec![
        case("falls-silent", IDLE, 504, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.hung_up();
        }),
        case("cut", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
        }),
        case("ends-without-done", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.finish();
        }),
        case("cut-inside-a-frame", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.chunk(&frame("lost")[..30]);
            wire.finish();
        }),
        case("reset-inside", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.reset();
        }),
        case("error-inside", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.chunk("event: error\ndata: {\"message\":\"socket hang up\"}\n\n");
            wire.finish();
        }),
        case("error-then-done", none, 502, |wire| {
            wire.stream();
            wire.chunk(frame("half"));
            wire.chunk("event: error\ndata: {\"message\":\"socket hang up\"}\n\n");
            wire.end();
        }),
    ];
    cases.into_iter().map(spoke).collect()
}

fn check(node: &Node, case: &Case, stream: bool) -> Result<(), String> {
    let (answer, took) = timed(|| ask(node.browser(), case.id, stream));
    let fault =
        |what: &str| Err(format!("{} (stream: {stream}): {what}: {} {}", case.id, answer.status, answer.text()));
    if took > case.within + SLACK {
        return fault(&format!("took {took:?}, beyond its timer of {:?}", case.within));
    }
    // The head is held for longer than any timer, so that only what has spoken fails inside.
    let inside = stream && case.spoke;
    if !inside {
        let body = answer.json();
        let fits = answer.status == case.status && body["code"] == case.code;
        return if fits { Ok(()) } else { fault(&format!("not {} {}", case.status, case.code)) };
    }
    let events = answer.events();
    let code = failed_inside(&events);
    if code != case.code {
        return fault(&format!("{code} and not {}", case.code));
    }
    if case.spoke && answer.answer() != "half" {
        return fault("what was said before the failure is not what was streamed");
    }
    Ok(())
}

/// Sick upstreams at once: all of them together would measure the machine and not the timers.
const AT_ONCE: usize = 6;

#[test]
fn no_sickness_of_an_upstream_hangs_a_request_or_looks_like_a_success() {
    let cases: Vec<Case> = before_the_first_word().into_iter().chain(after_the_first_word()).collect();
    let agents: Vec<Agent> = cases.iter().map(|case| Agent::at(case.id, &case.endpoint)).collect();
    let home = Home::new(&agents);
    home.configure(TIMERS);
    let node = home.start();
    let left = Mutex::new(cases.iter().flat_map(|case| [true, false].map(|stream| (case, stream))));
    let next = || left.lock().expect("taking a case does not panic").next();
    let faults: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| from_fn(next).filter_map(|(case, stream)| check(&node, case, stream).err()).collect())
            })
            .collect();
        let ended = asking.into_iter().map(|asking| asking.join().expect("a check panicked"));
        ended.flat_map(|faults: Vec<String>| faults).collect()
    });
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(cases.iter().map(|case| case.held.len()).sum::<usize>() >= cases.len(), "held to the end");
}

#[test]
fn an_answer_cut_after_its_done_is_whole() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame("whole"));
        wire.chunk("data: [DONE]\n\n"); // And no end of the chunked body.
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(TIMERS);
    let answer = ask(home.start().browser(), "a", true);
    assert_eq!(answer.answer(), "whole");
    let events = answer.events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["chatId", "start", "chunk", "status", "end"]);
    assert_eq!(events[4].json()["persisted"], true);
}

#[test]
fn a_frame_without_end_is_cut_off_and_the_node_keeps_its_memory() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk("data: {\"choices\":[{\"delta\":{\"content\":\"");
        let piece = "x".repeat(1 << 20);
        for _ in 0..256 {
            wire.chunk(&piece); // Lost once the peer has hung up.
        }
        wire.hung_up();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("upstream.total_ms = 10000\nupstream.first_token_ms = 9000\nupstream.first_byte_ms = 9000\nupstream.idle_ms = 9000");
    let node = home.start();
    let answer = ask(node.browser(), "a", true);
    if answer.status == 200 {
        failed_inside(&answer.events());
    } else {
        assert_eq!(answer.code(502), "UPSTREAM_FAILED");
    }
    let memory = node.browser().get("/health/detailed").json()["memory"]["rss"].as_u64().expect("bytes");
    assert!(memory < 200 << 20, "{memory} bytes");
}

#[test]
fn an_answer_that_never_ends_is_ended_by_the_total_timer() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        while wire.hung_up_within(Duration::from_millis(50)).is_none() {
            wire.chunk(frame("more "));
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(TIMERS);
    let node = home.start();
    let (answer, took) = timed(|| ask(node.browser(), "a", true));
    assert_eq!(failed_inside(&answer.events()), "UPSTREAM_TIMEOUT");
    assert!(took < TOTAL + SLACK, "{took:?}");
    assert!(answer.answer().starts_with("more more "));
}

#[test]
fn heartbeats_are_no_words_and_the_first_token_timer_ends_them() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        while wire.hung_up_within(Duration::from_millis(50)).is_none() {
            wire.chunk(frame(""));
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(&format!("{TIMERS}chat.head_hold_ms = 200"));
    let node = home.start();
    let (answer, took) = timed(|| ask(node.browser().with("accept-language", "en"), "a", true));
    assert_eq!(failed_inside(&answer.events()), "UPSTREAM_TIMEOUT");
    assert!(took < FIRST_TOKEN + SLACK, "{took:?}");
    assert_eq!(
        answer.events().iter().filter(|event| event.name == "chunk").count(),
        1,
        "our sentence, and no heartbeat"
    );
}
