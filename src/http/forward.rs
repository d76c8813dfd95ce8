//! Either address works: what a standby cannot answer it asks of the primary, and hands the answer back as it comes.
//!
//! A request is sent again only where it has certainly not begun: the primary could not be reached, or said so. One that
//! was forwarded is never forwarded again.

use super::credentials;
use super::docs;
use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::Peer;
use super::layers::is_probe;
use super::levels::{Level, Reading};
use crate::base::Chain;
use crate::clock;
use crate::protocol::attachment::UPLOADS;
use crate::replica::{AskError, Body, CLIENT, Entered, HOP, Role};
use crate::watched::Watched;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

/// Said of a forwarded request that was not begun, as this node is no primary any more.
const NOT_BEGUN: HeaderName = HeaderName::from_static("x-llmchat-not-begun");
/// While the primary changes, a request that has not begun is tried again for so long.
const TRY_WITHIN: Duration = Duration::from_secs(5);
const TRY_EVERY: Duration = Duration::from_millis(20);
/// The standby is asked beside everything else: whoever waits is answered without it.
const STANDBY_WITHIN: Duration = Duration::from_secs(1);
/// Of its answer, which is a few words.
const STANDBY_BYTES_MAX: usize = 16 << 10;
/// Of one connection, and not of what is beyond it.
const HOP_BY_HOP: [HeaderName; 9] = [
    // What is sent on is not always as long as what came.
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a request is sent on, all but its body.
#[derive(Clone)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    client: Option<SocketAddr>,
    /// What the client calls this service.
    host: Option<String>,
    /// It came from another node.
    is_forwarded: bool,
}

impl Asked {
    fn of(method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &axum::http::Extensions) -> Self {
        let host = credentials::host(headers, uri);
        let headers = headers.iter().filter(|(name, _)| !is_of_one_hop(name));
        Self {
            method: method.clone(),
            uri: uri.clone(),
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            client: extensions.get::<Peer>().map(|peer| peer.0),
            host,
            is_forwarded: extensions.get::<Forwarded>().is_some(),
        }
    }

    fn request(&self, body: Body) -> Result<Request<Body>, axum::http::Error> {
        let mut request = Request::builder().method(self.method.clone()).uri(self.uri.clone()).body(body)?;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(HOP, HeaderValue::from_static("1"));
        // The other node is reached by a name that no page has.
        if credentials::is_same_origin(&self.headers, self.host.as_deref()) {
            headers.insert(credentials::SITE, HeaderValue::from_static(credentials::SAME_ORIGIN));
        }
        if let Some(client) = self.client {
            headers.insert(CLIENT, HeaderValue::from_str(&client.to_string()).expect("an address is ASCII"));
        }
        Ok(request)
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || *name == "keep-alive" || *name == "proxy-connection"
}

impl FromRequestParts<Edge> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Edge) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.method, &parts.uri, &parts.headers, &parts.extensions))
    }
}

/// The request came from another node, by the peers' port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forwarded;

/// Where a request is answered.
pub(super) enum Place {
    /// Here: this node stays the primary for as long as that is held.
    Here(Entered),
    /// There; the answer.
    There(Response),
}

/// Finds out where the request is to be answered, and has it answered where that is not here.
pub(super) async fn place(edge: &Edge, asked: &Asked, body: &Bytes) -> Result<Place, ApiError> {
    let by = clock::now() + TRY_WITHIN;
    loop {
        let Some(entered) = edge.pair.enter().await else { return Err(nobody(edge)) };
        if *entered.role() == Role::Primary {
            return Ok(Place::Here(entered));
        }
        drop(entered);
        if asked.is_forwarded {
            let refused = error::no_primary("this node is not the primary").into_response();
            return Ok(Place::There(not_begun(refused)));
        }
        let Some(answered) = ask(edge, asked, body).await? else {
            if clock::now() >= by {
                return Err(nobody(edge));
            }
            tokio::time::sleep(TRY_EVERY).await;
            continue;
        };
        return Ok(Place::There(answered));
    }
}

/// Says in `refused` that what was forwarded has certainly not begun here.
pub(super) fn not_begun(mut refused: Response) -> Response {
    refused.headers_mut().insert(NOT_BEGUN, HeaderValue::from_static("1"));
    refused
}

/// The primary's answer; `None` where it has certainly not begun.
async fn ask(edge: &Edge, asked: &Asked, body: &Bytes) -> Result<Option<Response>, ApiError> {
    let Some((peers, primary)) = edge.pair.primary() else { return Ok(None) };
    let body = Full::from(body.clone()).map_err(|never| match never {}).boxed_unsync();
    let request = asked.request(body).map_err(|_| error::internal())?;
    match peers.forward(&primary, request).await {
        Ok(answer) if answer.headers().contains_key(NOT_BEGUN) => Ok(None),
        Ok(answer) => Ok(Some(handed_back(answer))),
        Err(error) if error.has_not_begun() => Ok(None),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the primary broke off");
            Err(error::no_primary("the primary broke off; it may have done what was asked"))
        }
    }
}

