//! What operators ask of a running node about its cluster, on the control socket.

use super::control::Control;
use super::error::ApiError;
use crate::base::Chain;
use crate::net::Resolver;
use crate::protocol::cluster::Config;
use crate::replica::{self, Founding, JoinError, Peers, Refusal, Token};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// To listen on a port that is free takes no time.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(super) struct Parts {
    pub(super) control: Control,
    /// Cancelled when the node has to begin anew.
    pub(super) again: CancellationToken,
}

pub(super) fn routes(control: Control, again: CancellationToken) -> Router {
    Router::new()
        .route("/cluster", get(status))
        .route("/cluster/init", post(init))
        .route("/cluster/invite", post(invite))
        .route("/cluster/join", post(join))
        .route("/cluster/switchover", post(switch_over))
        .route("/cluster/failover", post(fail_over))
        .route("/cluster/resume-alone", post(resume_alone))
        .route("/cluster/pause", post(async |parts: State<Parts>| pause(parts, true).await))
        .route("/cluster/resume", post(async |parts: State<Parts>| pause(parts, false).await))
        .merge(super::upkeep::routes())
        .with_state(Parts { control, again })
}

pub(super) fn refused(refusal: Refusal) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "REFUSED", refusal.0)
}

/// The whole chain is for the operator who asked, on a socket that is theirs alone.
pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "REFUSED", Chain(error).to_string())
}

fn changed(config: &Config) -> Value {
    let primary = config.member(config.primary).map(|member| member.name.clone());
    json!({ "epoch": config.epoch.counter(), "version": config.version, "primary": primary, "paused": config.paused })
}

async fn status(State(parts): State<Parts>) -> Json<replica::Status> {
    Json(parts.control.pair().status().await)
}

async fn init(State(parts): State<Parts>, Json(founding): Json<Founding>) -> Result<Json<Value>, ApiError> {
    let pair = parts.control.pair();
    let config = pair.config().borrow().clone();
    founding.check().map_err(refused)?;
    let founded = replica::found(pair.node(), parts.control.state_dir(), &config, &founding);
    let (founded, authority, secrets, token) = founded.map_err(|error| failed(&error))?;
    let (name, members, mode) = (founded.name, founded.members, founded.mode);
    let stored = pair.change(|config| {
        (config.name, config.members, config.mode) = (name, members, mode);
        Ok(())
    });
    stored.await.map_err(refused)?;
    pair.set_peers(Peers::new(pair.me(), authority, Resolver::new(crate::clock::now)), secrets.text().to_owned());
    if tokio::time::timeout(REACHED_WITHIN, pair.is_reached()).await.is_err() {
        let why = "the cluster is made, and no other node can reach this one yet: the log says why. Is cluster.listen the right address, and free? `llmchat invite` prints a token then";
        return Err(refused(Refusal(why.to_owned())));
    }
    Ok(Json(json!({ "token": token.to_text() })))
}

async fn invite(State(parts): State<Parts>) -> Result<Json<Value>, ApiError> {
    let pair = parts.control.pair();
    let Some(peers) = pair.peers() else {
        return Err(refused(Refusal("this node is part of no cluster; `llmchat init` makes one".to_owned())));
    };
    let config = pair.config().borrow().clone();
    let token = replica::invite(pair.node(), &config, peers.authority()).map_err(|error| failed(&error))?;
    Ok(Json(json!({ "token": token.to_text() })))
}

/// What a node joins with.
#[derive(Deserialize)]
struct Join {
    token: String,
    name: String,
    address: String,
    /// Chats that are here already are given up.
    discard: bool,
}

async fn join(State(parts): State<Parts>, Json(join): Json<Join>) -> Result<Json<Value>, ApiError> {
    // On a task of its own: an operator who has lost patience must not leave half of it.
    let joined = TaskTracker::new().spawn(joins(parts, join)).await;
    joined.unwrap_or_else(|error| Err(failed(&error)))
}

async fn joins(parts: Parts, join: Join) -> Result<Json<Value>, ApiError> {
    let pair = parts.control.pair();
    let config = pair.config().borrow().clone();
    if config.members.len() > 1 {
        return Err(refused(Refusal("this node is one of a pair already".to_owned())));
    }
    let Some(token) = Token::parse(&join.token) else {
        return Err(refused(Refusal("that is no token; it looks like llmchat1.AAAA".to_owned())));
    };
    // Nobody may chat here from the look at what there is until there is another history.
    let held = pair.hold().await;
    if !join.discard && pair.store().has_turns().await.map_err(|error| failed(&error))? {
        let why = "there are chats on this node, which would be given up for the cluster's; `--discard` says that they may be";
        return Err(refused(Refusal(why.to_owned())));
    }
    let joined = async {
        let invited = replica::ask_to_join(&token, &join.name, &join.address).await?;
        replica::become_member(pair.node(), parts.control.state_dir(), &invited)?;
        Ok::<_, JoinError>(invited)
    };
    let invited = joined.await.map_err(|error| failed(&error))?;
    parts.again.cancel();
    pair.hold_for_good(held);
    Ok(Json(json!({ "member": invited.member, "cluster": invited.config.name })))
}

/// Whether it is only to be said whether it could be done.
#[derive(Deserialize)]
struct How {
    #[serde(default)]
    dry: bool,
}

async fn switch_over(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().switch_over(how.dry).await.map(|config| Json(changed(&config))).map_err(refused)
}

async fn fail_over(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().force(how.dry).await.map(|config| Json(changed(&config))).map_err(refused)
}

async fn resume_alone(State(parts): State<Parts>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().resume_alone().await.map(|config| Json(changed(&config))).map_err(refused)
}

async fn pause(State(parts): State<Parts>, is_paused: bool) -> Result<Json<Value>, ApiError> {
    let stored = parts.control.pair().change(|config| {
        config.paused = is_paused;
        Ok(())
    });
    stored.await.map(|config| Json(changed(&config))).map_err(refused)
}
