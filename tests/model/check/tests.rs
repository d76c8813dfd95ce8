use crate::params::Params;
use crate::profiles::{CAUGHT, SMALL, SURVIVES};
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
fn a_clause_that_others_back_is_listed_as_long_as_no_search_sees_that_it_is_left_out() {
    for (words, why) in SURVIVES {
        assert!(search(params(words)).holds(), "{words} is seen now: it is one of those that are caught ({why})");
    }
}

#[test]
fn every_clause_is_left_out_somewhere() {
    let all = CAUGHT.iter().copied().chain(SURVIVES.map(|(words, _)| words)).map(params);
    let left_out: Vec<_> = all.flat_map(|params| params.without).collect();
    for clause in Clause::ALL {
        assert!(left_out.contains(&clause), "{clause:?}");
    }
}

#[test]
fn forgetting_packets_that_cannot_matter_changes_no_verdict() {
    assert!(search(params("writes=1")).holds());
    assert!(search(params("writes=1 forget=0")).holds());
}
