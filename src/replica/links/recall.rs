//! Whether whoever greets remembers what it has said (R8), and whether this node does.

use super::{LinkError, Links, lock};
use crate::base::Chain;
use crate::node_state::{NodeError, Speaks};
use crate::protocol::cluster::MemberId;
use crate::protocol::peer::{Memory, PROTOCOL};
use crate::protocol::register::{Greeting, Said};
use crate::replica::removed::NO_MEMBER;
use crate::replica::standing::HearError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// For whoever operates this node.
pub(in crate::replica) const BLANK: &str = "this node does not remember what it has said to the others: its state directory was put back from a copy, or copied. It is no member any more; move the directory away, and let it join anew";

/// As such a node answers whoever greets it; also one of another version.
pub(super) const FORGETS: &str = "it does not remember what it has said, and is to join anew";
/// Of a member whose word is not enough for that.
pub(super) const UNBELIEVED: &str = "it says that this node does not remember what it has said";

impl Links {
    /// Nobody waits for it: what is forgotten of this with a loss of power is not found if the member forgets it as well.
    pub(in crate::replica) fn note_shown(&self, member: MemberId, shown: Memory) {
        let node = Arc::clone(&self.0.node);
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = node.note_shown(member, shown) {
                tracing::warn!(member, error = %Chain(&error), "what a member has shown is not kept");
            }
        }));
    }

    /// A member knows of more than this node remembers. What a node that was forced lacks its operator has given up, and
    /// whoever says so has not heard of that yet.
    pub(super) async fn hear_blank(&self, by: MemberId, shown: Memory) -> LinkError {
        let node = Arc::clone(&self.0.node);
        let noted =
            tokio::task::spawn_blocking(move || node.note_blank(by, shown)).await.expect("noting does not panic");
        match noted {
            Ok(false) => {
                if self.0.told_blank.is_due(by, UNBELIEVED) {
                    tracing::warn!(by, "{UNBELIEVED}, and is not believed: a witness's word is not enough for that");
                }
                return LinkError::Refused(UNBELIEVED.to_owned());
            }
            Ok(true) => {}
            Err(error) => tracing::error!(error = %Chain(&error), "that this node is no member is not kept"),
        }
        self.0.is_blank.store(true, Ordering::Release);
        if self.0.told_blank.is_due(by, BLANK) {
            tracing::error!(by, "{BLANK}");
        }
        LinkError::Refused(BLANK.to_owned())
    }

    /// An operator has this node go on by what it has, whatever it may have forgotten, with `memory` on disk; what it has
    /// forgotten is given up with that.
    pub(in crate::replica) async fn forgive(&self, memory: Memory) -> Result<(), NodeError> {
        let node = Arc::clone(&self.0.node);
        tokio::task::spawn_blocking(move || node.forget_blank()).await.expect("noting does not panic")?;
        lock(&self.0.greeting).incarnation.memory = memory;
        self.0.is_blank.store(false, Ordering::Release);
        Ok(())
    }

    /// What is said to `member`, which does not remember what it has said.
    pub(super) async fn blank(&self, member: MemberId) -> Result<Said, LinkError> {
        let node = Arc::clone(&self.0.node);
        let shown = tokio::task::spawn_blocking(move || node.shown(member)).await.expect("reading does not panic");
        Ok(Said::Blank { shown: shown.map_err(HearError::from)? })
    }

    /// What is said to a node that is no member any more.
    pub(super) async fn removed(&self) -> Said {
        let node = Arc::clone(&self.0.node);
        let config = tokio::task::spawn_blocking(move || node.config()).await.expect("reading does not panic");
        match config.ok().flatten() {
            Some(config) => Said::Removed { config },
            None => Said::Refused { why: NO_MEMBER.to_owned() },
        }
    }

    /// Whether whoever greets is to be heard (R8).
    pub(super) async fn check(
        &self,
        greeting: &Greeting,
        is_member: impl Fn(MemberId) -> bool,
        is_alive: bool,
    ) -> Result<(), LinkError> {
        let Greeting { protocol, cluster, member, incarnation, .. } = *greeting;
        if self.is_blank() {
            return Err(LinkError::Refused(FORGETS.to_owned()));
        }
        if protocol != PROTOCOL {
            return Err(LinkError::Refused(format!("it speaks protocol {protocol}, this node speaks {PROTOCOL}")));
        }
        if cluster != self.0.cluster {
            return Err(LinkError::Refused("it is of another cluster".to_owned()));
        }
        if !is_member(member) || member == self.0.me {
            return Err(LinkError::Removed);
        }
        let shown = {
            let mut known = lock(&self.0.known);
            let one = known.entry(member).or_default();
            // Nothing more is heard of an earlier start: it would be heard of one that may have forgotten it.
            one.starts = one.starts.max(incarnation.starts);
            one.shown
        };
        let node = Arc::clone(&self.0.node);
        let noted = tokio::task::spawn_blocking(move || {
            node.note_shown(member, shown)?;
            let speaks = node.note_peer(member, incarnation, is_alive)?;
            let config = if speaks == Speaks::Now { None } else { node.config()? };
            let name = config.and_then(|config| Some(config.member(member)?.name.clone()));
            Ok::<_, NodeError>((speaks, name.unwrap_or_else(|| format!("node {member}"))))
        });
        let (speaks, name) = noted.await.expect("noting does not panic").map_err(HearError::from)?;
        if speaks == Speaks::Blank {
            lock(&self.0.known).entry(member).or_default().forgets = true;
        }
        Ok(HearError::check(speaks, &name)?)
    }
}
