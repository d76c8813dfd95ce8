//! Checks the register's machine as it ships: every order of events within bounds.
//!
//! `check small`: the profile that every change has to pass. `check mutants`: each clause of the specification left out,
//! which has to be seen. `check full`: three reigns, ten million states, each line to its end. `check key=value ...`: one
//! search, see `params`; one that finds a violation prints its steps.

mod forget;
mod intern;
mod model;
mod params;
mod profiles;
#[cfg(test)]
mod tests;
mod world;

use crate::params::Params;
use crate::profiles::{BACKED, CAUGHT, FULL, FULL_STATES, OPEN, SMALL, SURVIVES};
use crate::world::World;
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a search comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Every state within the bounds was seen.
    pub is_complete: bool,
    pub states: usize,
    /// What does not hold, and the steps to that.
    pub violated: Vec<(&'static str, Vec<String>)>,
    /// What was to be come across, and was not.
    pub missed: Vec<&'static str>,
}

impl Found {
    pub fn holds(&self) -> bool {
        self.is_complete && self.violated.is_empty()
    }
}

/// Searches, and prints what that comes to in a line.
#[expect(clippy::disallowed_methods, reason = "the checker's own time, which no verdict rests on")]
pub fn search(params: Params) -> Found {
    let (threads, seconds) = (params.threads, params.seconds);
    let began = Instant::now();
    let checker = World::with(params).checker().threads(threads).timeout(Duration::from_secs(seconds));
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (world, discoveries) = (checker.model(), checker.discoveries());
    let mut found = Found { is_complete: began.elapsed().as_secs() < seconds, ..Found::default() };
    for property in world.properties() {
        match (property.expectation, discoveries.get(property.name)) {
            (Expectation::Always, Some(path)) => {
                let steps = path.clone().into_actions().iter().map(|action| world.format_action(action)).collect();
                found.violated.push((property.name, steps));
            }
            (Expectation::Sometimes, None) => found.missed.push(property.name),
            _ => {}
        }
    }
    let verdict = match (found.violated.is_empty(), found.is_complete) {
        (false, _) => "VIOLATED",
        (true, true) => "complete, holds",
        (true, false) => "unfinished, no violation so far",
    };
    let (unique, all, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    let took = began.elapsed().as_secs_f64();
    found.states = unique;
    println!("    {unique} states, {all} generated, depth {depth}, {took:.1} s: {verdict}");
    found
}

/// Searches as `words` say, and prints what is worth it.
fn tell(words: &str, shows_steps: bool) -> Option<Found> {
    println!("{words}");
    let found = match Params::read(words) {
        Ok(params) => search(params),
        Err(why) => {
            println!("    {why}");
            return None;
        }
    };
    for (name, steps) in found.violated.iter().filter(|_| shows_steps) {
        println!("    does not hold: {name}");
        for step in steps {
            println!("        {step}");
        }
    }
    if found.violated.is_empty() && !words.contains("without=") {
        found.missed.iter().for_each(|name| println!("    NOT REACHED: {name}"));
    }
    Some(found)
}

/// Whether that comes to what `is_right` says.
fn run(words: &str, shows_steps: bool, is_right: impl Fn(&Found) -> bool) -> bool {
    tell(words, shows_steps).as_ref().is_some_and(is_right)
}

/// Searches far, each line to its end: one that is stopped by its time has not shown what it is to show.
fn full() -> bool {
    let (mut states, mut lacking) = (0, 0);
    for words in FULL {
        match tell(words, true) {
            Some(found) if found.holds() && found.missed.is_empty() => states += found.states,
            Some(_) | None => lacking += 1,
        }
    }
    println!("{states} states in all, of {FULL_STATES} at least, in {} complete lines that hold", FULL.len() - lacking);
    println!("{lacking} lines violated, stopped by time, or short of what they are to reach");
    lacking == 0 && states >= FULL_STATES
}

/// Leaves each clause out: alone, then with the one that backs it, and says which of them no search sees alone.
fn mutants() -> bool {
    let is_seen = |found: &Found| !found.violated.is_empty();
    let missed = CAUGHT.iter().filter(|words| !run(words, false, is_seen)).count();
    println!("{missed} of {} were not seen. Two that back each other, each alone and then both:", CAUGHT.len());
    let backed = BACKED.iter().filter(|pair| {
        let alone = pair.alone().iter().filter(|words| !run(words, false, Found::holds)).count();
        !run(&pair.both(), false, is_seen) || alone > 0
    });
    let backed = backed.count();
    println!("{backed} of {} pairs were not as said. No search has seen that these are left out:", BACKED.len());
    let survives = SURVIVES.iter().filter(|(words, why)| {
        println!("{why}:");
        !run(words, false, Found::holds)
    });
    let survives = survives.count();
    println!("{survives} of {} were not as said. What the rules do not promise:", SURVIVES.len());
    let open = OPEN.iter().filter(|(words, why)| {
        println!("{why}:");
        !run(words, false, is_seen)
    });
    missed + backed + survives + open.count() == 0
}

fn main() -> ExitCode {
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let holds = |found: &Found| found.holds() && found.missed.is_empty();
    let is_right = match words.as_str() {
        "" | "small" => SMALL.iter().filter(|words| !run(words, true, holds)).count() == 0,
        "full" => full(),
        "mutants" => mutants(),
        words => run(words, true, holds),
    };
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
