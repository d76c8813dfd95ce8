//! What administrators do with agents.

use super::agents::whole;
use super::envelope;
use crate::agents::{Described, EditError};
use crate::base::Chain;
use crate::gateway::ChatError;
use crate::http::credentials::Credentials;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::write::{Write, kept};
use crate::protocol::chat::{Invalid, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What was set, by the names of its fields: keys and prompts are nobody's to read in an audit.
fn fields(entry: &Map<String, Value>) -> Value {
    json!({ "fields": entry.keys().collect::<Vec<_>>() })
}

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

pub(in crate::http) async fn update(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
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

pub(in crate::http) async fn remove(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    drop(write.release());
    let actor = credentials.acting_admin(&edge).await?;
    kept(edge.agents.delete(&id, actor.entry("remove-agent", ("agent", &id), &json!({})))).await?;
    Ok(Json(envelope("OK", Value::Null)).into_response())
}

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Import {
    agents: Vec<Value>,
    #[serde(default)]
    all_or_nothing: bool,
}

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

pub(in crate::http) async fn validate(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
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
