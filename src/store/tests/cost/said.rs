//! Searches, by words that are in many turns and in few.

use super::making::Words;
use super::*;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Searches with each word.
const ROUNDS_EACH: usize = 20;

/// What was said, in lower case, by conversation.
struct Texts(Vec<Vec<String>>);

impl Texts {
    fn of(specs: &[Spec]) -> Self {
        let text = |turn: &making::Turn| format!("{}\n{}", turn.question, turn.answer).to_lowercase();
        Self(specs.iter().map(|spec| spec.turns.iter().map(text).collect()).collect())
    }

    /// The ids of the conversations that have all `words`, the last used first.
    fn having(&self, specs: &[Spec], (owner, words): (Option<usize>, &[String])) -> Vec<i64> {
        let has = |text: &str| words.iter().all(|word| text.contains(word));
        let mut found: Vec<(i64, i64)> = specs
            .iter()
            .zip(&self.0)
            .filter(|(spec, _)| owner.is_none_or(|owner| spec.owner == owner))
            .filter(|(spec, texts)| has(&spec.title.to_lowercase()) || texts.iter().any(|text| has(text)))
            .map(|(spec, _)| (spec.asked, spec.id))
            .collect();
        found.sort_unstable_by_key(|key| Reverse(*key));
        found.into_iter().map(|(_, id)| id).collect()
    }
}

pub(super) async fn measure(store: &Store, (specs, words): (&[Spec], &Words), table: &mut Table) {
    let texts = Texts::of(specs);
    // Of two Chinese letters, of three, and Latin ones: their places among the words, by how often they are said.
    let kinds = |from: usize| [("two letters", from), ("three letters", from + 1), ("Latin", from + 2)];
    for (whose, owner) in [("everybody's", None), ("an owner's", Some(7)), ("a large owner's", Some(0))] {
        for (often, from) in [("often said", 0), ("seldom said", 2400), ("hardly said", 2850)] {
            for (kind, from) in kinds(from) {
                let sought: Vec<Vec<String>> =
                    (0..5).map(|number| vec![words.get(from + 3 * number).to_owned()]).collect();
                let times = search(store, (specs, &texts), owner, &sought).await;
                table.add(&format!("search of {whose}: {kind}, {often}"), times);
            }
        }
        let both = |number: usize| vec![words.get(3 * number + 1).to_owned(), words.get(3 * number + 5).to_owned()];
        let others: [(&str, Vec<Vec<String>>); 4] = [
            ("two words", (0..5).map(both).collect()),
            ("one letter", words.get(0).chars().map(|letter| vec![letter.to_string()]).collect()),
            ("in titles", vec![vec!["关于".to_owned()], vec!["的合同".to_owned()]]),
            ("nowhere", vec![vec!["nowhere at all".replace(' ', "-")], vec!["\u{9000}\u{9001}".to_owned()]]),
        ];
        for (what, sought) in others {
            let times = search(store, (specs, &texts), owner, &sought).await;
            table.add(&format!("search of {whose}: {what}"), times);
        }
    }
}

async fn search(
    store: &Store,
    (specs, texts): (&[Spec], &Texts),
    owner: Option<usize>,
    sought: &[Vec<String>],
) -> Times {
    let (mut times, mut told) = (Times::default(), Vec::new());
    for words in sought {
        let expected = texts.having(specs, (owner, words));
        let all: HashSet<i64> = expected.iter().copied().collect();
        for round in 0..ROUNDS_EACH {
            let from = usize::try_from(offset(round, expected.len(), 20)).unwrap();
            let page = Page { offset: u32::try_from(from).unwrap(), limit: 20 };
            let asked = Sought { owner: owner.map(owner_of), words: words.clone() };
            let found = times.of(store.search(asked, Reach::USUAL, page)).await.unwrap().value;
            let ids: Vec<i64> = found.hits.iter().map(|hit| hit.session.id.row).collect();
            if found.is_cut {
                // Nothing that is not there, and less than there is.
                assert!(ids.iter().all(|id| all.contains(id)) && found.total <= expected.len(), "{words:?}");
            } else {
                assert_eq!(ids, expected[from..expected.len().min(from + 20)], "{words:?} {page:?}");
                assert_eq!(found.total, expected.len(), "{words:?}");
            }
            if round == 0 {
                told.push(format!("{}/{}{}", found.total, expected.len(), if found.is_cut { " cut" } else { "" }));
            }
        }
    }
    eprintln!("   found of all there are: {}", told.join(", "));
    times
}
