//! Either node, or both, killed or frozen under load, and roles that change hands meanwhile.

use crate::cluster::Cluster;
use crate::load::{Client, speaking, while_talking};
use crate::support::now;
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
}

impl Blow {
    fn random(random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::KillBoth,
            1 => Self::Freeze(random.node()),
            2 => Self::Switch,
            3 => Self::SwitchAndKill(random.node()),
            _ => Self::Kill(random.node()),
        }
    }

    fn strike(self, cluster: &mut Cluster, random: &mut Random) {
        match self {
            Self::Kill(node) => cluster.kill(node),
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

/// Goal: no turn that a client saw end as kept is lost, altered or doubled by the death of either node or both, at
/// whatever moment of whatever role, and the two nodes end with one history. Method: clients talk to both addresses
/// while a random blow falls after a random number of turns, again and again on the same state; then every promise is
/// replayed without the upstream.
#[test]
fn crashes_and_swaps_under_load_lose_no_promised_turn_and_double_none() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = setting("LLMCHAT_CRASH_SEED").unwrap_or(u64::from(since_1970.subsec_nanos()));
    let cycles = setting("LLMCHAT_CRASH_CYCLES").unwrap_or(CYCLES);
    eprintln!("LLMCHAT_CRASH_SEED={seed} LLMCHAT_CRASH_CYCLES={cycles}");
    let mut random = Random(seed | 1);
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|name| Client::new(name, cluster.browser(name % 2))).collect();
    for cycle in 0..cycles {
        let blow = Blow::random(&mut random);
        while_talking(&mut clients, |done| {
            let turns = 10 + random.below(60);
            cluster.wait("busy", |_| done.load(Ordering::Relaxed) >= turns);
            blow.strike(&mut cluster, &mut random);
        });
        let first = random.node();
        for node in [first, 1 - first] {
            if cluster.nodes[node].as_mut().is_none_or(crate::support::Node::has_ended) {
                cluster.start(node);
            }
        }
        cluster.in_sync();
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
