//! A question comes in, an upstream is opened, its answer is relayed.

use crate::base::{Label, random_id};
use crate::gateway::relay::{self, Out};
use crate::protocol::chat::{ChatRequest, Role};
use crate::upstream::{self, Agent, Question};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Events between the upstream and a client that reads slowly: about a second of a fast model.
/// When it is full the upstream waits, which is TCP's own back-pressure.
const RELAY_EVENTS_MAX: usize = 64;

/// Why a question was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    #[error("no agent has the id that was asked for")]
    UnknownAgent,
    #[error("{field}: {rule}")]
    Invalid { field: &'static str, rule: &'static str },
    #[error("the agent's server did not answer")]
    Upstream(#[from] upstream::Error),
}

/// An answer on its way: what the client is told first, and the events that follow.
pub(crate) struct Reply {
    pub(crate) chat_id: String,
    pub(crate) turn_id: String,
    pub(crate) agent_id: String,
    pub(crate) events: mpsc::Receiver<Out>,
}

/// The door to the pipeline.
#[derive(Clone)]
pub(crate) struct Gateway {
    agents: Arc<[Agent]>,
    client: upstream::Client,
    relays: TaskTracker,
}

impl Gateway {
    pub(crate) fn new(agents: Vec<Agent>, client: upstream::Client, relays: TaskTracker) -> Self {
        Self { agents: agents.into(), client, relays }
    }

    pub(crate) fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// One turn: check, ask, relay. The answer arrives through [`Reply::events`].
    pub(crate) async fn chat(&self, request: ChatRequest) -> Result<Reply, ChatError> {
        check(&request)?;
        let agent = self.agents.iter().find(|agent| agent.id == request.agent_id).ok_or(ChatError::UnknownAgent)?;
        let upstream_chat = random_id();
        let upstream_turn = random_id();
        let question = Question {
            chat_id: &upstream_chat,
            response_chat_item_id: &upstream_turn,
            app_id: &agent.app_id,
            stream: true,
            detail: request.detail,
            variables: &request.variables,
            messages: &request.messages,
        };
        let answer = self.client.open(agent, &question).await?;
        let (out, events) = mpsc::channel(RELAY_EVENTS_MAX);
        self.relays.spawn(relay::run(answer, out));
        Ok(Reply {
            chat_id: request.chat_id.unwrap_or_else(random_id),
            turn_id: request.response_chat_item_id.unwrap_or_else(random_id),
            agent_id: agent.id.clone(),
            events,
        })
    }
}

fn check(request: &ChatRequest) -> Result<(), ChatError> {
    let invalid = |field, rule| Err(ChatError::Invalid { field, rule });
    match request.messages.last() {
        None => return invalid("messages", "must not be empty"),
        Some(last) if last.role != Role::User => return invalid("messages", "must end with a user's message"),
        Some(_) => {}
    }
    if request.messages.iter().any(|message| !(message.content.is_string() || message.content.is_array())) {
        return invalid("messages[].content", "must be text or a list of parts");
    }
    if request.chat_id.as_deref().is_some_and(|id| Label::parse(id).is_err()) {
        return invalid("chatId", "must match [A-Za-z0-9_.:-]{1,128}");
    }
    if request.response_chat_item_id.as_deref().is_some_and(|id| Label::parse(id).is_err()) {
        return invalid("responseChatItemId", "must match [A-Za-z0-9_.:-]{1,128}");
    }
    Ok(())
}
