//! The operator: gives a node whose disk was lost another one, and a new number; and looks whether all is well again.

use crate::event::Event;
use crate::node::Drive;
use crate::world::World;
use crate::{MILLI, SECOND, Time};
use llmchat_model::protocol::cluster::{Config, Kind, Member, MemberId};
use llmchat_model::register::{Input, Register};

/// So soon after the faults all is well again.
const WELL_WITHIN: Time = 30 * SECOND;
/// One that was dropped again and again is not added before it has been there so long; twice as long each time.
const FLAP_STABLE: Time = 10 * SECOND;
const LOOKS_EVERY: Time = 300 * MILLI;

impl World {
    pub fn on_operator(&mut self) {
        self.after(LOOKS_EVERY, Event::Operator);
        if let Some(slot) = (0..2).find(|slot| self.leads_calmly(*slot)) {
            self.exchanges(slot);
        }
        let Some(healed_at) = self.healed_at else { return };
        if let Some(since) = self.rests_since {
            if self.now - since > 2 * SECOND {
                self.finds_all_well(healed_at);
            }
        } else if self.is_well() {
            self.rests_since = Some(self.now);
            self.counts.longest_heal = self.now - healed_at;
        } else if self.now - healed_at > WELL_WITHIN + self.damping(healed_at) {
            let how = self.how_it_stands();
            self.oracle.fail(format!("not well {WELL_WITHIN} us after the faults: {how}"));
        }
    }

    /// How long one that was dropped again and again has to wait.
    fn damping(&self, healed_at: Time) -> Time {
        let drops = self.drops_of_reign.iter().filter(|at| **at <= healed_at + 5 * SECOND).count();
        match u32::try_from(drops).expect("few") {
            0 | 1 => 0,
            many => FLAP_STABLE * 2_u64.pow((many - 2).min(5)),
        }
    }

    fn leads_calmly(&self, slot: usize) -> bool {
        let Some(process) = &self.nodes[slot].process else { return false };
        let is_frozen = self.nodes[slot].frozen.is_some();
        !is_frozen
            && matches!(process.drive, Drive::Serves { .. })
            && process.inbox.is_empty()
            && process.persists.is_none()
            && process.view.is_some_and(|view| view.is_settled)
    }

    /// The next step towards a cluster of the nodes that there are: of each pair of a removal and an addition one at a
    /// time, and a lost data node first leaves the set.
    fn exchanges(&mut self, slot: usize) {
        let Some(config) = self.nodes[slot].register().and_then(Register::in_force).cloned() else { return };
        let ids: Vec<_> = self.nodes.iter().filter_map(|node| node.disk.id).collect();
        let gone = config.members.iter().find(|member| !ids.contains(&member.id)).cloned();
        if let Some(gone) = gone {
            if self.rng.chance(150) {
                self.tries_one_step(slot, config.clone(), &gone);
            }
            return self.removes(slot, config, &gone);
        }
        let is_unknown = |id: &Option<MemberId>| id.is_none_or(|id| config.member(id).is_none());
        let Some(new) = self.nodes.iter().position(|node| is_unknown(&node.disk.id)) else { return };
        let id = config.next_member_id;
        let node = &mut self.nodes[new];
        let kind = if node.is_witness { Kind::Witness } else { Kind::Data };
        if node.disk.id != Some(id) {
            self.ends(new, "gets a new number");
            let node = &mut self.nodes[new];
            node.disk.wipe();
            node.disk.id = Some(id);
            self.counts.exchanges += 1;
            self.starts(new, 100 * MILLI);
        } else if node.process.is_some() {
            let mut config = Config { next_member_id: id + 1, version: config.version + 1, ..config };
            config.members.push(Member { id, name: String::new(), address: String::new(), kind });
            config.members.sort_by_key(|member| member.id);
            self.trace(slot, || format!("is to add {id}"));
            self.feed(slot, Input::Propose(config));
        }
    }

    /// What is refused: a removal and an addition in one.
    fn tries_one_step(&mut self, slot: usize, config: Config, gone: &Member) {
        let Some(new) = self.nodes.iter().position(|node| node.disk.is_lost()) else { return };
        if config.is_in_sync(gone.id) {
            return;
        }
        let id = config.next_member_id;
        let mut one_step = Config { next_member_id: id + 1, version: config.version + 1, ..config };
        one_step.members.retain(|member| member.id != gone.id);
        one_step.members.push(Member { id, ..gone.clone() });
        self.feed(slot, Input::Propose(one_step));
        let is_taken = self.nodes[slot].register().and_then(Register::config).is_some_and(|it| it.member(id).is_some());
        if is_taken {
            self.nodes[new].disk.id = Some(id);
            self.starts(new, 100 * MILLI);
        }
    }

    fn removes(&mut self, slot: usize, config: Config, gone: &Member) {
        let is_in_set = config.is_in_sync(gone.id);
        if gone.kind == Kind::Witness && config.isr.len() < 2 {
            return;
        }
        let mut config = Config { version: config.version + 1, ..config };
        if is_in_set {
            config.isr.retain(|id| *id != gone.id);
        } else {
            config.members.retain(|member| member.id != gone.id);
        }
        self.trace(slot, || format!("is to remove {}", gone.id));
        self.feed(slot, Input::Propose(config));
    }

    /// Whether the cluster serves, everything is on two disks, and all three know that.
    fn is_well(&self) -> bool {
        let Some(leader) = (0..2).find(|slot| self.leads_calmly(*slot)) else { return false };
        let Some(in_force) = self.nodes[leader].register().and_then(Register::in_force) else { return false };
        let is_member = |id: Option<MemberId>| id.is_some_and(|id| in_force.member(id).is_some());
        let all_know = self.nodes.iter().all(|node| {
            is_member(node.disk.id)
                && node.register().and_then(Register::config) == Some(in_force)
                && node.process.is_some()
        });
        let is_whole = self.nodes[..2].iter().all(|node| node.disk.is_whole());
        in_force.isr.len() == 2 && all_know && is_whole && self.oracle.writes > self.writes_when_healed
    }

    fn finds_all_well(&mut self, _: Time) {
        if !self.is_well() {
            let how = self.how_it_stands();
            self.oracle.fail(format!("well, and then not any more: {how}"));
        }
        let (one, other) = self.nodes.split_at(1);
        self.oracle.compare(&one[0].disk, &other[0].disk);
        self.is_over = true;
    }

    pub fn how_it_stands(&self) -> String {
        use std::fmt::Write;
        let mut how = String::new();
        for node in &self.nodes {
            let config = node.register().and_then(Register::config);
            let config = config.map(|config| {
                (
                    config.at(),
                    config.primary,
                    config.isr.clone(),
                    config.members.iter().map(|it| it.id).collect::<Vec<_>>(),
                )
            });
            let _ = write!(
                how,
                "\n  id {:?} whole {} commits {} {:x?} {:?}",
                node.disk.id,
                node.disk.is_whole(),
                node.disk.last(),
                config,
                node.process.as_ref().map(|process| (process.drive, process.ship, process.follow, process.view))
            );
        }
        how
    }
}
