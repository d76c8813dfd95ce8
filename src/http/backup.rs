//! What operators ask of a running node about backups, on the control socket.

use super::control::Control;
use super::error::ApiError;
use crate::backup::Made;
use crate::base::Chain;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use std::path::PathBuf;

pub(super) fn routes(control: Control) -> Router {
    Router::new().route("/backup", post(make)).with_state(control)
}

#[derive(Deserialize)]
struct Where {
    dir: PathBuf,
}

/// An operator who leaves takes the backup along: nothing of it is left.
async fn make(State(control): State<Control>, Json(to): Json<Where>) -> Result<Json<Made>, ApiError> {
    let made = control.backups().make(to.dir).await;
    made.map(Json).map_err(|error| ApiError::new(StatusCode::CONFLICT, "REFUSED", Chain(&error).to_string()))
}
