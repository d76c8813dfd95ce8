//! The world: data nodes A and B, a witness W and a spare witness X, each of them a shipped [`Register`] with as much of a
//! driver as its contract asks for; a network, and disks. There are no clocks: with [`Timing::NONE`] every lease that was
//! given has lapsed, and none that is held has.

use crate::intern::{Interner, Memo};
use crate::params::Params;
use llmchat_model::base::{Epoch, Moment, Txid};
use llmchat_model::protocol::cluster::{Config, Kind, Member, MemberId};
use llmchat_model::protocol::peer::Memory;
use llmchat_model::protocol::register::Message;
use llmchat_model::register::{Clause, Input, Local, Need, Output, Promises, Register, Standing, Timing, Word};

/// Records: the epoch that each is of, and what was written; every value is written once.
pub type Log = Vec<(Epoch, u8)>;

/// What a member has shown to have promised, and to have stored.
pub type Shown = (Epoch, Option<(Epoch, u32)>);

/// Each slot has a node with an id of its own, and with another once its disk was lost.
pub const SLOTS: usize = 4;

pub fn slot_of(id: MemberId) -> usize {
    usize::from(id - 1) / 2
}

/// The id of what is in `slot`, before or after its disk was lost.
pub fn id_of(slot: usize, is_new: bool) -> MemberId {
    MemberId::try_from(slot * 2 + 1).expect("four slots") + u8::from(is_new)
}

pub fn kind_of(id: MemberId) -> Kind {
    if slot_of(id) < 2 { Kind::Data } else { Kind::Witness }
}

pub fn member(id: MemberId) -> Member {
    Member { id, name: String::new(), address: String::new(), kind: kind_of(id) }
}

/// What is under way. Packets are never removed because they were delivered: that covers loss, delay, order and copies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Packet {
    Register {
        from: MemberId,
        to: MemberId,
        message: Message,
    },
    /// The primary's journal: `to` cuts off what is not in it, and appends what it lacks of its first `upto` records.
    Append {
        from: MemberId,
        to: MemberId,
        epoch: Epoch,
        log: u32,
        upto: u8,
    },
    /// `from` has that much of the journal of `epoch` on its disk.
    Flushed {
        from: MemberId,
        to: MemberId,
        epoch: Epoch,
        length: u8,
    },
}

impl Packet {
    fn from(&self) -> MemberId {
        match self {
            Self::Register { from, .. } | Self::Append { from, .. } | Self::Flushed { from, .. } => *from,
        }
    }

    pub fn to(&self) -> MemberId {
        match self {
            Self::Register { to, .. } | Self::Append { to, .. } | Self::Flushed { to, .. } => *to,
        }
    }
}

/// A node: its machine, what it has on disk, and what its driver knows of its reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub id: MemberId,
    pub register: u32,
    pub promises: u32,
    pub log: u32,
    /// How much this reign has acknowledged.
    pub acked: u8,
    /// How much there was when it began.
    pub inherited: u8,
}

/// By numbers of the [`World`]'s.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub nodes: [Node; SLOTS],
    /// Sorted.
    pub net: Vec<u32>,
    /// By position, what was acknowledged, and the lowest epoch in which it was.
    pub acked: Vec<(u8, Epoch)>,
    /// One position was acknowledged with two values.
    pub has_conflict: bool,
    /// Something was said, or a step ended, before what was promised was on disk.
    pub has_spoken_early: bool,
    pub handed: Option<Epoch>,
    /// The most that any other has heard of what each remembers, as numbers.
    pub shown: [u32; SLOTS],
    /// Whose promises were copied, and which.
    pub copied: Option<(usize, u32)>,
    pub backs: u8,
    pub writes: u8,
    pub crashes: u8,
    pub disks: u8,
    pub hands: u8,
}

/// What one step of a machine comes to.
struct Stepped {
    register: u32,
    promises: Option<u32>,
    sent: Vec<u32>,
    /// Something was said that was not on disk yet.
    spoke_early: bool,
}

pub struct World {
    pub params: Params,
    pub registers: Interner<Register>,
    pub promises: Interner<Promises>,
    pub logs: Interner<Log>,
    pub packets: Interner<Packet>,
    pub shown: Interner<Shown>,
    heard: Memo<(u32, u32), Stepped>,
    /// The version of the first configuration in which all is as `start` says.
    pub first_version: u32,
}

/// How a node stands, as far as its register is told: no journals are compared, as no rule rests on that.
fn local() -> Local {
    Local { may_lead: true, is_paused: true, last: Txid::default(), durable: Txid::default() }
}

pub fn length(log: &Log) -> u8 {
    u8::try_from(log.len()).expect("few are written")
}

