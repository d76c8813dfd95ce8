//! What is broken, for how long, and how it is mended.

use crate::assume;
use crate::cluster::Cluster;
use crate::net::Cut;
use crate::node::Node;
use crate::place::{DATA, Place};
use crate::proxy::Link;
use crate::random::Random;
use crate::time::{micros, pause};
use nix::sys::signal::Signal;
use std::fmt;

/// After the first of two faults has begun.
const SETTLE_MS: u64 = 400;
/// Between two breaks of a connection.
const BREAK_MS: u64 = 400;

/// One thing that goes wrong. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// These ways are cut, all at once.
    Cut {
        name: String,
        cuts: Vec<Cut>,
        ms: u64,
    },
    /// The same, on and off.
    Flap {
        name: String,
        cuts: Vec<Cut>,
        every_ms: Vec<u64>,
    },
    /// A link through the chaos proxy, both ways.
    Slow {
        ends: (Place, Place),
        link: Link,
        ms: u64,
    },
    /// A connection breaks half-way through a message, so many times.
    Break {
        way: Cut,
        times: u64,
    },
    /// What reaches a node is shaped.
    Shape {
        node: Place,
        kilobits: u64,
        ms: u64,
    },
    Stop {
        node: Place,
        ms: u64,
    },
    Freeze {
        node: Place,
        ms: u64,
    },
    Kill {
        nodes: Vec<Place>,
    },
    /// Killed and kept from starting for so long.
    Down {
        nodes: Vec<Place>,
        ms: u64,
    },
    /// Killed again and again.
    Storm {
        node: Place,
        every_ms: Vec<u64>,
    },
    Switchover,
    /// An operator makes this node the primary, whatever the other one does.
    Force {
        node: Place,
    },
    /// The second happens while the first one lasts.
    During {
        outer: Box<Self>,
        inner: Box<Self>,
    },
    /// Nothing happens.
    Calm {
        ms: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |ms: &u64| format!("{}.{} s", ms / 1000, ms / 100 % 10);
        let names = |nodes: &[Place]| nodes.iter().map(|node| node.name()).collect::<Vec<_>>().join("+");
        match self {
            Self::Cut { name, ms, .. } => write!(f, "{name} {}", tenths(ms)),
            Self::Flap { name, every_ms, .. } => write!(f, "flap({name}) {}x", every_ms.len()),
            Self::Slow { ends, link, ms } if link.is_stalled => write!(f, "stall {}-{} {}", ends.0, ends.1, tenths(ms)),
            Self::Slow { ends, link, ms } => {
                let Link { delay_ms, jitter_ms, bytes_per_second, .. } = link;
                write!(f, "slow {}-{} {delay_ms}+{jitter_ms} ms {bytes_per_second} B/s {}", ends.0, ends.1, tenths(ms))
            }
            Self::Break { way, times } => write!(f, "break {}>{} {times}x", way.0, way.1),
            Self::Shape { node, kilobits, ms } => write!(f, "shape {node} {kilobits} kbit/s {}", tenths(ms)),
            Self::Stop { node, ms } => write!(f, "stop {node} {}", tenths(ms)),
            Self::Freeze { node, ms } => write!(f, "freeze {node} {}", tenths(ms)),
            Self::Kill { nodes } => write!(f, "kill {}", names(nodes)),
            Self::Down { nodes, ms } => write!(f, "down {} {}", names(nodes), tenths(ms)),
            Self::Storm { node, every_ms } => write!(f, "storm {node} {}x", every_ms.len()),
            Self::Switchover => write!(f, "switchover"),
            Self::Force { node } => write!(f, "force {node}"),
            Self::During { outer, inner } => write!(f, "({outer} with {inner})"),
            Self::Calm { ms } => write!(f, "calm {}", tenths(ms)),
        }
    }
}

