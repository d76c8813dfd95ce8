//! Clients of the servers behind agents. One attempt a call: a question that may have reached
//! FastGPT is never asked twice.

mod settings;

pub(crate) use settings::Settings;

use crate::protocol::chat::Message;
use crate::protocol::fastgpt::{self, Event};
use crate::protocol::sse::{self, Frame};
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// Where an agent lives and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The full completions URL.
    pub(crate) endpoint: String,
    pub(crate) api_key: String,
    pub(crate) app_id: String,
}

/// What we ask; ids are ours, random, and never the client's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Question<'a> {
    pub(crate) chat_id: &'a str,
    pub(crate) response_chat_item_id: &'a str,
    pub(crate) app_id: &'a str,
    pub(crate) stream: bool,
    pub(crate) detail: bool,
    pub(crate) variables: &'a Map<String, Value>,
    pub(crate) messages: &'a [Message],
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("ask the upstream")]
    Connect(#[source] reqwest::Error),
    #[error("the upstream answered {0}")]
    Status(u16),
    #[error("the upstream was silent for {0:?}")]
    Silent(Duration),
    #[error("read the upstream's stream")]
    Read(#[source] reqwest::Error),
    #[error(transparent)]
    Frame(#[from] sse::FrameTooLong),
}

/// Three missed heartbeats of 10 s and a little: FastGPT is gone (fastgpt contract, fact 6).
const IDLE: Duration = Duration::from_secs(35);
/// Opening includes the wait for the first header; FastGPT's first frame comes within 10 s.
const FIRST_BYTE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// The shared client: one pool of connections for every agent.
#[derive(Clone)]
pub(crate) struct Client(reqwest::Client);

impl Client {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            // Below the 5 s after which Node closes an idle connection: a POST is not retryable.
            .pool_idle_timeout(Duration::from_secs(4))
            .no_proxy()
            .build()?;
        Ok(Self(http))
    }

    /// Asks and returns the stream as soon as its head is there. Dropping it hangs up, which
    /// stops a v1 run upstream.
    pub(crate) async fn open(&self, agent: &Agent, question: &Question<'_>) -> Result<Answer, Error> {
        let body = serde_json::to_vec(question).expect("strings and JSON values always serialize");
        let sent = self
            .0
            .post(&agent.endpoint)
            .bearer_auth(&agent.api_key)
            .header("content-type", "application/json")
            .body(body)
            .send();
        let response = tokio::time::timeout(FIRST_BYTE, sent)
            .await
            .map_err(|_| Error::Silent(FIRST_BYTE))?
            .map_err(Error::Connect)?;
        if !response.status().is_success() {
            return Err(Error::Status(response.status().as_u16()));
        }
        Ok(Answer { response, decoder: Some(sse::Decoder::default()) })
    }
}

/// An answer under way.
pub(crate) struct Answer {
    response: reqwest::Response,
    /// `None` once the stream has ended.
    decoder: Option<sse::Decoder>,
}

impl Answer {
    /// The next events, at least one, or none at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Safe: bytes taken from the socket are decoded before anything is awaited again.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, Error> {
        let mut frames: Vec<Frame> = Vec::new();
        while let Some(decoder) = &mut self.decoder {
            let read = tokio::time::timeout(IDLE, self.response.chunk());
            match read.await.map_err(|_| Error::Silent(IDLE))?.map_err(Error::Read)? {
                Some(bytes) => decoder.push(&bytes, &mut frames)?,
                None => frames.extend(self.decoder.take().and_then(sse::Decoder::finish)),
            }
            if !frames.is_empty() {
                break;
            }
        }
        let mut events = Vec::with_capacity(frames.len());
        for frame in frames {
            fastgpt::decode(frame, &mut events);
        }
        Ok(events)
    }
}
