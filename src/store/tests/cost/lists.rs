//! Lists of conversations, with every filter and every order.

use super::*;

pub(super) fn fits(filter: &Filter, spec: &Spec) -> bool {
    filter.owner.as_ref().is_none_or(|owner| *owner == owner_of(spec.owner))
        && filter.agent_id.as_ref().is_none_or(|agent| agent.as_str() == agent_name(spec.agent))
        && filter.is_archived.is_none_or(|is_archived| is_archived == spec.is_archived)
        && filter.title.as_ref().is_none_or(|part| spec.title.contains(part))
        && filter.since.is_none_or(|since| spec.asked >= since.0)
        && filter.until.is_none_or(|until| spec.asked < until.0)
}

/// The ids that a list must have, in its order.
fn sorted(specs: &[Spec], filter: &Filter, (key, order): (Key, Order)) -> Vec<i64> {
    let mut found: Vec<&Spec> = specs.iter().filter(|spec| fits(filter, spec)).collect();
    found.sort_by(|one, other| {
        let by = match key {
            Key::CreatedAt => one.began.cmp(&other.began),
            Key::UpdatedAt => one.changed.cmp(&other.changed),
            Key::AskedAt => one.asked.cmp(&other.asked),
            Key::Title => one.title.cmp(&other.title),
            Key::AgentId => one.agent.cmp(&other.agent),
            Key::Turns => one.turns.len().cmp(&other.turns.len()),
        };
        by.then(one.id.cmp(&other.id))
    });
    if order == Order::Descending {
        found.reverse();
    }
    found.into_iter().map(|spec| spec.id).collect()
}

fn filters(specs: &[Spec]) -> Vec<(&'static str, Filter)> {
    let at = |percent: usize| Some(UnixMillis(specs[specs.len() * percent / 100].asked));
    let (middle, late) = (at(50), at(80));
    let agent_id = Some(AgentId::parse(&agent_name(3)).unwrap());
    let usual = Filter::default;
    let owner = |number| Some(owner_of(number));
    vec![
        ("all", usual()),
        ("an agent's", Filter { agent_id: agent_id.clone(), ..usual() }),
        ("archived", Filter { is_archived: Some(true), ..usual() }),
        ("not archived, since", Filter { is_archived: Some(false), since: middle, ..usual() }),
        ("until", Filter { until: late, ..usual() }),
        ("agent, dates", Filter { agent_id: agent_id.clone(), since: middle, until: late, ..usual() }),
        ("title has 7", Filter { title: Some("7".into()), ..usual() }),
        ("title, agent", Filter { title: Some("合同 12".into()), agent_id: agent_id.clone(), ..usual() }),
        ("title has none", Filter { title: Some("nowhere".into()), ..usual() }),
        ("an owner's", Filter { owner: owner(7), ..usual() }),
        ("a large owner's", Filter { owner: owner(0), ..usual() }),
        ("a large owner's title", Filter { owner: owner(0), title: Some("7".into()), ..usual() }),
        ("a large owner's, agent", Filter { owner: owner(0), agent_id, is_archived: Some(false), ..usual() }),
    ]
}

pub(super) async fn measure(store: &Store, specs: &[Spec], table: &mut Table) {
    for (name, filter) in &filters(specs) {
        for key in [Key::AskedAt, Key::CreatedAt, Key::UpdatedAt, Key::Title, Key::AgentId, Key::Turns] {
            let orders = [Order::Descending, Order::Ascending];
            let expected = orders.map(|order| sorted(specs, filter, (key, order)));
            let mut times = Times::default();
            for round in 0..ROUNDS {
                let (order, expected) = (orders[round % 2], &expected[round % 2]);
                let offset = offset(round / 2, expected.len(), 20);
                let page = Page { offset, limit: 20 };
                let listed = times.of(store.sessions_list(filter.clone(), (key, order), page)).await.unwrap().value;
                let from = usize::try_from(offset).unwrap();
                let rows = &expected[from..expected.len().min(from + 20)];
                assert_eq!(listed.rows.len(), rows.len());
                for (row, id) in listed.rows.iter().zip(rows) {
                    let spec = &specs[usize::try_from(id - 1).unwrap()];
                    same(row, spec, &format!("{name} {key:?} {order:?} {page:?}"));
                }
                assert_eq!(listed.total, count(expected.len()));
            }
            table.add(&format!("list of {name}, by {key:?}"), times);
        }
    }
}

fn same(row: &SessionRow, spec: &Spec, what: &str) {
    assert_eq!(row.id.row, spec.id, "{what}");
    assert_eq!((row.id.began.0, row.asked_at.0, row.updated_at.0), (spec.began, spec.asked, spec.changed), "{what}");
    assert_eq!((&row.title, &row.agent_id), (&spec.title, &agent_name(spec.agent)), "{what}");
    assert_eq!((row.owner.as_str(), row.is_archived), (owner_of(spec.owner).as_str(), spec.is_archived), "{what}");
    let spent = Spent { tokens: 30 * count(spec.turns.len()), answer_ms_mean: 1000 };
    assert_eq!((row.turns, row.spent), (count(spec.turns.len()), spent), "{what}");
}
