//! The one table from what went wrong to what the caller is told.

use crate::agents::AgentsError;
use crate::base::Chain;
use crate::clock;
use crate::gateway::ChatError;
use crate::protocol::answer::Class;
use crate::protocol::chat::{Invalid, Problem};
use crate::sessions::HistoryError;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;

/// An answer that is not the one that was asked for. [`super::layers`] writes its body, because
/// only there the request's id is known.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    /// `UPPER_SNAKE`, part of the contract.
    pub(super) code: &'static str,
    /// One sentence for a person; nothing of paths, SQL, keys or the upstream's own words.
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    details: Vec<Problem>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, details: Vec::new() }
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// For a person.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The body, by the contract's shape.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let mut body = json!({
            "code": self.code, "message": self.message, "data": null,
            "timestamp": clock::timestamp(), "requestId": request_id,
        });
        if !self.details.is_empty() {
            body["details"] =
                self.details.iter().map(|Problem { field, rule }| json!({ "field": field, "rule": rule })).collect();
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(retry_after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(retry_after)));
        }
        response
    }
}

/// Whole seconds, rounded up: asking again any sooner would be refused again.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        let message = error.to_string();
        let (status, code, retry_after) = match &error {
            ChatError::Invalid(_) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR", None),
            ChatError::UnknownAgent => (StatusCode::NOT_FOUND, "AGENT_NOT_FOUND", None),
            ChatError::InactiveAgent => (StatusCode::BAD_REQUEST, "AGENT_INACTIVE", None),
            ChatError::Overloaded | ChatError::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", Some(SOON))
            }
            ChatError::Busy => (StatusCode::CONFLICT, "CHAT_BUSY", None),
            ChatError::NoTarget => (StatusCode::NOT_FOUND, "RETRY_TARGET_NOT_FOUND", None),
            ChatError::Mismatch => (StatusCode::UNPROCESSABLE_ENTITY, "TURN_MISMATCH", None),
            ChatError::Store(StoreError::NotPermitted) => return not_admin(),
            ChatError::Store(cause) => {
                tracing::error!(error = %Chain(cause), "the store failed a chat");
                (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", Some(SOON))
            }
            ChatError::Limited(refused) => {
                (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", Some(refused.retry_after))
            }
            ChatError::Open { retry_after } => (StatusCode::SERVICE_UNAVAILABLE, "CIRCUIT_OPEN", Some(*retry_after)),
            ChatError::Paused { retry_after } => (StatusCode::TOO_MANY_REQUESTS, "UPSTREAM_BUSY", Some(*retry_after)),
            ChatError::NodeFailed => (StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", None),
            ChatError::Upstream(failure) => upstream(failure.class),
        };
        let message = match &error {
            ChatError::Upstream(failure) => sentence(failure.class).to_owned(),
            _ => message,
        };
        let details = match error {
            ChatError::Invalid(invalid) => invalid.problems,
            _ => Vec::new(),
        };
        Self { status, code, message, retry_after, details }
    }
}

/// When asking again may well work.
const SOON: Duration = Duration::from_secs(1);

fn upstream(class: Class) -> (StatusCode, &'static str, Option<Duration>) {
    match class {
        Class::Unreachable
        | Class::Reset
        | Class::BadGateway
        | Class::Truncated
        | Class::Infrastructure
        | Class::Model
        | Class::TooLong
        | Class::Unknown => (StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", None),
        Class::TimedOut | Class::TooSlow => (StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", None),
        Class::Throttled { retry_after } => (StatusCode::TOO_MANY_REQUESTS, "UPSTREAM_BUSY", Some(retry_after)),
        Class::Busy => (StatusCode::CONFLICT, "CHAT_BUSY", None),
        Class::Rejected => (StatusCode::BAD_REQUEST, "UPSTREAM_REJECTED", None),
        Class::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "UPSTREAM_REJECTED", None),
        Class::Quota => (StatusCode::PAYMENT_REQUIRED, "UPSTREAM_QUOTA", None),
        Class::Misconfigured => (StatusCode::BAD_GATEWAY, "AGENT_MISCONFIGURED", None),
    }
}

fn sentence(class: Class) -> &'static str {
    match class {
        Class::Unreachable => "the agent's server cannot be reached",
        Class::Reset | Class::Truncated => "the agent's server broke off",
        Class::BadGateway | Class::Infrastructure | Class::Unknown => "the agent's server failed",
        Class::Model => "the agent's model failed",
        Class::TooLong => "the answer is longer than any may be",
        Class::TimedOut | Class::TooSlow => "the agent's server did not answer in time",
        Class::Throttled { .. } => "the agent's server has too many requests; ask again later",
        Class::Busy => "the chat is still answering an earlier question",
        Class::Rejected => "the agent's server refused the question",
        Class::TooLarge => "the question is too large for the agent's server",
        Class::Quota => "the agent's quota is used up",
        Class::Misconfigured => "the agent is not set up correctly; tell the administrator",
    }
}

impl From<AgentsError> for ApiError {
    fn from(error: AgentsError) -> Self {
        if let AgentsError::Upstream(failure) = &error {
            tracing::warn!(reason = %failure, "an upstream did not describe its app");
        }
        ChatError::from(error).into()
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        let message = error.to_string();
        match error {
            HistoryError::Unknown => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            HistoryError::Busy => Self::new(StatusCode::CONFLICT, "CHAT_BUSY", message),
            HistoryError::Store(StoreError::NotPermitted) => not_admin(),
            HistoryError::Exists => Self::new(StatusCode::CONFLICT, "SESSION_EXISTS", message),
            HistoryError::Store(cause) => {
                tracing::warn!(error = %Chain(&cause), "a change to a chat is not stored");
                no_primary("it is not known to be stored; ask again")
            }
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.to_string();
        let mut error = Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
        error.details = invalid.problems;
        error
    }
}

pub(super) fn draining() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "the service is stopping").after(SOON)
}

/// It may well work in a moment.
pub(super) fn soon(why: &'static str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", why).after(SOON)
}

/// Somebody has tried too many passwords for a name.
pub(super) fn locked(retry_after: Duration) -> ApiError {
    let message = format!("too many wrong passwords; try again in {} min", retry_after.as_secs().div_ceil(60));
    ApiError::new(StatusCode::LOCKED, "ACCOUNT_LOCKED", message).after(retry_after)
}

/// The client, whoever that is, asks too often.
pub(super) fn too_many(retry_after: Duration) -> ApiError {
    let message = "too many requests; ask again later";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message).after(retry_after)
}

/// Somebody is logged in, and that is not enough.
pub(super) fn not_admin() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "ADMIN_REQUIRED", "only an administrator may do that")
}

/// Nobody here may answer; `why` is for a person.
pub(super) fn no_primary(why: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", why).after(SOON)
}

/// What the client has seen is no part of the history: asking again changes nothing.
pub(super) fn stale_token() -> ApiError {
    let message = "the position is not part of this history: it was given up, is older than what is kept, or was never given; read without it";
    ApiError::new(StatusCode::CONFLICT, "STALE_TOKEN", message)
}

pub(super) fn internal() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "something went wrong on our side")
}

pub(super) fn validation(field: &str, rule: &str) -> ApiError {
    let problems = vec![Problem { field: field.to_owned(), rule: rule.to_owned() }];
    Invalid { problems }.into()
}

/// Also for those who may not know that there is one.
pub(super) fn unlisted() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such route")
}

pub(super) async fn not_found() -> ApiError {
    unlisted()
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "the route does not take this method")
}
