//! Either node, or both, killed or frozen under load, and roles that change hands meanwhile.

use crate::cluster::Cluster;
use crate::load::{Client, speaking, while_talking};
use crate::support::now;
use crate::witness::Witness;
use rustix::process::Signal;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CYCLES: u64 = 6;
const CLIENTS: usize = 6;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Numbers that a seed makes, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.below(2)).expect("0 or 1")
    }
}

/// How long a blow takes: a part of the blow, and no wait for anything. The load goes on meanwhile, on both cores.
fn lasts(length: Duration) {
    let until = now() + length;
    while let left = until.saturating_duration_since(now())
        && !left.is_zero()
    {
        thread::park_timeout(left);
    }
}

/// What befalls the pair.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill(usize),
    KillBoth,
    Freeze(usize),
    Switch,
    SwitchAndKill(usize),
    /// Killed, and away until the other one leads; with a witness only.
    Lose(usize),
    /// Long enough for another to be elected.
    FreezeLong(usize),
    KillWitness,
}

impl Blow {
    fn random(random: &mut Random, has_witness: bool) -> Self {
        match random.below(if has_witness { 10 } else { 6 }) {
            6 | 7 => Self::Lose(random.node()),
            8 => Self::FreezeLong(random.node()),
            9 => Self::KillWitness,
            0 => Self::KillBoth,
            1 => Self::Freeze(random.node()),
            2 => Self::Switch,
            3 => Self::SwitchAndKill(random.node()),
            _ => Self::Kill(random.node()),
        }
    }

    fn strike(self, cluster: &mut Cluster, witness: Option<&mut Witness>, random: &mut Random) {
        match self {
            Self::Kill(node) => cluster.kill(node),
            Self::Lose(node) => {
                cluster.kill(node);
                cluster.wait("taken over", |cluster| cluster.is_primary(1 - node));
            }
            Self::FreezeLong(node) => {
                cluster.node(node).signal(Signal::STOP);
                lasts(Duration::from_millis(3_000 + random.below(3_000)));
                cluster.node(node).signal(Signal::CONT);
            }
            Self::KillWitness => {
                if let Some(witness) = witness {
                    witness.kill();
                    lasts(Duration::from_millis(random.below(2_000)));
                    witness.start();
                }
            }
            Self::KillBoth => {
                cluster.kill(0);
                cluster.kill(1);
            }
            Self::Freeze(node) => {
                cluster.node(node).signal(Signal::STOP);
                lasts(Duration::from_millis(random.below(3_000)));
                cluster.node(node).signal(Signal::CONT);
            }
            Self::Switch => drop(cluster.homes[cluster.primary()].run(&["switchover"])),
            Self::SwitchAndKill(node) => {
                let primary = cluster.primary();
                let mut command = cluster.homes[primary].command(&["switchover"]);
                let mut switching = command
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .expect("the binary starts");
                lasts(Duration::from_millis(random.below(60)));
                cluster.kill(node);
                // It may have to wait for a node that is dead.
                let _ = switching.kill();
                let _ = switching.wait();
            }
        }
    }
}

#[test]
fn crashes_and_swaps_under_load_lose_no_promised_turn_and_double_none() {
    strike_again_and_again(false);
}

/// The same where a node that is lost is replaced without a hand.
#[test]
fn crashes_and_failovers_under_load_lose_no_promised_turn_and_double_none() {
    strike_again_and_again(true);
}

/// Goal: no turn that a client saw end as kept is lost, altered or doubled by the death of either node or both, at
/// whatever moment of whatever role, and the two nodes end with one history. Method: clients talk to both addresses
/// while a random blow falls after a random number of turns, again and again on the same state; then every promise is
/// replayed without the upstream.
fn strike_again_and_again(has_witness: bool) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = setting("LLMCHAT_CRASH_SEED").unwrap_or(u64::from(since_1970.subsec_nanos()));
    let cycles = setting("LLMCHAT_CRASH_CYCLES").unwrap_or(CYCLES);
    eprintln!("LLMCHAT_CRASH_SEED={seed} LLMCHAT_CRASH_CYCLES={cycles}");
    let mut random = Random(seed | 1);
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut witness = has_witness.then(|| Witness::new(&upstream));
    if let Some(witness) = &witness {
        witness.join(&cluster, "w");
    }
    let mut clients: Vec<Client> = (0..CLIENTS).map(|name| Client::new(name, cluster.browser(name % 2))).collect();
    for cycle in 0..cycles {
        let blow = Blow::random(&mut random, has_witness);
        while_talking(&mut clients, |done| {
            let turns = 10 + random.below(60);
            cluster.wait("busy", |_| done.load(Ordering::Relaxed) >= turns);
            blow.strike(&mut cluster, witness.as_mut(), &mut random);
        });
        cluster.revived(random.node());
        cluster.alike();
        for client in &mut clients {
            client.turn_to(cluster.address(random.node()));
            client.mend();
            client.faults.clear();
            // What is new since the last blow now, and all of it once more at the end.
            let from = if cycle + 1 == cycles { 0 } else { client.replayed };
            let faults = client.faults_in_replay(from, &upstream);
            let name = client.name;
            assert!(
                faults.is_empty(),
                "seed {seed}, cycle {cycle}, {blow:?}, client {name}:\n{}{}",
                faults.join("\n"),
                cluster.logs()
            );
        }
    }
    let promised: usize = clients.iter().map(|client| client.promises.len()).sum();
    assert!(promised >= CLIENTS, "hardly anything was promised: {promised}");
    eprintln!("{promised} promises kept over {cycles} blows");
}
