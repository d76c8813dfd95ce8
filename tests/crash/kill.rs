//! `kill -9` under streaming load.

use crate::ledger::{Promise, faults_in_replay, faults_on_disk};
use crate::support::{Agent, Answering, Browser, Home, Node, PATIENCE, Upstream, frame};
use crate::{introduce, question};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CYCLES: u64 = 6;
const CLIENTS: usize = 6;
/// Words of an answer, spoken a moment apart, so that a death finds turns in every state.
const WORDS: usize = 6;

/// What the upstream answers to `text`: of every length, so that answers cannot be mistaken for each other.
fn answer(text: &str) -> String {
    (0..WORDS).flat_map(|word| [text.to_owned(), format!("·{word} ")]).collect()
}

/// One person and what they were promised, over all the deaths of the node.
struct Client {
    browser: Browser,
    name: usize,
    promises: Vec<Promise>,
    /// As many of the promises were found kept after an earlier death.
    replayed: usize,
    asked: usize,
    /// The turn that was under way when the node died.
    torn: Option<Promise>,
}

impl Client {
    /// Asks one turn after the other until the node dies. Every event is reported, as a moment to die at.
    fn talk(&mut self, at: SocketAddr, happened: &Sender<()>) {
        loop {
            self.asked += 1;
            let (chat, turn) = (format!("c{}", self.asked % 3), format!("t{}", self.asked));
            let text = format!("{}/{}", self.name, self.asked);
            let promise = Promise { chat, turn, answer: answer(&text), question: text };
            let body = question(&promise.question, &promise.chat, &promise.turn, !self.asked.is_multiple_of(4));
            match self.browser.open(&body).and_then(|answering| read(answering, happened)) {
                Ok((text, true)) => {
                    assert_eq!(text, promise.answer, "not the upstream's answer");
                    self.promises.push(promise);
                }
                Ok((text, false)) => panic!("{at} ended a turn without keeping it: {text}"),
                Err(_) => {
                    self.torn = Some(promise);
                    return;
                }
            }
        }
    }

    /// The torn turn is asked again and is whole then, wherever death found it.
    fn mend(&mut self) {
        let Some(promise) = self.torn.take() else { return };
        let again = self.browser.chat(&question(&promise.question, &promise.chat, &promise.turn, true));
        assert_eq!(again.answer(), promise.answer, "{}/{}", promise.chat, promise.turn);
        self.promises.push(promise);
    }
}

/// Reads an answer to its end: its text, and whether it is kept.
fn read(mut answering: Answering, happened: &Sender<()>) -> io::Result<(String, bool)> {
    let is_stream = answering.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let status = answering.status;
    if !is_stream {
        let body = String::from_utf8(answering.rest()?).map_err(io::Error::other)?;
        assert_eq!(status, 200, "{body}");
        let _ = happened.send(());
        let body: serde_json::Value = serde_json::from_str(&body)?;
        return Ok((body["data"]["content"].as_str().unwrap_or_default().to_owned(), true));
    }
    let mut text = String::new();
    while let Some(event) = answering.next()? {
        let _ = happened.send(());
        match event.name.as_str() {
            "chunk" => text.push_str(event.json()["content"].as_str().unwrap_or_default()),
            "error" => panic!("the upstream is well: {}", event.data),
            "end" => return Ok((text, event.json()["persisted"] == true)),
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no end"))
}

/// Lets the clients talk until `events` have happened, and kills the node in that moment.
fn live_and_die(node: Node, clients: &mut [Client], events: u64) {
    let (happened, happening) = channel();
    let at = node.address();
    thread::scope(|scope| {
        for client in clients {
            let happened = happened.clone();
            scope.spawn(move || client.talk(at, &happened));
        }
        drop(happened);
        for _ in 0..events {
            happening.recv_timeout(PATIENCE).expect("the clients are answered");
        }
        node.kill();
    });
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Goal: no turn that a client saw end with `persisted:true` is lost, altered or doubled by a death, and no turn that
/// was torn is stuck. Method: clients talk while the node is killed after a random number of events, again and again
/// on the same state; then every promise is replayed without the upstream and looked up in the store's file.
#[test]
fn kill_9_under_load_loses_no_promised_turn_and_doubles_none() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = setting("LLMCHAT_CRASH_SEED").unwrap_or(u64::from(since_1970.subsec_nanos()));
    let cycles = setting("LLMCHAT_CRASH_CYCLES").unwrap_or(CYCLES);
    eprintln!("LLMCHAT_CRASH_SEED={seed} LLMCHAT_CRASH_CYCLES={cycles}");
    let mut random = seed | 1;
    let upstream = Upstream::start(|asked, wire| {
        wire.stream();
        for word in answer(asked.question()).split_inclusive(' ') {
            wire.chunk(frame(word));
            if wire.hung_up_within(Duration::from_millis(1)).is_some() {
                return;
            }
        }
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    let client = |name| {
        let mut browser = node.browser();
        introduce(&mut browser);
        Client { browser, name, promises: Vec::new(), replayed: 0, asked: 0, torn: None }
    };
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    for cycle in 0..cycles {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        live_and_die(node, &mut clients, 50 + random % 600);
        node = home.start();
        let address = node.address();
        for client in &mut clients {
            client.browser = std::mem::replace(&mut client.browser, node.browser()).moved(address);
            // What is new since the last death now, and all of it once more at the end.
            let from = if cycle + 1 == cycles { 0 } else { client.replayed };
            let faults = faults_in_replay(&mut client.browser, &upstream, &client.promises[from..]);
            assert!(faults.is_empty(), "seed {seed}, cycle {cycle}, client {}:\n{}", client.name, faults.join("\n"));
            client.replayed = client.promises.len();
            client.mend();
        }
    }
    node.terminate();
    assert!(node.ended().success(), "{}", node.log());
    let mut promised = 0;
    for client in &clients {
        let cookie = client.browser.cookie().expect("every client was introduced");
        let faults = faults_on_disk(&home, cookie, &client.promises);
        assert!(faults.is_empty(), "seed {seed}, client {}:\n{}", client.name, faults.join("\n"));
        promised += client.promises.len();
    }
    assert!(promised >= CLIENTS, "hardly anything was promised: {promised}");
    eprintln!("{promised} promises kept over {cycles} deaths");
}
