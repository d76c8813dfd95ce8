//! What else is asked: conversations with their turns, what happened with an agent, exports, users, files, the audit.

use super::lists::fits;
use super::*;
use crate::store::audit::{AuditRow, put_row};

pub(super) const USERS: usize = 20_000;
const AUDITED: usize = 200_000;
const FILES: usize = 50_000;
const ACTIONS: [&str; 5] = ["user.create", "agent.update", "auth.login", "session.delete", "auth.logout"];
const AT_ONCE: usize = 2000;

/// Of the `number`th user; in no order.
fn username(number: usize) -> String {
    format!("user-{:05}-{number}", number * 7919 % USERS)
}

fn audit_row(number: usize) -> AuditRow {
    AuditRow {
        id: 0,
        at: UnixMillis(BEGIN + i64::try_from(number).unwrap()),
        user_id: Some(i64::try_from(number * 31 % 500).unwrap()),
        username: Some(format!("somebody-{}", number * 31 % 500)),
        action: ACTIONS[number * 17 % ACTIONS.len()].to_owned(),
        resource_type: "thing".to_owned(),
        resource_id: Some(number.to_string()),
        details: format!(r#"{{"number":{number}}}"#),
        ip_address: Some("192.0.2.1".to_owned()),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned()),
        is_failure: number.is_multiple_of(9),
        error: number.is_multiple_of(9).then(|| "ADMIN_REQUIRED".to_owned()),
    }
}

pub(super) async fn write(store: &Store) {
    let user = |rows: &Connection, number: usize| {
        let sql = "INSERT INTO users (username, role, status, password, created_at, updated_at)
            VALUES (?1, 'user', 'active', 'x', ?2, ?2)";
        rows.prepare_cached(sql)?.execute(rusqlite::params![username(number), i64::try_from(number).unwrap()]).map(drop)
    };
    let file = |rows: &Connection, number: usize| {
        let sql = "INSERT INTO attachments (id, name, owner, original_name, media_type, size, source, created_at)
            VALUES (?1, 'file-' || ?1, ?2, 'its name', 'image/png', 1, 'library', 1)";
        let owner = owner_of(number % 100);
        rows.prepare_cached(sql)?
            .execute(rusqlite::params![i64::try_from(number + 1).unwrap(), owner.as_str()])
            .map(drop)
    };
    put(store, USERS, user).await;
    put(store, FILES, file).await;
    put(store, AUDITED, |rows, number| put_row(rows, audit_row(number))).await;
}

async fn put(
    store: &Store,
    count: usize,
    one: impl Fn(&Connection, usize) -> rusqlite::Result<()> + Copy + Send + 'static,
) {
    for from in (0..count).step_by(AT_ONCE) {
        let written = store.write(16 << 20, move |scope| {
            let mut all = from..count.min(from + AT_ONCE);
            all.try_for_each(|number| one(scope.rows, number)).map_err(StoreError::sql("write many"))
        });
        written.unwrap().await.unwrap();
    }
}

pub(super) async fn measure(store: &Store, specs: &[Spec], table: &mut Table) {
    told(store, specs, table).await;
    events(store, specs, table).await;
    exports(store, specs, table).await;
    users(store, table).await;
    audit(store, table).await;
    files(store, table).await;
}

async fn told(store: &Store, specs: &[Spec], table: &mut Table) {
    let (mut times, mut named) = (Times::default(), Times::default());
    for round in 0..ROUNDS {
        let spec = &specs[round * 7919 % specs.len()];
        let id = crate::base::SessionId { row: spec.id, began: UnixMillis(spec.began) };
        let owner = owner_of(spec.owner);
        let told = times.of(store.session_told(id, Some(&owner), Page { offset: 1, limit: 3 })).await.unwrap().value;
        let told = told.unwrap().turns.into_iter().map(|turn| (turn.asked_at.0, turn.answer));
        let expected = spec.turns[1..4].iter().map(|turn| (turn.at, turn.answer.clone()));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let chat = label(&format!("c{}", spec.id));
        let found = named.of(store.sessions_named(&owner, None, &chat)).await.unwrap().value;
        assert_eq!(found.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [id]);
    }
    table.add("a conversation with its turns", times);
    table.add("a conversation by its name", named);
}

async fn events(store: &Store, specs: &[Spec], table: &mut Table) {
    let order = making::by_time(specs);
    let of_agent = |(_, place, _): &&(i64, usize, usize)| specs[*place].agent == 3;
    let expected: Vec<(i64, i64, String)> = order
        .iter()
        .rev()
        .filter(of_agent)
        .map(|(at, place, number)| (*at, specs[*place].id, format!("t{number}")))
        .collect();
    let agent = AgentId::parse(&agent_name(3)).unwrap();
    let mut times = Times::default();
    for round in 0..ROUNDS {
        let offset = offset(round, expected.len(), 50);
        let found = times.of(store.turn_events(agent.clone(), Page { offset, limit: 50 })).await.unwrap().value;
        let from = usize::try_from(offset).unwrap();
        let told = found.rows.into_iter().map(|event| (event.asked_at.0, event.session.row, event.label));
        assert_eq!(told.collect::<Vec<_>>(), expected[from..expected.len().min(from + 50)]);
        assert_eq!(found.total, count(expected.len()));
    }
    table.add("what happened with an agent", times);
}

