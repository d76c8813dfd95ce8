//! `GET /api/admin/audit`: who changed what, for administrators.

use super::{PageQuery, listed};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E3, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::store::{AuditFilter, AuditRow};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    #[param(value_type = String, required = false)]
    action: Option<String>,
    #[param(value_type = i64, required = false)]
    user_id: Option<String>,
    #[param(ignore)]
    #[serde(flatten)]
    page: PageQuery,
}

/// Who changed what, and who tried: the last first.
#[utoipa::path(
    get, path = "/api/admin/audit", tag = "admin", params(Asked, PageQuery),
    responses((status = 200, description = "A page", body = E3<Vec<docs::AuditEntry>>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    credentials: Credentials,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let Query(asked) = asked.map_err(|_| error::validation("query", "must have each name once"))?;
    let (page, number) = asked.page.check()?;
    let user_id = asked.user_id.filter(|id| !id.is_empty()).map(|id| id.parse());
    let user_id = user_id.transpose().map_err(|_| error::validation("user_id", "must be a user's number"))?;
    let filter = AuditFilter { action: asked.action.filter(|action| !action.is_empty()), user_id };
    let (rows, total) = edge.accounts.audit(filter, (page.offset, page.limit)).await?;
    Ok(Json(listed(&rows.iter().map(shown).collect::<Vec<_>>(), number, page, total)))
}

fn shown(row: &AuditRow) -> Value {
    json!({
        "id": row.id, "timestamp": row.at.to_string(), "user_id": row.user_id, "username": row.username,
        "action": row.action, "resource_type": row.resource_type, "resource_id": row.resource_id,
        "details": serde_json::from_str::<Value>(&row.details).unwrap_or_default(),
        "ip_address": row.ip_address, "user_agent": row.user_agent,
        "status": if row.is_failure { "failure" } else { "success" }, "error_message": row.error,
    })
}
