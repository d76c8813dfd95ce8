//! `/api/admin/config`: what the node was started with, what is wrong with it, and how it differs from what is stored.

use super::described;
use crate::agents::{Compared, EditError};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E3, Fails};
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// Every setting in force, and what gave it; no password.
#[utoipa::path(
    get, path = "/api/admin/config/details", tag = "admin",
    responses((status = 200, description = "By section", body = E3<docs::Settings>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn details(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let settings = edge.configured.iter().flat_map(|configured| configured.settings());
    let shown = settings
        .map(|setting| json!({ "key": setting.key, "value": setting.value, "source": setting.source }))
        .collect::<Value>();
    Ok(Json(described(&json!({ "settings": shown }))))
}

/// What would keep the node from starting by now, old names, and agents that are not served.
#[utoipa::path(
    get, path = "/api/admin/config/health", tag = "admin",
    responses((status = 200, description = "What is wrong", body = E3<docs::ConfigHealth>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn health(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let configured = edge.configured.clone();
    let notes: Vec<String> = configured.iter().flat_map(|configured| configured.notes().iter().cloned()).collect();
    // It reads files, one administrator after the other.
    let turn = Arc::clone(&edge.asking_disk).acquire_owned().await;
    let read = tokio::task::spawn_blocking(move || {
        let faults = configured.map(|configured| configured.faults()).unwrap_or_default();
        drop(turn);
        faults
    });
    let faults = read.await.map_err(|_| crate::http::error::internal())?;
    let problems: Vec<Value> =
        faults.iter().map(|fault| json!({ "key": fault.key, "rule": fault.rule, "source": fault.source })).collect();
    let agents: Vec<Value> = edge
        .agents
        .all()
        .await?
        .values()
        .filter(|agent| !agent.profile.problems.is_empty())
        .map(|agent| {
            json!({
                "id": agent.id.as_str(), "name": agent.profile.name, "isActive": agent.profile.is_active,
                "problems": agent.profile.problems,
            })
        })
        .collect();
    let is_healthy = problems.is_empty() && agents.is_empty();
    let data = json!({
        "status": if is_healthy { "healthy" } else { "warning" },
        "problems": problems, "deprecations": notes, "agents": agents,
    });
    Ok(Json(described(&data)))
}

/// How the agents file, as it is now, differs from the agents that are stored.
#[utoipa::path(
    get, path = "/api/admin/config/compare", tag = "admin",
    responses((status = 200, description = "The differences, by names alone", body = E3<docs::AgentsCompared>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn compare(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let compared = match edge.agents.compare().await {
        Err(EditError::NoFile) => return Ok(Json(described(&json!({ "hasFile": false })))),
        compared => compared?,
    };
    let Compared { only_in_file, only_stored, different, same, rejected } = compared;
    let is_same = only_in_file.is_empty() && only_stored.is_empty() && different.is_empty() && rejected.is_empty();
    let of = |(id, source): &(String, crate::protocol::agent::Source)| json!({ "id": id, "source": source });
    let data = json!({
        "hasFile": true, "isSame": is_same, "same": same,
        "onlyInFile": only_in_file,
        "onlyStored": only_stored.iter().map(of).collect::<Vec<_>>(),
        "different": different
            .iter()
            .map(|(id, source, fields)| json!({ "id": id, "source": source, "fields": fields }))
            .collect::<Vec<_>>(),
        "rejected": rejected
            .iter()
            .map(|entry| json!({ "index": entry.index, "id": entry.id, "problems": entry.problems }))
            .collect::<Vec<_>>(),
    });
    Ok(Json(described(&data)))
}
