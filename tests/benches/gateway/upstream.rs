//! The upstream of the bench: a FastGPT that has its answers ready. A process of its own, so that
//! its work is not the driver's, and two system calls a request, so that it is nobody's delay.

use llmchat_benches::wire::Connection;
use llmchat_benches::{HEAD, chunk, serve, word};
use memchr::memmem;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Says the recorded answer in one write.
pub(crate) const AT_ONCE: &str = "/api/v1/chat/completions";
/// Says it after [`THINKING`]: longer than a question waits for its answer's commit, as with any model.
pub(crate) const AFTER_THOUGHT: &str = "/think/v1/chat/completions";
pub(crate) const THINKING: Duration = Duration::from_millis(20);
/// Says [`DRIPS`] words, each [`DRIP_EVERY`] after the other, as a model does.
pub(crate) const DRIPPING: &str = "/drip/v1/chat/completions";
pub(crate) const DRIPS: u32 = 50;
pub(crate) const DRIP_EVERY: Duration = Duration::from_millis(10);
/// The first and last words of every answer.
pub(crate) const FIRST_WORD: &str = "年假";
pub(crate) const LAST_WORD: &str = "祝假期愉快";

const PLAIN: &str = include_str!("../../fixtures/fastgpt/v1_simple_detail_false.sse");
const DETAILED: &str = include_str!("../../fixtures/fastgpt/v1_workflow_detail_true_done_then_flowresponses.sse");

struct Answers {
    plain: Vec<u8>,
    detailed: Vec<u8>,
    drips: Vec<Vec<u8>>,
}

/// Serves until its standard input ends: it never outlives the bench.
pub(crate) fn run() -> ExitCode {
    let answers = Answers { plain: at_once(PLAIN), detailed: at_once(DETAILED), drips: drips() };
    serve(move |connection| converse(connection, &answers))
}

/// Until the peer hangs up, in whatever way.
fn converse(connection: &mut Connection, answers: &Answers) {
    while let Ok(Some(request)) = connection.message(|_| {}) {
        let is_drip = request.starts_with(b"POST /drip");
        if request.starts_with(b"POST /think") {
            thread::sleep(THINKING);
        }
        let is_detailed = memmem::find(request, br#""detail":true"#).is_some();
        let said = match (is_drip, is_detailed) {
            (true, _) => drip(connection, &answers.drips),
            (false, true) => connection.write(&answers.detailed),
            (false, false) => connection.write(&answers.plain),
        };
        if said.is_err() {
            return;
        }
    }
}

fn drip(connection: &mut Connection, drips: &[Vec<u8>]) -> std::io::Result<()> {
    for (index, piece) in drips.iter().enumerate() {
        if index > 0 {
            thread::sleep(DRIP_EVERY);
        }
        connection.write(piece)?;
    }
    Ok(())
}

/// A recorded answer with its head, every event a chunk, as a server writes it.
fn at_once(events: &str) -> Vec<u8> {
    let events = events.split_inclusive("\n\n");
    let chunks: String = events.filter(|event| !event.trim().is_empty()).map(chunk).collect();
    (HEAD.to_owned() + &chunks + "0\r\n\r\n").into_bytes()
}

fn drips() -> Vec<Vec<u8>> {
    let middle = (2..DRIPS).map(|_| "满一年");
    let words = std::iter::once(FIRST_WORD).chain(middle).chain([LAST_WORD]);
    let mut pieces: Vec<String> = words.map(|content| chunk(&word(content))).collect();
    pieces[0].insert_str(0, HEAD);
    pieces.push(chunk("data: [DONE]\n\n") + "0\r\n\r\n");
    pieces.into_iter().map(String::into_bytes).collect()
}
