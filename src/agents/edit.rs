//! What an administrator changes of agents, by the same rules as the agents file.

use super::check;
use super::file::{self, FileError, Import};
use super::service::{Agents, AgentsError, ImportReport};
use crate::base::{AgentId, random_id};
use crate::clock;
use crate::protocol::agent::{Agent, Features, Provider, Source};
use crate::protocol::answer::Failure;
use crate::store::{AuditEntry, StoreError};
use crate::upstream::MayAsk;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// Each as `field: rule`.
    #[error("the agent is not as it has to be")]
    Problems(Vec<String>),
    #[error("an agent has this id already")]
    Exists,
    #[error("no agent has the id that was asked for")]
    Unknown,
    #[error("there is no agents file")]
    NoFile,
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the agent's server did not describe it")]
    Upstream(#[source] Failure),
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// What an upstream says of its app.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) model: String,
    pub(crate) features: Features,
}

/// How many agents there are after the file was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reloaded {
    pub(crate) total: usize,
    pub(crate) active: usize,
}

impl From<AgentsError> for EditError {
    fn from(error: AgentsError) -> Self {
        match error {
            AgentsError::Unknown | AgentsError::Inactive => Self::Unknown,
            AgentsError::Store(cause) => Self::Store(cause),
            AgentsError::Upstream(failure) => Self::Upstream(failure),
        }
    }
}

impl Agents {
    /// Adds an agent; one without an id is given one.
    pub(crate) async fn create(
        &self,
        mut entry: Map<String, Value>,
        audit: impl FnOnce(&Agent) -> AuditEntry,
    ) -> Result<Agent, EditError> {
        if entry.get("id").is_none_or(|id| id.is_null() || id == "") {
            entry.insert("id".to_owned(), format!("agent-{}", &random_id()[..12]).into());
        }
        let agent = checked(entry, &[])?;
        let _one_at_a_time = self.editing.lock().await;
        if self.stored().await?.iter().any(|other| other.id == agent.id) {
            return Err(EditError::Exists);
        }
        self.keep(agent, audit).await
    }

    /// Changes the fields of an agent that `patch` names; a key that is absent or empty stays what it is.
    pub(crate) async fn update(
        &self,
        id: &str,
        patch: Map<String, Value>,
        audit: impl FnOnce(&Agent) -> AuditEntry,
    ) -> Result<Agent, EditError> {
        // As in a new one, an empty text says nothing: forms send every field.
        let patch: Map<String, Value> = patch.into_iter().filter(|(_, value)| value != "").collect();
        let _one_at_a_time = self.editing.lock().await;
        let stored = self.stored().await?.into_iter().find(|agent| agent.id.as_str() == id);
        let before = stored.ok_or(EditError::Unknown)?;
        if patch.get("id").is_some_and(|given| given != id) {
            return Err(EditError::Problems(vec!["id: is the agent's for ever".to_owned()]));
        }
        // Also one that rules refuse which came after it.
        if patch.len() == 1 && patch.get("isActive") == Some(&Value::Bool(false)) {
            let mut off = before;
            off.profile.is_active = false;
            return self.keep(off, audit).await;
        }
        // What the environment lacked is still lacking, unless it is given now.
        let is_given = |field: &str| patch.get(field).is_some_and(|value| !value.is_null());
        let unset: Vec<_> = check::unset(&before.profile.problems)
            .into_iter()
            .filter(|unset| !is_given(unset.field.split('.').next().unwrap_or_default()))
            .collect();
        let mut entry = entry_of(&before);
        entry.extend(patch);
        keep_secrets(&mut entry, &before);
        let agent = Agent { created_at: before.created_at, ..checked(entry, &unset)? };
        let moved: Vec<_> = Moved::of(&before, &agent).into_iter().collect();
        let agent = self.keep(agent, |agent| Moved::noted(audit(agent), &moved)).await?;
        moved.iter().for_each(Moved::warn);
        Ok(agent)
    }

