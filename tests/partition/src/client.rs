//! People who chat while the network breaks, each with a log of what they saw.

use crate::assume;
use crate::http::{self, Answer, Fault};
use crate::place::Place;
use crate::random::Random;
use crate::record::{Kind, Op, Outcome};
use crate::time::{micros, pause};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A client's patience with one request.
const PATIENCE: Duration = Duration::from_secs(8);
/// A new chat is begun after so many turns; each may be tried as one more.
const CHAT_TURNS: u64 = assume::HISTORY_TURNS / 2;
/// An outcome that is not known is asked for again so often.
const TRIES: u32 = 4;
/// What is read back is asked for so often, each time so much later.
const INSIST: u64 = 6;
const INSIST_MS: u64 = 100;
/// One who measures how soon an answer comes tries the other address after so long.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// A client and what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    number: u64,
    at: Place,
    /// Never asks another node.
    is_pinned: bool,
    cookie: String,
    position: Option<String>,
    random: Random,
    turns: u64,
    patience: Duration,
    /// Between two requests, at least and at most.
    rest_ms: (u64, u64),
    pub(crate) ops: Vec<Op>,
}

/// What an answer to a question means.
struct Heard {
    outcome: Outcome,
    said: String,
    position: Option<String>,
    node: Option<String>,
}

impl Client {
    pub(crate) fn new(number: u64, at: Place, is_pinned: bool, seed: u64) -> Self {
        let random = Random::new(seed ^ (number << 32));
        let (cookie, position) = (String::new(), None);
        let (patience, rest_ms) = (PATIENCE, (20, 150));
        Self { number, at, is_pinned, cookie, position, random, turns: 0, patience, rest_ms, ops: Vec::new() }
    }

    /// One who asks all the time, at both addresses.
    pub(crate) fn impatient(number: u64, at: Place, seed: u64) -> Self {
        Self { patience: IMPATIENCE, rest_ms: (0, 10), ..Self::new(number, at, false, seed) }
    }

    /// Asks the node for a cookie, more than once where the machine is busy; whether there is one.
    pub(crate) fn arrive(&mut self) -> bool {
        (0..TRIES).any(|_| self.ask_for_cookie())
    }

    fn ask_for_cookie(&mut self) -> bool {
        let body = json!({ "agentId": assume::OPENAI, "messages": [] }).to_string();
        let asked = http::ask(self.at.api(), &http::request("POST", assume::CHAT_PATH, "", &body), PATIENCE);
        let given = asked.ok().and_then(|answer| {
            let pair = answer.header("set-cookie")?.split(';').next()?;
            pair.starts_with(assume::COOKIE).then(|| pair.to_owned())
        });
        self.cookie = given.unwrap_or_default();
        !self.cookie.is_empty()
    }

