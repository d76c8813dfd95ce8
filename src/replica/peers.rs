//! How this node asks others of its cluster: HTTP/2 in mutual TLS, one connection to each, opened when it is needed.

use super::admit::{CERTIFICATE, Renewal, Renewed};
use super::removed::{MEMBERSHIP, Membership};
use crate::base::{Txid, UnixMillis};
use crate::clock;
use crate::net::{
    Authority, ClusterTlsError, Credentials, PeerConnector, PeerError, PeerProtocol, PeerStream, Resolver,
};
use crate::protocol::cluster::{Config, Member, MemberId};
use crate::protocol::peer::Incarnation;
use crate::store::TurnEnd;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Said by a node that forwards what a client asked of it; such a request is never forwarded again.
pub(crate) const HOP: &str = "x-llmchat-hop";
/// The address of the client that a forwarded request is of.
pub(crate) const CLIENT: &str = "x-llmchat-client";
/// To a connection in TLS: on a LAN it takes milliseconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Certificates live in memory, and are made anew well before they end: after a day.
const CERTIFICATE_MILLIS: i64 = 24 * 3600 * 1000;
/// Of an answer, or of a body that is sent on, which nobody reads at this time; and of a thousand such, before they hold up
/// the others of a connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 << 10;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A live peer answers at once; one that is frozen must be noticed.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_WITHIN: Duration = Duration::from_secs(2);
/// Of an answer to a question of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
type Http = Client<PeerConnector, Body>;

/// Why a peer did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("reach the other node")]
    Reach(#[from] PeerError),
    #[error("set up TLS for the other node")]
    Tls(#[from] ClusterTlsError),
    /// The request may have reached it, or not.
    #[error("ask the other node")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the other node did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the other node says: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the other node answered what makes no sense")]
    Nonsense(#[source] serde_json::Error),
}

impl AskError {
    /// The other node is there, whatever it says.
    pub(super) fn has_answered(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Nonsense(_))
    }

    /// The answer would be the same again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error())
    }

    fn http(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Http(source.into())
    }
}

/// What a node tells another of itself; both sides keep the newer configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Standing {
    /// Who says it: as its certificate does.
    pub(crate) member: MemberId,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) role: String,
    pub(crate) txid: u64,
    /// Of its history, up to there.
    pub(crate) chain: String,
    pub(crate) applied: u64,
    /// Everything up to here was durable, as far as it knows.
    pub(crate) durable: u64,
    /// The other members that it has a connection to.
    pub(crate) reaches: Vec<MemberId>,
    pub(crate) version: String,
    /// Of the secrets that nodes share.
    pub(crate) secrets: String,
    /// When every page of its database had been checked last; not before this start.
    #[serde(default)]
    pub(crate) scrubbed_at: Option<UnixMillis>,
    /// Pages of it that came to harm and could not be mended.
    #[serde(default)]
    pub(crate) damaged_pages: usize,
    /// Of its certificates, the first that ends.
    #[serde(default)]
    pub(crate) certificate_ends_at: Option<UnixMillis>,
    /// What its operator has to see to.
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
    /// Names of variables that its agents need, and that are not set there.
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
    /// What its cluster has to have alike, by key; an older version says nothing of it.
    #[serde(default)]
    pub(crate) settings: Option<BTreeMap<String, String>>,
}

/// The way to the other nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    /// Replaced where somebody else has to renew them.
    credentials: Mutex<Credentials>,
    open: Mutex<HashMap<Way, (Http, UnixMillis)>>,
}

/// Whom a connection leads to, where, and for what.
type Way = (MemberId, String, Lane);

/// What nodes ask each other must not wait behind what their clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Own,
    Forwarded,
}

impl Peers {
    pub(crate) fn new(credentials: Credentials, resolver: Resolver) -> Self {
        Self(Arc::new(Inner { resolver, credentials: Mutex::new(credentials), open: Mutex::default() }))
    }

