//! A witness on its own machine: a member that votes and holds neither chats nor secrets. How it joins, and keeps what it
//! proves itself by. How it votes is [`Voter`]'s.

use super::admit::{InvitedWitness, JOIN_AS_WITNESS, JoiningWitness, MAY_JOIN_AS_WITNESS, Renewal, said};
use super::forgotten::TAKES_NO_PART;
use super::history::{Change, changes};
use super::links;
use super::membership::{JoinError, Token, ask, check};
use super::pair::{Refusal, refuse};
use super::peers::Peers;
use super::removed::Membership;
use super::status::{NodeStatus, Status};
use super::voter::{Voter, WitnessVote};
use crate::base::{Chain, UnixMillis};
use crate::clock;
use crate::net::{Certified, ClusterTlsError, Credentials, NodeKey, Resolver};
use crate::node_state::{NodeError, NodeState, keep_credentials, read_credentials};
use crate::protocol::cluster::{Config, Kind, Member, MemberId};
use crate::protocol::peer::Incarnation;
use crate::protocol::record::ClusterId;
use crate::watched::{News, Watched};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks at the certificate's end.
const LOOK_EVERY: Duration = Duration::from_hours(1);
const RENEW_WITHIN: Duration = Duration::from_secs(5);
const DAY_MILLIS: i64 = 24 * 3600 * 1000;
/// Of a certificate's 90 days: one that has less left is more than a day old, one with more is of another clock's time.
const FRESH_DAYS: std::ops::Range<i64> = 88..91;

/// What there is to say of a witness that is nobody's yet.
const UNJOINED: &str = "has joined no cluster: `llmchat invite --witness` on the primary prints what makes it a member";

/// What a witness stands on.
pub(crate) struct WitnessParts {
    pub(crate) node: Arc<NodeState>,
    pub(crate) state_dir: PathBuf,
    pub(crate) incarnation: Incarnation,
}

/// A witness on its own machine, whether or not it has joined. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Witness(Arc<Inner>);

struct Inner {
    parts: WitnessParts,
    joined: watch::Sender<Option<Joined>>,
    /// Held while it joins.
    joining: tokio::sync::Mutex<()>,
}

/// What it is once it has joined. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Joined {
    pub(crate) me: MemberId,
    pub(crate) peers: Peers,
    pub(crate) voter: Voter,
}

/// With what a witness joins.
#[derive(Clone, Deserialize)]
pub(crate) struct Asked {
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) dry: bool,
}

impl Witness {
    /// As its state directory has it.
    pub(crate) fn open(parts: WitnessParts) -> Result<Self, NodeError> {
        let joined = match read_credentials(&parts.state_dir)? {
            Some(certified) => joined(&parts, certified)?,
            None => None,
        };
        let joined = watch::Sender::new(joined);
        Ok(Self(Arc::new(Inner { parts, joined, joining: tokio::sync::Mutex::default() })))
    }

    /// Says in the log what it waits for, where it is nobody's.
    pub(crate) fn tell_unjoined(&self) {
        if self.now().is_none() {
            tracing::info!("this witness {UNJOINED}");
        }
    }

    /// Waits until it is a member.
    pub(crate) async fn joined(&self) -> Joined {
        let mut joined = self.0.joined.subscribe();
        let found = joined.wait_for(Option::is_some).await.expect("the sender lives in `self`");
        found.clone().expect("it was waited for")
    }

