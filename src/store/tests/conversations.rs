//! What an upstream calls a conversation.

use super::agents::agent;
use super::*;
use crate::base::Secret;
use crate::protocol::agent::CustomHeaders;
use crate::protocol::agent::Source;

/// The end of a turn after which the upstream calls the conversation `theirs`.
fn named(id: &str, state: TurnState, theirs: &str) -> TurnEnd {
    TurnEnd { conversation: Some(theirs.to_owned()), ..end(id, state, "hi") }
}

async fn known(store: &Store, owner: &str, chat: &str) -> Option<String> {
    let session = past(store, owner, chat, "none").await.session?;
    session.conversation.map(|theirs| theirs.to_string())
}

#[tokio::test]
async fn a_name_is_kept_with_the_turns_end_for_its_own_conversation_only() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for (owner, chat, id) in [("1", "c", "id1"), ("1", "d", "id2"), ("2", "c", "id3")] {
        store.turn_begin(question(owner, chat, "t", id)).unwrap().await.unwrap();
    }
    assert_eq!(known(&store, "1", "c").await, None, "nobody has named it yet");
    // Also where the answer failed: the upstream has the question.
    store.turn_finish(named("id1", TurnState::Failed, "theirs-1")).unwrap().await.unwrap();
    assert_eq!(known(&store, "1", "c").await.as_deref(), Some("theirs-1"));
    assert_eq!((known(&store, "1", "d").await, known(&store, "2", "c").await), (None, None));
    store.turn_begin(question("1", "c", "u", "id4")).unwrap().await.unwrap();
    store.turn_finish(end("id4", TurnState::Complete, "hi")).unwrap().await.unwrap();
    assert_eq!(known(&store, "1", "c").await.as_deref(), Some("theirs-1"), "an end that brings none takes none away");
    let keyed = NewTurn { idempotency_key: Some("k".into()), ..question("1", "c", "v", "id5") };
    store.turn_begin(keyed).unwrap().await.unwrap();
    store.turn_finish(named("id5", TurnState::Complete, "theirs-2")).unwrap().await.unwrap();
    let owner = Owner::visitor("1");
    let by_key = store.past((&owner, &agent_id(), &label("other")), None, Some("k"), Budget::Normal).await.unwrap();
    let theirs = by_key.session.and_then(|session| session.conversation).map(|theirs| theirs.to_string());
    assert_eq!(theirs.as_deref(), Some("theirs-2"));
}

#[tokio::test]
async fn the_same_end_twice_and_an_end_of_nothing_name_no_conversation() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    store.turn_finish(named("id1", TurnState::Complete, "theirs-1")).unwrap().await.unwrap();
    store.turn_finish(named("id1", TurnState::Complete, "theirs-2")).unwrap().await.unwrap();
    assert_eq!(known(&store, "1", "c").await.as_deref(), Some("theirs-1"), "the first has been told");
    let refused = store.turn_finish(named("id1", TurnState::Failed, "theirs-3")).unwrap().await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert_eq!(known(&store, "1", "c").await.as_deref(), Some("theirs-1"));
}

#[test]
fn an_end_that_an_older_node_sends_names_nothing() {
    let sent = serde_json::to_value(end("id1", TurnState::Complete, "hi")).unwrap();
    assert_eq!(sent.get("conversation"), None, "an older node reads what a newer one sends");
    let read: TurnEnd = serde_json::from_value(sent).unwrap();
    assert_eq!(read.conversation, None);
}

#[tokio::test]
async fn a_custom_header_is_sealed_with_the_key() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut agent = agent("key-of-the-file", Source::File);
    let headers = [("x-tenant", "value: of a"), ("x-token", "secret-value")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    agent.profile.features.custom_headers = CustomHeaders(headers.into());
    store.agents_put(vec![agent.clone()], true, None).unwrap().await.unwrap();
    assert_eq!(store.agents_list(Budget::Normal).await.unwrap(), [agent]);
    store.close().await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"secret-value"));
    }
    assert_eq!(open_as(dir.path(), opening(2, SETTINGS)).unwrap().agents_list(Budget::Normal).await.unwrap().len(), 1);
}
