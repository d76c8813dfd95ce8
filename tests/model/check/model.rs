//! What may happen in the world, and what must never.

use crate::params::Params;
use crate::world::{Node, Packet, SLOTS, Shown, State, World, id_of, kind_of, length, member, slot_of};
use llmchat_model::base::{Epoch, Txid};
use llmchat_model::protocol::cluster::{Config, Kind, MemberId, Mode, Rule};
use llmchat_model::register::{Clause, Promises, Register, Standing};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Campaign(usize),
    /// The store of a node that was elected is open.
    Begin(usize),
    Deliver(u32),
    Write(usize),
    Acknowledge(usize),
    Drop(usize),
    Add(usize),
    /// The operator of the primary at `at` has members changed.
    Members {
        at: usize,
        out: Option<MemberId>,
        new: Option<MemberId>,
    },
    /// A lease has passed since a change of members was proposed.
    TakeBack(usize),
    /// The primary alone keeps the configuration from now on.
    EndMajority(usize),
    HandOver(usize),
    Resume(usize),
    Crash {
        at: usize,
        loses_tail: bool,
    },
    LoseDisk(usize),
    /// What the node at this slot has promised by now is copied.
    Copy(usize),
    /// And comes back in place of what it has promised since.
    PutBack(usize),
}

const SAFE: [&str; 4] = [
    "what is acknowledged is in every later primary that serves",
    "what is acknowledged has one value",
    "one primary serves in an epoch",
    "what is promised is on disk before it is said",
];

impl World {
    /// All is as `start` says, and A leads, by the machine's own steps.
    pub fn with(params: Params) -> Self {
        let mut world = Self::new(params);
        world.first_version = world.first_state().1;
        world
    }

    fn first_state(&self) -> (State, u32) {
        let (a, b) = (id_of(0, false), id_of(1, false));
        let ids: Vec<_> = (0..SLOTS).map(|slot| id_of(slot, false)).collect();
        let members: Vec<_> = ids.iter().take(self.params.start.into()).map(|id| member(*id)).collect();
        let config = Config {
            epoch: Epoch::mint(0, a, false).expect("it is a member's number"),
            version: 0,
            primary: a,
            isr: members.iter().map(|member| member.id).filter(|id| kind_of(*id) == Kind::Data).collect(),
            register: if self.params.is_alone { Rule::Alone } else { Rule::Majority },
            next_member_id: 100,
            mode: Mode::MaxAvailability,
            paused_until: None,
            name: String::new(),
            members,
        };
        let node = |id: MemberId| {
            if config.member(id).is_none() {
                return self.blank(id);
            }
            let promises = Promises { promised: config.epoch, config: Some(config.clone()), ..Promises::default() };
            Node {
                promises: self.promises.id(promises.clone()),
                register: self.started(id, promises),
                ..self.blank(id)
            }
        };
        let mut state = State {
            nodes: [node(ids[0]), node(ids[1]), node(ids[2]), node(ids[3])],
            net: Vec::new(),
            acked: Vec::new(),
            has_conflict: false,
            has_spoken_early: false,
            handed: None,
            shown: [self.shown.id(Shown::default()); SLOTS],
            copied: None,
            backs: 0,
            writes: 0,
            crashes: 0,
            disks: 0,
            hands: 0,
        };
        self.campaign(&mut state, 0);
        self.deliver_all(&mut state);
        self.begin(&mut state, 0);
        self.deliver_all(&mut state);
        if config.isr.len() == 2 {
            self.add_standby(&mut state, 0, b, Txid::default());
            self.deliver_all(&mut state);
        }
        self.come_closer(&mut state);
        state.net.clear();
        let version = self.register(&state.nodes[0]).config().map_or(0, |config| config.version);
        (state, version)
    }

    /// What has happened to B and W behind B's back, as `params` say.
    fn come_closer(&self, state: &mut State) {
        let b = id_of(1, false);
        let settle = |state: &mut State| {
            state.net.retain(|packet| self.packets.get(*packet).to() != b);
            self.deliver_all(state);
        };
        state.net.clear();
        if self.params.is_dropped {
            self.drop_standby(state, 0);
            settle(state);
        }
        if self.params.is_removed {
            self.change_members(state, 0, Some(b), None);
            settle(state);
        }
        if self.params.has_forgotten {
            state.nodes[2] = self.blank(state.nodes[2].id);
        }
    }

    fn deliver_all(&self, state: &mut State) {
        loop {
            let before = state.clone();
            for packet in before.net.clone() {
                self.deliver(state, packet);
            }
            if *state == before {
                return;
            }
        }
    }

