//! The one table from what went wrong to what the caller is told.

use crate::clock;
use crate::gateway::ChatError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that is not the one that was asked for.
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        let (status, code) = match &error {
            ChatError::UnknownAgent => (StatusCode::NOT_FOUND, "AGENT_NOT_FOUND"),
            ChatError::Invalid { .. } => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            ChatError::Upstream(cause) => {
                tracing::warn!(error = ?cause, "no answer");
                (StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.code, "message": self.message, "data": null, "timestamp": clock::timestamp() });
        (self.status, Json(body)).into_response()
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such route")
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "the route does not take this method")
}
