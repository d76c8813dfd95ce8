//! Agents of the old service, checked by the rules of the agents file. One that breaks a rule is kept all the same, names
//! what is wrong with it, and is not served until somebody has mended that.

use super::check;
use super::service::Agents;
use crate::base::{AgentId, Secret, UnixMillis};
use crate::clock;
use crate::protocol::agent::{Agent, Features, Profile, Provider, Source};
use crate::protocol::import::{OldAgent, Tally, json, past};
use crate::store::StoreError;
use serde_json::{Map, Value};

const NAME_CHARS_MAX: usize = 120;
const TEXT_BYTES_MAX: usize = 64 << 10;
const WORD_CHARS_MAX: usize = 2048;

impl Agents {
    /// Imports agents; those that are here stay as they are.
    pub(crate) async fn import_old(&self, rows: Vec<OldAgent>) -> Result<Tally, StoreError> {
        let (mut tally, mut agents) = (Tally::default(), Vec::with_capacity(rows.len()));
        let now = clock::unix_millis();
        for row in rows {
            match agent(&row, now) {
                Ok(agent) => agents.push(agent),
                Err(problem) => tally.skip(&row.id, problem),
            }
        }
        let _one_at_a_time = self.editing.lock().await;
        tally.add(self.store.import_agents(agents).await?);
        self.forget();
        Ok(tally)
    }
}

fn agent(row: &OldAgent, now: UnixMillis) -> Result<Agent, &'static str> {
    let id = AgentId::parse(&row.id).map_err(|_| "id: must match [A-Za-z0-9_.:-]{1,128}")?;
    let created_at = past(row.created_at, now).unwrap_or(now);
    let updated_at = past(row.updated_at, now).unwrap_or(created_at);
    let agent = check::agent(Value::Object(entry(row)), &[], Source::Admin, now)
        .unwrap_or_else(|problems| broken(row, id, problems));
    Ok(Agent { created_at, updated_at, ..agent })
}

/// As an operator would have written it.
fn entry(row: &OldAgent) -> Map<String, Value> {
    let mut entry = Map::new();
    let texts = [
        ("id", Some(&row.id)),
        ("name", row.name.as_ref()),
        ("description", row.description.as_ref()),
        ("provider", row.provider.as_ref()),
        ("endpoint", row.endpoint.as_ref()),
        ("apiKey", row.api_key.as_ref()),
        ("appId", row.app_id.as_ref()),
        ("model", row.model.as_ref()),
        ("maxTokens", row.max_tokens.as_ref()),
        ("temperature", row.temperature.as_ref()),
        ("systemPrompt", row.system_prompt.as_ref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            entry.insert(name.to_owned(), text.as_str().into());
        }
    }
    let values = [("capabilities", &row.capabilities), ("rateLimit", &row.rate_limit), ("features", &row.features)];
    for (name, text) in values {
        let value = json(text.as_deref()).filter(|value| !value.as_object().is_some_and(Map::is_empty));
        if let Some(value) = value {
            entry.insert(name.to_owned(), value);
        }
    }
    entry.insert("isActive".to_owned(), is_active(row).into());
    entry
}

/// One that does not say so is not.
fn is_active(row: &OldAgent) -> bool {
    matches!(row.is_active.as_deref(), Some("true" | "t" | "1"))
}

