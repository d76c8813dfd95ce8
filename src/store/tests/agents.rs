//! What a store keeps of agents.

use super::*;
use crate::base::Secret;
use crate::protocol::agent::{Agent, Features, Profile, Provider, Source};

pub(super) fn agent(key: &str, source: Source) -> Agent {
    let profile = Profile {
        name: "A".into(),
        description: String::new(),
        provider: Provider::Openai,
        endpoint: "http://h/v1/chat/completions".into(),
        app_id: None,
        model: "m".into(),
        max_tokens: None,
        temperature: Some(0.5),
        system_prompt: None,
        capabilities: vec![],
        rate_limit: None,
        features: Features::default(),
        is_active: true,
        problems: vec![],
    };
    let (created_at, updated_at) = (UnixMillis(1), UnixMillis(2));
    Agent { id: agent_id(), api_key: Secret::new(key), profile, source, created_at, updated_at }
}

#[tokio::test]
async fn an_agents_key_is_on_no_disk_in_clear_and_a_person_wins_over_the_file() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let put =
        async |agent, only_over_file| store.agents_put(vec![agent], only_over_file, None).unwrap().await.unwrap().value;
    assert_eq!(put(agent("key-of-the-file", Source::File), true).await.stored, 1);
    assert_eq!(put(agent("key-of-a-person", Source::Admin), false).await.stored, 1);
    assert_eq!(put(agent("key-of-the-file", Source::File), true).await.kept, 1);
    let mut listed = store.agents_list(Budget::Normal).await.unwrap();
    assert_eq!(listed.remove(0), agent("key-of-a-person", Source::Admin));
    assert!(store.agent_remove(agent_id(), None).unwrap().await.unwrap().value);
    assert!(!store.agent_remove(agent_id(), None).unwrap().await.unwrap().value);
    store.close().await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"key-of-"));
    }
}

#[tokio::test]
async fn another_data_key_opens_no_agent_and_says_which() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.agents_put(vec![agent("k", Source::File)], true, None).unwrap().await.unwrap();
    store.close().await.unwrap();
    let other = open_as(dir.path(), Opening { data_key: [8; 32], ..opening(2, SETTINGS) }).unwrap();
    let refused = other.agents_list(Budget::Normal).await.unwrap_err().to_string();
    assert!(refused.contains("`a`"), "{refused}");
}
