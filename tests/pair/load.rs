//! People who chat while nodes change their roles, or die.

use crate::question;
use crate::support::{Answering, Browser, Upstream, frame, now};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Words of an answer, spoken a moment apart.
const WORDS: usize = 6;

/// What the upstream answers to `text`: so that answers cannot be mistaken for each other.
pub(crate) fn answer(text: &str) -> String {
    (0..WORDS).flat_map(|word| [text.to_owned(), format!("·{word} ")]).collect()
}

/// An upstream that says [`answer`], with `pause` between its words.
pub(crate) fn speaking(pause: Duration) -> Upstream {
    Upstream::start(move |asked, wire| {
        wire.stream();
        for word in answer(asked.question()).split_inclusive(' ') {
            wire.chunk(frame(word));
            if wire.hung_up_within(pause).is_some() {
                return;
            }
        }
        wire.end();
    })
}

/// A turn whose client saw its end as kept.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) chat: String,
    pub(crate) turn: String,
    pub(crate) question: String,
    pub(crate) answer: String,
}

/// How an answer ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Kept(String),
    /// An end that says that it is not kept, an error, or no end at all: why.
    Not(String),
}

/// Reads an answer to its end.
pub(crate) fn read(mut answering: Answering) -> io::Result<Heard> {
    let is_stream = answering.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let status = answering.status;
    if !is_stream {
        let body = String::from_utf8(answering.rest()?).map_err(io::Error::other)?;
        if status != 200 {
            return Ok(Heard::Not(format!("{status} {body}")));
        }
        let body: serde_json::Value = serde_json::from_str(&body)?;
        return Ok(Heard::Kept(body["data"]["content"].as_str().unwrap_or_default().to_owned()));
    }
    let mut text = String::new();
    while let Some(event) = answering.next()? {
        match event.name.as_str() {
            "chunk" => text.push_str(event.json()["content"].as_str().unwrap_or_default()),
            "error" => return Ok(Heard::Not(event.data)),
            "end" if event.json()["persisted"] == true => return Ok(Heard::Kept(text)),
            "end" => return Ok(Heard::Not(format!("not kept: {}", event.data))),
            _ => {}
        }
    }
    Ok(Heard::Not("no end".to_owned()))
}

/// One person and what they were promised.
pub(crate) struct Client {
    browser: Option<Browser>,
    pub(crate) name: usize,
    pub(crate) promises: Vec<Promise>,
    /// As many of the promises were found kept already.
    pub(crate) replayed: usize,
    asked: usize,
    torn: Option<Promise>,
    /// What went wrong, for tests in which nothing may.
    pub(crate) faults: Vec<String>,
    /// The longest that one whole question took.
    pub(crate) longest: Duration,
}

impl Client {
    pub(crate) fn new(name: usize, mut browser: Browser) -> Self {
        let refused = browser.chat(&serde_json::json!({ "agentId": "a", "messages": [] }));
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(browser.cookie().is_some());
        let browser = Some(browser);
        let (promises, faults) = (Vec::new(), Vec::new());
        Self { browser, name, promises, replayed: 0, asked: 0, torn: None, faults, longest: Duration::ZERO }
    }

    /// The same person at another address.
    pub(crate) fn turn_to(&mut self, at: SocketAddr) {
        self.browser = self.browser.take().map(|browser| browser.moved(at));
    }

    fn browser(&mut self) -> &mut Browser {
        self.browser.as_mut().expect("there is one")
    }

    /// Asks one turn after the other until `over`, or the first that goes wrong; each counts in `done`.
    pub(crate) fn talk(&mut self, over: &AtomicBool, done: &AtomicU64) {
        while !over.load(Ordering::Relaxed) {
            self.asked += 1;
            let (chat, turn) = (format!("c{}", self.asked % 3), format!("t{}", self.asked));
            let text = format!("{}/{}", self.name, self.asked);
            let promise = Promise { chat, turn, answer: answer(&text), question: text };
            let body = question(&promise.question, &promise.chat, &promise.turn, !self.asked.is_multiple_of(4));
            let began = now();
            let heard = self.browser().open(&body).and_then(read);
            self.longest = self.longest.max(now() - began);
            match heard {
                Ok(Heard::Kept(text)) => {
                    assert_eq!(text, promise.answer, "not the upstream's answer");
                    self.promises.push(promise);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Heard::Not(why)) => return self.tear(promise, &why),
                Err(error) => return self.tear(promise, &error.to_string()),
            }
        }
    }

    fn tear(&mut self, promise: Promise, why: &str) {
        self.faults.push(format!("client {}, {}/{}: {why}", self.name, promise.chat, promise.turn));
        self.torn = Some(promise);
    }

    /// The torn turn is asked again and is whole then, wherever it was torn.
    pub(crate) fn mend(&mut self) {
        let Some(promise) = self.torn.take() else { return };
        let again = question(&promise.question, &promise.chat, &promise.turn, true);
        let heard = self.browser().open(&again).and_then(read);
        assert_eq!(heard.expect("it answers"), Heard::Kept(promise.answer.clone()), "{promise:?}");
        self.promises.push(promise);
    }

    /// Asks every promised turn from `from` on again: each must come back as it was, without a word to the upstream.
    pub(crate) fn faults_in_replay(&mut self, from: usize, upstream: &Upstream) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, promise) in self.promises.clone().iter().enumerate().skip(from) {
            let Promise { chat, turn, question: text, answer } = promise;
            let before = upstream.count();
            let again = question(text, chat, turn, index % 2 == 0);
            match self.browser().open(&again).and_then(read) {
                Ok(Heard::Kept(said)) if upstream.count() != before => {
                    faults.push(format!("{chat}/{turn} was asked again: {said}"));
                }
                Ok(Heard::Kept(said)) if said != *answer => {
                    faults.push(format!("{chat}/{turn} has another answer: {said}"));
                }
                Ok(Heard::Kept(_)) => {}
                other => faults.push(format!("{chat}/{turn} is not answered: {other:?}")),
            }
        }
        self.replayed = self.promises.len();
        faults
    }
}

/// Also when a test panics: the clients would never end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the clients talk until `work`, which is told how many turns are done, has come to its end.
pub(crate) fn while_talking<T>(clients: &mut [Client], work: impl FnOnce(&AtomicU64) -> T) -> T {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for client in clients {
            let (over, done) = (&over, &done);
            scope.spawn(move || client.talk(over, done));
        }
        let _over = Over(&over);
        work(&done)
    })
}
