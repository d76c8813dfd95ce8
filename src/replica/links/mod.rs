//! Connections over which members of a cluster say who leads. Each member keeps one to each other one; an answer goes back
//! the way that the question came.

mod recall;

pub(super) use recall::BLANK;
use recall::{FORGETS, UNBELIEVED};

use super::peers::Peers;
use super::removed::NO_MEMBER;
use super::seldom::Seldom;
use super::standing::HearError;
use super::voter::{Asked, View};
use super::wire::{self, Incoming, Outgoing, Stream, WireError};
use crate::base::{Chain, Moment};
use crate::clock;
use crate::node_state::NodeState;
use crate::protocol::cluster::{Member, MemberId};
use crate::protocol::peer::{Incarnation, Memory, PROTOCOL};
use crate::protocol::record::ClusterId;
use crate::protocol::register::{Greeting, Message, Said, Why};
use crate::watched::{News, Watched};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Between two tries to reach a member.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// Whatever is said is answered at once: a member that does not is reached anew, by a connection that may work.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// To a connection in TLS; twice as long after each that took longer.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN_MAX: Duration = Duration::from_secs(8);
const GREET_WITHIN: Duration = Duration::from_secs(2);
/// A configuration of eight members is the longest.
const SAID_BYTES_MAX: usize = 16 << 10;
/// Said again 100 ms later, where there is no room.
const WAITING_MAX: usize = 16;

/// What says something to a member, over one connection.
#[derive(Clone)]
pub(super) struct Way {
    to: mpsc::Sender<Message>,
    /// Which start of the member is there.
    starts: u64,
}

impl Way {
    pub(super) fn say(&self, message: Message) {
        drop(self.to.try_send(message)); // What was lost is said again.
    }
}

/// What is known of another member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acquaintance {
    /// When it was heard last.
    pub(crate) heard_at: Option<Moment>,
    /// From a sign of life of this node to its answer.
    pub(crate) round_trip: Option<Duration>,
    pub(crate) version: Option<String>,
    /// This node has a connection to it, at the address that it is known by.
    pub(crate) is_reached: bool,
    /// Why it was not reached, or refuses this node, at the last try.
    pub(crate) trouble: Option<String>,
    pub(crate) is_refused: bool,
    /// When it has answered to what it was asked last, and why it has refused that.
    pub(crate) answered_at: Option<Moment>,
    pub(crate) refusal: Option<Why>,
    /// It has forgotten what it had said (R8), as it says itself, or as this node has found.
    pub(crate) forgets: bool,
    /// The most that it has shown since this node began.
    shown: Memory,
    /// The last start of it that has greeted.
    starts: u64,
}

impl Acquaintance {
    /// A connection to it was made, or is known to have failed.
    pub(super) fn is_tried(&self) -> bool {
        self.is_reached || self.trouble.is_some()
    }

    /// It answers, and says that this node has forgotten what it had said.
    pub(super) fn says_blank(&self) -> bool {
        self.is_refused && self.trouble.as_deref() == Some(UNBELIEVED)
    }

