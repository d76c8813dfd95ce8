//! What operators ask of a running node about its cluster, on the control socket.

use super::control::Control;
use super::error::ApiError;
use crate::accounts;
use crate::base::{Chain, UnixMillis};
use crate::clock;
use crate::net::{self, Credentials, Resolver};
use crate::protocol::cluster::{Config, Kind, Member};
use crate::replica::{self, Founding, JoinError, Peers, Refusal, Takeover, Token};
use crate::watched::Watched;
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
        .route("/cluster/pause", post(pause))
        .route("/cluster/resume", post(resume))
        .merge(super::upkeep::routes())
        .with_state(Parts { control, again })
}

pub(super) fn refused(refusal: Refusal) -> ApiError {
    let code = if refusal.is_begun { "UNFINISHED" } else { "REFUSED" };
    ApiError::new(StatusCode::CONFLICT, code, refusal.why)
}

/// The whole chain is for the operator who asked, on a socket that is theirs alone.
pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "REFUSED", Chain(error).to_string())
}

/// What the configuration is now, or was left at.
pub(super) fn changed(config: &Config) -> Json<Value> {
    let primary = config.member(config.primary).map(|member| member.name.clone());
    let (epoch, version) = (config.epoch.counter(), config.version);
    Json(json!({ "epoch": epoch, "version": version, "primary": primary, "pausedUntil": config.paused_until }))
}

pub(super) fn invited(token: Option<&Token>) -> Json<Value> {
    Json(json!({ "token": token.map(Token::to_text) }))
}

/// A node of which others are told has to listen. One that is told of already does, or tries to.
fn can_listen(parts: &Parts) -> Result<(), ApiError> {
    if parts.control.pair().peers().is_none() {
        net::listen(parts.control.peer_listen()).map_err(|error| {
            let why = format!("no other node could reach this one: {}; see cluster.listen", Chain(&error));
            refused(Refusal::new(why))
        })?;
    }
    Ok(())
}

/// Whether it is only to be said whether it could be done.
#[derive(Deserialize)]
pub(super) struct How {
    #[serde(default)]
    pub(super) dry: bool,
}

async fn status(State(parts): State<Parts>) -> Json<replica::Status> {
    Json(parts.control.pair().status().await)
}

#[derive(Deserialize)]
struct Init {
    #[serde(flatten)]
    founding: Founding,
    #[serde(flatten)]
    how: How,
}

async fn init(State(parts): State<Parts>, Json(init): Json<Init>) -> Result<Json<Value>, ApiError> {
    let (pair, founding) = (parts.control.pair(), init.founding);
    let config = pair.config().now();
    founding.check(&config).map_err(refused)?;
    pair.is_primary().map_err(refused)?;
    can_listen(&parts)?;
    if init.how.dry {
        return Ok(invited(None));
    }
    let founded = replica::found(pair.node(), parts.control.state_dir(), &config, &founding);
    let (founded, authority, secrets, token) = founded.map_err(|error| failed(&error))?;
    let (name, members, mode) = (founded.name, founded.members, founded.mode);
    let stored = pair.change(|config| {
        (config.name, config.members, config.mode) = (name.clone(), members.clone(), mode);
        Ok(())
    });
    stored.await.map_err(refused)?;
    let credentials = Credentials::of_authority(authority, pair.me());
    pair.set_peers(Peers::new(credentials, Resolver::new(crate::clock::now)), secrets.text().to_owned());
    if tokio::time::timeout(REACHED_WITHIN, pair.is_reached()).await.is_err() {
        let why = "the cluster is made, and no other node can reach this one yet: the log says why. Is cluster.listen the right address, and free? `llmchat invite` prints a token then";
        return Err(refused(Refusal::begun(why)));
    }
    Ok(invited(Some(&token)))
}

#[derive(Deserialize)]
struct Invite {
    /// Of what the token is for.
    #[serde(default)]
    kind: Kind,
    #[serde(flatten)]
    how: How,
}

async fn invite(State(parts): State<Parts>, Json(invite): Json<Invite>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().invite(invite.kind, invite.how.dry).map(|token| invited(token.as_ref())).map_err(refused)
}

/// What a node joins with.
#[derive(Deserialize)]
struct Join {
    token: String,
    name: String,
    address: String,
    /// Chats that are here already are given up.
    discard: bool,
    #[serde(default)]
    dry: bool,
}

async fn join(State(parts): State<Parts>, Json(join): Json<Join>) -> Result<Json<Value>, ApiError> {
    // On a task of its own: an operator who has lost patience must not leave half of it.
    let joined = TaskTracker::new().spawn(joins(parts, join)).await;
    joined.unwrap_or_else(|error| Err(failed(&error)))
}

