//! The control socket of a witness: the little that there is to ask it.

use super::cluster::{failed, refused};
use super::control::render;
use super::error::ApiError;
use crate::protocol::cluster::Config;
use crate::replica::{Asked, Change, Refusal, Status, Witness};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A token, a name and an address.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Serves the socket until `stop`.
pub(crate) async fn serve(listener: UnixListener, witness: Witness, stop: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/version", get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))))
        .route("/cluster", get(status))
        .route("/cluster/history", get(history))
        .route("/cluster/join", post(join))
        .fallback(elsewhere)
        .with_state(witness)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::map_response(render));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn elsewhere() -> ApiError {
    refused(Refusal::new("this is a witness, which only votes; ask a data node"))
}

async fn status(State(witness): State<Witness>) -> Json<Status> {
    Json(witness.status().await)
}

async fn history(State(witness): State<Witness>) -> Result<Json<Vec<Change>>, ApiError> {
    witness.history().await.map(Json).map_err(|error| failed(&error))
}

async fn join(State(witness): State<Witness>, Json(asked): Json<Asked>) -> Result<Json<Value>, ApiError> {
    // On a task of its own: an operator who has lost patience must not leave half of it.
    let joined = TaskTracker::new().spawn(async move { witness.join(&asked).await }).await;
    let joined = joined.map_err(|error| failed(&error))?.map_err(refused)?;
    Ok(Json(json!({ "witness": true, "cluster": joined.map(|Config { name, .. }| name) })))
}
