use crate::params::Params;
use crate::profiles::{BACKED, CAUGHT, OPEN, SMALL, SURVIVES};
use crate::search;
use llmchat_model::register::Clause;

fn params(words: &str) -> Params {
    Params::read(words).unwrap_or_else(|why| panic!("{words}: {why}"))
}

#[test]
fn the_shipped_machine_keeps_what_it_promises_in_every_order_of_events() {
    for words in SMALL {
        let found = search(params(words));
        assert!(found.holds(), "{words}: {found:?}");
        assert!(found.missed.is_empty(), "{words} does not come across {:?}", found.missed);
    }
}

#[test]
fn a_clause_that_is_left_out_is_seen() {
    for words in CAUGHT {
        assert!(!search(params(words)).violated.is_empty(), "{words} was not seen");
    }
}

#[test]
fn a_clause_that_another_backs_is_seen_once_that_one_is_left_out_too() {
    for pair in BACKED {
        for words in pair.alone() {
            assert!(search(params(&words)).holds(), "{words} is seen now: it is one of those that are caught");
        }
        let words = pair.both();
        assert!(!search(params(&words)).violated.is_empty(), "{words} was not seen");
    }
}

#[test]
fn a_clause_that_others_back_is_listed_as_long_as_no_search_sees_that_it_is_left_out() {
    for (words, why) in SURVIVES {
        assert!(search(params(words)).holds(), "{words} is seen now: it is one of those that are caught ({why})");
    }
}

#[test]
fn what_the_rules_do_not_promise_is_listed_as_long_as_a_search_finds_it() {
    for (words, why) in OPEN {
        assert!(!search(params(words)).violated.is_empty(), "{words} holds now ({why})");
    }
}

#[test]
fn every_clause_is_seen_alone_or_listed_as_one_that_another_backs() {
    let caught: Vec<_> = CAUGHT.iter().map(|words| params(words).without).collect();
    let survives: Vec<_> = SURVIVES.iter().flat_map(|(words, _)| params(words).without).collect();
    let backed: Vec<_> = BACKED.iter().flat_map(|pair| pair.clauses).collect();
    for clause in Clause::ALL {
        let is_caught = caught.contains(&vec![clause]);
        let is_listed = survives.contains(&clause) && backed.contains(&format!("{clause:?}").as_str());
        assert!(is_caught != is_listed, "{clause:?}");
    }
}

#[test]
fn forgetting_packets_that_cannot_matter_changes_no_verdict() {
    assert!(search(params("writes=1")).holds());
    assert!(search(params("writes=1 forget=0")).holds());
}
