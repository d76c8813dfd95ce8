//! What is left when all is over. Each data node is made the primary in its turn and asked for every acknowledged turn, and
//! for every chat as a whole: what it answers is in its own database.

use crate::assume;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::place::Place;
use crate::record::{Final, Kind, Op, Outcome, Run, Transcript};
use crate::time::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Roles change within milliseconds; what is refused is soon granted.
const SWITCH: Duration = Duration::from_secs(20);

/// Reads everything back, into `run`.
pub(crate) fn read(cluster: &Cluster, clients: &[Client], run: &mut Run) -> Result<(), String> {
    let Some(first) = cluster.primary() else { return Err("nobody is the primary".to_owned()) };
    let clients: Arc<Vec<Client>> = Arc::new(clients.to_vec());
    let mut told = Vec::new();
    for address in [first, first.other()] {
        if address != first {
            switch_over(cluster, first)?;
        }
        let readers: Vec<_> = (0..clients.len())
            .map(|index| {
                let clients = Arc::clone(&clients);
                cluster.net.within(Place::Clients, move || read_one(&clients[index], address))
            })
            .collect();
        for reader in readers {
            let (finals, chats) = reader.join().expect("a reader panicked");
            run.finals.extend(finals);
            told.extend(chats);
        }
    }
    let calls = cluster.upstream.calls();
    for (address, chat, id) in told {
        let call = id.and_then(|id| calls.iter().rev().find(|call| call.question == id));
        let turns = call.map(|call| call.history.clone()).unwrap_or_default();
        run.transcripts.push(Transcript { address, chat, turns });
    }
    Ok(())
}

/// Also makes sure that both are what they say to be.
fn switch_over(cluster: &Cluster, from: Place) -> Result<(), String> {
    let mut why = String::new();
    let is_done = wait(SWITCH, || match cluster.command(from, &["switchover"]) {
        Ok(_) => true,
        Err(said) => {
            why = said;
            cluster.primary() == Some(from.other())
        }
    });
    if is_done { Ok(()) } else { Err(format!("no switchover, to read the other node: {why}")) }
}

type Read = (Vec<Final>, Vec<(Place, String, Option<String>)>);

/// What one client was told, as it is now.
fn read_one(client: &Client, address: Place) -> Read {
    let acknowledged = client.ops.iter().filter(|op| op.kind == Kind::Write && op.outcome == Outcome::Acknowledged);
    let turns: BTreeMap<&str, &Op> = acknowledged.map(|op| (op.id.as_str(), op)).collect();
    let last = |op: &&Op| Final { address, id: op.id.clone(), answer: client.again(op, address) };
    let finals = turns.values().map(last).collect();
    // Also chats in which nothing was acknowledged, as far as they can be told.
    let chats: BTreeSet<&str> =
        client.ops.iter().filter(|op| op.kind == Kind::Write).map(|op| op.chat.as_str()).collect();
    let told = chats.into_iter().filter(|chat| chat.starts_with(assume::OPENAI));
    (finals, told.map(|chat| (address, chat.to_owned(), client.tell(chat, address))).collect())
}
