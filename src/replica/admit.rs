//! How a cluster lets a witness in and go, and how its nodes sign a member's key again.

use super::membership::{MEMBER_ID_MAX, check, hash};
use super::pair::{Pair, Refusal, refuse};
use crate::base::Chain;
use crate::protocol::cluster::{Config, Kind, Member, MemberId, Rule};
use crate::watched::Watched;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Where a witness asks to be taken in; and whether it could be.
pub(crate) const JOIN_AS_WITNESS: &str = "/peer/join-witness";
pub(crate) const MAY_JOIN_AS_WITNESS: &str = "/peer/may-join-witness";
/// Where a member has its key signed again.
pub(crate) const CERTIFICATE: &str = "/peer/certificate";

/// What a witness says that wants to join.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct JoiningWitness {
    pub(super) word: String,
    pub(crate) name: String,
    /// Where other nodes reach it.
    pub(crate) address: String,
    /// Of its own key, the public half.
    pub(super) key: String,
}

/// What it is given: nothing that is a secret.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct InvitedWitness {
    pub(super) cluster: [u8; 16],
    pub(crate) member: MemberId,
    pub(crate) config: Config,
    /// Certificate of the cluster's authority.
    pub(super) authority: String,
    /// Of the witness's key.
    pub(super) certificate: String,
}

/// A member asks to have its key signed again.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Renewal {
    pub(super) key: String,
}

/// It is.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Renewed {
    pub(super) certificate: String,
}

/// Whether a witness can be added to `config` now.
pub(super) fn may_have_witness(config: &Config) -> Result<(), Refusal> {
    if let Some(witness) = config.witness() {
        return refuse(format!("{0} is the witness; `llmchat member remove {0}` first", witness.name));
    }
    if config.data_nodes() < 2 {
        return refuse(
            "a witness needs two nodes that it can tell the dead one of; `llmchat invite` lets the second join",
        );
    }
    Ok(())
}

/// Whether a witness called `name`, reached at `address`, can be added to `config`, and gives it its number.
fn number_witness(config: &mut Config, name: &str, address: &str) -> Result<MemberId, Refusal> {
    may_have_witness(config)?;
    check(name, address)?;
    if config.members.iter().any(|member| member.name == name) {
        return refuse(format!("{name} is the name of another node; name the witness with `--node`"));
    }
    if config.members.iter().any(|member| member.address == address) {
        return refuse(format!("another node is reached at {address}"));
    }
    if config.next_member_id > MEMBER_ID_MAX {
        return refuse("no member's number is left");
    }
    let id = config.next_member_id;
    config.next_member_id += 1;
    Ok(id)
}

/// Adds `new` to `config`. With a witness configurations are kept on a majority.
pub(super) fn add(config: &mut Config, new: &Member) {
    if config.member(new.id).is_none() {
        config.members.push(new.clone());
    }
    if new.kind == Kind::Witness {
        config.register = Rule::Majority;
    }
}

/// Takes the witness called `name` out of `config`. The rule stays that of a majority: of both nodes then.
fn take_witness(config: &mut Config, name: &str) -> Result<(), Refusal> {
    if config.members.iter().any(|member| member.name == name && member.kind == Kind::Data) {
        return refuse(format!(
            "{name} is a data node, which is replaced where it is lost: `llmchat member replace {name}`"
        ));
    }
    let Some(witness) = config.witness().cloned() else {
        return refuse("there is no witness; `llmchat invite --witness` prints a token for one");
    };
    if witness.name != name {
        return refuse(format!("{name} is not the witness; that is {}", witness.name));
    }
    if config.in_sync_set().iter().filter(|id| config.member(*id).is_some()).count() < 2 {
        return refuse("the standby is not in sync: without a witness nothing could be stored if it stays away");
    }
    config.members.retain(|member| member.id != witness.id);
    Ok(())
}

impl Pair {
    /// Takes in a witness that has the word of the newest token. `dry`, only says whether it could be; `None` then.
    pub(crate) async fn admit_witness(
        &self,
        joining: JoiningWitness,
        dry: bool,
    ) -> Result<Option<InvitedWitness>, Refusal> {
        let mut under_way = self.0.joining.lock().await;
        let node = Arc::clone(self.node());
        let word = URL_SAFE_NO_PAD.decode(&joining.word).unwrap_or_default();
        if node.invitation().ok().flatten() != Some(hash(Kind::Witness, &word)) {
            return refuse("the token was used, or a newer one was made; `llmchat invite --witness` makes one");
        }
        let Some(authority) = self.peers().and_then(|peers| peers.authority()) else {
            return refuse("this node cannot sign for another one");
        };
        let key = URL_SAFE_NO_PAD.decode(&joining.key).unwrap_or_default();
        // Before it is a member: a key that cannot be signed must not leave one behind.
        authority.certify(&key, self.config().look(|config| config.next_member_id)).map_err(|error| said(&error))?;
        let mut member = 0;
        let config = self.change_or_look(dry, |config| {
            member = number_witness(config, &joining.name, &joining.address)?;
            Ok(())
        });
        let config = config.await?;
        if dry {
            return Ok(None);
        }
        let certificate = authority.certify(&key, member).map_err(|error| said(&error))?;
        if let Err(error) = node.invite(None) {
            tracing::error!(error = %Chain(&error), "a used token stays good");
        }
        let new = Member { id: member, name: joining.name, address: joining.address, kind: Kind::Witness };
        tracing::info!(member, name = new.name, address = new.address, "a witness is about to join");
        let pair = self.clone();
        *under_way = Some(AbortOnDropHandle::new(self.0.tasks.spawn(async move { pair.take_in(new).await })));
        Ok(Some(InvitedWitness {
            cluster: self.cluster().0,
            member,
            config,
            authority: URL_SAFE_NO_PAD.encode(authority.certificate()),
            certificate: URL_SAFE_NO_PAD.encode(certificate),
        }))
    }