/// What the standby has done, which the primary asks for what began there under an earlier reign: the `data` of its answer.
/// `None` where it does nothing, or not soon: why is nothing to the client, whom the primary answers.
pub(super) async fn ask_standby(edge: &Edge, asked: &Asked, body: &Bytes) -> Option<Value> {
    if asked.is_forwarded || !edge.pair.standby_seen().is_some_and(|seen| seen.is_connected) {
        return None;
    }
    let (standby, peers) = edge.pair.config().now().peer_of(edge.pair.me()).cloned().zip(edge.pair.peers())?;
    let body = Full::from(body.clone()).map_err(|never| match never {}).boxed_unsync();
    let request = asked.request(body).ok()?;
    let answered = async {
        let (head, body) = peers.forward(&standby, request).await.ok()?.into_parts();
        let body = Limited::new(body, STANDBY_BYTES_MAX).collect().await.ok()?;
        done(head.status, &body.to_bytes())
    };
    tokio::time::timeout(STANDBY_WITHIN, answered).await.ok()?
}

/// What a node says that it has done: nothing where it has refused or failed.
fn done(status: StatusCode, body: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(body).ok().filter(|_| status.is_success())?;
    answer.get_mut("data").map(Value::take)
}

/// The answer of another node, as a client is given it.
fn handed_back(answer: Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = answer.into_parts();
    for name in HOP_BY_HOP.into_iter().filter(|name| *name != header::CONTENT_LENGTH) {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, axum::body::Body::new(body))
}

/// Where a request is answered whose body can be read but once.
pub(super) enum Once {
    /// Here, where this node is the primary now.
    Here(axum::body::Body),
    /// There; the answer.
    There(Response),
}

/// As [`place`], for a body that is too long to be kept: it is sent on as it comes, and not again where that failed.
pub(super) async fn place_once(edge: &Edge, asked: &Asked, body: axum::body::Body) -> Result<Once, ApiError> {
    let again = || error::no_primary("the primary has changed meanwhile; send it again");
    let Some(entered) = edge.pair.enter().await else { return Err(nobody(edge)) };
    if *entered.role() == Role::Primary {
        return Ok(Once::Here(body));
    }
    drop(entered);
    if asked.is_forwarded {
        return Ok(Once::There(not_begun(again().into_response())));
    }
    let Some((peers, primary)) = edge.pair.primary() else { return Err(nobody(edge)) };
    let body = body.map_err(Into::into).boxed_unsync();
    let request = asked.request(body).map_err(|_| error::internal())?;
    match peers.forward(&primary, request).await {
        Ok(answer) if answer.headers().contains_key(NOT_BEGUN) => Err(again()),
        Ok(answer) => Ok(Once::There(handed_back(answer))),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "a body is not sent on to its end");
            Err(again())
        }
    }
}

fn nobody(edge: &Edge) -> ApiError {
    match edge.pair.role().now() {
        Role::Starting(_) => error::no_primary("the service is waiting for its other node"),
        Role::Primary | Role::Standby => error::no_primary("the primary cannot be reached"),
    }
}

/// Runs what every node answers for itself, and what this one has to or may; other reads of the API go to the primary.
pub(super) async fn or_run(edge: &Edge, request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path();
    let is_stored = path.starts_with("/api/") || path.starts_with(UPLOADS);
    let is_ours = is_probe(path) || docs::is_here(path) || !is_stored || !is_read;
    if is_ours {
        return next.run(request).await;
    }
    let level = match Level::of(request.headers()) {
        // Whether a login still holds is what the primary knows.
        Ok(_) if credentials::token_of(request.headers()).is_some() => Level::Linearizable,
        Ok(level) => level,
        Err(error) => return error.into_response(),
    };
    let asked = Asked::of(request.method(), request.uri(), request.headers(), request.extensions());
    let mut head = request.into_parts().0;
    let mut run = async || {
        let reading = Reading::new(level);
        head.extensions.insert(reading.clone());
        // Reads have no body.
        let request = Request::from_parts(head.clone(), axum::body::Body::empty());
        let was_primary = edge.pair.role().now() == Role::Primary;
        let answered = next.clone().run(request).await;
        // After a freeze another may have acknowledged what this node has not seen.
        if was_primary && level == Level::Linearizable && !edge.store.leave().holds() {
            return (nobody(edge).into_response(), false);
        }
        (reading.stamp(answered), reading.is_elsewhere())
    };
    let is_tried = match edge.pair.role().now() {
        Role::Primary => true,
        // Another node forwards to the primary, and to nobody else.
        Role::Standby => level != Level::Linearizable && !asked.is_forwarded,
        Role::Starting(_) => false,
    };
    if is_tried && let (answered, false) = run().await {
        return answered;
    }
    match place(edge, &asked, &Bytes::new()).await {
        // It enters itself, for as long as it reads.
        Ok(Place::Here(entered)) => {
            drop(entered);
            run().await.0
        }
        Ok(Place::There(answered)) => answered,
        Err(error) => error.into_response(),
    }
}

impl AskError {
    /// Nothing of the request can have reached the other node.
    fn has_not_begun(&self) -> bool {
        match self {
            Self::Reach(_) | Self::Tls(_) => true,
            Self::Http(error) => {
                let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
                client.is_some_and(hyper_util::client::legacy::Error::is_connect)
            }
            Self::Silent(_) | Self::Nonsense(_) => false,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_refuses_or_fails_has_done_nothing() {
        let stopped = br#"{"data":{"chatId":"c","stopped":true}}"#;
        assert_eq!(done(StatusCode::OK, stopped).unwrap()["stopped"], true);
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::FOUND] {
            assert_eq!(done(status, stopped), None, "{status}");
        }
        for other in [&b""[..], b"<html>", b"{}", b"[]"] {
            assert_eq!(done(StatusCode::OK, other), None);
        }
    }
}