    fn actions_of_primary(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let (node, register) = (state.nodes[at], self.register(&state.nodes[at]));
        let Some((newest, in_force)) = register.config().zip(register.in_force()) else { return };
        if state.writes < self.params.writes {
            actions.push(Action::Write(at));
        }
        if self.durable(&node, register) > node.acked {
            actions.push(Action::Acknowledge(at));
        }
        if state.hands < self.params.hands {
            actions.push(Action::HandOver(at));
        }
        let first = if newest.epoch.counter() == 1 { self.first_version } else { 0 };
        let is_pending = newest != in_force;
        if self.params.takes_back && is_pending && newest.member_set() != in_force.member_set() {
            actions.push(Action::TakeBack(at));
        }
        if newest.version >= first + self.params.versions || (is_pending && !self.params.leaves_out(Clause::OnePending))
        {
            return;
        }
        if newest.has_two_in_sync() {
            actions.push(Action::Drop(at));
        } else if newest.peer_of(node.id).is_some() && register.flushed_there().is_some() {
            actions.push(Action::Add(at));
        }
        if !is_pending || self.params.leaves_out(Clause::OnePending) {
            self.changes_of_members(state, at, newest, actions);
        }
    }

    /// A node that is new takes its slot's place, or an empty one; also in one change, which is declined.
    fn changes_of_members(&self, state: &State, at: usize, newest: &Config, actions: &mut Vec<Action>) {
        for slot in (0..self.params.slots()).filter(|slot| *slot != at) {
            let id = state.nodes[slot].id;
            if self.register(&state.nodes[slot]).config().is_some() {
                continue;
            }
            let is_same_kind = |other: MemberId| kind_of(other) == kind_of(id) && other != state.nodes[at].id;
            let old = newest.members.iter().map(|member| member.id).find(|other| is_same_kind(*other));
            if old == Some(id) {
                continue;
            }
            if old.is_some() {
                actions.push(Action::Members { at, out: old, new: None });
            }
            actions.push(Action::Members { at, out: old, new: Some(id) });
        }
        if self.params.is_alone && newest.register == Rule::Majority && newest.witness().is_none() {
            actions.push(Action::EndMajority(at));
        }
    }

    /// Whether an operator may say that the node at `at` goes on alone: nobody has promised to follow another since.
    fn may_resume(&self, state: &State, at: usize) -> bool {
        let register = self.register(&state.nodes[at]);
        let Some(mine) = register.config() else { return false };
        let is_untouched = state.nodes.iter().filter(|node| node.id != state.nodes[at].id).all(|node| {
            let other = self.register(node);
            other.promised() <= register.promised() && other.standing() == Standing::Follows
        });
        let is_handed = state.handed.is_some_and(|handed| handed > mine.epoch);
        self.params.resumes && register.standing() == Standing::Follows && is_untouched && !is_handed
    }

    fn change_members(&self, state: &mut State, at: usize, out: Option<MemberId>, new: Option<MemberId>) {
        self.propose(state, at, |config| {
            config.members.retain(|member| Some(member.id) != out);
            config.members.extend(new.map(member));
            config.members.sort_by_key(|member| member.id);
            if config.witness().is_some() {
                config.register = Rule::Majority;
            }
        });
    }

    fn copies(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let (params, node) = (&self.params, &state.nodes[at]);
        let may = params.back >> at & 1 == 1 && node.id == id_of(at, false) && state.backs < params.backs;
        match state.copied {
            None if may && self.register(node).config().is_some() => actions.push(Action::Copy(at)),
            Some((copied, promises)) if may && copied == at && promises != node.promises => {
                actions.push(Action::PutBack(at));
            }
            _ => {}
        }
    }

    fn hand_over(&self, state: &mut State, at: usize) -> Option<()> {
        let to = self.register(&state.nodes[at]).config()?.peer_of(state.nodes[at].id)?.id;
        let before = self.register(&state.nodes[at]).promised();
        self.step(state, at, llmchat_model::register::Input::HandOver { to });
        let promised = self.register(&state.nodes[at]).promised();
        (state.hands, state.handed) = (state.hands + 1, Some(promised));
        (promised > before).then_some(())
    }

