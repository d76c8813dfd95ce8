use super::admission::Admission;
use super::error::{self, ChatError};
use super::quotes::without_quotes;
use super::reply::{Finished, Kept, Out};
use super::settings::Settings;
use crate::base::{Chain, Position};
use crate::breaker::{self, Verdict};
use crate::clock;
use crate::limiter::Limiter;
use crate::protocol::agent::Agent;
use crate::protocol::answer::{Class, Ending, Event, Failure, Finish, Usage};
use crate::sessions::{Outcome, Transcript, Turn};
use crate::store::{Leave, StoreError};
use crate::telemetry::Telemetry;
use crate::upstream::{Client, MayAsk, Next, Question};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// What a client may keep its turn waiting, taken together: a slow reader is waited for, one that only pretends to
/// read is not.
const CLIENT_HOLD_MAX: Duration = Duration::from_mins(10);
/// So long any server, or proxy before it, waits for a reader.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(5);
/// So long a run that was hung up on is waited for to stop: FastGPT looks ten times a second whether it is to.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// FastGPT caps one answer at 20 MB; what is longer is a runaway.
const ANSWER_BYTES_MAX: usize = 20 << 20;

/// How the carrying ended, before anything is recorded.
enum Carried {
    Finished(Option<Usage>),
    Failed(ChatError),
    /// The client left before the end.
    Left,
    /// The client has enough of the answer, and waits for its end.
    Stopped,
}

/// Whom to ask, and what.
pub(super) struct Errand {
    pub(super) client: Client,
    pub(super) agent: Arc<Agent>,
    pub(super) question: Question,
    pub(super) limiter: Arc<Limiter>,
    pub(super) telemetry: Telemetry,
    pub(super) settings: Settings,
    /// Whether this node may still act as the primary.
    pub(super) leave: Leave,
}

impl Errand {
    /// Sees to it that nothing goes on at the upstream which was hung up on. Nobody's answer waits for it for long: what it
    /// costs is the next question in this chat, which may come too early.
    async fn hung_up(&self) {
        let leave = self.leave.clone();
        let may_ask: MayAsk = Arc::new(move || leave.holds());
        let stopped = self.client.stop(&self.agent, &self.question.chat_id, &may_ask);
        let failure = match tokio::time::timeout(STOP_WITHIN, stopped).await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => error::class(failure.class),
            Err(_) => "timed_out",
        };
        tracing::warn!(agent.id = self.agent.id.as_str(), class = failure, "a run that was hung up on is not stopped");
    }

    /// Counts what an answer took against the agent's own limit. An answer that was broken off says nothing of it, and
    /// some upstreams never do.
    fn spent(&self, usage: Option<Usage>) {
        if let (Some(limit), Some(usage)) = (self.agent.profile.rate_limit, usage) {
            let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
            self.limiter.agent_spent(self.agent.id.as_str(), limit, tokens, clock::now());
        }
    }
}

/// Carries one turn from the upstream to its client, and records it. Runs on a task of its own.
pub(super) struct Relay {
    turn: Turn,
    admission: Admission,
    out: mpsc::Sender<Out>,
    /// The process stops, and streams have had their time.
    cut: CancellationToken,
    /// The client wants no more of this answer.
    stop: CancellationToken,
    transcript: Transcript,
    /// The question's commit is still on its way.
    storing: bool,
    /// When the client was seen to have left; the upstream is read on for `resume_grace`.
    left_at: Option<Instant>,
    /// How long the client has kept the turn waiting.
    held: Duration,
}

impl Relay {
    pub(super) fn new(turn: Turn, admission: Admission, out: mpsc::Sender<Out>, cut: CancellationToken) -> Self {
        Self {
            stop: turn.stopped(),
            turn,
            admission,
            out,
            cut,
            transcript: Transcript::default(),
            storing: true,
            left_at: None,
            held: Duration::ZERO,
        }
    }

