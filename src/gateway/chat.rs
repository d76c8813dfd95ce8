use super::admission::{Admission, Breakers};
use super::error::ChatError;
use super::judge::TELLING_MAX;
use super::relay::{Errand, Relay};
use super::reply::Reply;
use super::settings::Settings;
use crate::accounts::Caller;
use crate::agents::{self, Agents, AgentsError, Roster};
use crate::analytics::Geo;
use crate::attachments::Attachments;
use crate::base::{Label, Region};
use crate::breaker::State;
use crate::clock;
use crate::limiter::Limiter;
use crate::protocol::agent::{Agent, Provider};
use crate::protocol::attachment::{self as asked, Attached, Takes};
use crate::protocol::chat::{ChatRequest, Message, Role};
use crate::protocol::history::RetryRequest;
use crate::sessions::{Ask, Asked, Begun, Reserved, Sessions, Turn};
use crate::store::{Leave, StoreError};
use crate::telemetry::Telemetry;
use crate::upstream::{Client, MayAsk, Origin, Question};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Events between the upstream and a client that reads slowly: about a second of a fast model.
/// When it is full the upstream waits, which is TCP's own back-pressure.
const RELAY_EVENTS_MAX: usize = 64;

/// What the pipeline is made of.
pub(crate) struct Parts {
    pub(crate) agents: Agents,
    pub(crate) sessions: Sessions,
    pub(crate) attachments: Attachments,
    pub(crate) breakers: Breakers,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) client: Client,
    pub(crate) telemetry: Telemetry,
    pub(crate) geo: Geo,
    pub(crate) settings: Settings,
    pub(crate) leave: Leave,
}