    /// What this node proves itself by.
    pub(crate) fn credentials(&self) -> Credentials {
        self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster's authority; `None` on a node that cannot sign.
    pub(crate) fn authority(&self) -> Option<Authority> {
        self.credentials().authority().cloned()
    }

    /// From now on this node proves itself by `credentials`; connections that are open stay so.
    pub(crate) fn renew(&self, credentials: Credentials) {
        *self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A connection for records.
    pub(crate) async fn stream(&self, to: &Member) -> Result<PeerStream, AskError> {
        Ok(self.connector(to, PeerProtocol::Stream, CONNECT_WITHIN)?.connect().await?)
    }

    /// A connection for what members say about who leads.
    pub(super) async fn register(&self, to: &Member, within: Duration) -> Result<PeerStream, AskError> {
        Ok(self.connector(to, PeerProtocol::Register, within)?.connect().await?)
    }

    /// Sends a client's request on, and hands its answer back as it comes.
    pub(crate) async fn forward(
        &self,
        to: &Member,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, AskError> {
        let path = request.uri().path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
        *request.uri_mut() = uri(path)?;
        self.client(to, Lane::Forwarded)?.request(request).await.map_err(AskError::http)
    }

    /// Tells `to` how this node stands, and hears how that one does.
    pub(crate) async fn exchange(&self, to: &Member, ours: &Standing, within: Duration) -> Result<Standing, AskError> {
        self.post(to, "/peer/standing", ours, within).await
    }

    /// Stores the end of a turn that began here, with the primary.
    pub(crate) async fn finish_turn(&self, to: &Member, end: &TurnEnd, within: Duration) -> Result<(), AskError> {
        self.post::<serde_json::Value>(to, "/peer/turns", end, within).await.map(drop)
    }

    /// Has this node's key signed again by `to`.
    pub(crate) async fn renewed(&self, to: &Member, ours: &Renewal, within: Duration) -> Result<Renewed, AskError> {
        self.post(to, CERTIFICATE, ours, within).await
    }

    /// How `to` counts this node.
    pub(super) async fn membership(&self, to: &Member, within: Duration) -> Result<Membership, AskError> {
        let answer = self.ask(to, Request::get(uri(MEMBERSHIP)?), Bytes::new(), within).await?;
        serde_json::from_slice(&answer).map_err(AskError::Nonsense)
    }

    /// A page of its database, as a commit of its left it.
    pub(crate) async fn page(&self, to: &Member, number: u32, within: Duration) -> Result<Vec<u8>, AskError> {
        Ok(self.ask(to, Request::get(uri(&format!("/peer/pages/{number}"))?), Bytes::new(), within).await?.to_vec())
    }

    /// The chain hash of a commit, as its journal has it; `None` where that does not.
    pub(crate) async fn chain(&self, to: &Member, txid: Txid, within: Duration) -> Result<Option<String>, AskError> {
        let request = Request::get(uri(&format!("/peer/chain/{}", txid.raw()))?);
        let answer = self.ask(to, request, Bytes::new(), within).await?;
        serde_json::from_slice(&answer).map_err(AskError::Nonsense)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        to: &Member,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, AskError> {
        let body = serde_json::to_vec(body).map_err(AskError::Nonsense)?;
        let request = Request::post(uri(path)?).header("content-type", "application/json");
        let answer = self.ask(to, request, body.into(), within).await?;
        serde_json::from_slice(&answer).map_err(AskError::Nonsense)
    }

    async fn ask(&self, to: &Member, request: Builder, body: Bytes, within: Duration) -> Result<Bytes, AskError> {
        let request = request.body(Full::from(body).map_err(|never| match never {}).boxed_unsync());
        let client = self.client(to, Lane::Own)?;
        let asked = async {
            let response = client.request(request.map_err(AskError::http)?).await.map_err(AskError::http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(AskError::http)?;
            Ok::<_, AskError>((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(within, asked).await.map_err(|_| AskError::Silent(within))??;
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        Err(AskError::Refused { status, said: said["message"].as_str().unwrap_or("no").to_owned() })
    }

    fn client(&self, to: &Member, lane: Lane) -> Result<Http, AskError> {
        let now = clock::unix_millis();
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (to.id, to.address.clone(), lane);
        // By the clock that certificates go by, which may have been set meanwhile.
        if let Some((client, made)) = open.get(&key)
            && (0..CERTIFICATE_MILLIS).contains(&(now.0 - made.0))
        {
            return Ok(client.clone());
        }
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_WITHIN)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .build(self.connector(to, PeerProtocol::Http, CONNECT_WITHIN)?);
        open.insert(key, (client.clone(), now));
        Ok(client)
    }

    fn connector(&self, to: &Member, protocol: PeerProtocol, within: Duration) -> Result<PeerConnector, AskError> {
        let tls = Arc::new(self.credentials().client(protocol)?);
        Ok(PeerConnector::new(self.0.resolver.clone(), tls, (to.address.clone(), to.id), within))
    }
}

/// The host is not looked at: a connection is to one node.
fn uri(path: &str) -> Result<Uri, AskError> {
    format!("https://peer{path}").parse().map_err(AskError::http)
}