    fn happen(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Campaign(at) => self.campaign(state, at),
            Action::Begin(at) => self.begin(state, at),
            Action::Deliver(packet) => self.deliver(state, packet)?,
            Action::Write(at) => self.write(state, at, World::serves(self.register(&state.nodes[at]))?),
            Action::Acknowledge(at) => self.acknowledge(state, at, World::serves(self.register(&state.nodes[at]))?),
            Action::Drop(at) => self.drop_standby(state, at),
            Action::Add(at) => {
                let register = self.register(&state.nodes[at]);
                let peer = register.config()?.peer_of(state.nodes[at].id)?.id;
                self.add_standby(state, at, peer, register.flushed_there()?);
            }
            Action::Members { at, out, new } => self.change_members(state, at, out, new),
            Action::TakeBack(at) => self.time_passes(state, at),
            Action::EndMajority(at) => self.propose(state, at, |config| config.register = Rule::Alone),
            Action::HandOver(at) => self.hand_over(state, at)?,
            Action::Resume(at) => self.resume(state, at),
            Action::Crash { at, loses_tail } => {
                state.crashes += 1;
                self.crash(state, at, loses_tail);
            }
            Action::LoseDisk(at) => {
                state.disks += 1;
                state.nodes[at] = self.blank(id_of(at, true));
            }
            Action::Copy(at) => state.copied = Some((at, state.nodes[at].promises)),
            Action::PutBack(at) => self.put_back(state, at)?,
        }
        Some(())
    }

    /// What clients may see of the primaries that serve.
    fn any(&self, state: &State, holds: impl Fn(&Node, &Register, &Config) -> bool) -> bool {
        state.nodes.iter().any(|node| {
            let register = self.register(node);
            World::serves(register).is_some() && register.in_force().is_some_and(|config| holds(node, register, config))
        })
    }

    fn keeps_acknowledged(&self, state: &State) -> bool {
        state.nodes.iter().all(|node| {
            let Some(epoch) = World::serves(self.register(node)) else { return true };
            let log = self.logs.get(node.log);
            let has = |position: usize, value: u8| log.get(position).is_some_and(|(_, other)| *other == value);
            state.acked.iter().enumerate().all(|(position, (value, acked))| *acked > epoch || has(position, *value))
        })
    }

    fn has_one_primary(&self, state: &State) -> bool {
        let epochs = [0, 1].map(|at: usize| World::serves(self.register(&state.nodes[at])));
        epochs[0].is_none() || epochs[0] != epochs[1]
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state().0]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..3 {
            let (node, register) = (state.nodes[at], self.register(&state.nodes[at]));
            let leads = Self::is_elected(register);
            let has_memory = register.standing() != Standing::Follows || self.params.leaves_out(Clause::PersistFirst);
            if at < 2 {
                let campaigns = self.params.campaigns >> at & 1 == 1;
                if campaigns && register.config().is_some() && (!leads || register.is_outbid()) {
                    actions.push(Action::Campaign(at));
                }
                if Self::is_to_begin(register) {
                    actions.push(Action::Begin(at));
                }
                if self.may_resume(state, at) {
                    actions.push(Action::Resume(at));
                }
                self.actions_of_primary(state, at, actions);
            }
            if state.crashes < self.params.crashes && has_memory {
                actions.push(Action::Crash { at, loses_tail: false });
                let serves = World::serves(register).is_some();
                if serves && length(self.logs.get(node.log)) > node.acked.max(node.inherited) {
                    actions.push(Action::Crash { at, loses_tail: true });
                }
            }
            let may_lose = self.params.lose >> at & 1 == 1 && node.id == id_of(at, false);
            if state.disks < self.params.disks && may_lose && register.config().is_some() {
                actions.push(Action::LoseDisk(at));
            }
            self.copies(state, at, actions);
        }
        actions.extend(state.net.iter().map(|packet| Action::Deliver(*packet)));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.happen(&mut state, action)?;
        let is_within = |node: &Node| self.register(node).promised().counter() <= self.params.counters;
        if !state.nodes.iter().all(is_within) {
            return None;
        }
        self.forget(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(SAFE[0], World::keeps_acknowledged),
            Property::always(SAFE[1], |_, state: &State| !state.has_conflict),
            Property::always(SAFE[2], World::has_one_primary),
            Property::always(SAFE[3], |_, state: &State| !state.has_spoken_early),
        ];
        properties.extend(self.reachable());
        properties
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Deliver(packet) => self.describe(self.packets.get(*packet)),
            other => format!("{other:?}"),
        }
    }
}