/// The door to the pipeline. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(super) parts: Arc<Parts>,
    slots: Arc<Semaphore>,
    turns: TaskTracker,
    pub(super) telling: Arc<Semaphore>,
    /// What is done for no turn.
    pub(super) beside: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        let slots = Arc::new(Semaphore::new(parts.settings.turns_max));
        Self {
            parts: Arc::new(parts),
            slots,
            turns: TaskTracker::new(),
            telling: Arc::new(Semaphore::new(TELLING_MAX)),
            beside: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    /// One turn, in the order it travels. The answer arrives through the [`Reply`].
    ///
    /// Waits for the upstream's first frame, its failure, or `head_hold`. `entered`, which keeps this node what it is,
    /// is dropped as soon as the question is in the writer's hands.
    ///
    /// # Cancel safety
    ///
    /// A future dropped while it waits is a client that has left: the upstream is hung up on and
    /// the turn recorded as interrupted.
    #[tracing::instrument(name = "chat", skip_all, fields(agent.id))]
    pub(crate) async fn chat(
        &self,
        (caller, origin): (&Caller, Origin),
        key: Option<Label>,
        mut request: ChatRequest,
        entered: impl Send,
    ) -> Result<Reply, ChatError> {
        let Parts { agents, sessions, attachments, settings, .. } = &*self.parts;
        let slot = self.slot()?;
        let agent = agents.served(&request.agent_id).await?;
        // Not before it is known to be one of ours: what a client sends does not go to the log as it came.
        tracing::Span::current().record("agent.id", agent.id.as_str());
        let admission = self.admit(&agent)?;
        let reserved = match sessions.reserve(ask(caller, key, &agent, &request)).await? {
            Begun::Replay(stored) => {
                drop(entered);
                let settled = tokio::time::timeout(settings.record_wait, stored.settled()).await;
                let position = settled.unwrap_or(Err(StoreError::Unavailable)).map_err(ChatError::Store)?;
                return Ok(Reply::replayed(names(&agent), (stored.turn, position), slot));
            }
            Begun::Reserved(reserved) => reserved,
        };
        attachments.check(&caller.owner, &mut request.attached).await?;
        // Where the conversation goes on it is not asked.
        let region = origin.address.filter(|_| reserved.is_first).and_then(|address| self.parts.geo.region(address));
        let asked = asked(&request, region);
        self.run(Run { agent, admission, slot, reserved, asked }, (caller, origin), request, entered).await
    }

    /// As [`Gateway::chat`], for a question that was asked before and is known by its names: it is asked again under a new
    /// turn, and the new answer replaces the old one once it is complete.
    #[tracing::instrument(name = "retry", skip_all, fields(agent.id))]
    pub(crate) async fn retry(
        &self,
        (caller, origin): (&Caller, Origin),
        (chat, retry): (Label, RetryRequest),
        entered: impl Send,
    ) -> Result<Reply, ChatError> {
        let Parts { agents, sessions, .. } = &*self.parts;
        let slot = self.slot()?;
        let agent = agents.served(&retry.agent_id).await?;
        tracing::Span::current().record("agent.id", agent.id.as_str());
        let admission = self.admit(&agent)?;
        let found = sessions.reserve_again((&caller.owner, &agent.id, &chat), &retry.turn).await?;
        let (reserved, asked) = found;
        let request = ChatRequest::again(retry, chat, (&asked.question, asked.settings.as_deref()));
        // A row that an older version wrote in another form cannot be asked again.
        let request = request.ok_or(ChatError::NoTarget)?;
        self.run(Run { agent, admission, slot, reserved, asked }, (caller, origin), request, entered).await
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, ChatError> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| ChatError::Overloaded)
    }

    /// Asked before anything touches the disk: a refusal must be quick, also where the disk is not. A question that goes no
    /// further drops its admission, which counts for nothing.
    fn admit(&self, agent: &Agent) -> Result<Admission, ChatError> {
        let Parts { breakers, telemetry, .. } = &*self.parts;
        breakers.admit(agent).inspect_err(|refused| telemetry.breaker_refused(refused.kind()))
    }

    async fn run(
        &self,
        Run { agent, admission, slot, reserved, asked }: Run,
        (caller, origin): (&Caller, Origin),
        request: ChatRequest,
        entered: impl Send,
    ) -> Result<Reply, ChatError> {
        let Parts { attachments, limiter, client, telemetry, settings, leave, .. } = &*self.parts;
        // An answer that is given again costs the agent nothing, so not before that is known.
        may_be_asked(limiter, &agent)?;
        let messages = conversation((&agent, attachments), &reserved, &request, settings.history_turns_max).await?;
        let turn = reserved.begin(asked)?;
        drop(entered);
        let (named, ids) = (names(&agent), (turn.chat.to_string(), turn.label.to_string()));
        let question = question((caller, origin), &turn, request, messages);
        let (out, events) = mpsc::channel(RELAY_EVENTS_MAX);
        let (client, telemetry, leave) = (client.clone(), telemetry.clone(), leave.clone());
        let limiter = Arc::clone(limiter);
        let errand = Errand { client, agent, question, limiter, telemetry, settings: *settings, leave };
        self.turns.spawn(Relay::new(turn, admission, out, self.cut.clone()).run(errand, slot));
        Reply::running(named, ids, events).head(settings.head_hold).await
    }

    /// What a page needs to know of an agent of `roster` before the first question. From the cache, or asked
    /// of the upstream unless its breaker is open, or this node may not ask any more; starts no run and settles nothing
    /// with it.
    pub(crate) async fn init(
        &self,
        roster: &Roster,
        (agent_id, chat_id): (&str, &str),
        may_ask: &MayAsk,
    ) -> Result<Value, ChatError> {
        let agent = agents::served(roster, agent_id)?;
        let breaker = self.parts.breakers.snapshot(&agent);
        if breaker.state == State::Open && !self.parts.agents.is_described(&agent) {
            return Err(ChatError::Open { retry_after: breaker.retry_after });
        }
        match self.parts.agents.init(&agent, chat_id, may_ask).await {
            // The upstream has nothing to do with it.
            Err(AgentsError::Upstream(_)) if !may_ask() => Err(ChatError::Stopped),
            described => Ok(described?),
        }
    }

    /// Turns under way.
    pub(crate) fn running(&self) -> usize {
        self.turns.len()
    }

    /// Ends every turn that still runs; nobody waits for them.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Ends every turn that still runs, recorded as interrupted, and waits until all are recorded.
    pub(crate) async fn close(&self) {
        self.cut.cancel();
        for tasks in [&self.turns, &self.beside] {
            tasks.close();
            tasks.wait().await;
        }
        self.parts.sessions.close().await;
    }
}

/// Counts a question against the agent's own limit, if it has one.
fn may_be_asked(limiter: &Limiter, agent: &Agent) -> Result<(), ChatError> {
    let Some(limit) = agent.profile.rate_limit else { return Ok(()) };
    limiter.agent_request(agent.id.as_str(), limit, clock::now()).map_err(ChatError::Limited)
}