    /// Removes the witness called `name`, after which operators say who leads; `dry`, only says whether that could be done.
    pub(crate) async fn remove_witness(&self, name: &str, dry: bool) -> Result<Config, Refusal> {
        let removed = self.change_or_look(dry, |config| take_witness(config, name)).await?;
        if dry { Ok(removed) } else { self.settle_rule().await }
    }

    /// Ends the rule of a majority where there is no witness any more: of two nodes both would be needed for everything.
    /// A change of its own, once the removal is in force (R9).
    pub(super) async fn settle_rule(&self) -> Result<Config, Refusal> {
        let config = self.config().now();
        if config.witness().is_some() || config.register == Rule::Alone {
            return Ok(config);
        }
        let settled = self.change(|config| {
            if config.witness().is_some() {
                return refuse("a witness has joined meanwhile");
            }
            config.register = Rule::Alone;
            Ok(())
        });
        settled.await
    }

    /// As [`Pair::settle_rule`], where nobody waits for it.
    pub(super) async fn settle_rule_unasked(&self) {
        if let Err(refusal) = self.settle_rule().await {
            tracing::warn!(%refusal, "both nodes are needed for everything, as there is no witness");
        }
    }

    /// Signs the key of `member`, which asks for itself, again.
    pub(crate) fn certify(&self, member: MemberId, renewal: &Renewal) -> Result<Renewed, Refusal> {
        if self.config().now().member(member).is_none() {
            return refuse("that node is no member");
        }
        let Some(authority) = self.peers().and_then(|peers| peers.authority()) else {
            return refuse("this node cannot sign for another one");
        };
        let key = URL_SAFE_NO_PAD.decode(&renewal.key).unwrap_or_default();
        let certificate = authority.certify(&key, member).map_err(|error| said(&error))?;
        Ok(Renewed { certificate: URL_SAFE_NO_PAD.encode(certificate) })
    }
}

pub(super) fn said(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(Chain(error).to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Epoch;
    use crate::protocol::cluster::Mode;

    pub(in crate::replica) fn pair() -> Config {
        let member =
            |id: MemberId| Member { id, name: format!("n{id}"), address: format!("127.0.0.1:{id}"), kind: Kind::Data };
        Config {
            epoch: Epoch::mint(1, 1, false).unwrap(),
            version: 3,
            primary: 1,
            isr: vec![1, 2],
            members: vec![member(1), member(2)],
            register: Rule::Alone,
            next_member_id: 3,
            mode: Mode::default(),
            paused_until: None,
            name: "berlin".to_owned(),
        }
    }

    pub(in crate::replica) fn add_witness(config: &mut Config, name: &str, address: &str) -> Result<MemberId, Refusal> {
        let id = number_witness(config, name, address)?;
        add(config, &Member { id, name: name.to_owned(), address: address.to_owned(), kind: Kind::Witness });
        Ok(id)
    }

    #[test]
    fn a_pair_takes_one_witness_and_is_kept_on_a_majority_from_then_on() {
        let mut config = pair();
        assert_eq!(add_witness(&mut config, "w", "10.0.0.20:7443"), Ok(3));
        assert_eq!((config.register, config.next_member_id, config.isr.len()), (Rule::Majority, 4, 2));
        assert_eq!(config.witness().map(|witness| witness.id), Some(3));
        assert!(add_witness(&mut config, "v", "10.0.0.21:7443").unwrap_err().why.contains("w is the witness"));
    }

    #[test]
    fn a_witness_that_cannot_be_one_changes_nothing() {
        let alone = Config { members: pair().members[..1].to_vec(), isr: vec![1], ..pair() };
        let full = Config { next_member_id: 128, ..pair() };
        for (before, name, address) in [
            (alone, "w", "10.0.0.20:7443"),
            (full, "w", "10.0.0.20:7443"),
            (pair(), "n2", "10.0.0.20:7443"),
            (pair(), "w", "127.0.0.1:2"),
            (pair(), "w w", "10.0.0.20:7443"),
            (pair(), "w", "10.0.0.20"),
        ] {
            let mut config = before.clone();
            assert!(add_witness(&mut config, name, address).is_err(), "{name} {address}");
            assert_eq!(config, before);
        }
    }

    #[test]
    fn a_witness_goes_only_while_both_data_nodes_are_in_sync_and_its_number_with_it() {
        let mut config = pair();
        add_witness(&mut config, "w", "10.0.0.20:7443").unwrap();
        let with = config.clone();
        let mut short = Config { isr: vec![1], ..with.clone() };
        assert!(take_witness(&mut short, "w").unwrap_err().why.contains("not in sync"));
        assert!(take_witness(&mut config, "n2").unwrap_err().why.contains("`llmchat member replace n2`"));
        assert!(take_witness(&mut config, "v").unwrap_err().why.ends_with("not the witness; that is w"));
        assert!(take_witness(&mut pair(), "w").unwrap_err().why.starts_with("there is no witness"));
        assert_eq!(config, with);
        take_witness(&mut config, "w").unwrap();
        assert_eq!((config.members.len(), config.register), (2, Rule::Majority));
        assert_eq!(add_witness(&mut config, "w", "10.0.0.20:7443"), Ok(4));
    }
}
