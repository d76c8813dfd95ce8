use super::edge::Edge;
use super::{api, error, frontend, health, layers, upload};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, get_service, patch, post, put};
use std::path::Path;

/// Every route of the service, and the layers around them.
pub(super) fn router(edge: &Edge) -> Router {
    let body_bytes_max = edge.settings.body_bytes_max;
    let routes = Router::new()
        .route("/api/agents", get(api::agents::list).post(api::agents_edit::create))
        .route("/api/agents/reload", post(api::agents_edit::reload))
        .route("/api/agents/import", post(api::agents_edit::import))
        .route("/api/agents/fetch-info", post(api::agents_edit::fetch_info))
        .route("/api/agents/{id}", get(api::agents::one).put(api::agents_edit::update).delete(api::agents_edit::remove))
        .route("/api/agents/{id}/status", get(api::agents::status))
        .route("/api/agents/{id}/validate", get(api::agents_edit::validate))
        .route("/api/chat/completions", post(api::chat::completions))
        .route("/api/chat/messages", post(api::chat::completions))
        .route("/api/chat/init", get(api::init::init))
        .route("/api/auth/login", post(api::auth::log_in))
        .route("/api/auth/logout", post(api::auth::log_out))
        .route("/api/auth/refresh", post(api::auth::refresh))
        .route("/api/auth/verify", get(api::auth::verify).post(api::auth::verify_posted))
        .route("/api/auth/change-password", post(api::auth::change_password))
        .route("/api/auth/register", post(api::auth::register))
        .route("/api/auth/profile", get(api::auth::profile).put(api::auth::set_profile))
        .route("/api/admin/users", get(api::users::list).post(api::users::add))
        .route("/api/admin/users/{id}", put(api::users::change).delete(api::users::remove))
        .route("/api/admin/users/{id}/reset-password", post(api::users::reset_password))
        .route("/api/admin/audit", get(api::audit::list))
        .route("/api/chat/history", get(api::history::list).delete(api::history::delete_every))
        .route("/api/chat/history/{chat_id}", get(api::history::detail).delete(api::history::delete))
        .route("/api/chat/history/{chat_id}/retry", post(api::after::retry))
        .route("/api/chat/sessions/{id}/messages", get(api::history::messages))
        .route("/api/chat/feedback", post(api::after::feedback))
        .route("/api/chat/stop", post(api::after::stop))
        .merge(analytics())
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/startup", get(health::startup))
        .route("/health/primary", get(health::primary))
        .route("/health/standby", get(health::standby))
        .route("/health/detailed", get(health::detailed))
        .route("/metrics", get(health::metrics))
        .merge(file_routes())
        .merge(administration())
        .merge(session_routes())
        .merge(pages(edge.settings.frontend.as_deref()))
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(body_bytes_max));
    layers::around(routes, edge).with_state(edge.clone())
}

/// Files, whose bodies have limits of their own: [`upload`] reads them.
fn file_routes() -> Router<Edge> {
    let forms = DefaultBodyLimit::max(upload::FORM_BYTES_MAX);
    Router::new()
        .route("/api/chat/attachments", post(api::attachments::send))
        .route("/api/upload/single", post(api::uploads::single).layer(forms))
        .route("/api/upload/multiple", post(api::uploads::multiple).layer(forms))
        .route("/api/upload/list", get(api::uploads::list))
        .route("/api/upload/{file}/info", get(api::uploads::info))
        .route("/api/upload/{file}", delete(api::uploads::remove))
        .route("/uploads/{file}", get(api::files::file))
}

/// What happened, in numbers.
fn analytics() -> Router<Edge> {
    use api::analytics;
    Router::new()
        .route("/api/admin/analytics/overview", get(analytics::overview))
        .route("/api/admin/analytics/conversations/series", get(analytics::series))
        .route("/api/admin/analytics/conversations/agents", get(analytics::conversations))
        .route("/api/admin/analytics/province-heatmap", get(analytics::heat_map))
        .route("/api/admin/analytics/agents", get(analytics::agents))
        .route("/api/admin/analytics/trends", get(analytics::trends))
        .route("/api/admin/analytics/geo", get(analytics::geo))
}

/// What administrators see of a node, and what they do with somebody's data.
fn administration() -> Router<Edge> {
    Router::new()
        .route("/api/admin/logs", get(api::logs::list))
        .route("/api/admin/logs/export", get(api::logs::export))
        .route("/api/admin/system-info", get(api::system::info))
        .route("/api/admin/stats", get(api::system::stats))
        .route("/api/admin/metrics", get(api::system::metrics))
        .route("/api/admin/config/health", get(api::config::health))
        .route("/api/admin/config/compare", get(api::config::compare))
        .route("/api/admin/config/details", get(api::config::details))
        .route("/api/admin/users/{id}/export", get(api::user_data::export))
        .route("/api/admin/users/{id}/erase", post(api::user_data::erase))
}

/// Conversations: their owners', those with an agent, and all of them.
fn session_routes() -> Router<Edge> {
    use api::export;
    use api::sessions::{admin, of_agent, own};
    Router::new()
        .route("/api/chat-sessions", get(own::list).post(own::make))
        .route("/api/chat-sessions/search", get(own::search))
        .route("/api/chat-sessions/stats", get(own::stats))
        .route("/api/chat-sessions/{id}", get(own::one).delete(own::delete))
        .route("/api/chat-sessions/{id}/title", patch(own::rename))
        .route("/api/chat-sessions/{id}/archive", post(own::archive))
        .route("/api/sessions/{agent_id}/enhanced", get(of_agent::enhanced))
        .route("/api/sessions/{agent_id}/stats", get(of_agent::stats))
        .route("/api/sessions/{agent_id}/events", get(of_agent::events))
        .route("/api/sessions/{agent_id}/batch", post(of_agent::batch))
        .route("/api/sessions/{agent_id}/export", post(export::of_agent))
        .route("/api/sessions/{agent_id}/{id}", get(of_agent::one))
        .route("/api/admin/sessions", get(admin::list))
        .route("/api/admin/sessions/stats", get(admin::stats))
        .route("/api/admin/sessions/export", get(export::all))
        .route("/api/admin/sessions/batch-delete", post(admin::batch_delete))
        .route("/api/admin/sessions/batch-archive", post(admin::batch_archive))
        .route("/api/admin/sessions/batch-unarchive", post(admin::batch_unarchive))
        .route("/api/admin/sessions/{id}", get(admin::one).delete(admin::delete))
        .route("/api/admin/sessions/{id}/archive", post(admin::archive))
        .route("/api/admin/sessions/{id}/unarchive", post(admin::unarchive))
        .route("/api/admin/sessions/{id}/export", get(export::one))
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