/// A question whose place is kept, on its way to the upstream.
struct Run {
    agent: Arc<Agent>,
    admission: Admission,
    slot: OwnedSemaphorePermit,
    reserved: Box<Reserved>,
    asked: Asked,
}

fn names(agent: &Agent) -> (String, String) {
    (agent.id.to_string(), agent.profile.model.clone())
}

fn ask(caller: &Caller, key: Option<Label>, agent: &Agent, request: &ChatRequest) -> Ask {
    Ask {
        owner: caller.owner.clone(),
        owner_is_new: caller.new_cookie.is_some(),
        agent_id: agent.id.clone(),
        chat: request.chat_id.clone(),
        turn: request.response_chat_item_id.clone(),
        idempotency_key: key,
        body_hash: body_hash(request),
    }
}

/// What makes a question this question. `stream` is not part of it: a repeat may ask for the
/// stored answer in the other form.
fn body_hash(request: &ChatRequest) -> [u8; 32] {
    let chat_id = request.chat_id.as_ref().map(Label::as_str);
    let asked = (&request.agent_id, chat_id, &request.messages, &request.variables, &request.metadata);
    let how = (request.detail, request.retain_dataset_cite, request.temperature, request.max_tokens);
    // Without files it is what it was before there were any.
    let hashed = if request.attached.iter().all(Attached::is_empty) {
        serde_json::to_vec(&(asked, how))
    } else {
        serde_json::to_vec(&(asked, how, &request.attached))
    };
    Sha256::digest(hashed.expect("strings and JSON values always serialize")).into()
}

/// The question as it is stored, with its files.
fn asked(request: &ChatRequest, region: Option<Region>) -> Asked {
    let last = request.messages.last();
    let question = last.map(|message| {
        let attached = request.attached.last().cloned().unwrap_or_default();
        asked::Question { message: message.clone(), attached }
    });
    Asked {
        question: question
            .map(|question| serde_json::to_string(&question).expect("messages were JSON"))
            .unwrap_or_default(),
        settings: request.settings(),
        title: last.map(Message::title).unwrap_or_default(),
        region,
    }
}

/// What of files an upstream takes as parts of a message.
fn takes(agent: &Agent) -> Takes {
    let features = &agent.profile.features;
    Takes {
        images: features.supports_images,
        files: features.supports_files && agent.profile.provider == Provider::Fastgpt,
    }
}

/// What the upstream must be told: all that the client sent, and, where the upstream keeps no
/// conversation and the client sent one message, what was said before; with the files of each.
async fn conversation(
    (agent, files): (&Agent, &Attachments),
    reserved: &Reserved,
    request: &ChatRequest,
    turns_max: usize,
) -> Result<Vec<Message>, ChatError> {
    let remembers = match agent.profile.provider {
        Provider::Fastgpt => agent.profile.features.supports_chat_id,
        // It takes one message at a time, whether it remembers the others or not.
        Provider::Dify => true,
        Provider::Openai | Provider::Anthropic | Provider::Dashscope | Provider::Custom => false,
    };
    let takes = takes(agent);
    let sent = request.messages.iter().zip(&request.attached);
    let sent = sent.map(|(message, attached)| files.compose(message, attached, takes));
    if remembers || request.messages.len() > 1 {
        return Ok(sent.collect());
    }
    let mut messages = Vec::new();
    for (question, answer) in reserved.history(turns_max).await? {
        // A row that an older version wrote in another form is no reason to refuse the next question.
        let Ok(question) = serde_json::from_str::<asked::Question>(&question) else { continue };
        let question = files.compose(&question.message, &question.attached, takes);
        messages.extend([question, Message { role: Role::Assistant, content: answer.into() }]);
    }
    messages.extend(sent);
    Ok(messages)
}

fn question(
    (caller, origin): (&Caller, Origin),
    turn: &Turn,
    request: ChatRequest,
    messages: Vec<Message>,
) -> Question {
    Question {
        chat_id: turn.upstream_chat_id.clone(),
        conversation: turn.conversation().cloned(),
        item_id: turn.upstream_item_id.clone(),
        customer: caller.owner.as_str().to_owned(),
        origin,
        detail: request.detail,
        variables: request.variables,
        metadata: request.metadata,
        retain_dataset_cite: request.retain_dataset_cite,
        temperature: request.temperature,
        max_tokens: request.max_tokens,
        messages,
    }
}
