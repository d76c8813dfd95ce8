//! The upstream: one answer at once, one that goes on until it is told to end, and one as long as a book.

use llmchat_benches::wire::Connection;
use llmchat_benches::{HEAD, chunk, serve, word};
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Says [`SAID`] in one write.
pub(crate) const AT_ONCE: &str = "/once/v1/chat/completions";
pub(crate) const SAID: &str = "满一年五天";
/// Says `w0 `, `w1 ` and so on, each [`WORD_EVERY`] after the other, until somebody gets [`END`].
pub(crate) const GOING_ON: &str = "/on/v1/chat/completions";
pub(crate) const WORD_EVERY: Duration = Duration::from_millis(250);
pub(crate) const END: &str = "/end";
/// Says [`BOOK_BYTES`] of words.
pub(crate) const BOOK: &str = "/book/v1/chat/completions";
pub(crate) const BOOK_BYTES: usize = 1 << 20;

const NO_CONTENT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const DONE: &str = "data: [DONE]\n\n";
/// So many different words, which pack about as well as people's do.
const WORDS: usize = 4096;
/// A book is some part of the library; no two of a run are likely to begin at the same word.
const LIBRARY_BYTES: usize = 8 * BOOK_BYTES;

pub(crate) fn run() -> ExitCode {
    let (ended, books, library) = (AtomicBool::new(false), AtomicUsize::new(0), library());
    let at_once = HEAD.to_owned() + &chunk(&word(SAID)) + &end();
    serve(move |connection| {
        // Until the peer hangs up, in whatever way.
        while let Ok(Some(request)) = connection.message(|_| {}) {
            let asked = |path: &str| request[5..].starts_with(path.as_bytes());
            if request.starts_with(b"GET ") {
                ended.store(true, Ordering::Relaxed);
                let _ = connection.write(NO_CONTENT); // Whoever has left does not need it.
                return;
            }
            let said = if asked(GOING_ON) {
                go_on(connection, &ended)
            } else if asked(BOOK) {
                let book = books.fetch_add(1, Ordering::Relaxed);
                let at = book * 4099 * 7 % (LIBRARY_BYTES - BOOK_BYTES);
                let text = chunk(&word(&library[at..at + BOOK_BYTES]));
                connection.write((HEAD.to_owned() + &text + &end()).as_bytes())
            } else {
                connection.write(at_once.as_bytes())
            };
            if said.is_err() {
                return;
            }
        }
    })
}

fn end() -> String {
    chunk(DONE) + "0\r\n\r\n"
}

fn go_on(connection: &mut Connection, ended: &AtomicBool) -> io::Result<()> {
    connection.write(HEAD.as_bytes())?;
    for number in 0.. {
        connection.write(chunk(&word(&format!("w{number} "))).as_bytes())?;
        if ended.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(WORD_EVERY);
    }
    connection.write(end().as_bytes())
}

fn library() -> String {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below).expect("a small number")
    };
    let letters: Vec<char> = ('a'..='z').collect();
    let mut spell = || {
        let length = 2 + random(9);
        (0..length).map(|_| letters[random(26)]).collect::<String>()
    };
    let words: Vec<String> = (0..WORDS).map(|_| spell()).collect();
    let mut text = String::with_capacity(LIBRARY_BYTES + 16);
    while text.len() < LIBRARY_BYTES {
        // Some words are said much more often than others.
        let at = random(64).pow(2).min(WORDS - 1);
        text.push_str(&words[(at + random(64)) % WORDS]);
        text.push(' ');
    }
    text
}
