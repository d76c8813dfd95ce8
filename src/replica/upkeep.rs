//! What operators do to the nodes of a cluster that stands.

use super::admit::may_have_witness;
use super::membership::{FoundError, Token, check_address, invite};
use super::pair::{Order, Pair, Refusal, Role, refuse};
use crate::base::Chain;
use crate::protocol::cluster::{Config, Kind, Member};
use crate::watched::Watched;
use std::time::Duration;

const ASK_WITHIN: Duration = Duration::from_secs(2);
/// A node reaches itself at once, or not at all.
const ITSELF_WITHIN: Duration = Duration::from_secs(3);

impl Pair {
    /// Has this standby copied anew from the primary. `dry`: only says whether it could be.
    ///
    /// It keeps all that it has, and counts for it, until the primary has counted it out: it only says at its next
    /// connection that it has nothing.
    pub(crate) async fn reinit(&self, dry: bool) -> Result<Config, Refusal> {
        self.order(|told| Order::CopyAnew { told, dry }).await
    }

    /// Whether this standby may give up its copy for another.
    pub(super) async fn can_copy_anew(&self) -> Result<(), Refusal> {
        if let Some(why) = self.outside() {
            return refuse(why);
        }
        let Some((peers, primary)) = self.primary() else { return refuse("there is no other node to copy from") };
        match peers.exchange(&primary, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) if theirs.role == Role::Primary.as_str() => Ok(()),
            Ok(theirs) => refuse(format!("{} is {}, and not the primary yet; try again", primary.name, theirs.role)),
            Err(error) if error.has_answered() => refuse(error.told(&primary.name)),
            Err(error) => refuse(format!(
                "{} does not answer, and this may be the last whole copy: {}",
                primary.name,
                Chain(&error)
            )),
        }
    }

    /// The node called `name` is reached at `address` from now on.
    /// Answers also what is wrong with that, if so.
    pub(crate) async fn move_member(
        &self,
        name: &str,
        address: &str,
        dry: bool,
    ) -> Result<(Config, Option<String>), Refusal> {
        check_address(address)?;
        self.reaches_itself(name, address).await?;
        let moved = self.change_or_look(dry, |config| {
            let known = names(config);
            let member = config.members.iter_mut().find(|member| member.name == name);
            let Some(member) = member else { return refuse(format!("no node is called {name}; there are {known}")) };
            address.clone_into(&mut member.address);
            if config.members.iter().filter(|member| member.address == address).count() > 1 {
                return refuse(format!("another node is reached at {address}"));
            }
            Ok(())
        });
        let config = moved.await?;
        let warning = match config.others(self.me()).find(|member| member.name == name).zip(self.peers()) {
            Some((member, peers)) => {
                let there = Member { address: address.to_owned(), ..member.clone() };
                peers.register(&there, ASK_WITHIN).await.err().map(|error| {
                    format!("{name} is not reached there yet, and counts as away until it is: {}", Chain(&error))
                })
            }
            None => None,
        };
        Ok((config, warning))
    }

    /// Whether this node is at `address`, where it is the one called `name`: once the others look for it where nobody is,
    /// what comes to them for the primary fails.
    async fn reaches_itself(&self, name: &str, address: &str) -> Result<(), Refusal> {
        let config = self.config().now();
        let Some((ours, peers)) = config.member(self.me()).filter(|ours| ours.name == name).zip(self.peers()) else {
            return Ok(());
        };
        self.is_primary()?;
        let there = Member { address: address.to_owned(), ..ours.clone() };
        match peers.register(&there, ITSELF_WITHIN).await {
            Ok(_) => Ok(()),
            Err(error) => refuse(format!(
                "{name} is this node, and does not reach itself there ({}): with that address the other members would not either. Is {address} an address of this machine, and does cluster.listen listen on it?",
                Chain(&error)
            )),
        }
    }

    /// The token for a second node, or for a witness; the one before it is worth nothing any more. `None` where `dry`.
    pub(crate) fn invite(&self, kind: Kind, dry: bool) -> Result<Option<Token>, Refusal> {
        self.is_primary()?;
        if self.peers().is_none() {
            return refuse("this node is part of no cluster; `llmchat init` makes one");
        }
        match (kind, self.config().now().peer_of(self.me())) {
            (Kind::Witness, _) => may_have_witness(&self.config().now())?,
            (Kind::Data, Some(Member { name, .. })) => {
                return refuse(format!(
                    "there are two nodes already, this one and {name}: a new one takes the place of {name} only where that is lost for good, with a token of `llmchat member replace {name}`"
                ));
            }
            (Kind::Data, None) => {}
        }
        self.token(kind, dry)
    }

    fn token(&self, kind: Kind, dry: bool) -> Result<Option<Token>, Refusal> {
        let Some(peers) = self.peers() else {
            return refuse("this node is part of no cluster; `llmchat init` makes one");
        };
        if dry {
            return Ok(None);
        }
        let Some(authority) = peers.authority() else { return refuse("this node cannot sign for another one") };
        let token = invite(self.node(), kind, &self.config().now(), &authority);
        token.map(Some).map_err(|error: FoundError| Refusal::new(Chain(&error).to_string()))
    }

    /// The token for a new node in the place of the one called `name`, which is lost; `None` where `dry`.
    pub(crate) fn replace_member(&self, name: &str, dry: bool) -> Result<Option<Token>, Refusal> {
        self.is_primary()?;
        let config = self.config().now();
        let Some(peer) = config.peer_of(self.me()) else {
            return refuse("there is no other node; `llmchat invite` lets one join");
        };
        if peer.name != name {
            return refuse(format!("{name} is not the other node; that is {}", peer.name));
        }
        if self.standby_seen().is_some_and(|seen| seen.is_connected) {
            return refuse(format!(
                "{name} is there: stop it first, or have it copied anew with `llmchat reinit` on it"
            ));
        }
        self.token(Kind::Data, dry)
    }
}

fn names(config: &Config) -> String {
    config.members.iter().map(|Member { name, .. }| name.as_str()).collect::<Vec<_>>().join(" and ")
}
