use super::edge::Edge;
use super::{api, docs, error, frontend, health, layers, upload};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, get_service};
use std::path::Path;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

/// Every route of the service, and the layers around them.
pub(super) fn router(edge: &Edge) -> Router {
    let body_bytes_max = edge.settings.body_bytes_max;
    let (routes, _) = api().split_for_parts();
    let routes = routes
        .merge(pages(edge.settings.frontend.as_deref()))
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn(no_head_of_exports))
        .layer(DefaultBodyLimit::max(body_bytes_max));
    layers::around(routes, edge).with_state(edge.clone())
}

/// Files, whose bodies have limits of their own: [`upload`] reads them.
fn file_routes() -> OpenApiRouter<Edge> {
    let forms = DefaultBodyLimit::max(upload::FORM_BYTES_MAX);
    OpenApiRouter::new()
        .routes(routes!(api::attachments::send))
        .routes(routes!(api::uploads::single).layer(forms))
        .routes(routes!(api::uploads::multiple).layer(forms))
        .routes(routes!(api::uploads::list))
        .routes(routes!(api::uploads::info))
        .routes(routes!(api::uploads::remove))
        .routes(routes!(api::files::file))
}

/// What happened, in numbers.
fn analytics() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(api::analytics::overview))
        .routes(routes!(api::analytics::series))
        .routes(routes!(api::analytics::conversations))
        .routes(routes!(api::analytics::heat_map))
        .routes(routes!(api::analytics::agents))
        .routes(routes!(api::analytics::trends))
        .routes(routes!(api::analytics::geo))
}

/// What administrators see of a node, and what they do with somebody's data.
fn administration() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(api::logs::list))
        .routes(routes!(api::logs::export))
        .routes(routes!(api::system::info))
        .routes(routes!(api::system::stats))
        .routes(routes!(api::system::metrics))
        .routes(routes!(api::config::health))
        .routes(routes!(api::config::compare))
        .routes(routes!(api::config::details))
        .routes(routes!(api::user_data::export))
        .routes(routes!(api::user_data::erase))
}

/// Conversations: their owners', those with an agent, and all of them.
fn session_routes() -> OpenApiRouter<Edge> {
    use api::export;
    use api::sessions::{admin, of_agent, own};
    OpenApiRouter::new()
        .routes(routes!(own::list, own::make))
        .routes(routes!(own::search))
        .routes(routes!(own::stats))
        .routes(routes!(own::one, own::delete))
        .routes(routes!(own::rename))
        .routes(routes!(own::archive))
        .routes(routes!(of_agent::enhanced))
        .routes(routes!(of_agent::stats))
        .routes(routes!(of_agent::events))
        .routes(routes!(of_agent::batch))
        .routes(routes!(export::of_agent))
        .routes(routes!(of_agent::one))
        .routes(routes!(admin::list))
        .routes(routes!(admin::stats))
        .routes(routes!(export::all))
        .routes(routes!(admin::batch_delete))
        .routes(routes!(admin::batch_archive))
        .routes(routes!(admin::batch_unarchive))
        .routes(routes!(admin::one, admin::delete))
        .routes(routes!(admin::archive))
        .routes(routes!(admin::unarchive))
        .routes(routes!(export::one))
}

/// Every route but pages, each with its document: how that is written is told in [`docs`].
pub(super) fn api() -> OpenApiRouter<Edge> {
    OpenApiRouter::with_openapi(docs::outline())
        .routes(routes!(api::agents::list, api::agents_edit::create))
        .routes(routes!(api::agents_edit::reload))
        .routes(routes!(api::agents_edit::import))
        .routes(routes!(api::agents_edit::fetch_info))
        .routes(routes!(api::agents::one, api::agents_edit::update, api::agents_edit::remove))
        .routes(routes!(api::agents::status))
        .routes(routes!(api::agents_edit::validate))
        .routes(routes!(api::chat::completions))
        .routes(routes!(api::chat::messages))
        .routes(routes!(api::init::init))
        .routes(routes!(api::auth::log_in))
        .routes(routes!(api::auth::log_out))
        .routes(routes!(api::auth::refresh))
        .routes(routes!(api::auth::verify, api::auth::verify_posted))
        .routes(routes!(api::auth::change_password))
        .routes(routes!(api::auth::register))
        .routes(routes!(api::auth::profile, api::auth::set_profile))
        .routes(routes!(api::users::list, api::users::add))
        .routes(routes!(api::users::change, api::users::remove))
        .routes(routes!(api::users::reset_password))
        .routes(routes!(api::audit::list))
        .routes(routes!(api::history::list, api::history::delete_every))
        .routes(routes!(api::history::detail, api::history::delete))
        .routes(routes!(api::after::retry))
        .routes(routes!(api::history::messages))
        .routes(routes!(api::after::feedback))
        .routes(routes!(api::after::stop))
        .routes(routes!(docs::document))
        .routes(routes!(docs::page))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::startup))
        .routes(routes!(health::primary))
        .routes(routes!(health::standby))
        .routes(routes!(health::detailed))
        .routes(routes!(health::metrics))
        .merge(session_routes())
        .merge(analytics())
        .merge(file_routes())
        .merge(administration())
}

/// What is no API: a front end where the operator has one, else our own page.
fn pages(frontend: Option<&Path>) -> Router<Edge> {
    match frontend.map(frontend::routes) {
        Some(files) => Router::new().route("/", get_service(files.clone())).fallback_service(files),
        None => Router::new().route("/", get(page)).fallback(error::not_found),
    }
}

/// Our own small chat page: one file, no third party.
async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../../data/console/index.html"))).into_response()
}

/// Whoever asks for the head of an export alone would make it, and be audited for one that nobody has.
async fn no_head_of_exports(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.method() == Method::HEAD && path.starts_with("/api/") && path.ends_with("/export") {
        return error::method_not_allowed().await.into_response();
    }
    next.run(request).await
}
