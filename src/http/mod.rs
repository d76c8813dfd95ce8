//! The edge: routes, and the translation between HTTP and the gateway.

mod chat;
mod error;
mod settings;

pub(crate) use settings::Settings;

use crate::gateway::Gateway;
use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

/// Serves until the listener fails.
pub(crate) async fn serve(listener: TcpListener, gateway: Gateway) -> std::io::Result<()> {
    axum::serve(listener.tap_io(|socket| drop(socket.set_nodelay(true))), router(gateway)).await
}

/// Every route of the service.
fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("../../data/console/index.html"))))
        .route("/api/chat/completions", post(chat::completions))
        .route("/api/agents", get(chat::agents))
        .route("/health/live", get(async || axum::Json(serde_json::json!({"status": "alive"}))))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(gateway)
}