impl Fault {
    /// Lets it happen, and ends it.
    pub(crate) fn happen(&self, cluster: &mut Cluster) -> Result<(), String> {
        cluster.note(format!("begins: {self}"));
        match self {
            Self::During { outer, inner } => {
                outer.begin(cluster)?;
                pause(SETTLE_MS);
                let happened = inner.happen(cluster);
                pause(outer.millis() / 2);
                outer.end(cluster)?;
                happened?;
            }
            Self::Flap { cuts, every_ms, .. } => {
                for (turn, ms) in every_ms.iter().enumerate() {
                    if turn % 2 == 0 { cluster.net.cut(cuts) } else { cluster.net.mend(cuts) }?;
                    pause(*ms);
                }
                cluster.net.mend(cuts)?;
            }
            Self::Break { way, times } => {
                for _ in 0..*times {
                    cluster.link(*way, Link { is_cut: true, ..Link::default() });
                    pause(BREAK_MS);
                }
                cluster.link(*way, Link::default());
            }
            Self::Storm { node, every_ms } => {
                for ms in every_ms {
                    cluster.node(*node).kill();
                    pause(*ms);
                }
            }
            Self::Switchover => switch_over(cluster),
            Self::Force { node } => {
                let others: Vec<_> = cluster.others(*node).map(Place::name).collect();
                cluster.command(*node, &assume::force_words(&others.join(",")))?;
            }
            _ => {
                self.begin(cluster)?;
                pause(self.millis());
                self.end(cluster)?;
            }
        }
        cluster.note(format!("ends: {self}"));
        Ok(())
    }

    fn begin(&self, cluster: &mut Cluster) -> Result<(), String> {
        match self {
            Self::Cut { cuts, .. } => cluster.net.cut(cuts)?,
            Self::Slow { ends, link, .. } => linked(cluster, *ends, *link),
            Self::Shape { node, kilobits, .. } => cluster.net.shape(*node, *kilobits)?,
            Self::Stop { node, .. } => cluster.node(*node).signal(Signal::SIGSTOP),
            Self::Freeze { node, .. } => cluster.node_mut(*node).freeze()?,
            Self::Kill { nodes } => nodes.iter().map(|node| cluster.node(*node)).for_each(Node::kill),
            Self::Down { nodes, .. } => nodes.iter().map(|node| cluster.node(*node)).for_each(Node::hold),
            _ => {}
        }
        Ok(())
    }

    fn end(&self, cluster: &mut Cluster) -> Result<(), String> {
        match self {
            Self::Cut { cuts, .. } => cluster.net.mend(cuts)?,
            Self::Slow { ends, .. } => linked(cluster, *ends, Link::default()),
            Self::Shape { node, .. } => cluster.net.unshape(*node),
            Self::Stop { node, .. } => cluster.node(*node).signal(Signal::SIGCONT),
            Self::Freeze { node, .. } => cluster.node_mut(*node).thaw(),
            Self::Down { nodes, .. } => nodes.iter().map(|node| cluster.node(*node)).for_each(Node::resume),
            _ => {}
        }
        Ok(())
    }

    /// How long it lasts.
    pub(crate) fn millis(&self) -> u64 {
        match self {
            Self::Cut { ms, .. }
            | Self::Slow { ms, .. }
            | Self::Shape { ms, .. }
            | Self::Stop { ms, .. }
            | Self::Freeze { ms, .. }
            | Self::Down { ms, .. }
            | Self::Calm { ms } => *ms,
            Self::Flap { every_ms, .. } | Self::Storm { every_ms, .. } => every_ms.iter().sum(),
            Self::Break { times, .. } => times * BREAK_MS,
            Self::Kill { .. } | Self::Switchover | Self::Force { .. } => 0,
            Self::During { outer, inner } => SETTLE_MS + inner.millis() + outer.millis() / 2,
        }
    }
}

fn linked(cluster: &Cluster, (one, other): (Place, Place), link: Link) {
    cluster.link((one, other), link);
    cluster.link((other, one), link);
}

/// It may be refused: also that is an answer.
fn switch_over(cluster: &Cluster) {
    let began = micros();
    let Some(primary) = cluster.primary() else { return cluster.note("switchover: nobody is the primary") };
    let said = cluster.command(primary, &["switchover"]);
    let took = (micros() - began) / 1000;
    cluster.note(format!(
        "switchover of {primary} after {took} ms: {}",
        said.map_or_else(|why| why, |_| "done".to_owned())
    ));
}

fn both_ways(one: Place, other: Place) -> [Cut; 2] {
    [(one, other), (other, one)]
}

/// Everything of a node's but its upstream: a node that is cut off may still do harm there.
fn isolated(node: Place, others: &[Place]) -> Vec<Cut> {
    others.iter().filter(|other| **other != node).flat_map(|other| both_ways(node, *other)).collect()
}

