//! The ways to put questions: one at a time, at a given rate, and as fast as they are answered.

use super::ask::{Pace, Shape, Target, Took, Visitor};
use super::process::cpu;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Of every visitor, before anything is counted: connections, cookies, caches.
const WARM_UP: usize = 10;

/// What was seen of one target.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) whole: Vec<Duration>,
    pub(crate) first_word: Vec<Duration>,
    /// Questions that were not taken.
    pub(crate) refused: u32,
    /// Its process's own work in all.
    pub(crate) cpu: Option<Duration>,
}

impl Seen {
    fn note(&mut self, took: Option<Took>) {
        let Some(took) = took else {
            self.refused += 1;
            return;
        };
        self.whole.push(took.whole);
        self.first_word.push(took.first_word);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.whole.extend(other.whole);
        self.first_word.extend(other.first_word);
        self.refused += other.refused;
        self.cpu = match (self.cpu, other.cpu) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
    }

    pub(crate) fn cpu_per_request(&self) -> Option<Duration> {
        let requests = u32::try_from(self.whole.len()).expect("some thousands of requests") + self.refused;
        (requests > 0).then(|| self.cpu.map(|cpu| cpu / requests)).flatten()
    }
}

/// Reads the clocks of all targets at its making, and what they have run since at its end.
struct Clocks<'a> {
    targets: &'a [Target],
    before: Vec<Option<Duration>>,
}

impl<'a> Clocks<'a> {
    fn start(targets: &'a [Target]) -> Self {
        Self { targets, before: targets.iter().map(|target| target.pid.map(cpu)).collect() }
    }

    fn stop(self, seen: &mut [Seen]) {
        for ((target, before), seen) in self.targets.iter().zip(self.before).zip(seen) {
            seen.cpu = target.pid.map(cpu).zip(before).map(|(now, before)| now.saturating_sub(before));
        }
    }
}

fn arrive(targets: &[Target], number: u64, shape: Shape) -> Vec<Visitor> {
    let mut visitors: Vec<Visitor> = targets.iter().map(|target| Visitor::arrive(target, number)).collect();
    for visitor in &mut visitors {
        for _ in 0..WARM_UP {
            visitor.ask(Shape { pace: Pace::AtOnce, ..shape });
        }
    }
    visitors
}

/// One question at a time, the targets in turn, so that all meet the same machine; `between` runs
/// after every round.
pub(crate) fn in_turn(targets: &[Target], shape: Shape, lasts: Duration, mut between: impl FnMut()) -> Vec<Seen> {
    let mut visitors = arrive(targets, 0, shape);
    let mut seen: Vec<Seen> = targets.iter().map(|_| Seen::default()).collect();
    let clocks = Clocks::start(targets);
    let until = Instant::now() + lasts;
    let mut round = 0;
    while Instant::now() < until {
        for turn in 0..visitors.len() {
            // Every target comes after every other: what one leaves behind for the next evens out.
            let at = (turn * if round % 2 == 0 { 1 } else { visitors.len() - 1 } + round) % visitors.len();
            let took = visitors[at].ask(shape);
            seen[at].note(took);
        }
        between();
        round += 1;
    }
    clocks.stop(&mut seen);
    seen
}

/// A question is due every so often, whether those before it are answered or not, and its time
/// counts from when it was due: a target that stalls is not asked less. The targets in turn.
pub(crate) fn at_rate(targets: &[Target], shape: Shape, per_second: u32, lasts: Duration) -> Vec<Seen> {
    /// More than are ever under way at once, unless a target stalls for long.
    const VISITORS: u64 = 16;
    let visitors: Vec<Vec<Visitor>> = (0..VISITORS).map(|number| arrive(targets, number, shape)).collect();
    let every = Duration::from_secs(1) / (per_second * u32::try_from(targets.len()).expect("a few targets"));
    let due = AtomicU64::new(0);
    let clocks = Clocks::start(targets);
    let began = Instant::now();
    let work = |mut visitors: Vec<Visitor>| {
        let mut seen: Vec<Seen> = visitors.iter().map(|_| Seen::default()).collect();
        loop {
            let ticket = due.fetch_add(1, Ordering::Relaxed);
            let offset = every * u32::try_from(ticket).expect("some thousands of tickets");
            if offset >= lasts {
                return seen;
            }
            thread::sleep((began + offset).saturating_duration_since(Instant::now()));
            // Shifted from round to round, or a visitor would always meet the same target.
            let at = usize::try_from(ticket + ticket / VISITORS).expect("a number of tickets") % visitors.len();
            let late = (began + offset).elapsed();
            let took = visitors[at].ask(shape);
            let from_due = |took: Took| Took { whole: took.whole + late, first_word: took.first_word + late };
            seen[at].note(took.map(from_due));
        }
    };
    let mut seen = together(visitors, work);
    clocks.stop(&mut seen);
    seen
}

/// Every visitor asks again as soon as it is answered; the time that it took goes with it.
pub(crate) fn flat_out(target: &Target, shape: Shape, visitors: u64, lasts: Duration) -> (Seen, Duration) {
    let targets = std::slice::from_ref(target);
    let visitors: Vec<Vec<Visitor>> = (0..visitors).map(|number| arrive(targets, number, shape)).collect();
    let clocks = Clocks::start(targets);
    let began = Instant::now();
    let work = |mut visitors: Vec<Visitor>| {
        let mut seen = Seen::default();
        while began.elapsed() < lasts {
            seen.note(visitors[0].ask(shape));
        }
        vec![seen]
    };
    let mut seen = together(visitors, work);
    clocks.stop(&mut seen);
    (seen.remove(0), began.elapsed())
}

/// Runs `work` for each on a thread of its own, and adds up what they saw.
fn together(all: Vec<Vec<Visitor>>, work: impl Fn(Vec<Visitor>) -> Vec<Seen> + Sync) -> Vec<Seen> {
    thread::scope(|threads| {
        let running: Vec<_> = all.into_iter().map(|visitors| threads.spawn(|| work(visitors))).collect();
        let parts = running.into_iter().map(|thread| thread.join().expect("a visitor was not answered"));
        let sum = |mut sum: Vec<Seen>, part: Vec<Seen>| {
            sum.iter_mut().zip(part).for_each(|(sum, part)| sum.add(part));
            sum
        };
        parts.reduce(sum).expect("somebody asks")
    })
}
