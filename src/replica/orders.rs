//! What operators want of a pair, and the ends of turns whose reign is over.

use super::pair::{Order, Pair, Refusal, Role, Told, lock, refuse};
use super::peers::AskError;
use crate::base::Chain;
use crate::clock;
use crate::protocol::cluster::{Config, Member, Rule};
use crate::store::{StoreError, TurnEnd};
use crate::watched::Watched;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// One try to store the end of a turn with another node.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// The end of a turn is said again after so long, where it was not heard.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Who stops hands over first, where that is a matter of a moment.
const LEAVE_WITHIN: Duration = Duration::from_secs(4);

impl Pair {
    /// Changes the configuration, on the primary, to what `change` makes of it.
    pub(crate) async fn change(
        &self,
        change: impl FnMut(&mut Config) -> Result<(), Refusal>,
    ) -> Result<Config, Refusal> {
        let primary = lock(&self.0.seat.primary).clone();
        let Some(primary) = primary else { return refuse(self.not_the_primary()) };
        primary.change(change).await
    }

    /// As [`Pair::change`]; `dry`, only says what would come of it.
    pub(crate) async fn change_or_look(
        &self,
        dry: bool,
        mut change: impl FnMut(&mut Config) -> Result<(), Refusal>,
    ) -> Result<Config, Refusal> {
        if !dry {
            return self.change(change).await;
        }
        self.is_primary()?;
        let mut config = self.config().now();
        change(&mut config).map(|()| config)
    }

    /// Whether this node may change the configuration.
    pub(crate) fn is_primary(&self) -> Result<(), Refusal> {
        if lock(&self.0.seat.primary).is_some() { Ok(()) } else { refuse(self.not_the_primary()) }
    }

    fn not_the_primary(&self) -> String {
        if let Some(why) = self.outside() {
            return why;
        }
        let config = self.config().now();
        match config.member(config.primary).filter(|primary| primary.id != self.me()) {
            Some(Member { name, address, .. }) => {
                format!(
                    "this node is not the primary; ask the one that is: {name}, at {address}, as far as this node knows"
                )
            }
            None => "this node is not the primary, and does not lead yet; `llmchat status` says what it waits for"
                .to_owned(),
        }
    }

    /// Hands the reign over to the standby; `dry`, only says whether that could be done.
    pub(crate) async fn switch_over(&self, dry: bool) -> Result<Config, Refusal> {
        self.order(|told| Order::Switchover { told, dry }).await
    }

    /// Before this node stops: another leads by then, where roles change by themselves and one can.
    pub(crate) async fn leave(&self) {
        let config = self.config().now();
        let is_wanted = config.register == Rule::Majority && !config.is_paused(clock::unix_millis());
        if self.role().now() != Role::Primary || !is_wanted || !config.has_two_in_sync() {
            return;
        }
        match tokio::time::timeout(LEAVE_WITHIN, self.switch_over(false)).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => tracing::warn!(%refusal, "this node stops as the primary"),
            Err(_) => tracing::warn!("this node stops as the primary: nobody has taken over in time"),
        }
    }

    /// Starts alone, although the peer does not answer; `dry`, only says whether that could be done.
    pub(crate) async fn resume_alone(&self, dry: bool) -> Result<Config, Refusal> {
        self.order(|told| Order::ResumeAlone { told, dry }).await
    }

    pub(super) async fn order(&self, order: impl FnOnce(Told) -> Order) -> Result<Config, Refusal> {
        let (told, hear) = oneshot::channel();
        if self.0.orders.send(order(told)).await.is_err() {
            return refuse("the node is stopping");
        }
        hear.await.unwrap_or_else(|_| refuse("the node is stopping"))
    }

    /// Stores the end of a turn with whoever is the primary by then, this node perhaps; tried again for `within`.
    pub(crate) async fn finish_turn(&self, end: Arc<TurnEnd>, within: Duration) -> Result<(), StoreError> {
        let by = clock::now() + within;
        loop {
            match self.store().turn_finish(Arc::clone(&end)) {
                Err(StoreError::NotHere) => {}
                finished => return finished?.await.map(drop),
            }
            let asked = match self.primary() {
                Some((peers, primary)) => peers.finish_turn(&primary, &end, FINISH_WITHIN).await,
                None => Err(AskError::Silent(Duration::ZERO)),
            };
            match asked {
                Ok(()) => return Ok(()),
                // It is said again where the answer was lost; the same end twice is stored once.
                Err(error) if !error.is_final() && clock::now() + AGAIN_AFTER < by => {
                    tracing::debug!(error = %Chain(&error), "the end of a turn is said again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "the end of a turn is not kept by the primary");
                    return Err(StoreError::OutcomeUnknown);
                }
            }
        }
    }
}