async fn joins(parts: Parts, join: Join) -> Result<Json<Value>, ApiError> {
    let pair = parts.control.pair();
    let config = pair.config().now();
    // One that was let in and never became a member may ask again.
    let is_member = config.member(pair.me()).is_some();
    if config.members.len() > 1 && is_member {
        let why = pair.outside().unwrap_or_else(|| "this node is one of a pair already".to_owned());
        return Err(refused(Refusal::new(why)));
    }
    let Some(token) = Token::parse(&join.token) else {
        return Err(refused(Refusal::new("that is no token; it looks like llmchat1.AAAA")));
    };
    if token.kind != Kind::Data {
        return Err(refused(Refusal::new("that token is for a witness, on a machine of its own (`llmchat witness`)")));
    }
    // With its own authority for another's it would be neither node of the cluster.
    if is_member && pair.has_made(&token).map_err(|error| failed(&error))? {
        let why = "this node has made that token: it is for the other server, `llmchat join` there";
        return Err(refused(Refusal::new(why)));
    }
    can_listen(&parts)?;
    // Nobody may chat here from the look at what there is until there is another history.
    let held = if join.dry { None } else { Some(pair.hold().await) };
    if !join.discard && is_member {
        let (store, failed) = (pair.store(), |error| failed(&error));
        let has_turns = store.has_turns().await.map_err(failed)?;
        if has_turns || store.has_users().await.map_err(failed)? {
            let what = if has_turns { "chats" } else { "users" };
            let why = format!(
                "there are {what} on this node, which would be given up for the cluster's; `--discard` says that they may be"
            );
            return Err(refused(Refusal::new(why)));
        }
    }
    let joined = async {
        let invited = replica::ask_to_join(&token, (&join.name, &join.address), join.dry).await?;
        if let Some(invited) = &invited {
            replica::become_member(pair.node(), parts.control.state_dir(), invited)?;
        }
        Ok::<_, JoinError>(invited)
    };
    let told = |error: JoinError| {
        if error.may_have_joined() && !join.dry {
            let why = format!(
                "{}; the cluster may count this node in already; or the token was used, and `llmchat invite` on the primary makes another",
                Chain(&error)
            );
            return refused(Refusal::begun(why));
        }
        failed(&error)
    };
    let Some(invited) = joined.await.map_err(told)? else {
        return Ok(Json(json!({ "member": null, "cluster": null })));
    };
    // Of an administrator of before, who is none of the cluster's.
    if let Err(error) = accounts::forget_first_admin(parts.control.state_dir()) {
        tracing::warn!(error = %Chain(&error), "the first administrator's password is not removed");
    }
    parts.again.cancel();
    if let Some(held) = held {
        pair.hold_for_good(held);
    }
    Ok(Json(json!({ "member": invited.member, "cluster": invited.config.name })))
}

async fn switch_over(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    let pair = parts.control.pair();
    // As long as it is the other one that might lack something.
    let warning = pair.status().await.warning;
    let Json(mut answer) = pair.switch_over(how.dry).await.map(|config| changed(&config)).map_err(refused)?;
    if let Some(warning) = warning {
        answer["warning"] = json!(warning);
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
struct FailOver {
    /// Names of the members that an operator knows to be off.
    #[serde(default)]
    off: Vec<String>,
    #[serde(flatten)]
    how: How,
}

async fn fail_over(State(parts): State<Parts>, Json(order): Json<FailOver>) -> Result<Json<Value>, ApiError> {
    let Takeover { config, is_elected, unreached, loss } =
        parts.control.pair().force_by_order(&order.off, order.how.dry).await.map_err(refused)?;
    let is_witness = |member: &Member| member.kind == Kind::Witness;
    let unreached: Vec<_> = unreached
        .iter()
        .map(|member| json!({ "name": member.name, "address": member.address, "witness": is_witness(member) }))
        .collect();
    let node = config.member(parts.control.pair().me()).map(|member| member.name.clone());
    let loss = (!is_elected).then_some(loss);
    let epoch = config.epoch.counter();
    Ok(Json(json!({ "epoch": epoch, "node": node, "elected": is_elected, "loss": loss, "unreached": unreached })))
}

async fn resume_alone(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().resume_alone(how.dry).await.map(|config| changed(&config)).map_err(refused)
}

/// For how long.
#[derive(Deserialize)]
struct Pause {
    minutes: u32,
    #[serde(flatten)]
    how: How,
}

async fn pause(State(parts): State<Parts>, Json(pause): Json<Pause>) -> Result<Json<Value>, ApiError> {
    let until = clock::unix_millis().0 + i64::from(pause.minutes) * 60_000;
    set_pause(parts, &pause.how, Some(UnixMillis(until))).await
}

async fn resume(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    set_pause(parts, &how, None).await
}

async fn set_pause(parts: Parts, how: &How, until: Option<UnixMillis>) -> Result<Json<Value>, ApiError> {
    let now = clock::unix_millis();
    let mut was_paused = false;
    let stored = parts.control.pair().change_or_look(how.dry, |config| {
        was_paused = config.is_paused(now);
        config.paused_until = until;
        Ok(())
    });
    let Json(mut answer) = stored.await.map(|config| changed(&config)).map_err(refused)?;
    answer["wasPaused"] = json!(was_paused);
    Ok(Json(answer))
}