pub fn txid(length: u8) -> Txid {
    Txid::from_raw(length.into())
}

impl World {
    pub fn new(params: Params) -> Self {
        Self {
            params,
            registers: Interner::default(),
            promises: Interner::default(),
            logs: Interner::default(),
            packets: Interner::default(),
            shown: Interner::default(),
            heard: Memo::default(),
            first_version: 0,
        }
    }

    pub fn register(&self, node: &Node) -> &Register {
        self.registers.get(node.register)
    }

    /// The epoch of the reign in which `register`'s node serves, if it does.
    pub fn serves(register: &Register) -> Option<Epoch> {
        register.config().filter(|_| register.standing() == Standing::Leads).map(|config| config.epoch)
    }

    /// A node that has just started, with what is on its disk.
    pub fn started(&self, id: MemberId, promises: Promises) -> u32 {
        let register = Register::new(id, promises, Timing::NONE, Moment::default());
        self.registers.id(self.params.without.iter().fold(register, |register, clause| register.without(*clause)))
    }

    pub fn blank(&self, id: MemberId) -> Node {
        let none = Promises::default();
        Node {
            id,
            register: self.started(id, none.clone()),
            promises: self.promises.id(none),
            log: self.logs.id(Log::new()),
            acked: 0,
            inherited: 0,
        }
    }

    /// The machine's outputs, as numbers.
    fn run(&self, from: MemberId, register: u32, input: Input) -> Stepped {
        let mut register = self.registers.get(register).clone();
        let (promised, config) = (register.promised(), register.config().cloned());
        let mut on_disk = Promises { promised, config, left_out: register.left_out().to_vec() };
        let mut stepped = Stepped { register: 0, promises: None, sent: Vec::new(), spoke_early: false };
        let mut asked = Vec::new();
        for output in register.step(input, Moment::default()) {
            match output {
                Output::Persist(new) => {
                    stepped.promises = Some(self.promises.id(new.clone()));
                    on_disk = new;
                }
                Output::Send { to, message } => {
                    stepped.spoke_early |= !is_kept(&message, &on_disk);
                    if let Message::PreVote { epoch, .. } = message {
                        asked.push((to, epoch));
                    }
                    if self.is_carried(&message) {
                        stepped.sent.push(self.packets.id(Packet::Register { from, to, message }));
                    }
                }
                Output::Note(_) | Output::Declined { .. } => {}
            }
        }
        // Everybody would vote for a primary that has to be elected anew, by then: whether that is so is for the election.
        if Self::is_elected(&register) {
            for (from, epoch) in asked {
                register.step(Input::Heard { from, message: Message::PreVoted { epoch } }, Moment::default());
            }
        }
        let is_on_disk = on_disk.promised == register.promised() && on_disk.config.as_ref() == register.config();
        stepped.spoke_early |= !is_on_disk;
        Stepped { register: self.registers.id(register), ..stepped }
    }

    /// Who lives, and who would be elected, promises nothing: what is not carried is as if it were lost.
    fn is_carried(&self, message: &Message) -> bool {
        match message {
            Message::Beat { .. } | Message::Granted { .. } | Message::PreVote { .. } | Message::PreVoted { .. } => {
                false
            }
            Message::Refused { .. } => self.params.has_refusals,
            Message::Vote { .. }
            | Message::Voted { .. }
            | Message::Propose { .. }
            | Message::Stored { .. }
            | Message::HandOver { .. } => true,
        }
    }

    /// `at` is told `input`.
    pub fn step(&self, state: &mut State, at: usize, input: Input) {
        let node = state.nodes[at];
        let stepped = self.run(node.id, node.register, input);
        self.take(state, at, &stepped);
    }

    fn hear(&self, state: &mut State, at: usize, (number, from, message): (u32, MemberId, Message)) {
        let node = state.nodes[at];
        let stepped = self
            .heard
            .get((node.register, number), || self.run(node.id, node.register, Input::Heard { from, message }));
        self.take(state, at, &stepped);
    }

    fn take(&self, state: &mut State, at: usize, stepped: &Stepped) {
        let before = self.register(&state.nodes[at]);
        let node = &mut state.nodes[at];
        node.register = stepped.register;
        node.promises = stepped.promises.unwrap_or(node.promises);
        let register = self.register(node);
        state.has_spoken_early |= stepped.spoke_early && !self.params.leaves_out(Clause::PersistFirst);
        for packet in &stepped.sent {
            insert(&mut state.net, *packet);
        }
        let (was, is) = (Self::serves(before), Self::serves(register));
        if !Self::is_elected(register) {
            node.inherited = 0;
        }
        if was != is {
            node.acked = 0;
            if is.is_some() {
                self.step(state, at, Input::Tick(local()));
                self.ship(state, at);
            }
        }
    }

