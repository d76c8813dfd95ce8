//! Lists, numbers and changes of conversations, compared with a plain list of them.

use super::made::{Made, MadeSession, QUEUE, id_of};
use super::*;
use crate::store::session_export::LOOKED_AT_MAX;
use std::cmp::Reverse;
use std::collections::BTreeMap;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn is_in(filter: &Filter, session: &MadeSession) -> bool {
    let Filter { owner, agent_id, chat, is_archived, title, since, until } = filter;
    owner.as_ref().is_none_or(|owner| *owner == Owner::visitor(&session.owner))
        && agent_id.as_ref().is_none_or(|agent| agent.as_str() == session.agent)
        && chat.as_ref().is_none_or(|chat| chat.as_str() == session.chat)
        && is_archived.is_none_or(|is_archived| is_archived == session.is_archived)
        && title.as_ref().is_none_or(|part| session.title.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
        && since.is_none_or(|since| session.asked >= since.0)
        && until.is_none_or(|until| session.asked < until.0)
}

fn sorted(made: &Made, filter: &Filter, (key, order): (Key, Order)) -> Vec<String> {
    let mut found: Vec<(usize, &MadeSession)> =
        made.sessions.iter().enumerate().filter(|(_, session)| is_in(filter, session)).collect();
    let count = |session: &MadeSession| i64::try_from(session.turns.len()).unwrap();
    found.sort_by(|(first, one), (second, other)| {
        let by = match key {
            Key::CreatedAt => one.began.cmp(&other.began),
            Key::UpdatedAt => one.changed.cmp(&other.changed),
            Key::AskedAt => one.asked.cmp(&other.asked),
            Key::Title => one.title.cmp(&other.title),
            Key::AgentId => one.agent.cmp(&other.agent),
            Key::Turns => count(one).cmp(&count(other)),
        };
        by.then(first.cmp(second))
    });
    if order == Order::Descending {
        found.reverse();
    }
    found.into_iter().map(|(_, session)| session.chat.clone()).collect()
}

/// A filter that leaves some, most of the time.
fn some_filter(made: &mut Made, owners: usize) -> Filter {
    let mut filter = Filter::default();
    if made.random.below(2) == 0 {
        filter.owner = Some(Owner::visitor(&made.random.below(owners).to_string()));
    }
    if made.random.below(3) == 0 {
        filter.agent_id = Some(AgentId::parse(&format!("agent-{}", made.random.below(6))).unwrap());
    }
    if made.random.below(3) == 0 {
        filter.is_archived = Some(made.random.below(2) == 0);
    }
    if made.random.below(3) == 0 {
        filter.title = Some(made.word());
    }
    let at = |made: &mut Made| {
        let index = made.random.below(made.sessions.len());
        Some(UnixMillis(made.sessions[index].asked))
    };
    if made.random.below(4) == 0 {
        filter.since = at(made);
    }
    if made.random.below(4) == 0 {
        filter.until = at(made);
    }
    filter
}

async fn change_some(store: &Store, made: &mut Made, count: usize) {
    for step in 0..count {
        let number = made.random.below(made.sessions.len());
        let id = id_of(store, &made.sessions[number]).await;
        let at = made.sessions[number].changed + 1 + i64::try_from(made.random.below(1_000_000)).unwrap();
        let (change, title) = match step % 3 {
            0 => (Change::Rename(format!("renamed {step}")), Some(format!("renamed {step}"))),
            1 => (Change::Archive, None),
            _ => (Change::Unarchive, None),
        };
        let is_archived = match &change {
            Change::Rename(_) => made.sessions[number].is_archived,
            Change::Archive => true,
            Change::Unarchive => false,
        };
        let owner = Owner::visitor(&made.sessions[number].owner);
        let changed = store.session_change(id, Some(&owner), (change, UnixMillis(at)), None).unwrap().await.unwrap();
        assert_eq!(changed.value.map(|session| session.id), Some(id));
        let session = &mut made.sessions[number];
        if title.is_some() || session.is_archived != is_archived {
            session.changed = at;
        }
        session.title = title.unwrap_or_else(|| session.title.clone());
        session.is_archived = is_archived;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_sorted_and_cut_into_pages_as_a_plain_list_would_be() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, QUEUE)).unwrap();
    let mut made = Made::new(7);
    made.add(&store, (2500, 40)).await;
    change_some(&store, &mut made, 300).await;
    made.ask_again(&store, 100).await;
    made.delete(&store, 50).await;
    made.add(&store, (100, 40)).await;
    let keys = [Key::CreatedAt, Key::UpdatedAt, Key::AskedAt, Key::Title, Key::AgentId, Key::Turns];
    for round in 0..120 {
        let filter = some_filter(&mut made, 41);
        let sort = (keys[round % keys.len()], if round % 2 == 0 { Order::Ascending } else { Order::Descending });
        let expected = sorted(&made, &filter, sort);
        let (mut listed, mut total) = (Vec::new(), 0);
        let limit = u32::try_from(1 + made.random.below(700)).unwrap();
        for page in 0.. {
            let page = Page { offset: page * limit, limit };
            let found = store.sessions_list(filter.clone(), sort, page).await.unwrap().value;
            total = found.total;
            if found.rows.is_empty() {
                break;
            }
            listed.extend(found.rows);
        }
        let chats: Vec<&str> = listed.iter().map(|session| session.chat.as_str()).collect();
        assert_eq!(chats, expected, "{filter:?} {sort:?}");
        assert_eq!(total, u64::try_from(expected.len()).unwrap());
    }
    let counts = store.counts().await.unwrap();
    let counted =
        [counts.sessions, counts.archived_sessions, counts.turns].map(|count| usize::try_from(count).unwrap());
    let archived = made.sessions.iter().filter(|session| session.is_archived).count();
    let turns = made.sessions.iter().map(|session| session.turns.len()).sum();
    assert_eq!(counted, [made.sessions.len(), archived, turns]);
    // And what is said of each.
    let all =
        store.sessions_list(Filter::default(), (Key::CreatedAt, Order::Ascending), Page { offset: 0, limit: 9999 });
    for row in all.await.unwrap().value.rows {
        let known = made.sessions.iter().find(|session| session.chat == row.chat).unwrap();
        assert_eq!((&row.title, row.is_archived), (&known.title, known.is_archived));
        assert_eq!((row.id.began.0, row.asked_at.0, row.updated_at.0), (known.began, known.asked, known.changed));
        assert_eq!(row.turns, u64::try_from(known.turns.len()).unwrap());
        assert_eq!((row.owner, &row.agent_id), (format!("visitor:{}", known.owner), &known.agent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_those_of_a_plain_list() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, QUEUE)).unwrap();
    let mut made = Made::new(11);
    made.add(&store, (1500, 20)).await;
    change_some(&store, &mut made, 200).await;
    for _ in 0..30 {
        let filter = some_filter(&mut made, 21);
        let stats = store.session_stats(filter.clone(), |at| at.0.div_euclid(DAY_MS)).await.unwrap().value;
        // By when they began, and not by when they were used last.
        let (since, until) = (filter.since, filter.until);
        let others = Filter { since: None, until: None, ..filter.clone() };
        let began = |began: i64| since.is_none_or(|at| began >= at.0) && until.is_none_or(|at| began < at.0);
        let found: Vec<&MadeSession> =
            made.sessions.iter().filter(|session| is_in(&others, session) && began(session.began)).collect();
        let count = |of: &dyn Fn(&MadeSession) -> usize| -> u64 {
            found.iter().map(|session| u64::try_from(of(session)).unwrap()).sum()
        };
        assert_eq!(stats.sessions, count(&|_| 1), "{filter:?}");
        let lines = store.export_lines(filter.clone()).await.unwrap().value;
        let fits = made.sessions.iter().filter(|session| is_in(&filter, session));
        assert_eq!(
            lines,
            fits.map(
                |session| u64::try_from(session.turns.len()).unwrap().max(1) * 2 - u64::from(session.turns.is_empty())
            )
            .sum::<u64>()
        );
        assert_eq!(stats.archived, count(&|session| usize::from(session.is_archived)));
        assert_eq!(stats.turns, count(&|session| session.turns.len()));
        let mut days = BTreeMap::<i64, u64>::new();
        let mut agents = BTreeMap::<&str, (u64, u64)>::new();
        for session in &found {
            *days.entry(session.began.div_euclid(DAY_MS)).or_default() += 1;
            let agent = agents.entry(&session.agent).or_default();
            *agent = (agent.0 + 1, agent.1 + u64::try_from(session.turns.len()).unwrap());
        }
        assert!(days.len() <= 366, "none is left out");
        assert_eq!(stats.by_day, days.into_iter().collect::<Vec<_>>());
        let mut expected: Vec<(&str, u64, u64)> =
            agents.into_iter().map(|(agent, (sessions, turns))| (agent, sessions, turns)).collect();
        expected.sort_by_key(|(_, sessions, _)| Reverse(*sessions));
        let by_agent: Vec<(&str, u64, u64)> =
            stats.by_agent.iter().map(|agent| (agent.agent_id.as_str(), agent.sessions, agent.turns)).collect();
        assert_eq!(by_agent, expected);
    }
}

/// As an export walks through all: by their keys, and no further at once than it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_finds_each_that_fits_once_and_looks_at_so_many_at_a_time() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, QUEUE)).unwrap();
    let mut made = Made::new(13);
    made.add(&store, (300, 20)).await;
    // Many more that are somebody else's, and a hole among their keys.
    let more = i64::from(2 * LOOKED_AT_MAX);
    let filled = store.write(1 << 20, move |scope| {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
            INSERT INTO sessions (id, owner, agent_id, chat_id, upstream_chat_id, created_at, updated_at)
            SELECT 100000 + i, 'visitor:many', 'many', 'c' || i, 'u' || i, i, i FROM n";
        scope.rows.execute(sql, [more]).map_err(StoreError::sql("fill"))
    });
    filled.unwrap().await.unwrap();
    made.add(&store, (100, 20)).await;
    let last = store.last_session().await.unwrap().value;
    for round in 0..20 {
        let filter = if round == 0 { Filter::default() } else { some_filter(&mut made, 21) };
        let (mut chats, mut after, mut reads) = (Vec::new(), 0, 0);
        while after < last {
            let walked = store.sessions_after(filter.clone(), (after, last), 100).await.unwrap().value;
            assert!(walked.reached > after && walked.sessions.len() <= 100);
            assert!(walked.sessions.iter().all(|session| session.id.row > after && session.id.row <= walked.reached));
            chats.extend(walked.sessions.into_iter().filter(|session| session.agent_id != "many").map(|one| one.chat));
            (after, reads) = (walked.reached, reads + 1);
        }
        let fits = made.sessions.iter().filter(|session| is_in(&filter, session));
        assert_eq!(chats, fits.map(|session| session.chat.as_str()).collect::<Vec<_>>(), "{filter:?}");
        assert!(filter.owner.is_some() || reads > 2, "{reads} reads of {last} sessions");
    }
}

