//! What operators ask of a running node about backups, on the control socket.

use super::control::Control;
use super::error::ApiError;
use crate::base::Chain;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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
    /// Nothing is made.
    #[serde(default)]
    dry: bool,
}

/// An operator who leaves takes the backup along: nothing of it is left.
async fn make(State(control): State<Control>, Json(to): Json<Where>) -> Result<Response, ApiError> {
    let backups = control.backups();
    let made = if to.dry {
        backups.try_out(to.dir).await.map(|possible| Json(possible).into_response())
    } else {
        backups.make(to.dir).await.map(|made| Json(made).into_response())
    };
    made.map_err(|error| ApiError::new(StatusCode::CONFLICT, "REFUSED", Chain(&error).to_string()))
}
