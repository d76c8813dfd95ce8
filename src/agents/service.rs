use super::file::{self, FileError, Import, Rejected};
use super::probe::{self, Probe};
use crate::base::{AgentId, Chain, UnixMillis};
use crate::cache::Cache;
use crate::clock;
use crate::protocol::agent::{Agent, Provider, Source};
use crate::protocol::answer::{Class, Failure};
use crate::store::{AuditEntry, Budget, Pending, Snapshot, Store, StoreError};
use crate::upstream::{Client, MayAsk};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

/// The list is dropped at every change; the time only bounds what a bug could hide.
const ROSTER_TTL: Duration = Duration::from_hours(1);

/// Every agent, by id.
pub(crate) type Roster = BTreeMap<String, Arc<Agent>>;

/// Why an agent cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentsError {
    #[error("no agent has the id that was asked for")]
    Unknown,
    #[error("the agent is switched off")]
    Inactive,
    #[error("the store did not answer")]
    Store(#[source] StoreError),
    #[error("the agent's server did not describe it")]
    Upstream(#[source] Failure),
}

impl From<StoreError> for AgentsError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What an import did, for an operator.
#[derive(Debug, Default)]
pub(crate) struct ImportReport {
    pub(crate) stored: usize,
    /// Rows that a person has edited since: the file does not win over them.
    pub(crate) kept: usize,
    /// Stored, and not served: id and what is missing.
    pub(crate) inactive: Vec<(String, Vec<String>)>,
    pub(crate) rejected: Vec<Rejected>,
}

/// An import that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("store the agents")]
    Store(#[from] StoreError),
}

/// An agent as it was set at some time: a standby, which nobody tells of changes, has to see them too.
pub(crate) type Edition = (AgentId, UnixMillis);

/// The caches of this room.
pub(crate) struct Caches {
    pub(crate) roster: Cache<(), Arc<Roster>>,
    pub(crate) init: Cache<Edition, Arc<Value>>,
    pub(crate) init_ttl: Duration,
}

/// The door to agents. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Agents {
    pub(super) store: Store,
    pub(super) client: Client,
    caches: Arc<Caches>,
    /// Seeds the others, and is read again when asked for.
    pub(super) file: Option<Arc<Path>>,
    /// A change is made to what was read: one at a time.
    pub(super) editing: Arc<Mutex<()>>,
}

impl Agents {
    pub(crate) fn new(store: Store, client: Client, caches: Caches, file: Option<&Path>) -> Self {
        Self { store, client, caches: Arc::new(caches), file: file.map(Arc::from), editing: Arc::default() }
    }

    /// Every agent. From memory, or one read of the store within the chat path's 100 ms.
    pub(crate) async fn all(&self) -> Result<Arc<Roster>, AgentsError> {
        let load = async || {
            let agents = self.store.agents_list(Budget::Chat).await?;
            Ok(Arc::new(roster(agents)))
        };
        // A change while the list is read wins over what the read brings.
        let loaded = self.caches.roster.get_or_load((), clock::now(), ROSTER_TTL, load).await;
        loaded.map_err(|error: Arc<StoreError>| {
            tracing::error!(error = %Chain(&*error), "the list of agents cannot be read");
            AgentsError::Store(StoreError::Unavailable)
        })
    }

