//! The agents' rows.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::readers::{Budget, Snapshot};
use crate::base::{AgentId, Secret, UnixMillis};
use crate::protocol::agent::{Agent, CustomHeaders, Profile, Source};
use rusqlite::{OptionalExtension, params};

/// What [`Store::agents_put`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PutReport {
    pub(crate) stored: usize,
    /// Rows that a person has set, which the file does not touch.
    pub(crate) kept: usize,
}

struct Row {
    id: String,
    profile: String,
    api_key: Vec<u8>,
    source: String,
    created_at: i64,
    updated_at: i64,
}

impl Store {
    /// Every agent, by id, with its key opened.
    pub(crate) async fn agents_list(&self, budget: Budget) -> Result<Vec<Agent>, StoreError> {
        Ok(self.agents_at(budget).await?.value)
    }

    /// The same, and where in the history that is.
    pub(crate) async fn agents_at(&self, budget: Budget) -> Result<Snapshot<Vec<Agent>>, StoreError> {
        let rows = self.snapshot(budget, |rows| {
            let doing = StoreError::sql("read the agents");
            let sql = "SELECT id, profile, api_key, source, created_at, updated_at FROM agents ORDER BY id";
            let read = || {
                let mut statement = rows.prepare_cached(sql)?;
                let all = statement.query_map([], |row| {
                    Ok(Row {
                        id: row.get(0)?,
                        profile: row.get(1)?,
                        api_key: row.get(2)?,
                        source: row.get(3)?,
                        created_at: row.get(4)?,
                        updated_at: row.get(5)?,
                    })
                })?;
                all.collect::<Result<Vec<_>, _>>()
            };
            read().map_err(doing)
        });
        let Snapshot { position, value } = rows.await?;
        let agents = value.iter().map(|row| self.agent(row)).collect::<Result<_, _>>()?;
        Ok(Snapshot { position, value: agents })
    }

    fn agent(&self, row: &Row) -> Result<Agent, StoreError> {
        let sealed = || StoreError::Sealed { agent_id: row.id.clone() };
        let secrets = self.sealer.open(&row.id, &row.api_key).ok_or_else(sealed)?;
        let format = |what| move |source| StoreError::Format { what, source };
        let mut profile: Profile = serde_json::from_str(&row.profile).map_err(format("agent"))?;
        let api_key = opened(&secrets, &mut profile.features.custom_headers);
        Ok(Agent {
            id: AgentId::parse(&row.id).map_err(|_| sealed())?,
            api_key: Secret::new(api_key),
            profile,
            source: if row.source == "file" { Source::File } else { Source::Admin },
            created_at: UnixMillis(row.created_at),
            updated_at: UnixMillis(row.updated_at),
        })
    }

    /// Writes all of `agents` in one commit, over rows of the same ids; with `only_over_file` not
    /// over those that a person has set. With `entry` somebody has done it.
    pub(crate) fn agents_put(
        &self,
        agents: Vec<Agent>,
        only_over_file: bool,
        entry: Option<AuditEntry>,
    ) -> Result<Pending<PutReport>, StoreError> {
        let sealer = self.sealer.clone();
        let mut prepared = Vec::with_capacity(agents.len());
        for agent in agents {
            let profile = serde_json::to_string(&agent.profile).expect("texts and numbers always serialize");
            let api_key = sealer.seal(agent.id.as_str(), &secrets(&agent));
            prepared.push((agent, profile, api_key));
        }
        let weight = prepared.iter().map(|(_, profile, api_key)| profile.len() + api_key.len()).sum();
        self.write(weight, move |scope| {
            let mut report = PutReport::default();
            let sql = "INSERT INTO agents (id, profile, api_key, source, created_at, updated_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                ON CONFLICT (id) DO UPDATE SET profile = excluded.profile, api_key = excluded.api_key,
                source = excluded.source, updated_at = excluded.updated_at
                WHERE NOT ?7 OR agents.source = 'file'";
            entry.as_ref().map_or(Ok(()), |entry| audit::permit(scope, entry))?;
            let mut statement = scope.rows.prepare_cached(sql).map_err(StoreError::sql("write an agent"))?;
            for (agent, profile, api_key) in &prepared {
                let source = match agent.source {
                    Source::File => "file",
                    Source::Admin => "admin",
                };
                let (created, updated) = (agent.created_at.0, agent.updated_at.0);
                let values = params![agent.id.as_str(), profile, api_key, source, created, updated, only_over_file];
                match statement.execute(values).map_err(StoreError::sql("write an agent"))? {
                    0 => report.kept += 1,
                    _ => report.stored += 1,
                }
            }
            entry.map_or(Ok(()), |entry| audit::append_permitted(scope, entry))?;
            Ok(report)
        })
    }

    /// Removes an agent; its sessions stay. `false` when there was none.
    pub(crate) fn agent_remove(&self, id: AgentId, entry: Option<AuditEntry>) -> Result<Pending<bool>, StoreError> {
        self.write(id.as_str().len(), move |scope| {
            entry.as_ref().map_or(Ok(()), |entry| audit::permit(scope, entry))?;
            let removed = scope
                .rows
                .query_row("DELETE FROM agents WHERE id = ?1 RETURNING id", [id.as_str()], |_| Ok(()))
                .optional()
                .map_err(StoreError::sql("remove an agent"))?;
            if removed.is_some() {
                entry.map_or(Ok(()), |entry| audit::append_permitted(scope, entry))?;
            }
            Ok(removed.is_some())
        })
    }
}

/// What is sealed of an agent: its key, and a line for each header with its value. Neither has a line's end in it.
pub(super) fn secrets(agent: &Agent) -> String {
    let mut lines = agent.api_key.expose().to_owned();
    for (name, value) in &agent.profile.features.custom_headers.0 {
        lines.extend(["\n", name, ":", value.expose()]);
    }
    lines
}

/// The key; and each header's value in the place that the profile keeps for it.
fn opened(secrets: &str, headers: &mut CustomHeaders) -> String {
    let mut lines = secrets.split('\n');
    let api_key = lines.next().unwrap_or_default().to_owned();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let Some(place) = headers.0.get_mut(name) {
            *place = Secret::new(value);
        }
    }
    api_key
}
