//! The document of the API, OpenAPI 3.1, made from the routes: what `router` is built of is what is documented. A test makes
//! it, and keeps the file that is served as it was made: a node would spend 20 MB on putting it together.
//!
//! # How to document a route
//!
//! 1. Put `#[utoipa::path(…)]` over the handler: the method, the `path` exactly as the router has it, a `tag` of `TAGS` in `written`, and
//!    the `responses`. The handler's doc comment is the operation's summary (its first line) and description, for whoever
//!    calls the API; what is for us alone is a plain comment.
//! 2. Name it in the table of [`super::router`], by its file. A plain `.route(…)` works too, and a test names it as a route
//!    without a document.
//! 3. Success: `(status = 200, description = "…", body = E1<docs::Thing>)`, in the envelope ([`E1`], [`E2`], [`E3`], or the
//!    type alone where the answer is raw). Types of bodies are in this room, one file for each kind of thing, with
//!    `#[derive(ToSchema)]`; a request that is a serde type beside its handler derives it there. `required = true` is for
//!    what is always there and may be null, `nullable = false` for what is left out but never null. Names are unique
//!    across the whole document.
//! 4. Everything else: `Fails<(docs::AdminWrites, docs::UnknownThing)>`, the group that fits what the handler takes
//!    ([`Reads`], [`FreshReads`], [`Writes`], [`UserReads`], [`UserWrites`], [`AdminReads`], [`AdminWrites`]) and the codes of
//!    its own, each a line in `failures.rs`. That names all statuses: one that an answer has and the document has not is
//!    found by `tests/openapi/run.sh`.
//! 5. `params(…)`: a query's struct derives `IntoParams` with `#[into_params(parameter_in = Query)]`; its numbers come as texts,
//!    so `#[param(value_type = u32, required = false, minimum = 1, maximum = 100)]`. A part of the path is
//!    `("id" = String, Path, description = "…")`. Handlers take [`super::extract::InPath`] and not axum's `Path`, whose refusals
//!    are no JSON.
//! 6. Without `security` a login is wanted, by bearer token or cookie. `security(())` is for everybody, and
//!    `security((), ("bearer" = []), ("session" = []))` makes a difference for who is logged in.
//! 7. Write the document anew: `LLMCHAT_WRITE_OPENAPI=1 cargo test --lib http::docs`.

#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod account;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod agent;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod analytics;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod chat;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod envelopes;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod exports;
mod failures;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod files;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod health;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod node;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod personal;
#[expect(dead_code, reason = "shapes of bodies: no value is ever made")]
mod sessions;

pub(super) use account::*;
pub(super) use agent::*;
pub(super) use analytics::*;
pub(super) use chat::*;
pub(super) use envelopes::*;
pub(super) use exports::*;
pub(super) use failures::*;
pub(super) use files::*;
pub(super) use health::*;
pub(super) use node::*;
pub(super) use personal::*;
pub(super) use sessions::*;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Type};

/// The document as `written` makes it: a test keeps it true.
const DOCUMENT: &str = include_str!("../../../data/docs/openapi.json");

/// A number within `bounds`, or the text of one, or none.
fn number_or_text(kind: Type, (min, max): (f64, f64)) -> Schema {
    let number = ObjectBuilder::new().schema_type(kind).minimum(Some(min)).maximum(Some(max));
    let (text, none) = (ObjectBuilder::new().schema_type(Type::String), ObjectBuilder::new().schema_type(Type::Null));
    AnyOfBuilder::new().item(number).item(text).item(none).build().into()
}

/// This document.
#[utoipa::path(
    get, path = "/api/docs/openapi.json", tag = "docs", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Fails<Always>),
)]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// A page that lists the operations.
#[utoipa::path(
    get, path = "/api/docs", tag = "docs", security(()),
    responses((status = 200, description = "HTML", body = String, content_type = "text/html"), Fails<Always>),
)]
pub(super) async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("../../../data/docs/index.html"))).into_response()
}

/// What every node answers for itself.
pub(super) fn is_here(path: &str) -> bool {
    path == "/api/docs" || path.starts_with("/api/docs/")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;
