//! The document, written from the routes.

use crate::http::edge::Edge;
use crate::http::router;
use crate::http::routes::Routes;
use axum::handler::Handler;
use serde_json::Value;
use std::fmt::Write;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::Path;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};

/// The kinds of routes.
pub(super) const TAGS: [(&str, &str); 10] = [
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
fn outline() -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let session = ApiKeyValue::with_description(
        "llmchat_session",
        "Set by a login; a write has to come from a page of the same origin",
    );
    let components = ComponentsBuilder::new()
        .schema_from::<super::failures::Error>()
        .schema_from::<super::failures::Problem>()
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

/// Takes what is written over the handlers, and what that names.
impl Routes for OpenApi {
    fn with<O, H, T>(mut self, _: O, _: H) -> Self
    where
        O: Path + Tags<'static> + SchemaReferences,
        H: Handler<T, Edge>,
        T: 'static,
    {
        let mut schemas = Vec::new();
        O::schemas(&mut schemas);
        let named = &mut self.components.get_or_insert_default().schemas;
        for (name, schema) in schemas {
            let before = named.insert(name.clone(), schema);
            assert!(before.is_none_or(|before| before == named[&name]), "two schemas are named {name}");
        }
        let mut operation = O::operation();
        operation.tags = Some(O::tags().into_iter().map(str::to_owned).collect());
        self.paths.add_path_operation(O::path(), O::methods(), operation);
        self
    }
}

/// The document of this source, a line for each operation and each schema, so that a change is seen.
pub(super) fn document() -> String {
    let document = finished(router::forms(router::api(outline())));
    let mut document = serde_json::to_value(document).expect("texts and numbers always serialize");
    allow_empty(&mut document);
    let mut lines = String::new();
    write_lines(&mut lines, &document, 2);
    lines.push('\n');
    lines
}

/// Writes `value`, its fields on lines of their own down to `depth`.
fn write_lines(to: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if depth > 0 && !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().enumerate() {
                let begin = if index == 0 { '{' } else { ',' };
                write!(to, "{begin}\n{}:", Value::from(name.as_str())).expect("a string takes all");
                write_lines(to, value, depth - 1);
            }
            to.push_str("\n}");
        }
        value => write!(to, "{value}").expect("a string takes all"),
    }
}

/// Says of every parameter of a query that may be left out that it may be empty too, which is the same: forms send what
/// nobody filled in. Of a text, or a list of them, that goes without saying.
fn allow_empty(document: &mut Value) {
    let items = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
    for parameter in parameters.filter(|parameter| parameter["in"] == "query" && parameter["required"] != true) {
        let schema = &parameter["schema"];
        let is_text = schema["type"] == "string" && schema["enum"].is_null();
        if !is_text && schema["type"] != "array" {
            parameter["allowEmptyValue"] = true.into();
        }
    }
}

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