#[tokio::test]
async fn a_session_is_changed_by_its_owner_or_an_administrator_and_by_nobody_else() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "x").await;
    let (owner, other) = (Owner::visitor("1"), Owner::visitor("2"));
    let id = store.sessions_named(&owner, None, &label("c")).await.unwrap().value.rows[0].id;
    let rename = |title: &str| (Change::Rename(title.to_owned()), UnixMillis(9));
    assert!(store.session_change(id, Some(&other), rename("theirs"), None).unwrap().await.unwrap().value.is_none());
    assert!(store.session(id, Some(&other)).await.unwrap().value.is_none());
    assert!(store.session_change(id, None, rename("a title"), None).unwrap().await.unwrap().value.is_some());
    let found = store.session(id, Some(&owner)).await.unwrap().value.unwrap();
    assert_eq!((found.title.as_str(), found.updated_at, found.asked_at), ("a title", UnixMillis(9), UnixMillis(1)));
    assert_eq!(found.spent, Spent { tokens: 7, answer_ms_mean: 1 });
    // The same row of another time is another session.
    let later = crate::base::SessionId { began: UnixMillis(id.began.0 + 1), ..id };
    assert!(store.session_change(later, None, rename("nobody's"), None).unwrap().await.unwrap().value.is_none());
    assert_eq!(store.sessions_retire(vec![later], None, None).unwrap().await.unwrap().value.deleted, 0);
    assert_eq!(store.sessions_retire(vec![id, id], None, None).unwrap().await.unwrap().value.deleted, 1);
    assert!(store.session(id, None).await.unwrap().value.is_none());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_deleted_session_leaves_no_row_of_it_anywhere() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for chat in ["c", "d"] {
        answered(&store, question("1", chat, "t", &format!("id-{chat}")), "an answer").await;
        let put = store.feedback_put(
            (&Owner::visitor("1"), &agent_id(), &label(chat)),
            &label("t"),
            (Some((Verdict::Good, "yes".into())), UnixMillis(3)),
        );
        assert!(put.unwrap().await.unwrap().value.is_some());
    }
    made::index_all(&store).await;
    let running = question("1", "c", "u", "id-u");
    store.turn_begin(running).unwrap().await.unwrap();
    made::index_all(&store).await;
    let count = async |table: &'static str| {
        let counted = store.read(Budget::Normal, move |rows| {
            let sql = format!("SELECT count(*) FROM {table}");
            rows.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(StoreError::sql("count"))
        });
        counted.await.unwrap()
    };
    let tables = ["sessions", "turns", "feedback", "search_docs", "search", "search_pending"];
    let mut before = Vec::new();
    for table in tables {
        before.push(count(table).await);
    }
    assert_eq!(before, [2, 3, 2, 2, 2, 1]);
    let id = store.sessions_named(&Owner::visitor("1"), None, &label("c")).await.unwrap().value.rows[0].id;
    store.sessions_retire(vec![id], None, None).unwrap().await.unwrap();
    let mut after = Vec::new();
    for table in tables {
        after.push(count(table).await);
    }
    assert_eq!(after, [1, 1, 1, 1, 1, 0], "the other's are there");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_change_to_what_is_so_already_leaves_the_session_as_old_as_it_was() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "x").await;
    let id = store.sessions_named(&Owner::visitor("1"), None, &label("c")).await.unwrap().value.rows[0].id;
    let changed = async |change, at| {
        let changed = store.session_change(id, None, (change, UnixMillis(at)), None).unwrap().await.unwrap();
        let session = changed.value.expect("it is there");
        (session.is_archived, session.updated_at.0)
    };
    assert_eq!(changed(Change::Unarchive, 5).await, (false, 1));
    assert_eq!(changed(Change::Archive, 6).await, (true, 6));
    assert_eq!(changed(Change::Archive, 7).await, (true, 6));
    assert_eq!(changed(Change::Rename("a title".to_owned()), 8).await, (true, 8));
    assert_eq!(changed(Change::Rename("a title".to_owned()), 9).await, (true, 8));
    assert_eq!(changed(Change::Unarchive, 10).await, (false, 10));
    store.close().await.unwrap();
}