    pub fn is_elected(register: &Register) -> bool {
        matches!(register.standing(), Standing::Elected | Standing::Leads)
    }

    /// Whether a node was elected, and its store is not open yet.
    pub fn is_to_begin(register: &Register) -> bool {
        register.standing() == Standing::Elected
            && register.config().is_some_and(|config| config.epoch != register.promised())
    }

    /// The store of the node at `at` is open, and what it has is on its disk.
    pub fn begin(&self, state: &mut State, at: usize) {
        let node = &mut state.nodes[at];
        node.inherited = length(self.logs.get(node.log));
        let inherited = txid(node.inherited);
        self.step(state, at, Input::Begins { inherited });
    }

    /// The primary sends its standby what it has.
    fn ship(&self, state: &mut State, at: usize) {
        let (node, register) = (state.nodes[at], self.register(&state.nodes[at]));
        let Some((epoch, config)) = Self::serves(register).zip(register.config()) else { return };
        let Some(peer) = config.peer_of(node.id) else { return };
        let whole = self.logs.get(node.log);
        let first = if self.params.has_parts { 0 } else { length(whole) };
        for upto in first..=length(whole) {
            let packet = Packet::Append { from: node.id, to: peer.id, epoch, log: node.log, upto };
            insert(&mut state.net, self.packets.id(packet));
        }
    }

    pub fn reaches(&self, node: &Node, packet: &Packet) -> bool {
        node.id == packet.to() || self.params.by_place
    }

    /// Whether the node at `at` was not one that this packet is for.
    pub fn deliver(&self, state: &mut State, number: u32) -> Option<()> {
        let packet = self.packets.get(number);
        let at = slot_of(packet.to());
        let node = state.nodes[at];
        if !self.reaches(&node, packet) {
            return None;
        }
        match packet {
            Packet::Register { from, message, .. } => {
                self.remember(state, *from, message);
                if matches!(message, Message::HandOver { .. }) {
                    // Time passes, and the node has a whole database: it knows that when it is handed the reign.
                    self.step(state, at, Input::Tick(local()));
                }
                self.hear(state, at, (number, *from, message.clone()));
            }
            Packet::Append { from, epoch, log, upto, .. } => {
                if !self.register(&node).may_append(*epoch) {
                    return None;
                }
                let (mine, theirs) = (self.logs.get(node.log), self.logs.get(*log));
                let same = mine.iter().zip(theirs.iter()).take_while(|(mine, theirs)| mine == theirs).count();
                let kept = same.max(usize::from(*upto));
                // What came later in this reign stays.
                if !(mine.starts_with(theirs) && mine.last().is_some_and(|(last, _)| last == epoch)) {
                    state.nodes[at].log = self.logs.id(theirs[..kept].to_vec());
                }
                let length = u8::try_from(kept).expect("few are written");
                let flushed = Packet::Flushed { from: node.id, to: *from, epoch: *epoch, length };
                insert(&mut state.net, self.packets.id(flushed));
            }
            Packet::Flushed { from, epoch, length, .. } => {
                let is_of_reign = Self::serves(self.register(&node)) == Some(*epoch);
                if !is_of_reign || self.register(&node).flushed_there() >= Some(txid(*length)) {
                    return None;
                }
                let word = Word::Flushed { member: *from, flushed: txid(*length), durable: txid(node.acked) };
                self.step(state, at, Input::Standby(word));
            }
        }
        Some(())
    }

    /// What `from` has shown is remembered by whoever hears it.
    fn remember(&self, state: &mut State, from: MemberId, message: &Message) {
        let at = slot_of(from);
        if self.params.backs > 0 && state.nodes[at].id == from {
            let (promised, stored) = *self.shown.get(state.shown[at]);
            let memory = Memory { promised, stored }.max(message.shows());
            state.shown[at] = self.shown.id((memory.promised, memory.stored));
        }
    }

    /// The node at `at` has the promises again that were copied. It greets all others before it says anything else: where
    /// one of them has heard more it is nobody any more (R8), and joins anew. Who is away then cannot tell it.
    pub fn put_back(&self, state: &mut State, at: usize) -> Option<()> {
        let (_, copy) = state.copied.take()?;
        state.backs += 1;
        let (promised, stored) = *self.shown.get(state.shown[at]);
        let back = self.promises.get(copy);
        let memory = Memory { promised: back.promised, stored: back.config.as_ref().map(Config::at) };
        let id = state.nodes[at].id;
        if memory.lacks(&Memory { promised, stored }) && !self.params.trusts_memory {
            state.nodes[at] = self.blank(id_of(at, true));
        } else {
            state.nodes[at].promises = copy;
            self.crash(state, at, false);
        }
        if !self.params.hears_late {
            state.net.retain(|packet| self.packets.get(*packet).from() != id);
        }
        Some(())
    }

