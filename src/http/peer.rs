//! What other nodes of the cluster ask, on the peers' port: their standing, the ends of turns that began with them, and
//! what their clients asked. The TLS handshake has said who they are.

use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::Peer;
use super::forward::{self, Forwarded};
use super::router;
use crate::base::{Chain, Txid};
use crate::protocol::cluster::{Kind, MemberId};
use crate::replica::{
    CERTIFICATE, CLIENT, CONNECTION_WINDOW_BYTES, HOP, HearError, Invited, InvitedWitness, JOIN, JOIN_AS_WITNESS,
    Joining, JoiningWitness, MAY_JOIN, MAY_JOIN_AS_WITNESS, MEMBERSHIP, Membership, NO_MEMBER, Refusal, Renewal,
    Renewed, STREAM_WINDOW_BYTES, Standing,
};
use crate::store::{StoreError, TurnEnd};
use crate::watched::Watched;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const PING_EVERY: Duration = Duration::from_secs(5);
/// What the store takes as one job, as JSON writes it.
const TURN_BYTES_MAX: usize = 100 << 20;

/// Which node asks, whether or not it is a member now; `None` for one that has not joined yet.
#[derive(Clone, Copy, Debug)]
struct Asking(Option<MemberId>);

/// Serves one connection of `member`, or of a node that wants to become one, until either side ends it.
pub(crate) async fn serve<S>(
    edge: Edge,
    socket: S,
    (member, from): (Option<MemberId>, SocketAddr),
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (routes, streams_max) = (routes(&edge), edge.settings.connections_max);
    let pair = edge.pair.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Asking(member));
        let is_member = member.is_some_and(|id| pair.config().now().member(id).is_some());
        let client = request.headers_mut().remove(CLIENT).filter(|_| is_member);
        let client = client.and_then(|client| client.to_str().ok()?.parse().ok());
        request.extensions_mut().insert(Peer(client.unwrap_or(from)));
        if request.headers_mut().remove(HOP).is_some() {
            request.extensions_mut().insert(Forwarded);
        }
        let routes = routes.clone();
        async move { routes.oneshot(request.map(axum::body::Body::new)).await }
    });
    let connection = http(streams_max).serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a peer's connection broke");
    }
}

/// HTTP/2 for what one node passes on to another: all of it comes by one connection, and a form is not read while its files
/// are stored, so that no body may take the window that the others share.
fn http(streams_max: usize) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    let streams = u32::try_from(streams_max).unwrap_or(u32::MAX);
    http.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).max_concurrent_streams(streams);
    http.initial_stream_window_size(STREAM_WINDOW_BYTES).initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http
}

fn routes(edge: &Edge) -> Router {
    let peers = Router::new()
        .route("/peer/standing", post(standing))
        .route("/peer/turns", post(turns).layer(DefaultBodyLimit::max(TURN_BYTES_MAX)))
        .route("/peer/pages/{number}", get(page))
        .route("/peer/chain/{txid}", get(chain))
        .route(JOIN, post(async |edge: State<Edge>, joining: Json<Joining>| join(edge, joining, false).await))
        .route(MAY_JOIN, post(async |edge: State<Edge>, joining: Json<Joining>| join(edge, joining, true).await))
        .route(
            JOIN_AS_WITNESS,
            post(async |edge: State<Edge>, joining: Json<_>| join_witness(edge, joining, false).await),
        )
        .route(
            MAY_JOIN_AS_WITNESS,
            post(async |edge: State<Edge>, joining: Json<_>| join_witness(edge, joining, true).await),
        )
        .route(CERTIFICATE, post(certify))
        .route(MEMBERSHIP, get(membership))
        .layer(middleware::map_response(render))
        .with_state(edge.clone());
    peers.merge(router::router(edge)).layer(middleware::from_fn_with_state(edge.clone(), allowed))
}

const FOR_STRANGERS: [&str; 4] = [JOIN, MAY_JOIN, JOIN_AS_WITNESS, MAY_JOIN_AS_WITNESS];

/// A node that has not joined may ask to, and a witness for its certificate; chats are for data nodes.
async fn allowed(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let member = request.extensions().get::<Asking>().and_then(|asking| asking.0);
    let kind = member.and_then(|id| edge.pair.config().now().member(id).map(|member| member.kind));
    let is_allowed = match kind {
        Some(Kind::Data) => true,
        Some(Kind::Witness) => path == CERTIFICATE,
        None => false,
    };
    let is_known = member.is_some() && path == MEMBERSHIP;
    if is_allowed || is_known || FOR_STRANGERS.contains(&path) {
        next.run(request).await
    } else if member.is_some() && kind.is_none() {
        let refused = ApiError::new(StatusCode::FORBIDDEN, "REFUSED", NO_MEMBER).render("peer");
        // A client's question that it has passed on is not the client's fault.
        forward::not_begun(refused)
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

async fn render(response: Response) -> Response {
    match response.extensions().get::<ApiError>() {
        Some(error) => error.render("peer"),
        None => response,
    }
}

async fn standing(
    State(edge): State<Edge>,
    Extension(Asking(member)): Extension<Asking>,
    Json(theirs): Json<Standing>,
) -> Result<Json<Standing>, ApiError> {
    if member != Some(theirs.member) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "REFUSED", "that is another node's standing"));
    }
    edge.pair.hear(&theirs).await.map(Json).map_err(|error| {
        match error {
            // It was logged where it was found.
            HearError::NoMemory(_) | HearError::Late(_) | HearError::Old(_) => {
                ApiError::new(StatusCode::CONFLICT, "REFUSED", error.to_string())
            }
            HearError::Node(_) => {
                tracing::error!(error = %Chain(&error), "what the other node says is not heard");
                error::internal()
            }
        }
    })
}

