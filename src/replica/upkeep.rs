//! What operators do to the nodes of a cluster that stands.

use super::membership::{FoundError, Token, check_address, invite};
use super::pair::{Pair, Refusal, Role, refuse};
use crate::base::Chain;
use crate::protocol::cluster::{Config, Member};
use crate::protocol::peer::Copying;
use std::sync::Arc;
use std::time::Duration;

const ASK_WITHIN: Duration = Duration::from_secs(2);

impl Pair {
    /// Has this standby copied anew from the primary; it has to begin again for that. `dry`: only says whether it could.
    ///
    /// The primary counts this node out before anything that is here is overwritten, as it does with whoever says that
    /// it is copied.
    pub(crate) async fn reinit(&self, dry: bool) -> Result<(), Refusal> {
        if *self.role().borrow() != Role::Standby {
            return refuse("only a standby is copied anew; a primary hands over first (`llmchat switchover`)");
        }
        let Some((peers, primary)) = self.primary() else { return refuse("there is no other node to copy from") };
        let theirs = match peers.exchange(&primary, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) => theirs,
            Err(error) => {
                return refuse(format!(
                    "{} does not answer, and this may be the last whole copy: {}",
                    primary.name,
                    Chain(&error)
                ));
            }
        };
        if theirs.role != Role::Primary.as_str() {
            return refuse(format!("{} is {}, and not the primary yet; try again", primary.name, theirs.role));
        }
        if dry {
            return Ok(());
        }
        let node = Arc::clone(self.node());
        let noted = tokio::task::spawn_blocking(move || node.note_copying(Some(Copying::ANEW))).await;
        noted.expect("noting does not panic").or_else(|error| {
            tracing::error!(error = %Chain(&error), "that this node is to be copied anew cannot be noted");
            refuse("it could not be noted; see the log")
        })
    }

    /// The node called `name` is reached at `address` from now on.
    pub(crate) async fn move_member(&self, name: &str, address: &str, dry: bool) -> Result<Config, Refusal> {
        check_address(address)?;
        let change = |config: &mut Config| {
            let known = names(config);
            let member = config.members.iter_mut().find(|member| member.name == name);
            let Some(member) = member else { return refuse(format!("no node is called {name}; there are {known}")) };
            address.clone_into(&mut member.address);
            Ok(())
        };
        if dry {
            self.is_primary()?;
            let mut config = self.config().borrow().clone();
            return change(&mut config).map(|()| config);
        }
        self.change(change).await
    }

    /// The token for a new node in the place of the one called `name`, which is lost; `None` where `dry`.
    pub(crate) fn replace_member(&self, name: &str, dry: bool) -> Result<Option<Token>, Refusal> {
        self.is_primary()?;
        let config = self.config().borrow().clone();
        let Some((peer, peers)) = config.peer_of(self.me()).zip(self.peers()) else {
            return refuse("there is no other node; `llmchat invite` lets one join");
        };
        if peer.name != name {
            return refuse(format!("{name} is not the other node; that is {}", peer.name));
        }
        if config.is_in_sync(peer.id) || self.standby_seen().is_some_and(|seen| seen.is_connected) {
            return refuse(format!(
                "{name} is there: stop it first, or have it copied anew with `llmchat reinit` on it"
            ));
        }
        if dry {
            return Ok(None);
        }
        let token = invite(self.node(), &config, peers.authority());
        token.map(Some).map_err(|error: FoundError| Refusal(Chain(&error).to_string()))
    }

    fn is_primary(&self) -> Result<(), Refusal> {
        if *self.role().borrow() == Role::Primary {
            return Ok(());
        }
        refuse("this node is not the primary; ask the one that is")
    }
}

fn names(config: &Config) -> String {
    config.members.iter().map(|Member { name, .. }| name.as_str()).collect::<Vec<_>>().join(" and ")
}