    /// Every agent as this node's store has it, and where in the history that is, which may not be durable yet. Within the
    /// chat path's 100 ms.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot<Roster>, StoreError> {
        let Snapshot { position, value } = self.store.agents_at(Budget::Chat).await?;
        Ok(Snapshot { position, value: roster(value) })
    }

    /// Every agent as the store has it, for an operator who can wait for a moment.
    pub(crate) async fn stored(&self) -> Result<Vec<Agent>, AgentsError> {
        Ok(self.store.agents_list(Budget::Normal).await?)
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Arc<Agent>, AgentsError> {
        find(&*self.all().await?, id)
    }

    /// The agent, if questions go to it.
    pub(crate) async fn served(&self, id: &str) -> Result<Arc<Agent>, AgentsError> {
        served(&*self.all().await?, id)
    }

    /// What the page needs to know before the first question: the upstream's own words about the app,
    /// under the ids that the client knows. One request upstream at a time, good for `init_ttl`.
    pub(crate) async fn init(&self, agent: &Agent, chat_id: &str, may_ask: &MayAsk) -> Result<Value, AgentsError> {
        let described = match agent.profile.provider {
            Provider::Fastgpt | Provider::Dify => {
                let load = async || self.client.init(agent, None, may_ask).await.map(Arc::new);
                let loaded = self.caches.init.get_or_load(edition(agent), clock::now(), self.caches.init_ttl, load);
                loaded.await.map_err(|failure| AgentsError::Upstream((*failure).clone()))?
            }
            Provider::Openai | Provider::Anthropic | Provider::Dashscope | Provider::Custom => {
                let profile = &agent.profile;
                let app =
                    json!({ "name": profile.name, "intro": profile.description, "chatConfig": { "variables": [] } });
                Arc::new(json!({ "title": profile.name, "app": app }))
            }
        };
        let mut data = Value::clone(&described);
        let Value::Object(fields) = &mut data else {
            let message = "the init data are no JSON object".to_owned();
            return Err(AgentsError::Upstream(Failure::new(Class::Unknown, message)));
        };
        fields.insert("chatId".to_owned(), chat_id.into());
        fields.insert("appId".to_owned(), agent.id.as_str().into());
        Ok(data)
    }

    /// Whether [`Agents::init`] would answer without asking the upstream.
    pub(crate) fn is_described(&self, agent: &Agent) -> bool {
        let asks = matches!(agent.profile.provider, Provider::Fastgpt | Provider::Dify);
        !asks || self.caches.init.get(&edition(agent), clock::now()).is_some()
    }

    /// Reads the text of an agents file into the store, as [`Agents::put`] does.
    pub(crate) async fn import(&self, text: &str, source: Source) -> Result<ImportReport, ImportError> {
        Ok(self.put(file::parse(text, source)?, source, None).await?)
    }

    /// Stores all that are agents, in one commit, and waits until they are durable. From `Source::File`, rows that a
    /// person edited are kept.
    pub(crate) async fn put(
        &self,
        import: Import,
        source: Source,
        entry: Option<AuditEntry>,
    ) -> Result<ImportReport, StoreError> {
        let inactive = import
            .agents
            .iter()
            .filter(|agent| !agent.profile.problems.is_empty())
            .map(|agent| (agent.id.to_string(), agent.profile.problems.clone()))
            .collect();
        let mut report = ImportReport { inactive, rejected: import.rejected, ..ImportReport::default() };
        if !import.agents.is_empty() {
            let put = self.changed(self.store.agents_put(import.agents, source == Source::File, entry)?).await?;
            (report.stored, report.kept) = (put.stored, put.kept);
        }
        Ok(report)
    }

    /// Removes an agent; what was said with it stays. `false` when there is none of that id.
    pub(crate) async fn remove(&self, id: AgentId, entry: Option<AuditEntry>) -> Result<bool, StoreError> {
        self.changed(self.store.agent_remove(id, entry)?).await
    }

    /// What comes of a change. It is in force once it is stored, also where nobody waits for that any more.
    async fn changed<T: Send + 'static>(&self, change: Pending<T>) -> Result<T, StoreError> {
        let agents = self.clone();
        let changed = TaskTracker::new().spawn(async move {
            let changed = change.await;
            agents.forget();
            changed
        });
        Ok(changed.await.unwrap_or(Err(StoreError::OutcomeUnknown))?.value)
    }

    /// Really asks the upstream, and says in an operator's words what came of it.
    pub(crate) async fn test(&self, id: &str, question: Option<&str>) -> Result<Probe, AgentsError> {
        let agent = self.find(id).await?;
        Ok(probe::run(&self.client, &agent, question).await)
    }

    /// What is remembered may be old.
    pub(crate) fn forget(&self) {
        self.caches.roster.remove(&());
        self.caches.init.clear();
    }
}

fn roster(agents: Vec<Agent>) -> Roster {
    agents.into_iter().map(|agent| (agent.id.to_string(), Arc::new(agent))).collect()
}

fn edition(agent: &Agent) -> Edition {
    (agent.id.clone(), agent.updated_at)
}

fn find(roster: &Roster, id: &str) -> Result<Arc<Agent>, AgentsError> {
    roster.get(id).map(Arc::clone).ok_or(AgentsError::Unknown)
}

/// The agent of `roster`, if questions go to it.
pub(crate) fn served(roster: &Roster, id: &str) -> Result<Arc<Agent>, AgentsError> {
    let agent = find(roster, id)?;
    if agent.profile.is_served() { Ok(agent) } else { Err(AgentsError::Inactive) }
}