/// A page of this node's database, for one that came to harm.
async fn page(State(edge): State<Edge>, Path(number): Path<u32>) -> Result<Vec<u8>, ApiError> {
    let page = edge.store.page(number).await.map_err(|error| {
        tracing::warn!(error = %Chain(&error), "a page that the other node asked for is not read");
        error::no_primary("it cannot be read now")
    })?;
    page.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such page"))
}

/// What the history of this node is, up to a commit.
async fn chain(State(edge): State<Edge>, Path(txid): Path<u64>) -> Result<Json<Option<String>>, ApiError> {
    edge.pair.chain_at(Txid::from_raw(txid)).await.map(Json).map_err(|error| {
        tracing::error!(error = %Chain(&error), "the journal is not read");
        error::internal()
    })
}

/// Stores how a turn ended that began on another node, when that was the primary.
async fn turns(State(edge): State<Edge>, Json(end): Json<TurnEnd>) -> Result<Json<Value>, ApiError> {
    let stored = match edge.store.turn_finish(end) {
        Ok(pending) => pending.await.map(drop),
        Err(error) => Err(error),
    };
    match stored {
        Ok(()) => Ok(Json(json!({}))),
        Err(StoreError::Conflict) => Err(ApiError::new(StatusCode::CONFLICT, "CONFLICT", "no such turn is under way")),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the end of another node's turn is not stored");
            Err(error::no_primary("it is not stored; say it again"))
        }
    }
}

async fn join(
    State(edge): State<Edge>,
    Json(joining): Json<Joining>,
    dry: bool,
) -> Result<Json<Option<Invited>>, ApiError> {
    edge.pair.admit(joining, dry).await.map(Json).map_err(|refusal| refused(&refusal))
}

async fn join_witness(
    State(edge): State<Edge>,
    Json(joining): Json<JoiningWitness>,
    dry: bool,
) -> Result<Json<Option<InvitedWitness>>, ApiError> {
    edge.pair.admit_witness(joining, dry).await.map(Json).map_err(|refusal| refused(&refusal))
}

/// How the node stands that asks: one that is no member, or not yet, has to know why.
async fn membership(
    State(edge): State<Edge>,
    Extension(Asking(member)): Extension<Asking>,
) -> Result<Json<Membership>, ApiError> {
    let Some(member) = member else { return Err(refused(&Refusal::new(NO_MEMBER))) };
    Ok(Json(edge.pair.membership(member)))
}

/// Signs the key of the member that asks, which its certificate says, and of nobody else.
async fn certify(
    State(edge): State<Edge>,
    Extension(Asking(member)): Extension<Asking>,
    Json(renewal): Json<Renewal>,
) -> Result<Json<Renewed>, ApiError> {
    let Some(member) = member else { return Err(refused(&Refusal::new("that node is no member"))) };
    edge.pair.certify(member, &renewal).map(Json).map_err(|refusal| refused(&refusal))
}

fn refused(refusal: &Refusal) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "REFUSED", refusal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::client::conn::http2::handshake;
    use std::convert::Infallible;

    /// Goal: forms that are not read at this time hold up nobody else. Method: bodies that are longer than windows usually
    /// are, which are never read, and a short one behind them on the same connection.
    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_not_read_hold_up_no_other() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let service = service_fn(async |request: hyper::Request<Incoming>| {
            if request.uri().path() == "/unread" {
                std::future::pending::<()>().await;
            }
            let read = request.into_body().collect().await.map(|body| Full::<Bytes>::from(body.to_bytes()));
            Ok::<_, Infallible>(hyper::Response::new(read.unwrap_or_default()))
        });
        let serving = http(100).serve_connection(TokioIo::new(theirs), service);
        let (mut sender, sending) = handshake(TokioExecutor::new(), TokioIo::new(ours)).await.unwrap();
        let tasks = tokio_util::task::TaskTracker::new();
        tasks.spawn(serving);
        tasks.spawn(sending);
        let request = |path: &str, body: Vec<u8>| {
            let uri = format!("http://peer{path}");
            hyper::Request::post(uri).body(Full::<Bytes>::from(body)).unwrap()
        };
        let asked = async {
            let unread: Vec<_> =
                (0..20).map(|_| sender.send_request(request("/unread", vec![b'x'; 2 << 20]))).collect();
            let mut other = sender.clone();
            let answer = other.send_request(request("/read", b"short".to_vec())).await.unwrap();
            drop(unread);
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        let answered = tokio::time::timeout(Duration::from_mins(1), asked).await.expect("it is not held up");
        assert_eq!(answered, Bytes::from_static(b"short"));
    }
}