/// What can be kept of an agent that breaks rules.
fn broken(row: &OldAgent, id: AgentId, problems: Vec<String>) -> Agent {
    let short = |text: &Option<String>, chars_max| -> String {
        text.as_deref().unwrap_or_default().chars().take(chars_max).collect()
    };
    let long = |text: &Option<String>| text.clone().filter(|text| text.len() <= TEXT_BYTES_MAX);
    let provider = [
        Provider::Fastgpt,
        Provider::Openai,
        Provider::Anthropic,
        Provider::Dify,
        Provider::Dashscope,
        Provider::Custom,
    ]
    .into_iter()
    .find(|provider| row.provider.as_deref() == Some(provider.as_str()));
    let name = short(&row.name, NAME_CHARS_MAX);
    // A key is one line of what is sealed.
    let api_key = row.api_key.clone().filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    let profile = Profile {
        name: if name.trim().is_empty() { id.to_string() } else { name },
        description: long(&row.description).unwrap_or_default(),
        provider: provider.unwrap_or(Provider::Custom),
        endpoint: short(&row.endpoint, WORD_CHARS_MAX),
        app_id: row.app_id.as_ref().filter(|app_id| !app_id.is_empty()).map(|_| short(&row.app_id, WORD_CHARS_MAX)),
        model: short(&row.model, WORD_CHARS_MAX),
        max_tokens: None,
        temperature: None,
        system_prompt: long(&row.system_prompt).filter(|prompt| !prompt.is_empty()),
        capabilities: Vec::new(),
        rate_limit: None,
        features: Features::default(),
        is_active: is_active(row),
        problems,
    };
    let now = UnixMillis::default();
    Agent {
        id,
        api_key: Secret::new(api_key.unwrap_or_default()),
        profile,
        source: Source::Admin,
        created_at: now,
        updated_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> OldAgent {
        let text = |text: &str| Some(text.to_owned());
        OldAgent {
            id: "a".to_owned(),
            name: text("An agent"),
            provider: text("fastgpt"),
            endpoint: text("http://upstream.test"),
            api_key: text("fastgpt-key"),
            app_id: text("6700aa00bb11cc22dd33ee10"),
            max_tokens: text("100"),
            temperature: text("0.7"),
            system_prompt: text(""),
            capabilities: text(r#"["text"]"#),
            features: text(r#""{\"supportsFiles\":false}""#),
            rate_limit: text("{}"),
            is_active: text("true"),
            created_at: Some(7),
            ..OldAgent::default()
        }
    }

    #[test]
    fn a_sound_agent_is_served() {
        let agent = agent(&old(), UnixMillis(9)).unwrap();
        let profile = &agent.profile;
        assert!(profile.is_served(), "{:?}", profile.problems);
        assert_eq!((profile.max_tokens, profile.temperature), (Some(100), Some(0.7)));
        assert_eq!((profile.capabilities.len(), profile.features.supports_files), (1, false));
        assert_eq!((agent.created_at, agent.updated_at), (UnixMillis(7), UnixMillis(7)));
        assert_eq!((agent.source, agent.api_key.expose()), (Source::Admin, "fastgpt-key"));
    }

    #[test]
    fn a_broken_one_is_kept_and_says_what_is_wrong() {
        for (bad, field) in [
            (OldAgent { provider: Some("zhipu".to_owned()), ..old() }, "provider"),
            (OldAgent { app_id: None, ..old() }, "appId"),
            (OldAgent { endpoint: None, ..old() }, "endpoint"),
            (OldAgent { max_tokens: Some("1000000".to_owned()), ..old() }, "maxTokens"),
            (OldAgent { api_key: Some("a\nb".to_owned()), ..old() }, "apiKey"),
            (OldAgent { features: Some(r#"{"supportsFiles":"maybe"}"#.to_owned()), ..old() }, "features"),
            (OldAgent { description: Some("x".repeat(TEXT_BYTES_MAX + 1)), ..old() }, "description"),
        ] {
            let agent = agent(&bad, UnixMillis(9)).unwrap();
            let problems = agent.profile.problems.join("; ");
            assert!(!agent.profile.is_served() && problems.contains(field), "{field}: {problems}");
            assert!(!agent.api_key.expose().contains('\n'));
        }
        assert!(agent(&OldAgent { id: "a b".to_owned(), ..old() }, UnixMillis(9)).is_err());
        assert!(!agent(&OldAgent { is_active: None, ..old() }, UnixMillis(9)).unwrap().profile.is_active);
    }
}
