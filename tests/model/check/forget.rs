//! Which packets can never change anything again: without them there are fewer states, and nothing else.

use crate::world::{Node, Packet, SLOTS, State, World, slot_of, txid};
use llmchat_model::protocol::cluster::{Config, MemberId, Rule};
use llmchat_model::protocol::register::Message;
use llmchat_model::register::{Clause, Register, Standing};

impl World {
    /// Packets that can never change anything again.
    pub fn forget(&self, state: &mut State) {
        let (nodes, may_forget) = (state.nodes, self.may_forget(state));
        state.net.retain(|number| {
            let packet = self.packets.get(*number);
            let node = nodes[slot_of(packet.to())];
            self.reaches(&node, packet) && (!may_forget || self.may_matter(packet, &node, &nodes))
        });
    }

    /// Where promises are forgotten, or taken back, everything may matter again; and to a node in a lost one's place.
    fn may_forget(&self, state: &State) -> bool {
        let (params, out) = (&self.params, |clause| self.params.leaves_out(clause));
        let is_kept = !out(Clause::PersistFirst) && !out(Clause::VoteAbovePromise) && state.backs >= params.backs;
        params.forgets && is_kept && (!params.by_place || state.disks >= params.disks)
    }

    /// Whether `register` could store `new`, now or later. A clause that is left out makes more possible.
    fn may_store(&self, register: &Register, new: &Config) -> bool {
        let is_promised = new.epoch >= register.promised() || self.params.leaves_out(Clause::StoreAbovePromise);
        let is_newer = Some(new.at()) > register.config().map(Config::at);
        is_promised && (is_newer || self.params.leaves_out(Clause::StoreNewer)) && new.primary != register.me()
    }

    /// Whether what `register` refuses `from` would be news there.
    fn would_tell(&self, register: &Register, from: MemberId, nodes: &[Node; SLOTS]) -> bool {
        let node = &nodes[slot_of(from)];
        let theirs = self.register(node);
        let is_news = register.promised() > theirs.promised()
            || register.config().is_some_and(|config| self.may_store(theirs, config));
        self.params.has_refusals && node.id == from && is_news
    }

    fn may_matter(&self, packet: &Packet, node: &Node, nodes: &[Node; SLOTS]) -> bool {
        let (register, out) = (self.register(node), |clause| self.params.leaves_out(clause));
        let (promised, config) = (register.promised(), register.config());
        match packet {
            Packet::Register { from, message, .. } => match message {
                Message::Vote { epoch, .. } => {
                    let is_again = *epoch == promised && out(Clause::EpochNamesMinter);
                    let is_above = *epoch > promised || is_again || out(Clause::VoteAbovePromise);
                    is_above || self.would_tell(register, *from, nodes)
                }
                Message::HandOver { epoch, .. } => *epoch > promised,
                Message::Voted { epoch } => *epoch == promised && register.standing() == Standing::Campaigns,
                Message::Propose { config } => {
                    self.may_store(register, config) || self.would_tell(register, *from, nodes)
                }
                Message::Stored { epoch, version } => {
                    // Without a witness it gives the lease that the first reign with one begins with.
                    let is_alone = config.is_some_and(|config| config.register == Rule::Alone);
                    let is_pending = register.in_force() != config || out(Clause::ServeWhenStored);
                    let is_needed = is_pending || is_alone;
                    let leads = matches!(register.standing(), Standing::Elected | Standing::Leads);
                    leads && config.map(Config::at) == Some((*epoch, *version)) && is_needed
                }
                Message::Refused { promised: theirs, config, .. } => {
                    *theirs > promised || config.as_ref().is_some_and(|config| self.may_store(register, config))
                }
                Message::PreVote { .. } | Message::PreVoted { .. } | Message::Beat { .. } | Message::Granted { .. } => {
                    false
                }
            },
            Packet::Append { epoch, .. } => *epoch >= promised || out(Clause::AppendAbovePromise),
            Packet::Flushed { epoch, length, .. } => {
                let is_mine = config.is_some_and(|config| config.epoch == *epoch && config.primary == node.id);
                let is_more = register.flushed_there() < Some(txid(*length)) || out(Clause::IdCounts);
                is_mine && (promised == *epoch || out(Clause::VoteDemotes)) && is_more
            }
        }
    }
}