    /// Asks, relays, settles with the breakers, records, and says truthfully how it ended.
    /// The question is let go of, and `slot` given back, as soon as the upstream is done with: a run that was hung up on
    /// has been told to stop by then, or does not listen.
    pub(super) async fn run(mut self, to: Errand, slot: OwnedSemaphorePermit) {
        let began = clock::now();
        let (carried, verdict) = self.carry(&to).await;
        let settings = to.settings;
        let Self { turn, admission, out, cut, transcript, .. } = self;
        admission.settle(verdict);
        to.telemetry.turn_finished(carried.kind(), clock::now() - began);
        if let Carried::Failed(ChatError::Upstream(failure)) = &carried {
            to.telemetry.upstream_failed(error::class(failure.class));
        }
        // Before the upstream is told anything: it may take its time, and nothing that is recorded waits for it.
        let (place, mut closing) = turn.finish(carried.outcome(), transcript);
        if let Err(error) = &closing {
            tracing::error!(error = %Chain(error), "the end of a turn is not recorded");
        }
        let recorded = async {
            match &mut closing {
                Ok(Some(closing)) => tokio::time::timeout(settings.record_wait, closing.durable()).await.map(kept),
                Ok(None) => Ok(Kept::Never),
                Err(_) => Ok(Kept::NotInTime),
            }
        };
        let hangs_up = carried.hangs_up();
        let done_with = async move {
            if hangs_up {
                to.hung_up().await;
            }
            drop((to, slot));
        };
        // The chat is kept until the upstream has heard: the next question would meet the run.
        let (recorded, ()) = tokio::join!(recorded, done_with);
        match (recorded, closing) {
            (Err(_), Ok(Some(mut closing))) => {
                tell(&out, &cut, carried.told(Kept::NotInTime), settings.client_stall).await;
                log_unless_stored(closing.durable().await.err().as_ref());
                drop(place);
            }
            (recorded, _) => {
                drop(place); // The next question may come as soon as the client has read the end.
                let kept = recorded.unwrap_or(Kept::NotInTime);
                tell(&out, &cut, carried.told(kept), settings.client_stall).await;
            }
        }
    }

    async fn carry(&mut self, to: &Errand) -> (Carried, Verdict) {
        let Errand { client, agent, question, telemetry, settings, leave, .. } = to;
        let asked_at = clock::now();
        let may_ask: MayAsk = {
            let leave = leave.clone();
            Arc::new(move || leave.holds())
        };
        // Last of all: a process that was frozen must not act as what it was before.
        if !leave.holds() {
            return (Carried::Failed(ChatError::Stopped), Verdict::Neutral);
        }
        let opened = tokio::select! {
            opened = client.open(agent, question, &may_ask) => opened,
            end = self.interruption(settings.resume_grace) => return (end, Verdict::Neutral),
        };
        let mut answer = match opened {
            Ok(answer) => answer,
            // The upstream has nothing to do with it.
            Err(_) if !leave.holds() => return (Carried::Failed(ChatError::Stopped), Verdict::Neutral),
            Err(failure) => return self.failed(to, failure),
        };
        loop {
            tokio::select! {
                next = answer.next() => match next {
                    Next::Events(events) => {
                        let is_word =
                            |event: &Event| matches!(event, Event::Text(_) | Event::Reasoning(_) | Event::Replaced(_));
                        let speaks = events.iter().any(is_word);
                        if speaks && self.transcript.is_silent() {
                            telemetry.first_token(clock::now() - asked_at);
                        }
                        if let Err(end) = self.pass_on(events, settings.client_stall).await {
                            return (end, Verdict::Neutral);
                        }
                    }
                    Next::End(Ending::Failed(failure)) => return self.failed(to, failure),
                    Next::End(Ending::Done(finish)) => {
                        to.spent(finish.usage);
                        return finished(agent, finish);
                    }
                },
                end = self.interruption(settings.resume_grace) => return (end, Verdict::Neutral),
            }
        }
    }

    /// Waits for a reason to end the turn before the upstream does.
    ///
    /// # Cancel safety
    ///
    /// Safe: what it has learnt is kept in `self`.
    async fn interruption(&mut self, grace: Duration) -> Carried {
        loop {
            let left_at = self.left_at;
            tokio::select! {
                () = self.out.closed(), if left_at.is_none() => self.left_at = Some(clock::now()),
                () = until(left_at, grace) => return Carried::Left,
                () = self.cut.cancelled() => return Carried::Failed(ChatError::Stopped),
                () = self.stop.cancelled() => return Carried::Stopped,
                stored = self.turn.question_stored(), if self.storing => {
                    self.storing = false;
                    match stored {
                        // Too late to refuse: the answer goes on, and its end says that it is not kept.
                        Err(error) if self.transcript.is_empty() => return Carried::Failed(ChatError::Store(error)),
                        stored => log_unless_stored(stored.err().as_ref()),
                    }
                }
            }
        }
    }