    /// Chats until `over`.
    pub(crate) fn talk(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let (least, most) = self.rest_ms;
            let rest = self.random.between(least, most);
            if self.random.one_in(4) {
                self.read();
            } else {
                self.turns += 1;
                self.write(over);
            }
            pause(rest);
        }
    }

    /// OpenAI-style chats can be read back whole; every fifth chat is of a FastGPT, which keeps its own.
    fn chat(&self) -> String {
        let chat = self.turns / CHAT_TURNS;
        let agent = if chat % 5 == 4 { assume::FASTGPT } else { assume::OPENAI };
        format!("{agent}{}-{chat}", self.number)
    }

    fn write(&mut self, over: &AtomicBool) {
        let id = format!("c{}-{}", self.number, self.turns);
        let chat = self.chat();
        for _ in 0..TRIES {
            let is_stream = self.random.one_in(2);
            let (sent, heard) = (micros(), self.question(&chat, &id, is_stream, self.at));
            let Heard { outcome, said, position, node } = heard;
            if position.is_some() {
                self.position.clone_from(&position);
            }
            let op = Op {
                client: self.number,
                kind: Kind::Write,
                sent,
                answered: micros(),
                address: self.at,
                id: id.clone(),
                chat: chat.clone(),
                position,
                node,
                outcome,
                said,
            };
            self.ops.push(op);
            if outcome == Outcome::Acknowledged || over.load(Ordering::Relaxed) {
                return;
            }
            self.turn_away();
            pause(self.random.between(self.rest_ms.0, 2 * self.rest_ms.1));
        }
    }

    /// Asks again elsewhere, where that is allowed.
    fn turn_away(&mut self) {
        if !self.is_pinned {
            self.at = self.at.other();
        }
    }

    fn question(&self, chat: &str, id: &str, is_stream: bool, at: Place) -> Heard {
        let agent = agent(chat);
        let body = json!({
            "agentId": agent, "stream": is_stream, "messages": [{ "role": "user", "content": id }],
            "chatId": chat, "responseChatItemId": id,
        });
        let cookie = format!("cookie: {}\r\n", self.cookie);
        let request = http::request("POST", assume::CHAT_PATH, &cookie, &body.to_string());
        heard(http::ask(at.api(), &request, self.patience))
    }

    fn read(&mut self) {
        let at_least = self.position.clone().filter(|_| self.random.one_in(2));
        let kind = if at_least.is_some() { Kind::ReadAtLeast } else { Kind::Read };
        let level = at_least.map_or_else(|| "linearizable".to_owned(), |position| format!("at_least={position}"));
        let headers = format!("{}: {level}\r\ncookie: {}\r\n", assume::READ, self.cookie);
        let sent = micros();
        let asked = http::ask(self.at.api(), &http::request("GET", assume::READ_PATH, &headers, ""), self.patience);
        let (outcome, said, position, node) = match asked {
            Ok(answer) if answer.status == 200 => {
                (Outcome::Acknowledged, String::new(), owned(&answer, assume::POSITION), owned(&answer, assume::NODE))
            }
            Ok(answer) => (Outcome::Refused, short(&answer), None, None),
            Err(Fault::NotSent(why) | Fault::Broken(why)) => (Outcome::Refused, why, None, None),
        };
        if position.is_some() {
            self.position.clone_from(&position);
        }
        if outcome != Outcome::Acknowledged {
            self.turn_away();
        }
        let (client, id) = (self.number, format!("r{}-{}", self.number, self.ops.len()));
        let (address, answered) = (self.at, micros());
        let chat = String::new();
        self.ops.push(Op { client, kind, sent, answered, address, id, chat, position, node, outcome, said });
    }

    /// Asks for a turn that was acknowledged; its answer as the node has it. One that it does not have it asks of the
    /// upstream, whose answer is another.
    pub(crate) fn again(&self, op: &Op, at: Place) -> Option<String> {
        self.insist(&op.chat, &op.id, at)
    }

    /// Puts one more question to a chat, so that all of it is sent to the upstream.
    pub(crate) fn tell(&self, chat: &str, at: Place) -> Option<String> {
        let id = format!("tell-{chat}-{at}");
        self.insist(chat, &id, at).map(|_| id)
    }

    /// A healthy node may be busy, and says so.
    fn insist(&self, chat: &str, id: &str, at: Place) -> Option<String> {
        (0..INSIST).find_map(|turn| {
            pause(turn * INSIST_MS);
            let heard = self.question(chat, id, false, at);
            (heard.outcome == Outcome::Acknowledged).then_some(heard.said)
        })
    }
}

/// Whose a chat is.
fn agent(chat: &str) -> &'static str {
    if chat.starts_with(assume::FASTGPT) { assume::FASTGPT } else { assume::OPENAI }
}

fn owned(answer: &Answer, name: &str) -> Option<String> {
    answer.header(name).map(str::to_owned)
}

fn short(answer: &Answer) -> String {
    let body: String = answer.body.chars().take(200).collect();
    format!("{} {body}", answer.status)
}

fn heard(asked: Result<Answer, Fault>) -> Heard {
    let failed = |outcome, said| Heard { outcome, said, position: None, node: None };
    let answer = match asked {
        Ok(answer) => answer,
        Err(Fault::NotSent(why)) => return failed(Outcome::Refused, why),
        Err(Fault::Broken(why)) => return failed(Outcome::Unknown, why),
    };
    let (mut position, mut node) = (owned(&answer, assume::POSITION), owned(&answer, assume::NODE));
    if answer.status != 200 {
        // These say themselves that it may have been done.
        let is_open = ["may have done", "could not be kept"].iter().any(|words| answer.body.contains(words));
        return failed(if is_open { Outcome::Unknown } else { Outcome::Refused }, short(&answer));
    }
    if !answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        let said = serde_json::from_str::<Value>(&answer.body).ok();
        let said = said.and_then(|body| body["data"]["content"].as_str().map(str::to_owned));
        return match said {
            Some(said) => Heard { outcome: Outcome::Acknowledged, said, position, node },
            None => failed(Outcome::Unknown, short(&answer)),
        };
    }
    let (mut text, mut is_kept) = (String::new(), false);
    for (name, data) in events(&answer.body) {
        match name {
            "chunk" => text.push_str(data["content"].as_str().unwrap_or_default()),
            "error" => return failed(Outcome::Unknown, format!("error {data}")),
            "end" => {
                is_kept = data["persisted"] == true;
                let field = |name: &str| data[name].as_str().map(str::to_owned);
                position = position.or_else(|| field("position"));
                node = node.or_else(|| field("node"));
            }
            _ => {}
        }
    }
    if is_kept {
        Heard { outcome: Outcome::Acknowledged, said: text, position, node }
    } else {
        failed(Outcome::Unknown, "a stream without a kept end".to_owned())
    }
}

fn events(body: &str) -> impl Iterator<Item = (&str, Value)> {
    body.split("\n\n").filter_map(|event| {
        let name = event.lines().find_map(|line| line.strip_prefix("event: "))?;
        let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some((name, serde_json::from_str(data).ok()?))
    })
}
