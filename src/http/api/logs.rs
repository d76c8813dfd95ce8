//! `/api/admin/logs`: the last lines of this node's log, for administrators.

use super::{PageQuery, pages, plain};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E2, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::telemetry::{Line, Severity};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    /// Lines of this level alone.
    #[param(value_type = docs::LevelAsked, required = false, inline)]
    level: Option<String>,
    /// `timestamp` where nothing is said.
    #[param(value_type = docs::LogKey, required = false, inline)]
    sort_by: Option<String>,
    /// `desc` where nothing is said.
    #[param(value_type = docs::LogOrder, required = false, inline)]
    sort_order: Option<String>,
    #[param(ignore)]
    #[serde(flatten)]
    page: PageQuery,
}

type Asking = Result<Query<Asked>, QueryRejection>;

impl Asked {
    fn of(asking: Asking) -> Result<Self, ApiError> {
        asking.map(|Query(asked)| asked).map_err(|_| error::validation("query", "must have each name once"))
    }

    /// The lines that are wanted, in the order that they are wanted in.
    fn select(&self, edge: &Edge) -> Result<Vec<Arc<Line>>, ApiError> {
        let text = |given: &Option<String>| given.as_deref().unwrap_or_default().to_ascii_lowercase();
        let level = match text(&self.level) {
            all if ["", "all"].contains(&all.as_str()) => None,
            named => {
                let known = Severity::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(&named));
                Some(known.ok_or_else(|| error::validation("level", "must be INFO, WARN or ERROR"))?)
            }
        };
        let by_level = match text(&self.sort_by).as_str() {
            "" | "timestamp" | "id" => false,
            "level" => true,
            _ => return Err(error::validation("sortBy", "must be timestamp, id or level")),
        };
        let is_ascending = match text(&self.sort_order).as_str() {
            "" | "desc" => false,
            "asc" => true,
            _ => return Err(error::validation("sortOrder", "must be asc or desc")),
        };
        let mut lines = edge.log.lines();
        lines.retain(|line| level.is_none_or(|level| line.severity == level));
        if by_level {
            lines.sort_by_key(|line| line.severity); // Those of one level stay in the order of time.
        }
        if !is_ascending {
            lines.reverse();
        }
        Ok(lines)
    }
}

/// The last lines of this node's log; how many there are is limited.
#[utoipa::path(
    get, path = "/api/admin/logs", tag = "admin", params(Asked, PageQuery),
    responses((status = 200, description = "A page", body = E2<docs::LogPage>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let asked = Asked::of(asking)?;
    let (page, _) = asked.page.check()?;
    let lines = asked.select(&edge)?;
    let [offset, limit] = [page.offset, page.limit].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let items: Vec<Value> = lines.iter().skip(offset).take(limit).map(|line| shown(line)).collect();
    Ok(Json(plain(&json!({ "items": items, "pagination": { "total": lines.len() } }))))
}

fn shown(line: &Line) -> Value {
    json!({
        "id": line.id, "timestamp": line.at.to_string(), "level": line.severity.as_str(), "message": line.message,
    })
}

/// The lines of this node's log as a table, all that are wanted.
#[utoipa::path(
    get, path = "/api/admin/logs/export", tag = "admin", params(Asked),
    responses(
        (
            status = 200, description = "CSV: `id,timestamp,level,message`", body = String, content_type = "text/csv",
            headers(("Content-Disposition" = String)),
        ),
        Fails<docs::AdminReads>,
    ),
)]
pub(in crate::http) async fn export(
    State(edge): State<Edge>,
    credentials: Credentials,
    asking: Asking,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let lines = Asked::of(asking)?.select(&edge)?;
    let mut text = String::from("id,timestamp,level,message\r\n");
    for line in lines {
        let (id, at) = (line.id.to_string(), line.at.to_string());
        text.extend([id.as_str(), ",", &at, ",", line.severity.as_str(), ","]);
        pages::cell(&line.message, &mut text);
        text.push_str("\r\n");
    }
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"llmchat-logs.csv\""),
    ];
    Ok((headers, text).into_response())
}
