//! A member's part in the register, carried out: what the machine promises is on disk before anybody hears of it, and the
//! rest of the node is held to it before that.
//!
//! One task steps the machine. Whatever must not happen any more is stopped before a promise is written, and whatever may
//! happen from now on begins after it.

use super::links::{Links, Way};
use super::verdict;
use crate::base::{Chain, Epoch, Moment};
use crate::clock;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::{Config, Member, MemberId};
use crate::protocol::peer::{Incarnation, Memory};
use crate::protocol::record::ClusterId;
use crate::protocol::register::Message;
use crate::register::{Input, Lease, Local, Need, Output, Promises, Register, Standing, Timing, Word};
use crate::watched::Watched;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Between two looks at what is due. The shortest time that matters is the 100 ms after which something is said again.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Inputs that wait; whoever has another waits too, or leaves it, where it will come again.
const WAITING_MAX: usize = 256;

/// What a member's promises mean for the rest of its node.
pub(crate) trait Seat: Send + Sync {
    /// How the node stands.
    fn local(&self) -> Local;
    /// Between two looks at what is due.
    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }
    /// What has become of the standby, of a node that leads.
    fn look(&self, _view: &View) -> Vec<Word> {
        Vec::new()
    }
    /// Has the node keep to `view`, from when this returns on. Must not wait.
    fn keep_to(&self, view: &View);
    /// Everything up to here was acknowledged, and nothing beyond it will be that the standby lacks, where that is needed.
    fn acknowledged(&self) -> crate::base::Txid {
        crate::base::Txid::default()
    }
}

/// A witness has nothing that could be in the way of a promise, and does nothing of its own accord.
struct NoSeat;

impl Seat for NoSeat {
    fn local(&self) -> Local {
        Local::default()
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn keep_to(&self, _: &View) {}
}

/// What a member brings that votes and holds no chats.
pub(super) struct WitnessVote {
    pub(super) me: MemberId,
    pub(super) cluster: ClusterId,
    pub(super) incarnation: Incarnation,
    pub(super) node: Arc<NodeState>,
}

/// What the machine comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) standing: Standing,
    /// The newest configuration that this node has stored.
    pub(crate) stored: Option<Config>,
    /// The one in force, where this node leads.
    pub(crate) in_force: Option<Config>,
    pub(crate) promised: Epoch,
    /// Whose records are taken.
    pub(crate) follows: Option<Epoch>,
    pub(crate) need: Need,
    pub(crate) lease: Lease,
    pub(crate) is_in_sync: bool,
    pub(crate) is_caught_up: bool,
    /// From when on the standby can be in sync, where it has to stay for a while first.
    pub(crate) counts_at: Option<Moment>,
    pub(crate) is_outbid: bool,
    /// Who is no member any more, and has to hear of that.
    pub(crate) to_tell: Vec<Member>,
}

impl View {
    pub(super) fn of(machine: &Register) -> Self {
        let stored = machine.config().cloned();
        let epoch = stored.as_ref().map(|config| config.epoch);
        Self {
            standing: machine.standing(),
            in_force: machine.in_force().cloned(),
            promised: machine.promised(),
            follows: epoch.filter(|epoch| machine.may_append(*epoch)),
            need: machine.need(),
            lease: machine.lease(),
            is_in_sync: machine.is_in_sync(),
            is_caught_up: machine.is_caught_up(),
            counts_at: machine.standby_counts_at(),
            is_outbid: machine.is_outbid(),
            to_tell: machine.to_tell().cloned().collect(),
            stored,
        }
    }

    /// Of a node that has no part in anything (R8).
    fn blank(machine: &Register) -> Self {
        Self {
            standing: Standing::Follows,
            in_force: None,
            follows: None,
            need: Need::Everything,
            lease: Lease::None,
            is_in_sync: false,
            ..Self::of(machine)
        }
    }

    /// What holds while `next` takes the place of this one: what both allow.
    fn until(&self, next: &Self) -> Self {
        Self {
            standing: if next.reigns() { self.standing } else { next.standing },
            follows: self.follows.filter(|epoch| next.follows == Some(*epoch)),
            need: stricter(self.need, next.need),
            lease: self.lease.min(next.lease),
            ..self.clone()
        }
    }

    /// What the node goes by: the configuration in force where it leads, else the newest that it has stored.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.in_force.as_ref().or(self.stored.as_ref())
    }

    /// Everybody that this node has something to say to: a change of members is under way, or was not heard by all.
    pub(super) fn others(&self, me: MemberId) -> Vec<Member> {
        let mut others: Vec<Member> = Vec::new();
        let members = [&self.stored, &self.in_force].into_iter().flatten().flat_map(|config| &config.members);
        for member in members.chain(&self.to_tell).filter(|member| member.id != me && !member.address.is_empty()) {
            if others.iter().all(|other| other.id != member.id) {
                others.push(member.clone());
            }
        }
        others
    }

    /// It is the one that was elected, and leads, or is about to.
    pub(crate) fn reigns(&self) -> bool {
        matches!(self.standing, Standing::Elected | Standing::Leads)
    }

    pub(crate) fn leads(&self) -> bool {
        self.standing == Standing::Leads
    }
}