    /// How much of the journal may be acknowledged: what [`Need`] says.
    pub fn durable(&self, node: &Node, register: &Register) -> u8 {
        let own = length(self.logs.get(node.log));
        match register.need() {
            Need::Nobody => own,
            Need::Standby => {
                let there = register.flushed_there().unwrap_or_default().raw();
                own.min(u8::try_from(there).unwrap_or(u8::MAX))
            }
            Need::Everything => 0,
        }
    }

    pub fn campaign(&self, state: &mut State, at: usize) {
        self.step(state, at, Input::Campaign(local()));
    }

    pub fn resume(&self, state: &mut State, at: usize) {
        self.step(state, at, Input::ResumeAlone(local()));
    }

    pub fn write(&self, state: &mut State, at: usize, epoch: Epoch) {
        let mut log = self.logs.get(state.nodes[at].log).clone();
        log.push((epoch, state.writes));
        state.writes += 1;
        state.nodes[at].log = self.logs.id(log);
        self.ship(state, at);
    }

    /// Clients hear that what may be acknowledged is done.
    pub fn acknowledge(&self, state: &mut State, at: usize, epoch: Epoch) {
        let node = state.nodes[at];
        let upto = self.durable(&node, self.register(&node));
        for (position, (_, value)) in self.logs.get(node.log).iter().take(upto.into()).enumerate() {
            match state.acked.get_mut(position) {
                Some((acked, _)) if acked != value => state.has_conflict = true,
                Some((_, lowest)) => *lowest = epoch.min(*lowest),
                None => state.acked.push((*value, epoch)),
            }
        }
        state.nodes[at].acked = upto;
    }

    /// The standby is silent, and time passes.
    pub fn drop_standby(&self, state: &mut State, at: usize) {
        self.step(state, at, Input::Standby(Word::Lost { hung_up: false }));
        self.step(state, at, Input::Tick(local()));
    }

    pub fn time_passes(&self, state: &mut State, at: usize) {
        self.step(state, at, Input::Tick(local()));
        self.ship(state, at);
    }

    /// The standby is back, and time passes. What the machine needs from then on is in force before it hears what was
    /// acknowledged by then.
    pub fn add_standby(&self, state: &mut State, at: usize, peer: MemberId, flushed: Txid) {
        let acknowledged = txid(state.nodes[at].acked);
        self.step(state, at, Input::Standby(Word::Connected));
        let word = Word::Flushed { member: peer, flushed, durable: acknowledged };
        self.step(state, at, Input::Standby(word));
        self.step(state, at, Input::Tick(local()));
        self.step(state, at, Input::Standby(Word::Needed { acknowledged }));
    }

    pub fn propose(&self, state: &mut State, at: usize, change: impl FnOnce(&mut Config)) {
        let Some(mut config) = self.register(&state.nodes[at]).config().cloned() else { return };
        config.version += 1;
        change(&mut config);
        self.step(state, at, Input::Propose(config));
        self.ship(state, at);
    }

    /// What the node at `at` had in memory is lost; and what its journal had not flushed, where that is said.
    pub fn crash(&self, state: &mut State, at: usize, loses_tail: bool) {
        let node = &mut state.nodes[at];
        if loses_tail {
            let kept = usize::from(node.acked.max(node.inherited));
            let log = self.logs.get(node.log)[..kept].to_vec();
            node.log = self.logs.id(log);
        }
        let promises = self.promises.get(node.promises).clone();
        node.register = self.started(node.id, promises);
        (node.acked, node.inherited) = (0, 0);
    }
}

/// Whether what `message` promises is on disk.
fn is_kept(message: &Message, on_disk: &Promises) -> bool {
    let at = on_disk.config.as_ref().map(Config::at);
    match message {
        Message::Vote { epoch, .. } | Message::Voted { epoch } | Message::HandOver { epoch, .. } => {
            on_disk.promised >= *epoch
        }
        Message::Propose { config } => at >= Some(config.at()),
        Message::Stored { epoch, version } => at >= Some((*epoch, *version)),
        Message::PreVote { .. }
        | Message::PreVoted { .. }
        | Message::Beat { .. }
        | Message::Granted { .. }
        | Message::Refused { .. } => true,
    }
}

fn insert(net: &mut Vec<u32>, packet: u32) {
    if let Err(at) = net.binary_search(&packet) {
        net.insert(at, packet);
    }
}
