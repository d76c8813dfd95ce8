use super::edge::Edge;
use super::routes::{Routes, with};
use super::{api, docs, error, frontend, health, layers, upload};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, get_service};
use std::path::Path;

/// Every route of the service, and the layers around them.
pub(super) fn router(edge: &Edge) -> Router {
    let body_bytes_max = edge.settings.body_bytes_max;
    let forms = forms(Router::new()).layer(DefaultBodyLimit::max(upload::FORM_BYTES_MAX));
    let routes = api(Router::new())
        .merge(forms)
        .merge(pages(edge.settings.frontend.as_deref()))
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn(no_head_of_exports))
        .layer(DefaultBodyLimit::max(body_bytes_max));
    layers::around(routes, edge).with_state(edge.clone())
}

/// What comes as a form, with a limit of its own: [`upload`] reads it.
pub(super) fn forms<R: Routes>(routes: R) -> R {
    with!(routes; api::uploads { single, multiple })
}

/// Every other route but pages.
pub(super) fn api<R: Routes>(routes: R) -> R {
    use api::sessions::{admin, of_agent, own};
    let routes = with!(routes;
        api::agents { list, one, status }
        api::agents_edit { create, reload, import, fetch_info, update, remove, validate }
        api::init { init }
        api::chat { completions, messages }
        api::after { retry, feedback, stop }
        api::history { list, delete_every, detail, delete, messages }
        api::attachments { send }
        api::uploads { list, info, remove }
        api::files { file }
        api::auth { log_in, log_out, refresh, verify, verify_posted, change_password, register, profile, set_profile }
    );
    let routes = with!(routes;
        own { list, make, search, stats, one, delete, rename, archive }
        of_agent { enhanced, stats, events, batch, one }
        admin { list, stats, batch_delete, batch_archive, batch_unarchive, one, delete, archive, unarchive }
        api::export { of_agent, all, one }
    );
    with!(routes;
        api::users { list, add, change, remove, reset_password }
        api::user_data { export, erase }
        api::audit { list }
        api::logs { list, export }
        api::system { info, stats, metrics }
        api::config { health, compare, details }
        api::analytics { overview, series, conversations, heat_map, agents, trends, geo }
        docs { document, page }
        health { health, live, ready, startup, primary, standby, detailed, metrics }
    )
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