fn stricter(one: Need, other: Need) -> Need {
    match (one, other) {
        (Need::Everything, _) | (_, Need::Everything) => Need::Everything,
        (Need::Standby, _) | (_, Need::Standby) => Need::Standby,
        (Need::Nobody, Need::Nobody) => Need::Nobody,
    }
}

/// Something for the machine, and who waits for it.
pub(super) struct Asked {
    input: Input,
    /// Where an answer to whoever has said it goes.
    way: Option<Way>,
    told: Option<oneshot::Sender<Result<(), &'static str>>>,
}

impl Asked {
    pub(super) fn heard(from: MemberId, message: Message, way: Way) -> Self {
        Self { input: Input::Heard { from, message }, way: Some(way), told: None }
    }

    /// Of one that hears no answer.
    pub(super) fn told(from: MemberId, message: Message) -> Self {
        Self { input: Input::Heard { from, message }, way: None, told: None }
    }
}

/// The door to the machine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Voter(Arc<Shared>);

struct Shared {
    node: Arc<NodeState>,
    seat: Box<dyn Seat>,
    links: Links,
    asked: mpsc::Sender<Asked>,
    taken: Mutex<Option<(Register, mpsc::Receiver<Asked>)>>,
    view: watch::Sender<View>,
    tell_decided: OnceLock<TellDecided>,
}

type TellDecided = Box<dyn Fn(&'static str) + Send + Sync>;

impl Voter {
    /// The member `me`, with what it had promised. Nothing is promised, or said, before it runs.
    pub(super) fn new(
        (me, promises): (MemberId, Promises),
        timing: Timing,
        node: Arc<NodeState>,
        seat: Box<dyn Seat>,
        links: impl FnOnce(mpsc::Sender<Asked>) -> Links,
    ) -> Self {
        let machine = Register::new(me, promises, timing, clock::boot());
        let (asked, taken) = mpsc::channel(WAITING_MAX);
        let links = links(asked.clone());
        let view = watch::Sender::new(if links.is_blank() { View::blank(&machine) } else { View::of(&machine) });
        let taken = Mutex::new(Some((machine, taken)));
        Self(Arc::new(Shared { node, seat, links, asked, taken, view, tell_decided: OnceLock::new() }))
    }

    /// One that is asked, and asks nobody.
    pub(super) fn of_witness(vote: WitnessVote) -> Result<Self, NodeError> {
        let WitnessVote { me, cluster, incarnation, node } = vote;
        let (promises, linked) = (node.promises()?, Arc::clone(&node));
        Ok(Self::new((me, promises), Timing::default(), node, Box::new(NoSeat), |asked| {
            Links::new((cluster, me, incarnation), linked, None, asked)
        }))
    }

    /// The newest configuration that this member has stored.
    pub(crate) fn config(&self) -> Option<Config> {
        self.0.view.now().stored
    }

    /// Whether the primary was heard within a lease.
    pub(super) fn hears_primary(&self) -> bool {
        let primary = self.0.view.look(|view| view.stored.as_ref().map(|config| config.primary));
        let heard_at = primary.and_then(|primary| self.links().acquaintance(primary).heard_at);
        heard_at.is_some_and(|at| clock::boot().saturating_duration_since(at) <= Timing::DEFAULT.lease)
    }

    /// `tell` hears of every decision, in one word of a fixed set. It must not wait. The first one stays.
    pub(crate) fn tell_decided(&self, tell: impl Fn(&'static str) + Send + Sync + 'static) {
        let _ = self.0.tell_decided.set(Box::new(tell));
    }

    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    pub(crate) fn links(&self) -> &Links {
        &self.0.links
    }

    /// Something of the data path, which comes again where there is no room.
    pub(crate) fn tell(&self, word: Word) {
        drop(self.0.asked.try_send(Asked { input: Input::Standby(word), way: None, told: None }));
    }

    /// Has the machine take `input`; why it does not, where it declines. What it has promised by that is on disk then.
    pub(crate) async fn order(&self, input: Input) -> Result<(), &'static str> {
        let (told, hear) = oneshot::channel();
        let asked = Asked { input, way: None, told: Some(told) };
        if self.0.asked.send(asked).await.is_err() {
            return Err("the node is stopping");
        }
        hear.await.unwrap_or(Err("the node is stopping"))
    }

    /// Votes, stores, and leads, until `stop`.
    ///
    /// # Errors
    ///
    /// What it has promised cannot be kept on disk: nothing is promised any more.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), NodeError> {
        let (mut machine, mut asked) = self.0.lock().take().expect("it runs once");
        let links = self.0.links.clone();
        let mut view = self.view();
        let stopped = stop.clone();
        let keeping = async move { links.keep(&mut view, stopped).await };
        let mut look = tokio::time::interval(self.0.seat.look_every());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let works = async {
            loop {
                let next = tokio::select! {
                    Some(next) = asked.recv() => next,
                    _ = look.tick() => Asked { input: Input::Tick(self.0.local()), way: None, told: None },
                    () = stop.cancelled() => return Ok(()),
                };
                if matches!(next.input, Input::Tick(_)) {
                    let words = self.0.seat.look(&self.0.view.now());
                    for word in words {
                        // Words of the standby are never declined.
                        let _ = self.0.step(&mut machine, Input::Standby(word), None).await?;
                    }
                }
                let answer = self.0.step(&mut machine, next.input, next.way.as_ref()).await?;
                if let Some(told) = next.told {
                    let _ = told.send(answer); // Whoever asked may have left.
                }
            }
        };
        tokio::select! {
            worked = works => worked,
            () = keeping => Ok(()),
        }
    }
}