    /// It answers, and says that this node is no member.
    pub(super) fn says_no_member(&self) -> bool {
        self.is_refused && self.trouble.as_deref() == Some(NO_MEMBER)
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Links(Arc<Shared>);

struct Shared {
    me: MemberId,
    cluster: ClusterId,
    greeting: Mutex<Greeting>,
    node: Arc<NodeState>,
    asked: mpsc::Sender<Asked>,
    /// `None` for one that reaches nobody of its own accord.
    peers: Option<watch::Receiver<Option<Peers>>>,
    ways: Mutex<HashMap<MemberId, Way>>,
    known: Mutex<HashMap<MemberId, Acquaintance>>,
    /// Who is to become a member: it is reached before it is one.
    joining: watch::Sender<Option<Member>>,
    /// A member has found that this node does not remember what it has said.
    is_blank: AtomicBool,
    /// What was logged of who is blank.
    told_blank: Seldom,
}

impl Links {
    pub(super) fn new(
        (cluster, me, incarnation): (ClusterId, MemberId, Incarnation),
        node: Arc<NodeState>,
        peers: Option<watch::Receiver<Option<Peers>>>,
        asked: mpsc::Sender<Asked>,
    ) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let greeting = Greeting { protocol: PROTOCOL, cluster, member: me, incarnation, version };
        // What cannot be read keeps it from starting elsewhere.
        let is_blank = AtomicBool::new(node.is_blank().unwrap_or(true));
        Self(Arc::new(Shared {
            me,
            cluster,
            greeting: Mutex::new(greeting),
            node,
            asked,
            peers,
            ways: Mutex::default(),
            known: Mutex::default(),
            joining: watch::Sender::new(None),
            is_blank,
            told_blank: Seldom::default(),
        }))
    }

    /// Whether this node has forgotten what it had promised (R8): it has no part in anything until it joins anew.
    pub(crate) fn is_blank(&self) -> bool {
        self.0.is_blank.load(Ordering::Acquire)
    }

    fn greeting(&self) -> Greeting {
        lock(&self.0.greeting).clone()
    }

    pub(super) fn me(&self) -> MemberId {
        self.0.me
    }

    /// What is known of `member`.
    pub(crate) fn acquaintance(&self, member: MemberId) -> Acquaintance {
        lock(&self.0.known).get(&member).cloned().unwrap_or_default()
    }

    /// Reaches `member`, which is to become one; with `None`, nobody besides the members.
    pub(crate) fn reach(&self, member: Option<Member>) {
        self.0.joining.send_replace(member);
    }

    /// Who is to become a member.
    pub(crate) fn joining(&self) -> Option<Member> {
        self.0.joining.now()
    }

    /// Waits until `member` is reached where it is said to be, for ever where it never is.
    pub(crate) async fn met(&self, member: MemberId) {
        let mut look = tokio::time::interval(AGAIN_AFTER / 4);
        while !self.acquaintance(member).is_reached {
            look.tick().await;
        }
    }

    pub(super) fn say(&self, to: MemberId, message: Message) {
        if let Some(way) = lock(&self.0.ways).get(&to) {
            way.say(message);
        }
    }

    /// Whether what came by `way` is of the start of `from` that speaks now.
    pub(super) fn is_of_now(&self, from: MemberId, way: &Way) -> bool {
        lock(&self.0.known).get(&from).is_some_and(|one| one.starts == way.starts)
    }

    /// Notes a sign of life; what it shows that is news.
    pub(super) fn heard(&self, from: MemberId, message: &Message, now: Moment) -> Option<Memory> {
        let mut known = lock(&self.0.known);
        let one = known.entry(from).or_default();
        one.heard_at = Some(now);
        let before = one.shown;
        one.shown = before.max(message.shows());
        let shown = Some(one.shown).filter(|shown| *shown != before);
        match message {
            Message::Granted { sent_ms, .. } => {
                one.round_trip = Some(now.saturating_duration_since(Moment::from_millis(*sent_ms)));
            }
            Message::Refused { why, .. } => (one.answered_at, one.refusal) = (Some(now), Some(*why)),
            Message::PreVoted { .. } | Message::Voted { .. } | Message::Stored { .. } => {
                (one.answered_at, one.refusal) = (Some(now), None);
            }
            Message::PreVote { .. }
            | Message::Vote { .. }
            | Message::Propose { .. }
            | Message::Beat { .. }
            | Message::HandOver { .. } => {}
        }
        shown
    }

    /// Keeps a connection to everybody that `view` shows, until `stop`.
    pub(super) async fn keep(&self, view: &mut watch::Receiver<View>, stop: CancellationToken) {
        let Some(mut peers) = self.0.peers.clone() else { return stop.cancelled().await };
        let mut joining = self.0.joining.subscribe();
        let mut kept: HashMap<(MemberId, String), AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let mut wanted = view.news().others(self.0.me);
            let joins = joining.news();
            wanted.extend(joins.filter(|member| wanted.iter().all(|other| other.id != member.id)));
            let reaches = peers.news();
            kept.retain(|(id, address), _| {
                reaches.is_some() && wanted.iter().any(|member| member.id == *id && member.address == *address)
            });
            for (member, peers) in wanted.into_iter().filter_map(|member| Some((member, reaches.clone()?))) {
                let links = self.clone();
                kept.entry((member.id, member.address.clone())).or_insert_with(|| {
                    AbortOnDropHandle::new(TaskTracker::new().spawn(async move { links.reach_on(peers, member).await }))
                });
            }
            tokio::select! {
                _ = view.changed() => {}
                _ = peers.changed() => {}
                _ = joining.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn reach_on(&self, peers: Peers, member: Member) {
        let (mut pause, mut within) = (AGAIN_AFTER, CONNECT_WITHIN);
        loop {
            let began = clock::now();
            let (trouble, is_refused) = match peers.register(&member, within).await {
                Ok(stream) => match self.talk(stream, member.id).await {
                    Ok(()) => ("it hung up".to_owned(), false),
                    Err(error) => {
                        (Chain(&error).to_string(), matches!(error, LinkError::Refused(_) | LinkError::Removed))
                    }
                },
                Err(error) => (Chain(&error).to_string(), false),
            };
            let was_met = self.acquaintance(member.id).is_reached;
            lock(&self.0.ways).remove(&member.id);
            {
                let mut known = lock(&self.0.known);
                let one = known.entry(member.id).or_default();
                one.forgets |= is_refused && trouble == FORGETS;
                (one.trouble, one.is_refused, one.is_reached) = (Some(trouble), is_refused, false);
            }
            let held_long = clock::now().saturating_duration_since(began) > AGAIN_MAX;
            // A handshake that was too slow for a busy machine has more time the next time, or it would never end.
            within = if was_met { CONNECT_WITHIN } else { (within * 2).min(CONNECT_WITHIN_MAX) };
            pause = if held_long && was_met { AGAIN_AFTER } else { (pause * 2).min(AGAIN_MAX) };
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection that this node has made.
    async fn talk(&self, stream: impl Stream, to: MemberId) -> Result<(), LinkError> {
        let (mut incoming, mut outgoing) = wire::split_at_most::<Said, _>(stream, GREET_WITHIN, SAID_BYTES_MAX);
        outgoing.send(&Said::Greeting(self.greeting())).await?;
        let mut said = incoming.message(GREET_WITHIN).await?;
        if said == Said::Again {
            outgoing.send(&Said::Greeting(self.greeting())).await?;
            said = incoming.message(GREET_WITHIN).await?;
        }
        let greeting = match said {
            Said::Welcome(greeting) => greeting,
            Said::Refused { why } => return Err(LinkError::Refused(why)),
            Said::Removed { config } => {
                // It may be elected by others that know no better, and learns that nobody may do that.
                let (epoch, promised) = (config.epoch, config.epoch);
                let message = Message::Refused { epoch, promised, config: Some(config), why: Why::NoMember };
                self.0.asked.send(Asked::told(to, message)).await.map_err(|_| WireError::HungUp)?;
                return Err(LinkError::Removed);
            }
            Said::Blank { shown } => return Err(self.hear_blank(to, shown).await),
            Said::Greeting(_) | Said::Again | Said::Message(_) => return Err(WireError::OutOfTurn.into()),
        };
        // It was said in answer to something of now.
        if let Err(error) = self.check(&greeting, |member| member == to, true).await {
            if error.is_of_blank() {
                outgoing.send(&self.blank(to).await?).await?;
            }
            return Err(error);
        }
        let (way, said) = way(&greeting);
        lock(&self.0.ways).insert(to, way.clone());
        self.met_now(to, greeting.version);
        lock(&self.0.known).entry(to).or_default().is_reached = true;
        self.converse((incoming, outgoing), (to, way, said)).await
    }

    /// Serves a connection that another member has made, until it hangs up or `stop`.
    pub(crate) async fn serve(
        &self,
        stream: impl Stream,
        is_member: impl Fn(MemberId) -> bool,
        stop: CancellationToken,
    ) {
        let served = stop.run_until_cancelled(self.answer(stream, is_member)).await;
        if let Some(Err(error)) = served {
            tracing::debug!(error = %Chain(&error), "another member is gone");
        }
    }

    async fn answer(&self, stream: impl Stream, is_member: impl Fn(MemberId) -> bool) -> Result<(), LinkError> {
        let (mut incoming, mut outgoing) = wire::split_at_most::<Said, _>(stream, GREET_WITHIN, SAID_BYTES_MAX);
        let Said::Greeting(greeting) = incoming.message(GREET_WITHIN).await? else {
            return Err(WireError::OutOfTurn.into());
        };
        let mut checked = self.check(&greeting, &is_member, false).await;
        if matches!(&checked, Err(error) if error.is_of_late()) {
            outgoing.send(&Said::Again).await?;
            let again = incoming.message(GREET_WITHIN).await?;
            if again != Said::Greeting(greeting.clone()) {
                return Err(WireError::OutOfTurn.into());
            }
            checked = self.check(&greeting, &is_member, true).await;
        }
        if let Err(error) = checked {
            let said = match &error {
                error if error.is_of_blank() => self.blank(greeting.member).await?,
                LinkError::Removed => self.removed().await,
                error => Said::Refused { why: error.to_string() },
            };
            outgoing.send(&said).await?;
            return Err(error);
        }
        outgoing.send(&Said::Welcome(self.greeting())).await?;
        let (way, said) = way(&greeting);
        self.met_now(greeting.member, greeting.version);
        self.converse((incoming, outgoing), (greeting.member, way, said)).await
    }

    fn met_now(&self, member: MemberId, version: String) {
        let mut known = lock(&self.0.known);
        let one = known.entry(member).or_default();
        (one.version, one.trouble, one.is_refused, one.forgets) = (Some(version), None, false, false);
        one.heard_at = Some(clock::boot());
    }

    async fn converse<S: Stream>(
        &self,
        (mut incoming, mut outgoing): (Incoming<Said>, Outgoing<S>),
        (member, way, mut said): (MemberId, Way, mpsc::Receiver<Message>),
    ) -> Result<(), LinkError> {
        let mut waits_since = None;
        loop {
            let within = waits_since.map_or(Duration::MAX, |since| {
                ANSWER_WITHIN.saturating_sub(clock::now().saturating_duration_since(since))
            });
            tokio::select! {
                heard = incoming.message(within) => {
                    waits_since = None;
                    let message = match heard? {
                        Said::Message(message) => message,
                        Said::Blank { shown } => return Err(self.hear_blank(member, shown).await),
                        _ => return Err(WireError::OutOfTurn.into()),
                    };
                    let asked = Asked::heard(member, message, way.clone());
                    self.0.asked.send(asked).await.map_err(|_| WireError::HungUp)?;
                }
                Some(message) = said.recv() => {
                    if expects_answer(&message) {
                        waits_since = waits_since.or_else(|| Some(clock::now()));
                    }
                    outgoing.push(&Said::Message(message));
                    while let Ok(message) = said.try_recv() {
                        outgoing.push(&Said::Message(message));
                    }
                    outgoing.flush().await?;
                }
            }
        }
    }
}

impl LinkError {
    /// The other one does not remember what it has said.
    fn is_of_blank(&self) -> bool {
        matches!(self, Self::Hear(HearError::NoMemory(_)))
    }

    /// It may not be there any more.
    fn is_of_late(&self) -> bool {
        matches!(self, Self::Hear(HearError::Late(_)))
    }
}

fn way(greeting: &Greeting) -> (Way, mpsc::Receiver<Message>) {
    let (to, said) = mpsc::channel(WAITING_MAX);
    (Way { to, starts: greeting.incarnation.starts }, said)
}

fn expects_answer(message: &Message) -> bool {
    match message {
        Message::PreVote { .. } | Message::Vote { .. } | Message::Propose { .. } | Message::Beat { .. } => true,
        Message::PreVoted { .. }
        | Message::Voted { .. }
        | Message::Stored { .. }
        | Message::Granted { .. }
        | Message::Refused { .. }
        | Message::HandOver { .. } => false,
    }
}

/// Why nothing is said to a member any more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Refused(String),
    #[error("{NO_MEMBER}")]
    Removed,
    #[error(transparent)]
    Hear(#[from] HearError),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
