//! How a node becomes part of a cluster: the first one makes it and gives out a token, the second brings it.

use super::admit::add;
use super::pair::{Pair, Refusal};
use super::peers::AskError;
use crate::base::Chain;
use crate::disk;
use crate::net::{Authority, CertifyError, ClusterTlsError, PeerConnector, Resolver, pinned};
use crate::node_state::{NodeError, NodeState, Secrets};
use crate::protocol::cluster::{ADDRESS_BYTES_MAX, Config, Kind, Member, MemberId, Mode, NAME_BYTES_MAX};
use crate::protocol::peer::Copying;
use crate::watched::Watched;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(super) const MEMBER_ID_MAX: MemberId = 127;
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// From the moment that a node was given its number until it is reached: it begins anew in between.
const TAKE_IN_WITHIN: Duration = Duration::from_mins(1);
/// Usually it is there by then; from then on it is said that it is not.
const MEET_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const WORD_BYTES: usize = 16;

/// What a joining node is given by its operator: where the cluster is, what its authority looks like, and a word that is
/// good once. It is a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it lets in.
    pub(crate) kind: Kind,
    pub(crate) address: String,
    pub(crate) member: MemberId,
    fingerprint: [u8; 32],
    word: [u8; WORD_BYTES],
}

impl Token {
    /// A version that knows of no witness takes its token for none.
    fn prefix(kind: Kind) -> &'static str {
        match kind {
            Kind::Data => "llmchat1.",
            Kind::Witness => "llmchat1w.",
        }
    }

    pub(crate) fn new(kind: Kind, address: String, member: MemberId, fingerprint: [u8; 32]) -> Self {
        let mut word = [0; WORD_BYTES];
        getrandom::fill(&mut word).expect("the kernel has random bytes");
        Self { kind, address, member, fingerprint, word }
    }

    /// What the node that gave it out keeps of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        hash(self.kind, &self.word)
    }

    /// As a joining node says it.
    pub(super) fn word(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.word)
    }

    pub(crate) fn to_text(&self) -> String {
        let bytes = [&[self.member][..], &self.fingerprint, &self.word, self.address.as_bytes()].concat();
        format!("{}{}", Self::prefix(self.kind), URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let of_kind = |kind| Some((kind, text.trim().strip_prefix(Self::prefix(kind))?));
        let (kind, body) = [Kind::Data, Kind::Witness].into_iter().find_map(of_kind)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).ok()?;
        let (member, rest) = bytes.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (word, address) = rest.split_first_chunk()?;
        let address = String::from_utf8(address.to_vec()).ok().filter(|address| address.contains(':'))?;
        Some(Self { kind, address, member: *member, fingerprint: *fingerprint, word: *word })
    }
}

/// What is kept of a word that lets in a node of `kind`: no word is good for another one.
pub(super) fn hash(kind: Kind, word: &[u8]) -> [u8; 32] {
    match kind {
        Kind::Data => Sha256::digest(word).into(),
        Kind::Witness => Sha256::new().chain_update("llmchat witness").chain_update(word).finalize().into(),
    }
}

/// What a node says that wants to join.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Joining {
    word: String,
    pub(crate) name: String,
    /// Where other nodes reach it.
    pub(crate) address: String,
}

/// What it is given.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Invited {
    cluster: [u8; 16],
    pub(crate) member: MemberId,
    pub(crate) config: Config,
    secrets: String,
}

impl Pair {
    /// Whether `token` is this node's newest. One that it has made before that is good for nothing anywhere.
    pub(crate) fn has_made(&self, token: &Token) -> Result<bool, NodeError> {
        Ok(self.node().invitation()? == Some(token.hash()))
    }