impl World {
    /// What the search has to come across, so that it is not about nothing.
    fn reachable(&self) -> Vec<Property<Self>> {
        let params = &self.params;
        let mut properties = vec![Property::sometimes("a single copy serves", |world: &World, state: &State| {
            world.any(state, |node, _, config| config.isr.len() == 1 && config.version > 0 && node.acked > 0)
        })];
        if !params.is_dropped && (params.start > 1 || params.versions > 1) {
            properties.push(Property::sometimes("a standby has entered the in-sync set", |world, state| {
                world.any(state, |node, _, config| {
                    let is_first = config.epoch.counter() == 1 && config.version <= world.first_version;
                    config.isr.len() == 2 && !is_first && node.acked > 0
                })
            }));
        }
        if !params.is_dropped && !params.is_alone && params.start > 1 {
            properties.push(Property::sometimes("the other node serves after a failover", |world, state| {
                world.any(state, |node, _, _| slot_of(node.id) == 1 && node.acked > 0)
            }));
        }
        if params.hands > 0 {
            properties.push(Property::sometimes("a reign that was handed over serves", |world, state| {
                world.any(state, |node, _, config| Some(config.epoch) == state.handed && node.acked > 0)
            }));
        }
        if params.backs > 0 {
            properties.push(Property::sometimes(
                "one that was put back is not known to have forgotten",
                |_, state: &State| state.backs > 0 && state.nodes.iter().take(3).all(|node| !is_new_id(node.id)),
            ));
        }
        if params.backs > 0 && !params.trusts_memory {
            properties.push(Property::sometimes("one that was put back is nobody", |_, state: &State| {
                state.backs > state.disks && state.nodes.iter().take(3).any(|node| is_new_id(node.id))
            }));
        }
        if params.disks > 0 || params.has_spare {
            properties.push(Property::sometimes("a node with a new id is a member", |world, state| {
                world.any(state, |_, _, config| config.members.iter().any(|member| is_new_id(member.id)))
            }));
        }
        if params.disks > 0 && params.lose & 3 != 0 {
            properties.push(Property::sometimes("a data node with a new id is in sync", |world, state| {
                world.any(state, |_, _, config| config.isr.iter().any(|id| is_new_id(*id)))
            }));
        }
        if params.takes_back {
            properties.push(Property::sometimes("what was taken back is known to somebody", |world, state| {
                world.any(state, |_, register, config| {
                    let is_ghost = |other: &Config| {
                        let is_back = other.epoch == config.epoch && other.version < config.version;
                        is_back && other.members.len() > config.members.len()
                    };
                    register.config() == Some(config)
                        && state.nodes.iter().any(|node| world.register(node).config().is_some_and(is_ghost))
                })
            }));
        }
        if params.start < 3 {
            properties.push(Property::sometimes("the cluster has grown to three, by majority", |world, state| {
                world.any(state, |_, _, config| config.members.len() == 3 && config.register == Rule::Majority)
            }));
        }
        properties
    }

    fn describe(&self, packet: &Packet) -> String {
        match packet {
            Packet::Register { from, to, message } => {
                format!("{} hears of {}: {}", name(*to), name(*from), short(message))
            }
            Packet::Append { from, to, epoch, log, upto } => {
                let values: Vec<_> = self.logs.get(*log).iter().map(|(_, value)| *value).collect();
                format!("{} is sent {upto} of {values:?} by {} in {}", name(*to), name(*from), reign(*epoch))
            }
            Packet::Flushed { from, to, epoch, length } => {
                format!("{} hears that {} has flushed {length} in {}", name(*to), name(*from), reign(*epoch))
            }
        }
    }
}

fn is_new_id(id: MemberId) -> bool {
    id != id_of(slot_of(id), false) || slot_of(id) == 3
}

fn name(id: MemberId) -> String {
    let names = ["A", "B", "W", "X"];
    let dash = if id == id_of(slot_of(id), false) { "" } else { "'" };
    format!("{}{dash}", names[slot_of(id)])
}

fn reign(epoch: Epoch) -> String {
    format!("{}{}", epoch.counter(), name(epoch.member()))
}

fn version(config: &Config) -> String {
    let names = |ids: &mut dyn Iterator<Item = MemberId>| ids.map(name).collect::<String>();
    let members = names(&mut config.members.iter().map(|member| member.id));
    let isr = names(&mut config.isr.iter().copied());
    format!("{}.{} of {members}, in sync {isr}, {:?}", reign(config.epoch), config.version, config.register)
}

fn short(message: &llmchat_model::protocol::register::Message) -> String {
    use llmchat_model::protocol::register::Message;
    match message {
        Message::Vote { epoch, config, .. } => format!("vote for {} by {}", reign(*epoch), version(config)),
        Message::Voted { epoch } => format!("voted for {}", reign(*epoch)),
        Message::Propose { config } => format!("store {}", version(config)),
        Message::Stored { epoch, version } => format!("stored {}.{version}", reign(*epoch)),
        Message::HandOver { epoch, config } => format!("take over in {} by {}", reign(*epoch), version(config)),
        Message::Refused { epoch, promised, config, why } => {
            let config = config.as_ref().map_or("nothing newer".to_owned(), version);
            format!("{} is refused ({why:?}), {} is promised, {config}", reign(*epoch), reign(*promised))
        }
        other => format!("{other:?}"),
    }
}
