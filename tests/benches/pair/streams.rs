//! Answers that go on for long: every word has to come, in its order, and at last the end.

use super::nodes::Nodes;
use super::upstream::END;
use llmchat_benches::wire;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A stream's last word is kept within this, or it is cut.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What came of one stream.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) words: u64,
    /// The longest time between two words.
    pub(crate) gap: Duration,
    /// Why it did not end as it should have.
    pub(crate) cut: Option<String>,
}

/// Streams that go on until [`Streams::end`].
pub(crate) struct Streams(Vec<JoinHandle<Streamed>>);

impl Streams {
    /// Opens `count` of them, spread over both nodes; all have had their first word when this returns.
    pub(crate) fn open(nodes: &Nodes, count: usize) -> Self {
        let (begun, first_words) = mpsc::channel();
        let open = |number: usize| {
            let (address, begun) = (nodes.address(number % 2), begun.clone());
            thread::spawn(move || listen(address, number, &begun))
        };
        let streams = (0..count).map(open).collect();
        for _ in 0..count {
            first_words.recv_timeout(SILENCE_MAX).expect("every stream begins");
        }
        Self(streams)
    }

    /// Lets the upstream end them.
    pub(crate) fn end(self, nodes: &Nodes) -> Vec<Streamed> {
        wire::get(nodes.upstream.address, END).expect("the upstream ends its answers");
        self.0.into_iter().map(|stream| stream.join().expect("a listener has panicked")).collect()
    }
}

fn listen(address: SocketAddr, number: usize, begun: &mpsc::Sender<()>) -> Streamed {
    let mut streamed = Streamed { words: 0, gap: Duration::ZERO, cut: None };
    let heard = hear(address, number, begun, &mut streamed);
    streamed.cut = heard.err();
    streamed
}

fn hear(address: SocketAddr, number: usize, begun: &mpsc::Sender<()>, seen: &mut Streamed) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect(address).map_err(said)?;
    socket.set_read_timeout(Some(SILENCE_MAX)).map_err(said)?;
    let body = format!(
        r#"{{"agentId":"on","messages":[{{"role":"user","content":"说下去"}}],"stream":true,"chatId":"s{number}","responseChatItemId":"s{number}"}}"#
    );
    socket.write_all(wire::post("/api/chat/completions", "", &body).as_bytes()).map_err(said)?;
    let mut last = None;
    for line in BufReader::new(socket).lines() {
        let line = line.map_err(said)?;
        if line.contains(r#""persisted":"#) {
            return if line.contains(r#""persisted":true"#) { Ok(()) } else { Err(line) };
        }
        let Some((_, rest)) = line.split_once(r#""content":""#) else { continue };
        // Words may come together where they were late.
        for word in rest.split('"').next().unwrap_or_default().split_whitespace() {
            if word != format!("w{}", seen.words) {
                return Err(format!("{word} after {} words", seen.words));
            }
            seen.words += 1;
        }
        let now = Instant::now();
        match last.replace(now) {
            None => drop(begun.send(())),
            Some(last) => seen.gap = seen.gap.max(now - last),
        }
    }
    Err("it ended without an end".to_owned())
}
