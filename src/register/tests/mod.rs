//! The machine by its inputs and outputs, told the time.

mod elections;
mod force;
mod in_sync;
mod lag;
mod leases;
mod lies;
mod members;

use super::{Input, Local, Output, Promises, Register, Standing, Timing, Word};
use crate::base::{Epoch, Moment, Txid};
use crate::protocol::cluster::{Config, Kind, Member, MemberId, Mode, Rule};
use crate::protocol::register::Message;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn txid(raw: u64) -> Txid {
    Txid::from_raw(raw)
}

fn epoch(counter: u64, member: MemberId) -> Epoch {
    Epoch::mint(counter, member, false).expect("it fits")
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(100_000 + millis)
}

fn member(id: MemberId) -> Member {
    let kind = if id > 2 { Kind::Witness } else { Kind::Data };
    Member { id, name: format!("n{id}"), address: format!("127.0.0.1:{id}"), kind }
}

/// Of node 1's reign; members 1 and 2 are data nodes, 3 and above are witnesses.
fn config(register: Rule, members: &[MemberId], isr: &[MemberId]) -> Config {
    Config {
        name: "test".to_owned(),
        epoch: epoch(1, 1),
        version: 0,
        primary: 1,
        isr: isr.to_vec(),
        members: members.iter().map(|id| member(*id)).collect(),
        register,
        next_member_id: 9,
        mode: Mode::MaxAvailability,
        paused_until: None,
    }
}

fn local() -> Local {
    Local { may_lead: true, is_paused: false, last: txid(10), durable: Txid::default() }
}

fn node(me: MemberId, config: &Config) -> Register {
    let promises = Promises { promised: config.epoch, config: Some(config.clone()), ..Promises::default() };
    Register::new(me, promises, Timing::default(), at(0))
}

fn hear(register: &mut Register, from: MemberId, message: Message, now: Moment) -> Vec<Output> {
    register.step(Input::Heard { from, message }, now)
}

fn tick(register: &mut Register, now: Moment) -> Vec<Output> {
    register.step(Input::Tick(local()), now)
}

fn said(outputs: &[Output], to: MemberId) -> Vec<&Message> {
    let to_it = |output| match output {
        &Output::Send { to: other, ref message } if other == to => Some(message),
        _ => None,
    };
    outputs.iter().filter_map(to_it).collect()
}

fn word(register: &mut Register, word: Word, now: Moment) -> Vec<Output> {
    register.step(Input::Standby(word), now)
}

fn flushed(upto: u64) -> Word {
    Word::Flushed { member: 2, flushed: txid(upto), durable: txid(10) }
}

/// What was proposed last, of all that is in `outputs`.
fn proposed(outputs: &[Output]) -> Option<Config> {
    let of = |output: &Output| match output {
        Output::Send { message: Message::Propose { config }, .. } => Some(config.clone()),
        _ => None,
    };
    outputs.iter().rev().find_map(of)
}

fn declined(outputs: &[Output]) -> Option<&'static str> {
    match outputs {
        [Output::Declined { why }] => Some(why),
        _ => None,
    }
}

/// Node 1 leads by its own word, alone at first, with 10 commits that it began with.
fn alone(mode: Mode) -> Register {
    let mut register = node(1, &Config { mode, ..config(Rule::Alone, &[1, 2], &[1]) });
    register.step(Input::Campaign(local()), at(0));
    begin(&mut register, at(0));
    assert_eq!(register.standing(), Standing::Leads);
    register
}

/// As [`alone`], with node 2 in sync.
fn pair(mode: Mode, now: Moment) -> Register {
    let mut register = alone(mode);
    assert!(joins(&mut register, now), "it has everything");
    register
}

/// Whether the standby, which connects and has everything, is in the set at `now`.
fn joins(register: &mut Register, now: Moment) -> bool {
    word(register, Word::Connected, now);
    word(register, flushed(10), now);
    is_added(register, now)
}

fn is_added(register: &mut Register, now: Moment) -> bool {
    tick(register, now);
    word(register, Word::Needed { acknowledged: txid(10) }, now);
    register.is_in_sync()
}

/// Node 1 leads by the votes of a majority of {1, 2, 3}, and both others have stored that at `now`.
fn elected(now: Moment) -> Register {
    let mut register = node(1, &config(Rule::Majority, &[1, 2, 3], &[1, 2]));
    register.step(Input::Campaign(local()), now);
    hear(&mut register, 3, Message::Voted { epoch: epoch(2, 1) }, now);
    begin(&mut register, now);
    store_everywhere(&mut register, now);
    register
}

/// The store is open, with 10 commits.
fn begin(register: &mut Register, now: Moment) -> Vec<Output> {
    register.step(Input::Begins { inherited: txid(10) }, now)
}

fn store_everywhere(register: &mut Register, now: Moment) {
    let (epoch, version) = register.config().expect("it has one").at();
    for from in register.config().expect("it has one").member_set().without(1).iter() {
        hear(register, from, Message::Stored { epoch, version }, now);
    }
}

/// As [`elected`], with node 2 in sync.
fn elected_pair(now: Moment) -> Register {
    let mut register = elected(now);
    joins(&mut register, now);
    store_everywhere(&mut register, now);
    assert!(register.is_in_sync());
    register
}
