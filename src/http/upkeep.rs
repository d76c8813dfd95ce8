//! What operators ask of a running node about its disks, its history and its members, on the control socket.

use super::cluster::{How, Parts, changed, failed, invited, refused};
use super::error::ApiError;
use crate::replica::{Change, Verified, VerifyError};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

pub(super) fn routes() -> Router<Parts> {
    Router::new()
        .route("/cluster/verify", post(verify))
        .route("/cluster/history", get(history))
        .route("/cluster/reinit", post(reinit))
        .route("/retention/resume", post(resume_retention))
        .route("/cluster/members/move", post(move_member))
        .route("/cluster/members/replace", post(replace_member))
        .route("/cluster/members/remove", post(remove_member))
}

/// Whether every page of the database is to be looked at too.
#[derive(Deserialize)]
struct Verify {
    deep: bool,
    /// Nothing is mended.
    #[serde(default)]
    dry: bool,
}

async fn verify(State(parts): State<Parts>, Json(verify): Json<Verify>) -> Result<Json<Verified>, ApiError> {
    let pair = parts.control.pair().clone();
    // On a task of its own: a page is mended to its end, also where the operator has lost patience.
    let verified = TaskTracker::new().spawn(async move { pair.verify(verify.deep, verify.dry).await }).await;
    verified.unwrap_or(Err(VerifyError::Died)).map(Json).map_err(|error| failed(&error))
}

async fn history(State(parts): State<Parts>) -> Result<Json<Vec<Change>>, ApiError> {
    parts.control.pair().history().await.map(Json).map_err(|error| failed(&error))
}

async fn reinit(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    parts.control.pair().reinit(how.dry).await.map(|config| changed(&config)).map_err(refused)
}

/// The clock of this node is right, says whoever asks; the next look goes by that.
async fn resume_retention(State(parts): State<Parts>, Json(how): Json<How>) -> Result<Json<Value>, ApiError> {
    let doubted = parts.control.pair().vouch_for_clock(how.dry);
    doubted.map(|was_doubted| Json(json!({ "wasDoubted": was_doubted }))).map_err(refused)
}

#[derive(Deserialize)]
struct Move {
    name: String,
    address: String,
    dry: bool,
}

async fn move_member(State(parts): State<Parts>, Json(to): Json<Move>) -> Result<Json<Value>, ApiError> {
    let moved = parts.control.pair().move_member(&to.name, &to.address, to.dry).await;
    let (config, warning) = moved.map_err(refused)?;
    let Json(mut answer) = changed(&config);
    answer["warning"] = json!(warning);
    Ok(Json(answer))
}

/// Which of them.
#[derive(Deserialize)]
struct Named {
    name: String,
    dry: bool,
}

async fn replace_member(State(parts): State<Parts>, Json(which): Json<Named>) -> Result<Json<Value>, ApiError> {
    let token = parts.control.pair().replace_member(&which.name, which.dry);
    token.map(|token| invited(token.as_ref())).map_err(refused)
}

async fn remove_member(State(parts): State<Parts>, Json(which): Json<Named>) -> Result<Json<Value>, ApiError> {
    let removed = parts.control.pair().remove_witness(&which.name, which.dry).await;
    removed.map(|config| changed(&config)).map_err(refused)
}