async fn exports(store: &Store, specs: &[Spec], table: &mut Table) {
    let agent = AgentId::parse(&agent_name(3)).unwrap();
    let last = specs[specs.len() - 1].id;
    for (name, filter) in [
        ("all", Filter::default()),
        ("an agent's", Filter { agent_id: Some(agent), ..Filter::default() }),
        ("title has none", Filter { title: Some("nowhere".into()), ..Filter::default() }),
        ("a large owner's", Filter { owner: Some(owner_of(0)), ..Filter::default() }),
    ] {
        let expected: Vec<i64> = specs.iter().filter(|spec| fits(&filter, spec)).map(|spec| spec.id).collect();
        let (mut lines, mut first, mut said) = (Times::default(), Times::default(), Times::default());
        for _ in 0..ROUNDS {
            let counted = lines.of(store.export_lines(filter.clone())).await.unwrap().value;
            assert_eq!(counted, count(expected.len() * TURNS_EACH * 2));
            let walked = first.of(store.sessions_after(filter.clone(), (0, last), 100)).await.unwrap().value;
            let found: Vec<i64> = walked.sessions.iter().map(|session| session.id.row).collect();
            let reached = expected.iter().filter(|id| **id <= walked.reached).copied();
            assert_eq!(found, reached.collect::<Vec<_>>());
            assert!(walked.reached > 0);
            let Some(session) = walked.sessions.last() else { continue };
            let turns = said.of(store.said_after(session.id, 0)).await.unwrap().value.unwrap().turns;
            let spec = &specs[usize::try_from(session.id.row - 1).unwrap()];
            assert!(turns.iter().map(|turn| &turn.answer).eq(spec.turns.iter().map(|turn| &turn.answer)));
        }
        table.add(&format!("export of {name}: its lines"), lines);
        table.add(&format!("export of {name}: its first 100"), first);
        if !expected.is_empty() {
            table.add(&format!("export of {name}: turns of one"), said);
        }
    }
}

async fn users(store: &Store, table: &mut Table) {
    let mut names: Vec<String> = (0..USERS).map(username).collect();
    names.sort_unstable();
    for (name, search) in [("all", None), ("a part of names", Some("-12")), ("no name", Some("nobody"))] {
        let has = |name: &&String| search.is_none_or(|part| name.contains(part));
        let expected: Vec<&String> = names.iter().filter(has).collect();
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let offset = offset(round, expected.len(), 20);
            let asked = store.users(search.map(str::to_uppercase), (offset, 20));
            let (found, total) = times.of(asked).await.unwrap();
            let from = usize::try_from(offset).unwrap();
            let page = &expected[from..expected.len().min(from + 20)];
            assert!(found.iter().map(|user| user.username.as_str()).eq(page.iter().map(|name| name.as_str())));
            assert_eq!(usize::try_from(total).unwrap(), expected.len());
        }
        table.add(&format!("users, {name}"), times);
    }
}

async fn audit(store: &Store, table: &mut Table) {
    let action = |name: &str| Some(name.to_owned());
    for (name, filter) in [
        ("all", AuditFilter::default()),
        ("an action", AuditFilter { action: action("auth.login"), user_id: None }),
        ("no such action", AuditFilter { action: action("nothing"), user_id: None }),
        ("a user's", AuditFilter { action: None, user_id: Some(31) }),
        ("an action of a user's", AuditFilter { action: action("user.create"), user_id: Some(45) }),
    ] {
        let fits = |row: &AuditRow| {
            filter.action.as_ref().is_none_or(|action| *action == row.action)
                && filter.user_id.is_none_or(|user| Some(user) == row.user_id)
        };
        let expected: Vec<usize> = (0..AUDITED).rev().filter(|number| fits(&audit_row(*number))).collect();
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let offset = offset(round, expected.len(), 50);
            let (found, total) = times.of(store.audit_rows(filter.clone(), (offset, 50))).await.unwrap();
            let from = usize::try_from(offset).unwrap();
            let page = expected[from..expected.len().min(from + 50)]
                .iter()
                .map(|number| AuditRow { id: i64::try_from(number + 1).unwrap(), ..audit_row(*number) });
            assert_eq!(found, page.collect::<Vec<_>>());
            assert_eq!(usize::try_from(total).unwrap(), expected.len());
        }
        table.add(&format!("audit, {name}"), times);
    }
}

async fn files(store: &Store, table: &mut Table) {
    for (name, owner) in [("everybody's", None), ("an owner's", Some(owner_of(7)))] {
        let is_theirs = |number: &usize| owner.is_none() || number % 100 == 7;
        let expected: Vec<i64> =
            (0..FILES).rev().filter(is_theirs).map(|number| i64::try_from(number + 1).unwrap()).collect();
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let offset = offset(round, expected.len(), 20);
            let found = times.of(store.attachments(owner.as_ref(), Page { offset, limit: 20 })).await.unwrap().value;
            let from = usize::try_from(offset).unwrap();
            let page = &expected[from..expected.len().min(from + 20)];
            assert!(found.rows.iter().map(|row| &row.id).eq(page));
            assert_eq!(found.total, count(expected.len()));
        }
        table.add(&format!("files, {name}"), times);
    }
}