    /// Takes in a node that has the word of the newest token: beside this one, or in the place of one that is lost. It is
    /// given its number, and becomes a member once it is reached under that. `dry`, only says whether it could be; `None`
    /// then.
    pub(crate) async fn admit(&self, joining: Joining, dry: bool) -> Result<Option<Invited>, Refusal> {
        let mut under_way = self.0.joining.lock().await;
        check(&joining.name, &joining.address)?;
        let node = Arc::clone(self.node());
        let word = URL_SAFE_NO_PAD.decode(&joining.word).unwrap_or_default();
        if node.invitation().ok().flatten() != Some(hash(Kind::Data, &word)) {
            return Err(Refusal::new("the token was used, or a newer one was made; `llmchat invite` makes one"));
        }
        let secrets = self.secrets_text().ok_or_else(|| Refusal::new("this node is part of no cluster"))?;
        self.make_room(&joining, dry).await?;
        let mut member = 0;
        // Before anybody is told of it: a number is given once.
        let config = self.change_or_look(dry, |config| {
            member = config.next_member_id;
            if config.next_member_id > MEMBER_ID_MAX {
                return Err(Refusal::new("no member's number is left"));
            }
            config.next_member_id += 1;
            Ok(())
        });
        let config = config.await?;
        if dry {
            return Ok(None);
        }
        if let Err(error) = node.invite(None) {
            tracing::error!(error = %Chain(&error), "a used token stays good");
        }
        let new = Member { id: member, name: joining.name, address: joining.address, kind: Kind::Data };
        tracing::info!(member, name = new.name, address = new.address, "a node is about to join");
        let pair = self.clone();
        // One that was about to join before it and did not come is waited for no longer.
        *under_way = Some(AbortOnDropHandle::new(self.0.tasks.spawn(async move { pair.take_in(new).await })));
        Ok(Some(Invited { cluster: self.cluster().0, member, config, secrets }))
    }

    /// Removes a data node that is lost, so that there is room for one in its place (R9: never both in one change).
    async fn make_room(&self, joining: &Joining, dry: bool) -> Result<(), Refusal> {
        let (me, is_connected) = (self.me(), self.standby_seen().is_some_and(|seen| seen.is_connected));
        let before = self.config().now();
        if before.member(me).is_some_and(|ours| ours.name == joining.name) {
            let why = format!(
                "{} is the name of the node that is here already; name the new one with `--node`",
                joining.name
            );
            return Err(Refusal::new(why));
        }
        let Some(lost) = before.peer_of(me).map(|peer| peer.id) else { return Ok(()) };
        // With maximum protection a lost node stays in the set, and nothing is acknowledged meanwhile: nor after this.
        if is_connected || (before.isr != [me] && before.mode != Mode::MaxProtection) {
            return Err(Refusal::new("the cluster has two nodes, and the other one is there"));
        }
        if before.isr != [me] {
            let dropped = self.change_or_look(dry, |config| {
                config.isr = vec![me];
                Ok(())
            });
            dropped.await?;
        }
        // Should it come back, it is nobody.
        let removed = self.change_or_look(dry, |config| {
            config.members.retain(|member| member.id != lost);
            config.isr = vec![me];
            Ok(())
        });
        removed.await.map(drop)
    }

    /// Makes `new` a member once it is there, as a change of members waits for all of them.
    pub(super) async fn take_in(&self, new: Member) {
        let links = self.voter().links();
        links.reach(Some(new.clone()));
        let added = tokio::time::timeout(TAKE_IN_WITHIN, async {
            if tokio::time::timeout(MEET_WITHIN, links.met(new.id)).await.is_err() {
                let why = links.acquaintance(new.id).trouble;
                tracing::warn!(name = new.name, address = new.address, why, "a node that joins is not reached yet");
                links.met(new.id).await;
            }
            self.change(|config| {
                add(config, &new);
                Ok(())
            })
            .await
        });
        match added.await {
            Ok(Ok(_)) => tracing::info!(member = new.id, name = new.name, "a node has joined"),
            Ok(Err(refusal)) => {
                tracing::error!(name = new.name, %refusal, "a node has not joined");
                // The rule that was proposed with it is in force without it.
                self.settle_rule_unasked().await;
            }
            Err(_) => tracing::error!(
                name = new.name,
                address = new.address,
                why = links.acquaintance(new.id).trouble,
                "a node has not joined: this one does not reach it there. Let it join again, with a new token"
            ),
        }
        links.reach(None);
    }
}

