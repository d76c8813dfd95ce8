//! The control socket: what an operator's commands ask of a running process. HTTP and JSON over
//! a Unix socket; the same service functions as everything else. Its mode, 0660, says who may: the kernel lets our own
//! user, root and the members of our group connect, also those of whom it is not the first group, and nobody else.

use super::backup;
use super::cluster;
use super::error::{self, ApiError};
use super::users;
use crate::accounts::{Accounts, Actor};
use crate::agents::{Agents, AgentsError, ImportError, ImportReport, Probe};
use crate::backup::Backups;
use crate::base::AgentId;
use crate::protocol::agent::{Agent, Source};
use crate::replica::{Pair, Role};
use crate::sessions::Imports;
use crate::watched::Watched;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// An agents file of a thousand agents is far below.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What operators may do. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    agents: Agents,
    accounts: Accounts,
    imports: Imports,
    pair: Pair,
    backups: Backups,
    state_dir: PathBuf,
    peer_listen: SocketAddr,
}

impl Control {
    pub(crate) fn new(
        (agents, accounts, imports): (Agents, Accounts, Imports),
        pair: Pair,
        state_dir: PathBuf,
        peer_listen: SocketAddr,
    ) -> Self {
        let backups = Backups::new(pair.clone(), state_dir.clone());
        Self { agents, accounts, imports, pair, backups, state_dir, peer_listen }
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn agents(&self) -> &Agents {
        &self.agents
    }

    pub(super) fn imports(&self) -> &Imports {
        &self.imports
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.backups
    }

    pub(super) fn state_dir(&self) -> &FilePath {
        &self.state_dir
    }

    /// Where other nodes reach this one, once it is part of a cluster.
    pub(super) fn peer_listen(&self) -> SocketAddr {
        self.peer_listen
    }

    /// Only the primary's database takes changes: whoever is at the standby is told where that is.
    pub(super) fn refuse_standby(&self) -> Result<(), ApiError> {
        if self.pair.role().now() != Role::Standby {
            return Ok(());
        }
        let config = self.pair.config().now();
        let primary = config.member(config.primary);
        let place = primary.map_or_else(String::new, |member| format!(", {} at {}", member.name, member.address));
        let why = format!("this node is the standby, which takes no changes: run it on the primary{place}");
        Err(ApiError::new(StatusCode::CONFLICT, "REFUSED", why))
    }

    /// Every agent as an operator sees it; keys never.
    pub(crate) async fn list(&self) -> Result<Value, AgentsError> {
        Ok(self.agents.stored().await?.iter().map(shown).collect())
    }

    /// Stores the agents of an agents file's text, over whatever is there.
    pub(crate) async fn import(&self, text: &str) -> Result<Value, ImportError> {
        self.agents.import(text, Source::Admin).await.map(|report| reported(&report))
    }

    pub(crate) async fn remove(&self, id: AgentId) -> Result<Value, crate::store::StoreError> {
        let removed = Actor::Operator.entry("remove-agent", ("agent", id.as_str()), &json!({}));
        Ok(json!({ "removed": self.agents.remove(id, Some(removed)).await? }))
    }

    /// Asks the agent's upstream: its description, and `question` where one is given.
    pub(crate) async fn test(&self, id: &str, question: Option<&str>) -> Result<Value, AgentsError> {
        self.agents.test(id, question).await.map(|probe| probed(&probe))
    }
}

fn shown(agent: &Agent) -> Value {
    let profile = &agent.profile;
    json!({
        "id": agent.id.as_str(), "name": profile.name, "provider": profile.provider.as_str(),
        "endpoint": profile.endpoint, "appId": profile.app_id, "source": agent.source,
        "hasApiKey": !agent.api_key.expose().is_empty(), "isActive": profile.is_active,
        "isServed": profile.is_served(), "problems": profile.problems,
    })
}

/// What an import has done, as commands are told.
pub(crate) fn reported(report: &ImportReport) -> Value {
    let inactive: Vec<Value> =
        report.inactive.iter().map(|(id, problems)| json!({ "id": id, "problems": problems })).collect();
    let failed: Vec<Value> = report
        .rejected
        .iter()
        .map(|entry| json!({ "index": entry.index, "id": entry.id, "problems": entry.problems }))
        .collect();
    json!({ "stored": report.stored, "kept": report.kept, "inactive": inactive, "failed": failed })
}

fn probed(probe: &Probe) -> Value {
    let findings: Vec<Value> =
        probe.findings.iter().map(|finding| json!({ "ok": finding.ok, "says": finding.says })).collect();
    json!({ "ok": probe.is_ok(), "findings": findings })
}

/// Serves the socket until `stop`.
///
/// `again` is cancelled when what the node is has changed so much that it has to begin anew.
pub(crate) async fn serve(
    listener: UnixListener,
    control: Control,
    again: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let (cluster, backup) = (cluster::routes(control.clone(), again), backup::routes(control.clone()));
    let (users, imports) = (users::routes(control.clone()), super::import::routes(control.clone()));
    let routes = Router::new()
        .route("/version", get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))))
        .route("/agents", get(list))
        .route("/agents/import", post(import))
        .route("/agents/{id}", delete(remove))
        .route("/agents/{id}/test", post(test))
        .with_state(control)
        .merge(cluster)
        .merge(backup)
        .merge(users)
        .merge(imports)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::map_response(render));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Errors get their bodies here as everywhere; an operator's command needs no request id.
pub(super) async fn render(response: axum::response::Response) -> axum::response::Response {
    match response.extensions().get::<ApiError>() {
        Some(error) => error.render("control"),
        None => response,
    }
}

async fn list(State(control): State<Control>) -> Result<Json<Value>, ApiError> {
    Ok(Json(control.list().await?))
}

async fn import(State(control): State<Control>, text: String) -> Result<Json<Value>, ApiError> {
    control.refuse_standby()?;
    control.import(&text).await.map(Json).map_err(|error| match error {
        ImportError::File(cause) => {
            let why = std::error::Error::source(&cause).map(|why| format!(": {why}")).unwrap_or_default();
            ApiError::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", format!("{cause}{why}"))
        }
        ImportError::Store(cause) => AgentsError::Store(cause).into(),
    })
}

async fn remove(State(control): State<Control>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let id = AgentId::parse(&id).map_err(|rule| error::validation("id", &rule.to_string()))?;
    control.refuse_standby()?;
    Ok(Json(control.remove(id).await.map_err(AgentsError::Store)?))
}

#[derive(Deserialize, Serialize)]
struct Asked {
    question: Option<String>,
}

async fn test(
    State(control): State<Control>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(control.test(&id, asked.question.as_deref()).await?))
}
