//! What administrators do with agents.

use super::agents::whole;
use super::envelope;
use crate::agents::{Described, EditError};
use crate::base::Chain;
use crate::gateway::ChatError;
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::write::{Write, kept};
use crate::protocol::chat::{Invalid, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// What was set, by the names of its fields: keys and prompts are nobody's to read in an audit.
fn fields(entry: &Map<String, Value>) -> Value {
    json!({ "fields": entry.keys().collect::<Vec<_>>() })
}

/// Adds an agent.
#[utoipa::path(
    post, path = "/api/agents", tag = "agents", request_body = docs::NewAgent,
    responses(
        (status = 201, description = "It is there", body = E1<docs::AgentDetails>),
        Fails<(docs::AdminWrites, docs::AgentExists)>,
    ),
)]
pub(in crate::http) async fn create(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let entry: Map<String, Value> = body.parse()?;
    let details = fields(&entry);
    let audit = |agent: &crate::protocol::agent::Agent| actor.entry("add-agent", ("agent", &agent.id), &details);
    let agent = kept(edge.agents.create(entry, audit)).await?;
    Ok((StatusCode::CREATED, Json(envelope("CREATED", whole(&agent)))).into_response())
}

/// Changes an agent; what is left out stays.
#[utoipa::path(
    put, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path, description = "The agent's id", example = "assistant")), request_body = docs::AgentPatch,
    responses(
        (status = 200, description = "As it is now", body = E1<docs::AgentDetails>),
        Fails<(docs::AdminWrites, docs::UnknownAgent)>,
    ),
)]
pub(in crate::http) async fn update(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let patch: Map<String, Value> = body.parse()?;
    let details = fields(&patch);
    let audit = |agent: &crate::protocol::agent::Agent| actor.entry("change-agent", ("agent", &agent.id), &details);
    let agent = kept(edge.agents.update(&id, patch, audit)).await?;
    Ok(Json(envelope("OK", whole(&agent))).into_response())
}

/// Removes an agent. What was said with it stays.
#[utoipa::path(
    delete, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path, description = "The agent's id", example = "assistant")),
    responses(
        (status = 200, description = "It is gone", body = E1<docs::Nothing>),
        Fails<(docs::AdminWrites, docs::UnknownAgent)>,
    ),
)]
pub(in crate::http) async fn remove(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    drop(write.release());
    let actor = credentials.acting_admin(&edge).await?;
    kept(edge.agents.delete(&id, actor.entry("remove-agent", ("agent", &id), &json!({})))).await?;
    Ok(Json(envelope("OK", Value::Null)).into_response())
}

/// Reads the agents file again.
#[utoipa::path(
    post, path = "/api/agents/reload", tag = "agents",
    responses(
        (status = 200, description = "How many there are", body = E1<docs::Reloaded>),
        Fails<(docs::AdminWrites, docs::NoAgentsFile)>,
    ),
)]
pub(in crate::http) async fn reload(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    drop(write.release());
    let actor = credentials.acting_admin(&edge).await?;
    let reloaded = kept(edge.agents.reload(actor.entry("reload-agents", ("agent", ""), &json!({})))).await?;
    let data = json!({ "totalAgents": reloaded.total, "activeAgents": reloaded.active });
    Ok(Json(envelope("OK", data)).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentsImport)]
struct Import {
    /// As an agents file has them; what is no agent is told by its index.
    agents: Vec<Value>,
    /// Import none where one of them is refused.
    #[serde(default)]
    all_or_nothing: bool,
}

/// Adds and changes many agents.
#[utoipa::path(
    post, path = "/api/agents/import", tag = "agents", request_body = Import,
    responses((status = 200, description = "What became of them", body = E1<docs::Imported>), Fails<docs::AdminWrites>),
)]
pub(in crate::http) async fn import(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let Import { agents, all_or_nothing } = body.parse()?;
    let entry = actor.entry("import-agents", ("agent", ""), &json!({ "agents": agents.len() }));
    let (report, created) = kept(edge.agents.import_posted(agents, all_or_nothing, entry)).await?;
    let failed: Vec<_> = report
        .rejected
        .iter()
        .map(|entry| json!({ "index": entry.index, "id": entry.id, "problems": entry.problems }))
        .collect();
    let data = json!({ "created": created, "updated": report.stored - created, "failed": failed });
    Ok(Json(envelope("OK", data)).into_response())
}

/// Asks an upstream, of which no agent is made yet, what its app is. `fastgpt` alone can say.
#[utoipa::path(
    post, path = "/api/agents/fetch-info", tag = "agents", request_body = docs::NewAgent,
    responses(
        (status = 200, description = "What it says", body = E1<docs::Described>),
        Fails<(docs::AdminWrites, docs::OfUpstream)>,
    ),
)]
pub(in crate::http) async fn fetch_info(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    credentials.admin(&edge).await?;
    let entry = body.parse()?;
    let Described { name, description, model, features } = edge.agents.describe(entry).await?;
    let data = json!({
        "name": name, "description": description, "model": model, "systemPrompt": "", "temperature": null,
        "maxTokens": null, "capabilities": [], "features": features,
    });
    Ok(Json(envelope("OK", data)).into_response())
}

/// Whether there is such an agent, and what keeps it from being served.
#[utoipa::path(
    get, path = "/api/agents/{id}/validate", tag = "agents", params(("id" = String, Path, description = "The agent's id", example = "assistant")),
    responses((status = 200, description = "How it stands", body = E1<docs::AgentCheck>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn validate(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let roster = edge.agents.all().await?;
    let agent = roster.get(&id);
    let problems = agent.map(|agent| agent.profile.problems.clone()).unwrap_or_default();
    let data = json!({
        "agentId": id, "exists": agent.is_some(), "isActive": agent.is_some_and(|agent| agent.profile.is_active),
        "isValid": agent.is_some() && problems.is_empty(), "problems": problems,
    });
    Ok(Json(envelope("OK", data)).into_response())
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::Problems(problems) => {
                let problems = problems.iter().map(|problem| match problem.split_once(": ") {
                    Some((field, rule)) => Problem { field: field.to_owned(), rule: rule.to_owned() },
                    // A key that is missing or unknown names itself.
                    None => Problem { field: named(problem), rule: problem.clone() },
                });
                Invalid { problems: problems.collect() }.into()
            }
            EditError::Exists => Self::new(StatusCode::CONFLICT, "AGENT_EXISTS", message),
            EditError::Unknown => Self::new(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND", message),
            EditError::NoFile => Self::new(StatusCode::CONFLICT, "NO_AGENTS_FILE", message),
            EditError::File(cause) => {
                tracing::warn!(error = %Chain(&cause), "the agents file is not taken");
                error::validation("agents", "are not what an agents file has to be; see the log")
            }
            EditError::Upstream(failure) => {
                tracing::warn!(reason = %failure, "an upstream did not describe its app");
                ChatError::Upstream(failure).into()
            }
            EditError::Store(cause) => ChatError::Store(cause).into(),
        }
    }
}

fn named(problem: &str) -> String {
    problem.split('`').nth(1).unwrap_or("body").to_owned()
}