/// A partition of one kind or another. Without a witness there are only two.
fn cut(random: &mut Random, nodes: &[Place]) -> (String, Vec<Cut>) {
    let others: Vec<Place> = nodes.iter().copied().chain([Place::Clients]).collect();
    let node = random.pick(nodes);
    let peers: Vec<Place> = nodes.iter().copied().filter(|other| *other != node).collect();
    let peer = random.pick(&peers);
    match random.between(1, 6) {
        1 | 2 => (format!("drop {node}>{peer}"), vec![(node, peer)]),
        3 => ("cut a-b".to_owned(), both_ways(Place::A, Place::B).to_vec()),
        4 if nodes.contains(&Place::W) => ("cut w".to_owned(), isolated(Place::W, nodes)),
        5 => (format!("alone {node}"), isolated(node, &others)),
        _ => (format!("peers of {node}"), isolated(node, nodes)),
    }
}

fn some_ms(random: &mut Random, times: (u64, u64), ms: (u64, u64)) -> Vec<u64> {
    (0..random.between(times.0, times.1)).map(|_| random.between(ms.0, ms.1)).collect()
}

/// How long something is frozen: mostly a little longer than any lease, sometimes a minute.
fn frozen_ms(random: &mut Random) -> u64 {
    if random.one_in(15) { random.between(20_000, 60_000) } else { random.between(6_000, 9_000) }
}

/// What happens next; through the proxies, or straight. One time in three two faults meet.
pub(crate) fn draw(random: &mut Random, nodes: &[Place], is_proxied: bool) -> Fault {
    let outer = draw_one(random, nodes, is_proxied);
    let lasts = matches!(
        outer,
        Fault::Cut { .. } | Fault::Slow { .. } | Fault::Shape { .. } | Fault::Stop { .. } | Fault::Freeze { .. }
    );
    if !lasts || !random.one_in(3) {
        return outer;
    }
    let inner = draw_one(random, nodes, is_proxied);
    match (&outer, &inner) {
        // What is frozen twice is thawed once; the same for what is cut or slowed twice.
        _ if std::mem::discriminant(&outer) == std::mem::discriminant(&inner) => outer,
        (Fault::Cut { .. }, Fault::Flap { .. }) | (Fault::Slow { .. }, Fault::Break { .. }) => outer,
        _ => Fault::During { outer: Box::new(outer), inner: Box::new(inner) },
    }
}

/// One fault.
fn draw_one(random: &mut Random, nodes: &[Place], is_proxied: bool) -> Fault {
    let node = random.pick(nodes);
    let ms = random.between(2_000, 6_000);
    if is_proxied && !random.one_in(3) {
        let ends = random.pick(&[(Place::A, Place::B), (Place::A, Place::W), (Place::B, Place::W)]);
        let ends = if nodes.contains(&ends.1) && nodes.contains(&ends.0) { ends } else { (Place::A, Place::B) };
        let slow = Link { delay_ms: random.between(1, 400), jitter_ms: random.between(0, 200), ..Link::default() };
        return match random.between(1, 4) {
            1 => Fault::Slow { ends, link: slow, ms },
            2 => Fault::Slow { ends, link: Link { bytes_per_second: random.between(2_000, 60_000), ..slow }, ms },
            3 => Fault::Slow { ends, link: Link { is_stalled: true, ..Link::default() }, ms },
            _ => Fault::Break { way: ends, times: random.between(2, 8) },
        };
    }
    match random.between(1, 16) {
        // Between two nodes and a proxy no single way can be cut.
        1..=5 if !is_proxied => {
            let (name, cuts) = cut(random, nodes);
            Fault::Cut { name, cuts, ms }
        }
        6 | 7 if !is_proxied => {
            let (name, cuts) = cut(random, nodes);
            Fault::Flap { name, cuts, every_ms: some_ms(random, (3, 7), (200, 3_000)) }
        }
        1 if is_proxied => Fault::Calm { ms: 500 },
        8 if !is_proxied => Fault::Shape { node, kilobits: random.between(40, 1_000), ms },
        2 | 9 | 10 => Fault::Stop { node, ms: frozen_ms(random) },
        3 | 11 => Fault::Freeze { node, ms: frozen_ms(random) },
        4 | 12 => Fault::Kill { nodes: vec![node] },
        5 | 13 => {
            let nodes = if random.one_in(2) { DATA.to_vec() } else { vec![node] };
            if random.one_in(2) { Fault::Kill { nodes } } else { Fault::Down { nodes, ms: random.between(500, 4_000) } }
        }
        6 | 14 => Fault::Storm { node, every_ms: some_ms(random, (3, 8), (150, 1_200)) },
        _ => Fault::Switchover,
    }
}
