//! How the simulator behaves, and the words that change it.

use super::errors::Refusal;
use std::str::FromStr;
use std::time::Duration;

/// Which of FastGPT's error envelopes is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Known errors come with HTTP 200.
    A,
    /// Every error comes with HTTP 500.
    B,
    /// Some errors have a status of their own. A body's `appId` is obeyed.
    C,
}

/// Where a v1 stream has the details of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// After `[DONE]`, as up to 4.14.
    DoneFirst,
    /// Before `[DONE]`, as from 4.15, which also names the chat.
    DoneLast,
}

/// How a broken stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The body ends as if all were well, without `[DONE]`.
    Truncate,
    /// The connection is reset.
    Reset,
    /// An error frame, then the end.
    Error,
    /// Nothing more, for ever.
    Hang,
}

/// What an answer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A workflow of two nodes that says something.
    Answer,
    /// Thinking first.
    Reasoning,
    /// A tool is called first.
    Tool,
    /// A choice is offered instead of an answer.
    Interactive,
    /// The model's node fails; on the wire all is well.
    SoftNode,
    /// Done, and nothing was said.
    Empty,
    /// Breaks off after so many pieces.
    Cut(Cut, usize),
    /// Refused before the first frame.
    Refuse(Refusal),
    /// Nothing at all, not even a head.
    Hang,
}

/// How the simulator behaves; [`Default`] is a quick and healthy FastGPT of today.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The key that it takes.
    pub(crate) api_key: String,
    /// The app that it is; empty takes any.
    pub(crate) app_id: String,
    pub(crate) generation: Generation,
    pub(crate) order: Order,
    /// Until the first piece of an answer.
    pub(crate) first_token: Duration,
    /// Between two pieces.
    pub(crate) pace: Duration,
    /// Between two signs of life while nothing else is said.
    pub(crate) heartbeat: Duration,
    /// Absent: as many as the answer falls into.
    pub(crate) pieces: Option<usize>,
    pub(crate) act: Act,
    /// Every so manieth request does `act`, the others answer; 1 is every one.
    pub(crate) act_every: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            api_key: "fastgpt-simulated".to_owned(),
            app_id: "6700aa00bb11cc22dd33ee10".to_owned(),
            generation: Generation::C,
            order: Order::DoneLast,
            first_token: Duration::ZERO,
            pace: Duration::ZERO,
            heartbeat: Duration::from_secs(10),
            pieces: None,
            act: Act::Answer,
            act_every: 1,
        }
    }
}

/// Every word that [`Script::apply`] takes, and what it does; for `--help`, and for a question that has none of
/// them.
pub(crate) const WORDS: &str = "\
answer             an ordinary answer
slow=MS            the first piece takes so long
pace=MS            between two pieces
pieces=N           an answer of so many pieces
heartbeat=MS       between two signs of life while nothing is said
gen=a|b|c          the generation of the error envelope
order=4.14|4.15    flowResponses after [DONE], or before it
reasoning          thinks aloud first
tool               calls a tool first
interactive        offers a choice instead of an answer
soft               a node fails and the stream looks well
empty              done without a word
truncate[=N]       the stream ends after N pieces without [DONE]
reset[=N]          the connection is reset after N pieces
midstream[=N]      an error frame after N pieces
stall[=N]          silence after N pieces
hang               not even a head
error=FAMILY       refused at once: bad-key, no-auth, app-missing, app-empty, account-key,
                   quota, key-limit, rate-limit, rate-limit:SECONDS, ip-limit, zod, too-large,
                   messages-empty, infra, model, unknown, generating, 502, 503, 504, html";

/// What a cut word without a number breaks after.
const CUT_PIECES: usize = 3;
/// As much as a chat may be long: a question must not make the simulator fill the memory.
const PIECES_MAX: usize = 100_000;

/// No such word, or not with such a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no word of the simulator; these are:\n{WORDS}")]
pub(crate) struct UnknownWord(String);

impl UnknownWord {
    pub(super) fn new(word: &str) -> Self {
        Self(word.to_owned())
    }
}

impl Script {
    /// Changes the script by one word of [`WORDS`].
    pub(crate) fn apply(&mut self, word: &str) -> Result<(), UnknownWord> {
        self.change(word).ok_or_else(|| UnknownWord::new(word))
    }

    fn change(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let millis = || value.and_then(|value| value.parse().ok()).map(Duration::from_millis);
        let cut = |cut| {
            let after = value.map_or(Some(CUT_PIECES), |value| value.parse().ok())?;
            Some(Act::Cut(cut, after))
        };
        match (name, value) {
            ("slow", Some(_)) => self.first_token = millis()?,
            ("pace", Some(_)) => self.pace = millis()?,
            ("heartbeat", Some(_)) => self.heartbeat = millis().filter(|every| !every.is_zero())?,
            ("pieces", Some(value)) => self.pieces = Some(value.parse().ok().filter(|pieces| *pieces <= PIECES_MAX)?),
            ("gen", Some(value)) => self.generation = value.parse().ok()?,
            ("order", Some(value)) => self.order = value.parse().ok()?,
            ("error", Some(value)) => self.act = Act::Refuse(value.parse().ok()?),
            ("truncate", _) => self.act = cut(Cut::Truncate)?,
            ("reset", _) => self.act = cut(Cut::Reset)?,
            ("midstream", _) => self.act = cut(Cut::Error)?,
            ("stall", _) => self.act = cut(Cut::Hang)?,
            ("answer", None) => self.act = Act::Answer,
            ("reasoning", None) => self.act = Act::Reasoning,
            ("tool", None) => self.act = Act::Tool,
            ("interactive", None) => self.act = Act::Interactive,
            ("soft", None) => self.act = Act::SoftNode,
            ("empty", None) => self.act = Act::Empty,
            ("hang", None) => self.act = Act::Hang,
            _ => return None,
        }
        Some(())
    }
}

impl FromStr for Generation {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "a" => Ok(Self::A),
            "b" => Ok(Self::B),
            "c" => Ok(Self::C),
            _ => Err(UnknownWord::new(text)),
        }
    }
}

impl FromStr for Order {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "4.14" => Ok(Self::DoneFirst),
            "4.15" => Ok(Self::DoneLast),
            _ => Err(UnknownWord::new(text)),
        }
    }
}