/// Names and addresses are kept by every node, and shown.
pub(super) fn check(name: &str, address: &str) -> Result<(), Refusal> {
    check_name(name)?;
    check_address(address)
}

/// Whether a node can be called that.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name {
        return Err(Refusal::new("a node's name is 1 to 64 letters, digits, `-`, `_` or `.`"));
    }
    Ok(())
}

pub(super) fn check_address(address: &str) -> Result<(), Refusal> {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if address.len() > ADDRESS_BYTES_MAX || port != Some(true) {
        return Err(Refusal::new("an address is a host and a port, such as 10.0.0.11:7443"));
    }
    if is_of_no_machine(address) {
        return Err(Refusal::new("that address is every address of a machine, and none that another node can reach"));
    }
    Ok(())
}

/// Whether it is only good to listen on.
pub(crate) fn is_of_no_machine(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_unspecified())
}

/// How the first node of a cluster is called, and where others reach it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Founding {
    /// Of the cluster.
    pub(crate) name: String,
    /// Of this node.
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) mode: Mode,
}

impl Founding {
    /// Names and addresses are kept by every node, and shown; and a node is in one cluster.
    pub(crate) fn check(&self, config: &Config) -> Result<(), Refusal> {
        check(&self.name, &self.address)?;
        check(&self.node, &self.address)?;
        if config.members.len() > 1 {
            return Err(Refusal::new("this node is one of two already; `llmchat status` shows them"));
        }
        Ok(())
    }
}

/// Makes the node of `state_dir` the first of a cluster: its authority, and the token for the second. It was checked before
/// whether it may be.
pub(crate) fn found(
    node: &NodeState,
    state_dir: &Path,
    config: &Config,
    founding: &Founding,
) -> Result<(Config, Authority, Secrets, Token), FoundError> {
    let mut secrets = Secrets::open_or_make(state_dir)?;
    let authority = match secrets.authority() {
        Some((certificate, key)) => Authority::from_der(certificate.clone(), key.clone()),
        None => {
            let authority = Authority::make()?;
            secrets = secrets.add_authority(state_dir, authority.certificate(), authority.key())?;
            authority
        }
    };
    let me = node.member_id()?;
    let Founding { name, node: node_name, address, mode } = founding.clone();
    let first = Member { id: me, name: node_name, address: address.clone(), kind: Kind::Data };
    let config = Config { name, members: vec![first], mode, ..config.clone() };
    let token = invite(node, Kind::Data, &config, &authority)?;
    Ok((config, authority, secrets, token))
}

/// A new token; the one before it is worth nothing any more.
pub(crate) fn invite(
    node: &NodeState,
    kind: Kind,
    config: &Config,
    authority: &Authority,
) -> Result<Token, FoundError> {
    let me = node.member_id()?;
    let address = config.member(me).map(|member| member.address.clone()).unwrap_or_default();
    let token = Token::new(kind, address, me, authority.fingerprint());
    node.invite(Some(token.hash()))?;
    Ok(token)
}