impl Shared {
    /// How the node stands: one that was told that it is no member does not begin to lead.
    fn local(&self) -> Local {
        let (local, view) = (self.seat.local(), self.view.now());
        let is_away = |config| !view.reigns() && self.links.is_turned_away(config, self.links.me());
        Local { may_lead: local.may_lead && !view.stored.as_ref().is_some_and(is_away), ..local }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Register, mpsc::Receiver<Asked>)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn step(
        &self,
        machine: &mut Register,
        input: Input,
        way: Option<&Way>,
    ) -> Result<Result<(), &'static str>, NodeError> {
        if let (Input::Heard { from, .. }, Some(way)) = (&input, way)
            && !self.links.is_of_now(*from, way)
        {
            return Ok(Ok(()));
        }
        if self.links.is_blank() {
            return match input {
                // Where nobody else is left, what it has is better than nothing: its operator says so.
                Input::Force(_) => self.be_forced(machine, input).await,
                _ => self.stand_aside(machine),
            };
        }
        let answer = self.carry_out(machine, input, clock::boot(), way).await?;
        if machine.wants_acknowledged() {
            // What is acknowledged needs the standby by now.
            let word = Word::Needed { acknowledged: self.seat.acknowledged() };
            let _ = self.carry_out(machine, Input::Standby(word), clock::boot(), None).await?;
        }
        Ok(answer)
    }

    /// A node that has forgotten what it had said leads by its operator's word, which is on disk before that is forgiven.
    async fn be_forced(&self, machine: &mut Register, input: Input) -> Result<Result<(), &'static str>, NodeError> {
        let answer = self.carry_out(machine, input, clock::boot(), None).await?;
        if answer.is_ok() {
            let stored = machine.config().map(Config::at);
            self.links.forgive(Memory { promised: machine.promised(), stored }).await?;
        }
        Ok(answer)
    }

    /// Nothing is heard any more, said or promised.
    fn stand_aside(&self, machine: &Register) -> Result<Result<(), &'static str>, NodeError> {
        if self.view.look(View::reigns) {
            return Err(NodeError::Forgets);
        }
        let blank = View::blank(machine);
        self.seat.keep_to(&blank);
        self.view.send_if_modified(|view| std::mem::replace(view, blank.clone()) != blank);
        Ok(Err("this node does not remember what it has said to the others; it is to join anew"))
    }

    async fn carry_out(
        &self,
        machine: &mut Register,
        input: Input,
        now: Moment,
        way: Option<&Way>,
    ) -> Result<Result<(), &'static str>, NodeError> {
        let (from, shown) = match &input {
            Input::Heard { from, message } => (Some(*from), self.links.heard(*from, message, now)),
            _ => (None, None),
        };
        let before = self.view.now();
        let outputs = machine.step(input, now);
        let after = View::of(machine);
        if outputs.is_empty() && before == after {
            self.note_shown(from, shown);
            return Ok(Ok(()));
        }
        self.seat.keep_to(&before.until(&after));
        let mut why = verdict::log(&outputs, after.config().or(before.config()));
        let mut answer = Ok(());
        for output in outputs {
            match output {
                Output::Persist(promises) => self.persist(promises, std::mem::take(&mut why)).await?,
                Output::Send { to, message } => match way.filter(|_| from == Some(to)) {
                    Some(way) => way.say(message),
                    None => self.links.say(to, message),
                },
                Output::Note(decision) => {
                    if let Some(tell) = self.tell_decided.get() {
                        tell(verdict::word(decision));
                    }
                }
                Output::Declined { why } => answer = Err(why),
            }
        }
        self.seat.keep_to(&after);
        self.view.send_if_modified(|view| std::mem::replace(view, after.clone()) != after);
        if !why.is_empty() {
            self.note(why);
        }
        self.note_shown(from, shown);
        Ok(answer)
    }

    /// Behind what this node promises itself: both are one file.
    fn note_shown(&self, from: Option<MemberId>, shown: Option<Memory>) {
        if let Some((from, shown)) = from.zip(shown) {
            self.links.note_shown(from, shown);
        }
    }

    async fn persist(&self, promises: Promises, why: String) -> Result<(), NodeError> {
        let node = Arc::clone(&self.node);
        let kept = tokio::task::spawn_blocking(move || node.promise(&promises, &why)).await;
        kept.expect("storing does not panic")
    }

    /// For the history only: nobody waits for it.
    fn note(&self, why: String) {
        let node = Arc::clone(&self.node);
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = node.note_decision(&why) {
                tracing::warn!(error = %Chain(&error), "a decision is not in the history");
            }
        }));
    }
}
