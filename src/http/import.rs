//! `llmchat import`, over the control socket: what the command has read of the old service's database, a batch at a time.

use super::control::Control;
use super::error::{self, ApiError};
use crate::protocol::import::{Batch, REQUEST_BYTES_MAX, Rows, Tally};
use crate::sessions::HistoryError;
use crate::store::StoreError;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

/// What the old database is known by.
const MARKS_MAX: usize = 16;
const MARK_BYTES_MAX: usize = 128;
const OTHER_SOURCE: &str = "an import of another old database was begun here, and one database alone can be imported: the \
    same numbers are other people there, who would get each other's chats";

pub(super) fn routes(control: Control) -> Router {
    Router::new()
        .route("/import/begin", post(begin))
        .route("/import/batch", post(batch))
        .route("/import/end", post(end))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(control)
}

impl Control {
    async fn import_batch(&self, Batch { merge_users, rows }: Batch) -> Result<Tally, StoreError> {
        match rows {
            Rows::Users(rows) => self.accounts().import_users(rows, merge_users).await,
            Rows::Agents(rows) => self.agents().import_old(rows).await,
            Rows::Sessions(rows) => self.imports().sessions(rows).await,
            Rows::Turns(rows) => self.imports().turns(rows).await,
            Rows::Audit(rows) => self.accounts().import_audit(rows).await,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begin {
    last_user_id: i64,
    /// Nothing is written: whether it could be.
    dry: bool,
    /// Hashes that tell the old database from others.
    #[serde(default)]
    source: Vec<String>,
}

async fn begin(State(control): State<Control>, text: String) -> Result<Json<Value>, ApiError> {
    let begin: Begin = parsed(&text)?;
    control.refuse_standby()?;
    let is_sane = begin.source.len() <= MARKS_MAX && begin.source.iter().all(|mark| mark.len() <= MARK_BYTES_MAX);
    if !is_sane {
        return Err(error::validation("source", "must be at most 16 hashes"));
    }
    if !begin.dry && !control.accounts().import_begin(begin.last_user_id, begin.source).await.map_err(failed)? {
        return Err(ApiError::new(StatusCode::CONFLICT, "OTHER_SOURCE", OTHER_SOURCE));
    }
    Ok(Json(json!({})))
}

async fn batch(State(control): State<Control>, text: String) -> Result<Json<Tally>, ApiError> {
    let batch: Batch = parsed(&text)?;
    drop(text);
    control.refuse_standby()?;
    // On a task of its own: what is written is in force, also where the command was killed meanwhile.
    let done = TaskTracker::new().spawn(async move { control.import_batch(batch).await }).await;
    done.unwrap_or(Err(StoreError::OutcomeUnknown)).map(Json).map_err(failed)
}

async fn end(State(control): State<Control>, text: String) -> Result<Json<Value>, ApiError> {
    let brought: Value = parsed(&text)?;
    control.refuse_standby()?;
    control.accounts().import_end(&brought).await.map_err(failed)?;
    Ok(Json(json!({})))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|_| error::validation("body", "is no part of an import that is known"))
}

fn failed(cause: StoreError) -> ApiError {
    HistoryError::Store(cause).into()
}
