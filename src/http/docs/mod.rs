//! The document of the API, OpenAPI 3.1, made from the routes: what `router` is built of is what is documented.
//!
//! # How to document a route
//!
//! 1. Put `#[utoipa::path(…)]` over the handler: the method, the `path` exactly as the router has it, a `tag` of [`TAGS`], and
//!    the `responses`. The handler's doc comment is the operation's summary (its first line) and description, for whoever
//!    calls the API; what is for us alone is a plain comment.
//! 2. Register it with `.routes(routes!(api::thing::list, api::thing::create))`, all methods of one path in one `routes!`. A
//!    plain `.route(…)` works too, and a test names it as a route without a document.
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

use axum::body::Bytes;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Schema, SecurityRequirement,
};

/// The kinds of routes.
const TAGS: [(&str, &str); 10] = [
    ("agents", "What may be talked to"),
    ("chat", "Questions and their answers"),
    ("history", "What was said"),
    ("sessions", "Conversations as such"),
    ("files", "What goes along with a question, and what is kept beside"),
    ("auth", "Logging in, and what users may change of themselves"),
    ("admin", "For administrators"),
    ("analytics", "What happened, in numbers, for administrators"),
    ("health", "For load balancers, scripts and collectors"),
    ("docs", "This document"),
];

const ABOUT: &str = "Chats of people with agents. Every answer that is no success is an `Error`, and every answer has an \
    `X-Request-ID`. A read may say by the header `X-LLMChat-Read` how fresh it has to be: `any`, `max_staleness=MS`, \
    `at_least=POSITION` (the `X-LLMChat-Position` of an answer before) or `linearizable`. A list in a page is asked for by \
    `page` and `pageSize`. Fields that a client does not know may be added to any answer.";

/// The document without its routes.
pub(super) fn outline() -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let session = ApiKeyValue::with_description(
        "llmchat_session",
        "Set by a login; a write has to come from a page of the same origin",
    );
    let components = ComponentsBuilder::new()
        .schema_from::<failures::Error>()
        .schema_from::<failures::Problem>()
        .security_scheme("bearer", SecurityScheme::Http(bearer.build()))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
    let info = InfoBuilder::new()
        .title("LLMChat")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    let none: [&str; 0] = [];
    let login = ["bearer", "session"].map(|scheme| SecurityRequirement::new(scheme, none));
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    OpenApiBuilder::new().info(info).components(Some(components.build())).security(Some(login)).tags(Some(tags)).build()
}

/// Made once: it is the same for every process.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let document = finished(super::router::api().split_for_parts().1);
    Bytes::from(serde_json::to_vec(&document).expect("texts and numbers always serialize"))
});

/// Gives every operation a name of its own, made of its method and its path.
fn finished(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(format!("{method}{}", camel(path)));
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("patch", patch), ("delete", delete)];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// `/api/agents/{id}` as `AgentsId`.
fn camel(path: &str) -> String {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

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
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
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
