//! The demo, as a person meets it: the real binary, its printed URL, real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Demo {
    process: Child,
    address: String,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn demo() -> Demo {
    let mut process = Command::new(env!("CARGO_BIN_EXE_llmchat"))
        .arg("demo")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = process.stdout.take().expect("stdout is piped");
    let first = BufReader::new(stdout).lines().next().expect("the demo prints its URL").expect("UTF-8");
    let url = first.split("http://").nth(1).expect("the first line holds the URL");
    Demo { process, address: url.trim_end_matches('/').to_owned() }
}

fn ask(demo: &Demo, body: &str) -> String {
    let mut socket = TcpStream::connect(&demo.address).expect("the demo listens");
    write!(
        socket,
        "POST /api/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("send");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the answer ends");
    answer
}

#[test]
fn a_streamed_chat_is_kept_and_comes_in_the_order_the_front_end_relies_on() {
    let body =
        r#"{"agentId":"demo","stream":true,"detail":true,"chatId":"c1","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = ask(&demo(), body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(&events[..4], ["chatId", "start", "status", "flowNodeStatus"]);
    assert_eq!(&events[events.len() - 5..], ["status", "flowResponses", "usage", "status", "end"]);
    assert!(answer.contains(r#"{"chatId":"c1"}"#) && answer.contains(r#""persisted":true"#), "{answer}");
}

#[test]
fn a_chat_that_does_not_stream_is_one_json_body() {
    let answer = ask(&demo(), r#"{"agentId":"demo","messages":[{"role":"user","content":"hi"}]}"#);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""object":"chat.completion""#), "{answer}");
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let demo = demo();
    let missing = ask(&demo, r#"{"agentId":"none","messages":[{"role":"user","content":"hi"}]}"#);
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("AGENT_NOT_FOUND"), "{missing}");
    let empty = ask(&demo, r#"{"agentId":"demo","messages":[]}"#);
    assert!(empty.starts_with("HTTP/1.1 400") && empty.contains(r#""field":"messages""#), "{empty}");
}