    async fn keep(&self, agent: Agent, audit: impl FnOnce(&Agent) -> AuditEntry) -> Result<Agent, EditError> {
        let entry = audit(&agent);
        let import = Import { agents: vec![agent.clone()], ..Import::default() };
        self.put(import, Source::Admin, Some(entry)).await?;
        Ok(agent)
    }

    /// Removes an agent, as [`Agents::remove`], by a client's text.
    pub(crate) async fn delete(&self, id: &str, entry: AuditEntry) -> Result<(), EditError> {
        let id = AgentId::parse(id).map_err(|_| EditError::Unknown)?;
        let _one_at_a_time = self.editing.lock().await;
        if self.remove(id, Some(entry)).await? { Ok(()) } else { Err(EditError::Unknown) }
    }

    /// Stores the agents of `{"agents": […]}`, over what is there; with `all_or_nothing` none where one is refused. A
    /// variable of the environment is nobody's to read from afar.
    pub(crate) async fn import_posted(
        &self,
        mut entries: Vec<Value>,
        all_or_nothing: bool,
        entry: AuditEntry,
    ) -> Result<(ImportReport, usize), EditError> {
        let _one_at_a_time = self.editing.lock().await;
        let known = self.stored().await?;
        for posted in entries.iter_mut().filter_map(Value::as_object_mut) {
            let before = known.iter().find(|agent| posted.get("id").is_some_and(|id| id == agent.id.as_str()));
            if let Some(before) = before {
                keep_secrets(posted, before);
            }
        }
        let text = json!({ "agents": entries }).to_string();
        let mut import = Import::parse(&text, Source::Admin, clock::unix_millis(), &|_| None)?;
        if all_or_nothing && !import.rejected.is_empty() {
            import.agents.clear();
        }
        let created = import.agents.iter().filter(|agent| known.iter().all(|other| other.id != agent.id)).count();
        let before = |agent: &Agent| known.iter().find(|other| other.id == agent.id);
        let moved: Vec<_> =
            import.agents.iter().filter_map(|agent| Moved::of(before(agent)?, agent)).take(MOVED_NOTED_MAX).collect();
        let report = self.put(import, Source::Admin, Some(Moved::noted(entry, &moved))).await?;
        moved.iter().for_each(Moved::warn);
        Ok((report, created))
    }

    /// Reads the agents file again.
    pub(crate) async fn reload(&self, entry: AuditEntry) -> Result<Reloaded, EditError> {
        let path = Arc::clone(self.file.as_ref().ok_or(EditError::NoFile)?);
        let import = file::read(&path, Source::File)?;
        let _one_at_a_time = self.editing.lock().await;
        self.put(import, Source::File, Some(entry)).await?;
        let agents = self.stored().await?;
        let active = agents.iter().filter(|agent| agent.profile.is_served()).count();
        Ok(Reloaded { total: agents.len(), active })
    }

    /// Asks an upstream, which is no agent yet, what its app is.
    pub(crate) async fn describe(&self, mut entry: Map<String, Value>) -> Result<Described, EditError> {
        entry.insert("id".to_owned(), "described".into());
        let agent = checked(entry, &[])?;
        if agent.profile.provider != Provider::Fastgpt {
            return Err(EditError::Problems(vec!["provider: only fastgpt describes its apps".to_owned()]));
        }
        let may_ask: MayAsk = Arc::new(|| true); // An administrator does.
        let described = self.client.init(&agent, None, &may_ask).await.map_err(EditError::Upstream)?;
        let text = |path: &str| described.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let has = |path: &str| described.pointer(path).and_then(Value::as_bool).unwrap_or(false);
        Ok(Described {
            name: text("/app/name"),
            description: text("/app/intro"),
            model: described.pointer("/app/chatModels/0").and_then(Value::as_str).unwrap_or_default().to_owned(),
            features: Features {
                supports_files: has("/app/chatConfig/fileSelectConfig/canSelectFile"),
                supports_images: has("/app/chatConfig/fileSelectConfig/canSelectImg"),
                ..Features::default()
            },
        })
    }
}