    /// Votes from the moment that it has joined, as what it has joined as last, until `stop`.
    ///
    /// # Errors
    ///
    /// What it has promised cannot be kept on disk.
    pub(crate) async fn vote(&self, stop: CancellationToken) -> Result<(), NodeError> {
        let mut joined = self.0.joined.subscribe();
        while !stop.is_cancelled() {
            let now = joined.news();
            let vote = async {
                match now {
                    Some(now) => now.voter.run(stop.child_token()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                voted = vote => voted?,
                _ = joined.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// What it is now.
    pub(crate) fn now(&self) -> Option<Joined> {
        self.0.joined.now()
    }

    /// Whether its promises can be read.
    pub(crate) async fn answers(&self) -> bool {
        let node = Arc::clone(&self.0.parts.node);
        tokio::task::spawn_blocking(move || node.member_id().is_ok()).await.unwrap_or(false)
    }

    /// Joins the cluster of a token: its configuration; `None` where it was only asked whether it could.
    pub(crate) async fn join(&self, asked: &Asked) -> Result<Option<Config>, Refusal> {
        let _alone = self.0.joining.lock().await;
        if let Some(joined) = self.now()
            && !joined.voter.links().is_blank()
            && let Some(config) = joined.voter.config().filter(|config| config.member(joined.me).is_some())
            && joined.kept_out().await.is_none_or(|(state, _)| state != NO_MEMBER)
        {
            let name = config.member(joined.me).map_or("it", |member| &member.name);
            return refuse(format!(
                "this witness is a member of {} already; after `llmchat member remove {name}` on the primary it may join anew",
                config.name
            ));
        }
        let Some(token) = Token::parse(&asked.token) else {
            return refuse("that is no token; it looks like llmchat1w.AAAA");
        };
        if token.kind != Kind::Witness {
            return refuse("that token is for a data node; `llmchat invite --witness` makes one for a witness");
        }
        check(&asked.name, &asked.address)?;
        let key = NodeKey::make().map_err(|error| said(&error))?;
        let joining = JoiningWitness {
            word: token.word(),
            name: asked.name.clone(),
            address: asked.address.clone(),
            key: URL_SAFE_NO_PAD.encode(key.public()),
        };
        let path = if asked.dry { MAY_JOIN_AS_WITNESS } else { JOIN_AS_WITNESS };
        let joined = async {
            let invited: Option<InvitedWitness> = ask(&token, path, &joining).await?;
            invited.filter(|_| !asked.dry).map(|invited| self.become_member(invited, key)).transpose()
        };
        joined.await.map_err(|error: JoinError| {
            if error.may_have_joined() && !asked.dry {
                let why = "the cluster may count this witness in already; `llmchat status` on a data node shows it, `llmchat member remove` and `llmchat invite --witness` let it try again";
                return Refusal::begun(format!("{}; {why}", Chain(&error)));
            }
            said(&error)
        })
    }

    /// On disk when this returns. First what it proves itself by: without it the promises could not be kept.
    fn become_member(&self, invited: InvitedWitness, key: NodeKey) -> Result<Config, JoinError> {
        let parts = &self.0.parts;
        let InvitedWitness { cluster, member, config, authority, certificate } = invited;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let certified = Certified { authority: decode(&authority), certificate: decode(&certificate), key };
        usable(&certified, member).map_err(JoinError::Tls)?;
        keep_credentials(&parts.state_dir, &certified)?;
        parts.node.join(cluster, member, &config)?;
        self.0.joined.send_replace(joined(parts, certified)?);
        Ok(config)
    }

    /// Has its key signed again, each day, until `stop`.
    pub(crate) async fn renew(&self, stop: CancellationToken) {
        let Some(joined) = stop.run_until_cancelled(self.joined()).await else { return };
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            if is_due(joined.peers.credentials().ends_at(), clock::unix_millis())
                && stop.run_until_cancelled(self.renewed(&joined)).await == Some(false)
            {
                tracing::warn!("no node signs this witness's certificate again; it is asked for each hour");
            }
        }
    }

    /// Whether any data node has signed.
    async fn renewed(&self, joined: &Joined) -> bool {
        let Some(config) = joined.voter.config() else { return false };
        for to in config.members.iter().filter(|member| member.kind == Kind::Data) {
            match self.renew_by(joined, to).await {
                Ok(()) => return true,
                Err(error) => tracing::info!(node = to.name, error = %Chain(&error), "it does not sign"),
            }
        }
        false
    }

    async fn renew_by(&self, joined: &Joined, to: &Member) -> Result<(), JoinError> {
        let dir = &self.0.parts.state_dir;
        let Some(mut certified) = read_credentials(dir)? else { return Ok(()) };
        let key = URL_SAFE_NO_PAD.encode(certified.key.public());
        let renewed = joined.peers.renewed(to, &Renewal { key }, RENEW_WITHIN).await;
        let renewed = renewed.map_err(|source| JoinError::Ask { address: to.address.clone(), source })?;
        certified.certificate = URL_SAFE_NO_PAD.decode(renewed.certificate).unwrap_or_default();
        usable(&certified, joined.me).map_err(JoinError::Tls)?;
        let (dir, kept) = (dir.clone(), certified.clone());
        // A slow disk keeps nobody from voting.
        let kept = tokio::task::spawn_blocking(move || keep_credentials(&dir, &kept)).await;
        kept.expect("writing does not panic")?;
        joined.peers.renew(Credentials::of_certified(certified, joined.me));
        tracing::info!(by = to.name, "the certificate is renewed");
        Ok(())
    }

    /// What it knows of the cluster.
    pub(crate) async fn status(&self) -> Status {
        match self.now() {
            Some(joined) => joined.status().await,
            None => Status { reason: Some(format!("it {UNJOINED}")), ..nothing() },
        }
    }

    /// All that is kept of the cluster's changes, oldest first.
    pub(crate) async fn history(&self) -> Result<Vec<Change>, NodeError> {
        let node = Arc::clone(&self.0.parts.node);
        let events = tokio::task::spawn_blocking(move || node.history()).await.expect("reading does not panic")?;
        Ok(changes(events))
    }
}

/// `None` where its promises name no cluster: it was stopped between the two steps of joining, and tries again.
fn joined(parts: &WitnessParts, certified: Certified) -> Result<Option<Joined>, NodeError> {
    let node = &parts.node;
    if node.config()?.is_none() {
        return Ok(None);
    }
    let (me, cluster) = (node.member_id()?, ClusterId(node.cluster_id()?));
    let peers = Peers::new(Credentials::of_certified(certified, me), Resolver::new(clock::now));
    let (node, incarnation) = (Arc::clone(node), parts.incarnation);
    let voter = Voter::of_witness(WitnessVote { me, cluster, incarnation, node })?;
    Ok(Some(Joined { me, peers, voter }))
}

/// Whether what was given is of the key, and can be shown.
fn usable(certified: &Certified, member: MemberId) -> Result<(), ClusterTlsError> {
    Credentials::of_certified(certified.clone(), member).server().map(drop)
}

fn is_due(ends_at: Option<UnixMillis>, now: UnixMillis) -> bool {
    ends_at.is_none_or(|end| !FRESH_DAYS.contains(&end.0.saturating_sub(now.0).div_euclid(DAY_MILLIS)))
}

const UNHEARD: &str = "unknown: the primary is not heard; ask a data node";

/// A data node is asked so long whether it counts the witness in.
const ASK_WITHIN: Duration = Duration::from_millis(500);
const NO_MEMBER: &str = "no member";
const THIS_WITNESS: &str = "this witness";
const NOT_ASKED: &str = "not asked";

impl Joined {
    /// What keeps this witness from voting: its state, and why. Data nodes ask it; where none does, it asks them.
    async fn kept_out(&self) -> Option<(&'static str, String)> {
        if self.voter.links().is_blank() {
            return Some((TAKES_NO_PART, links::BLANK.to_owned()));
        }
        let config = self.voter.config()?;
        let is_member = config.member(self.me).is_some();
        if is_member && self.voter.hears_primary() {
            return None;
        }
        let mut nodes: Vec<_> = config.members.iter().filter(|member| member.kind == Kind::Data).collect();
        // What the primary says counts most.
        nodes.sort_by_key(|member| member.id != config.primary);
        for to in nodes {
            let name = &to.name;
            match self.peers.membership(to, ASK_WITHIN).await {
                Ok(Membership { is_member: true, trouble: Some(trouble), .. }) => {
                    return Some((
                        NOT_ASKED,
                        format!("{name} counts this witness in, and does not reach it: {trouble}"),
                    ));
                }
                Ok(Membership { is_member: true, .. }) => {
                    return Some((NOT_ASKED, format!("{name} counts this witness in; no primary asks it")));
                }
                Ok(membership @ Membership { is_joining: true, .. }) => {
                    return membership.told(name, Kind::Witness).map(|why| (NOT_ASKED, why));
                }
                Ok(_) => {
                    let why = format!(
                        "{name} answers, and this witness is no member any more: `llmchat invite --witness` on the primary makes a token, and with that it joins anew (`llmchat join` here)"
                    );
                    return Some((NO_MEMBER, why));
                }
                Err(error) => tracing::debug!(node = name, error = %Chain(&error), "it does not say who is a member"),
            }
        }
        Some((NOT_ASKED, "no data node asks this witness, and none answers it".to_owned()))
    }

    async fn status(&self) -> Status {
        let Some(config) = self.voter.config() else { return nothing() };
        let (kept_out, hears) = (self.kept_out().await, self.voter.hears_primary());
        let state = kept_out.as_ref().map_or("voting", |(state, _)| state);
        let name = |id| config.member(id).map_or_else(|| format!("node {id}"), |member: &Member| member.name.clone());
        let node = |member: &Member| NodeStatus {
            id: member.id,
            name: member.name.clone(),
            address: member.address.clone(),
            role: match member.kind {
                Kind::Witness => "witness",
                Kind::Data if member.id == config.primary => "primary",
                Kind::Data => "standby",
            }
            .to_owned(),
            state: match member.kind {
                Kind::Witness if member.id == self.me => state,
                Kind::Data if member.id == config.primary && hears => "heard",
                Kind::Data if config.is_in_sync(member.id) => "in-sync",
                Kind::Data | Kind::Witness => NOT_ASKED,
            }
            .to_owned(),
            certificate_ends_at: self.peers.credentials().ends_at().filter(|_| member.id == self.me),
            version: (member.id == self.me).then(|| env!("CARGO_PKG_VERSION").to_owned()),
            ..NodeStatus::default()
        };
        let in_sync = hears && config.has_two_in_sync();
        let rpo = match (hears, in_sync) {
            (false, _) => UNHEARD.to_owned(),
            (true, true) => "0 (in sync)".to_owned(),
            (true, false) => format!("what {} has acknowledged alone", name(config.primary)),
        };
        Status {
            cluster: config.name.clone(),
            // One that was removed has no name any more.
            node: config.member(self.me).map_or_else(|| THIS_WITNESS.to_owned(), |member| member.name.clone()),
            epoch: config.epoch.counter(),
            version: config.version,
            mode: config.mode.as_str().to_owned(),
            paused: config.is_paused(clock::unix_millis()),
            in_sync,
            rpo,
            failover: "a data node shows whether it is ready".to_owned(),
            nodes: config.members.iter().map(node).collect(),
            reason: kept_out.map(|(_, why)| why),
            ..nothing()
        }
    }
}

fn nothing() -> Status {
    Status { node: THIS_WITNESS.to_owned(), role: "witness".to_owned(), rpo: UNHEARD.to_owned(), ..Status::default() }
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::{add_witness, pair};
    use super::*;
    use crate::net::Authority;

    #[test]
    fn a_certificate_is_renewed_after_a_day_and_whenever_the_clock_is_far_from_it() {
        let now = UnixMillis(1_800_000_000_000);
        let after = |millis: i64| Some(UnixMillis(now.0 + millis));
        for fresh in [after(90 * DAY_MILLIS), after(89 * DAY_MILLIS + 1), after(88 * DAY_MILLIS)] {
            assert!(!is_due(fresh, now), "{fresh:?}");
        }
        for due in
            [None, after(88 * DAY_MILLIS - 1), after(0), after(-1), after(91 * DAY_MILLIS), Some(UnixMillis(i64::MIN))]
        {
            assert!(is_due(due, now), "{due:?}");
        }
    }

    fn start(dir: &std::path::Path) -> Witness {
        let node = Arc::new(NodeState::open(dir).unwrap());
        let incarnation = node.count_start().unwrap();
        Witness::open(WitnessParts { node, state_dir: dir.to_owned(), incarnation }).unwrap()
    }

    #[tokio::test]
    async fn a_witness_that_was_let_in_is_a_member_also_after_its_next_start() {
        let (dir, authority, key) =
            (tempfile::tempdir().unwrap(), Authority::make().unwrap(), NodeKey::make().unwrap());
        let mut config = pair();
        let member = add_witness(&mut config, "w", "10.0.0.20:7443").unwrap();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let invited = |of: &NodeKey| InvitedWitness {
            cluster: [9; 16],
            member,
            config: config.clone(),
            authority: encode(authority.certificate()),
            certificate: encode(&authority.certify(of.public(), member).unwrap()),
        };
        let witness = start(dir.path());
        assert!(witness.status().await.reason.is_some() && witness.now().is_none());
        let another = NodeKey::make().unwrap();
        assert!(witness.become_member(invited(&another), key.clone()).is_err(), "a certificate of another key");
        assert!(witness.now().is_none() && read_credentials(dir.path()).unwrap().is_none());
        witness.become_member(invited(&key), key.clone()).unwrap();
        assert_eq!(witness.joined().await.me, member);
        assert!(witness.joined().await.peers.authority().is_none());
        let status = witness.status().await;
        assert_eq!((status.cluster.as_str(), status.nodes.len(), status.node.as_str()), ("berlin", 3, "w"));
        assert_eq!(witness.history().await.unwrap().len(), 1);
        drop(witness);
        assert_eq!(start(dir.path()).now().map(|joined| joined.me), Some(member));
    }
}