/// Why no cluster can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundError {
    #[error("make the cluster's authority")]
    Authority(#[from] CertifyError),
    #[error("keep the cluster's secrets")]
    Node(#[from] NodeError),
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("ask the cluster at `{address}`")]
    Ask { address: String, source: AskError },
    #[error("use the certificate that the cluster gave")]
    Tls(#[source] ClusterTlsError),
    #[error("keep what the cluster gave")]
    Keep(#[from] NodeError),
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
}

impl JoinError {
    /// It was asked for, and whether it was granted was not heard, or could not be kept.
    pub(crate) fn may_have_joined(&self) -> bool {
        match self {
            Self::Ask { source, .. } => {
                !matches!(source, AskError::Refused { .. } | AskError::Reach(_) | AskError::Tls(_))
            }
            Self::Tls(_) | Self::Keep(_) | Self::Disk(_) => true,
        }
    }
}

/// Where a node asks to be taken in; and whether it could be. Two ways, not one with a word for it: an older version, which
/// would not know the word, takes nobody in by mistake.
pub(crate) const JOIN: &str = "/peer/join";
pub(crate) const MAY_JOIN: &str = "/peer/may-join";

/// Asks the cluster of `token` to take this node in, as `name` at `address`; `dry`, only whether it would: `None` then.
pub(crate) async fn ask_to_join(
    token: &Token,
    (name, address): (&str, &str),
    dry: bool,
) -> Result<Option<Invited>, JoinError> {
    let joining = Joining { word: token.word(), name: name.to_owned(), address: address.to_owned() };
    ask(token, if dry { MAY_JOIN } else { JOIN }, &joining).await
}

/// Asks the cluster of `token`; `None` where it was only asked whether it would.
pub(super) async fn ask<T: DeserializeOwned>(
    token: &Token,
    path: &str,
    joining: &impl Serialize,
) -> Result<Option<T>, JoinError> {
    let failed = |source| JoinError::Ask { address: token.address.clone(), source };
    let body = serde_json::to_vec(joining).map_err(|error| failed(AskError::Nonsense(error)))?;
    let asked = tokio::time::timeout(JOIN_WITHIN, post(token, path, body)).await;
    let answer = asked.unwrap_or(Err(AskError::Silent(JOIN_WITHIN))).map_err(failed)?;
    serde_json::from_slice(&answer).map_err(|error| failed(AskError::Nonsense(error)))
}

async fn post(token: &Token, path: &str, body: Vec<u8>) -> Result<Bytes, AskError> {
    let http = |error: Box<dyn std::error::Error + Send + Sync>| AskError::Http(error);
    let to = (token.address.clone(), token.member);
    let resolver = Resolver::new(crate::clock::now);
    let connector = PeerConnector::new(resolver, Arc::new(pinned(token.fingerprint)), to, JOIN_WITHIN);
    let stream = TokioIo::new(connector.connect().await?);
    let shaken = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await;
    let (mut sender, connection) = shaken.map_err(|error| http(error.into()))?;
    let _connection = AbortOnDropHandle::new(TaskTracker::new().spawn(async move { drop(connection.await) }));
    let request = Request::post(format!("https://peer{path}")).header("content-type", "application/json");
    let request = request.body(Full::from(body)).map_err(|error| http(error.into()))?;
    let response = sender.send_request(request).await.map_err(|error| http(error.into()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(http)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    Err(AskError::Refused { status, said: said["message"].as_str().unwrap_or("no").to_owned() })
}

/// Makes the node of `state_dir`, which nobody runs, the one that was invited. What it had of its own is not used any more.
pub(crate) fn become_member(node: &NodeState, state_dir: &Path, invited: &Invited) -> Result<(), JoinError> {
    // First, so that a death in between leaves a node without a database that it could not read.
    node.note_copying(Some(Copying::ANEW))?;
    if let Err(error) = Secrets::replace(state_dir, &invited.secrets) {
        node.note_copying(None)?;
        return Err(error.into());
    }
    node.join(invited.cluster, invited.member, &invited.config)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = Token::new(Kind::Data, "10.0.0.11:7443".to_owned(), 1, [7; 32]);
        let text = token.to_text();
        let read = Token::parse(&format!(" {text}\n")).unwrap();
        assert!(read == token && read.hash() == token.hash());
        assert!(Token::new(Kind::Data, token.address.clone(), 1, [7; 32]).hash() != token.hash());
        for bad in ["", "llmchat1.", &text[1..], &text[..40], "llmchat1.!!!"] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_for_a_witness_lets_in_nobody_else() {
        let token = Token::new(Kind::Witness, "10.0.0.11:7443".to_owned(), 1, [7; 32]);
        let text = token.to_text();
        assert!(Token::parse(&text).is_some_and(|read| read == token));
        let other = Token::parse(&text.replacen("llmchat1w.", "llmchat1.", 1)).unwrap();
        assert!(other.kind == Kind::Data && other.word() == token.word() && other.hash() != token.hash());
    }
}