/// Of one import: an audit's row is no list of a thousand agents.
const MOVED_NOTED_MAX: usize = 100;

/// An agent's stored key goes to another server than before: whoever can change an agent, and not read its key, could have
/// it sent to themselves.
struct Moved {
    id: AgentId,
    from: String,
    to: String,
}

impl Moved {
    fn of(before: &Agent, after: &Agent) -> Option<Self> {
        // Scheme, host and port: nobody's path is anybody else's business.
        let origin = |agent: &Agent| {
            let url = url::Url::parse(&agent.profile.endpoint).ok();
            url.map_or_else(|| "?".to_owned(), |url| url.origin().ascii_serialization())
        };
        let (from, to) = (origin(before), origin(after));
        let same_secret = before.api_key.expose() == after.api_key.expose() && !after.api_key.expose().is_empty();
        let headers = &after.profile.features.custom_headers.0;
        let same_header = before.profile.features.custom_headers.0.iter().any(|(name, value)| {
            let kept = headers.get(name).is_some_and(|kept| kept.expose() == value.expose());
            kept && !value.expose().is_empty()
        });
        ((same_secret || same_header) && from != to).then(|| Self { id: after.id.clone(), from, to })
    }

    /// `entry`, whose details say where keys go from now on.
    fn noted(entry: AuditEntry, moved: &[Self]) -> AuditEntry {
        let Ok(Value::Object(mut details)) = serde_json::from_str(&entry.details) else { return entry };
        if moved.is_empty() {
            return entry;
        }
        let all = moved.iter().map(|Self { id, from, to }| json!({ "agent": id.as_str(), "from": from, "to": to }));
        details.insert("keyMoved".to_owned(), all.collect());
        AuditEntry { details: Value::Object(details).to_string(), ..entry }
    }

    fn warn(&self) {
        let Self { id, from, to } = self;
        tracing::warn!(agent.id = id.as_str(), from, to, "an agent's stored key goes to another server from now on");
    }
}

/// What nobody is shown stays what it is where it is left out or empty: the key, and the values of headers. So do the path
/// and the headers as a whole, where other features are set.
fn keep_secrets(entry: &mut Map<String, Value>, before: &Agent) {
    if entry.get("apiKey").is_none_or(|key| key.is_null() || key == "") {
        entry.insert("apiKey".to_owned(), before.api_key.expose().into());
    }
    let stored = &before.profile.features;
    let Some(features) = entry.get_mut("features").and_then(Value::as_object_mut) else { return };
    if let Some(path) = &stored.custom_path {
        features.entry("customPath").or_insert_with(|| path.as_str().into());
    }
    let headers = features.entry("customHeaders").or_insert_with(|| {
        stored.custom_headers.0.keys().map(|name| (name.clone(), Value::from(""))).collect::<Map<_, _>>().into()
    });
    for (name, value) in headers.as_object_mut().into_iter().flatten() {
        let stored = stored.custom_headers.0.get(&name.to_ascii_lowercase());
        if *value == ""
            && let Some(stored) = stored
        {
            *value = stored.expose().into();
        }
    }
}

fn checked(entry: Map<String, Value>, unset: &[file::Unset]) -> Result<Agent, EditError> {
    check::agent(Value::Object(entry), unset, Source::Admin, clock::unix_millis()).map_err(EditError::Problems)
}

/// An agent as an operator would write it.
fn entry_of(agent: &Agent) -> Map<String, Value> {
    let profile = serde_json::to_value(&agent.profile).expect("texts and numbers always serialize");
    let Value::Object(mut entry) = profile else { return Map::new() };
    entry.remove("problems");
    entry.insert("id".to_owned(), agent.id.as_str().into());
    entry.insert("apiKey".to_owned(), agent.api_key.expose().into());
    entry
}