    /// Notes the events and hands them to the client, if there still is one.
    async fn pass_on(&mut self, events: Vec<Event>, stall: Duration) -> Result<(), Carried> {
        for event in events {
            if let Event::Conversation(theirs) = event {
                self.turn.converse(theirs);
                continue;
            }
            self.transcript.note(&event);
            if self.transcript.answer.len() + self.transcript.reasoning.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(Carried::Failed(ChatError::Upstream(Failure::new(Class::TooLong, message))));
            }
            // A closed channel is judged in one place, `interruption`.
            if self.left_at.is_none()
                && let Err(TrySendError::Full(waits)) = self.out.try_send(Out::Event(event))
            {
                self.wait_for_client(waits, stall).await?;
            }
        }
        Ok(())
    }

    fn failed(&self, to: &Errand, failure: Failure) -> (Carried, Verdict) {
        let agent_id = to.agent.id.as_str();
        let class = error::class(failure.class);
        let reason = without_quotes(&failure.message, &to.question, &self.transcript.answer);
        if failure.class == Class::Misconfigured {
            tracing::error!(agent.id = agent_id, reason, "agent is misconfigured: check its key, appId and app");
        } else {
            tracing::warn!(agent.id = agent_id, class, reason, "upstream failed");
        }
        // Who was kept waiting may well have hung up: that is the client's doing.
        let kept_waiting = failure.class == Class::Truncated && self.held > UPSTREAM_PATIENCE;
        let ending = Ending::Failed(failure.clone());
        let verdict = if kept_waiting { Verdict::Neutral } else { breaker::verdict(&ending) };
        (Carried::Failed(ChatError::Upstream(failure)), verdict)
    }

    /// Waits until the client, which is behind, takes `event`: not longer than `stall` for this one.
    async fn wait_for_client(&mut self, event: Out, stall: Duration) -> Result<(), Carried> {
        let since = clock::now();
        let limit = stall.min(CLIENT_HOLD_MAX.saturating_sub(self.held));
        tokio::select! {
            sent = tokio::time::timeout(limit, self.out.send(event)) => {
                self.held += clock::now().saturating_duration_since(since);
                sent.map(drop).map_err(|_| Carried::Left)
            }
            () = self.cut.cancelled() => Err(Carried::Failed(ChatError::Stopped)),
            () = self.stop.cancelled() => Err(Carried::Stopped),
        }
    }
}

impl Carried {
    fn kind(&self) -> &'static str {
        match self {
            Self::Finished(_) => "complete",
            Self::Failed(error) => error.kind(),
            Self::Left => "client_left",
            Self::Stopped => "client_stopped",
        }
    }

    /// Whether it was we who ended it, and the upstream may be at it still.
    fn hangs_up(&self) -> bool {
        match self {
            Self::Left | Self::Stopped | Self::Failed(ChatError::Stopped | ChatError::Store(_)) => true,
            Self::Failed(ChatError::Upstream(failure)) => {
                matches!(failure.class, Class::TimedOut | Class::TooSlow | Class::TooLong)
            }
            Self::Finished(_) | Self::Failed(_) => false,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Finished(usage) => Outcome::Complete(*usage),
            Self::Failed(ChatError::Stopped) | Self::Left | Self::Stopped => Outcome::Interrupted,
            Self::Failed(error) => Outcome::Failed(error.kind()),
        }
    }

    /// What the client hears; nobody listens after `Left`.
    fn told(self, kept: Kept) -> Out {
        match self {
            Self::Finished(usage) => Out::Finished(Finished { kept, usage }),
            Self::Stopped => Out::Finished(Finished { kept, usage: None }),
            Self::Failed(error) => Out::Failed { error, kept },
            Self::Left => Out::Failed { error: ChatError::Stopped, kept },
        }
    }
}

async fn until(left_at: Option<Instant>, grace: Duration) {
    match left_at {
        Some(left_at) => tokio::time::sleep_until((left_at + grace).into()).await,
        None => std::future::pending().await,
    }
}

/// A client that has left, or takes nothing, misses the end; the record has it. When the process
/// stops nobody is waited for.
async fn tell(out: &mpsc::Sender<Out>, cut: &CancellationToken, last: Out, stall: Duration) {
    tokio::select! {
        biased;
        _ = tokio::time::timeout(stall, out.send(last)) => {}
        () = cut.cancelled() => {}
    }
}

fn finished(agent: &Agent, finish: Finish) -> (Carried, Verdict) {
    let (node_failed, usage) = (finish.node_failed, finish.usage);
    let verdict = breaker::verdict(&Ending::Done(finish));
    if node_failed {
        tracing::warn!(agent.id = agent.id.as_str(), "a node of the workflow failed and left the answer empty");
        return (Carried::Failed(ChatError::NodeFailed), verdict);
    }
    (Carried::Finished(usage), verdict)
}

fn kept(stored: Result<Option<Position>, StoreError>) -> Kept {
    log_unless_stored(stored.as_ref().err());
    stored.map_or(Kept::NotInTime, Kept::Durable)
}

fn log_unless_stored(error: Option<&StoreError>) {
    if let Some(error) = error {
        tracing::error!(error = %Chain(error), "a turn is not recorded");
    }
}
