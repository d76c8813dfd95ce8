//! A node that follows: connection after connection, until it is named the primary, or forced to be.

use super::apply::FollowError;
use super::links::BLANK;
use super::outlook::unheard;
use super::pair::{Crown, Next, Order, Pair, PairError, Role, Told, lock, refuse};
use super::peers::AskError;
use super::receive::ReceiveError;
use super::reign::Held;
use super::standby::{Standby, StandbyError};
use super::voter::View;
use crate::base::{Chain, Txid};
use crate::clock;
use crate::store::Rested;
use crate::watched::{News, Watched};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Between two connections of a standby.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);

impl Pair {
    pub(super) async fn follow(
        &self,
        standby: Option<Standby>,
        held: &mut Held,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let standby = self.begin_to_follow(standby, held).await?;
        let mut view = self.voter().view();
        let mut pause = AGAIN_AFTER;
        let mut waits = None;
        loop {
            let now = view.news();
            if now.reigns() {
                *held = Some(Arc::clone(&self.0.role).write_owned().await);
                let rested = self.take_over(&standby).await?;
                return Ok(Next::Lead(Crown { rested, told: waits, epoch: now.promised }));
            }
            let ending = stop.child_token();
            let session = self.session(&standby, &now, ending.clone());
            tokio::pin!(session);
            let ended = loop {
                tokio::select! {
                    ended = &mut session => break Some(ended),
                    changed = view.changed() => {
                        let later = view.news();
                        if changed.is_ok() && (later.reigns() || later.follows != now.follows) {
                            break None;
                        }
                    }
                    Some(order) = orders.recv() => match self.obey(&standby, order).await {
                        Obeyed::Answered => {}
                        // The register says so in a moment.
                        Obeyed::Force(told) => waits = Some(told),
                        Obeyed::Reconnect => break None,
                    },
                    () = stop.cancelled() => {
                        ending.cancel();
                        drop(session.await);
                        return Ok(close(&standby).await);
                    }
                }
            };
            let Some(ended) = ended else {
                ending.cancel();
                let (_, ended) = session.await;
                if let Err(SessionError::Standby(fatal)) = ended
                    && is_fatal(&fatal)
                {
                    close(&standby).await;
                    return Err(fatal.into());
                }
                pause = AGAIN_AFTER;
                continue;
            };
            pause = match after(ended, pause) {
                Ok(pause) => pause,
                Err(error) => {
                    close(&standby).await;
                    return Err(error);
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = view.changed() => {
                    view.mark_changed();
                    pause = AGAIN_AFTER;
                }
                () = stop.cancelled() => return Ok(close(&standby).await),
            }
        }
    }

    async fn begin_to_follow(&self, standby: Option<Standby>, held: &mut Held) -> Result<Standby, PairError> {
        let standby = standby.unwrap_or_else(|| Standby::new(self.following()));
        let prepared = standby.clone();
        let prepared = tokio::task::spawn_blocking(move || prepared.prepare()).await;
        prepared.map_err(|_| PairError::Died)??;
        tracing::info!("this node is the standby");
        *lock(&self.0.seat.standby) = Some(standby.clone());
        match held.take() {
            Some(held) => self.set_role(Role::Standby, Some(held)),
            None => self.turn_into(Role::Standby).await,
        }
        Ok(standby)
    }

    /// Answers an order, or says what is to be done for it.
    async fn obey(&self, standby: &Standby, order: Order) -> Obeyed {
        match order {
            Order::Force { told, how } => match self.take(told, how).await {
                // The register says so in a moment.
                Some(told) => return Obeyed::Force(told),
                None => return Obeyed::Answered,
            },
            Order::CopyAnew { told, dry } => match self.can_copy_anew().await {
                Ok(()) if dry => drop(told.send(Ok(self.config().now()))),
                Ok(()) => {
                    standby.want_copy();
                    drop(told.send(Ok(self.config().now())));
                    return Obeyed::Reconnect;
                }
                Err(refusal) => drop(told.send(Err(refusal))),
            },
            Order::Switchover { told, .. } => {
                let why = "this node is the standby; the primary hands over, by `llmchat switchover` there";
                let why = || {
                    if self.is_connected() {
                        return why.to_owned();
                    }
                    format!("{why}. Now {}", unheard(&self.config().now(), self.me()))
                };
                drop(told.send(refuse(self.outside().unwrap_or_else(why))));
            }
            Order::ResumeAlone { told, .. } => {
                let why = "this node is the standby and was not the primary before";
                drop(told.send(refuse(self.outside().unwrap_or_else(|| why.to_owned()))));
            }
        }
        Obeyed::Answered
    }

    /// One connection to the primary, and how long it held.
    async fn session(
        &self,
        standby: &Standby,
        view: &View,
        stop: CancellationToken,
    ) -> (Duration, Result<(), SessionError>) {
        let began = clock::now();
        let followed = async {
            if self.voter().links().is_blank() {
                // It would be refused, each second anew.
                if self.0.told_unheard.is_due(self.me(), BLANK) {
                    tracing::warn!("{BLANK}");
                }
                stop.cancelled().await;
                return Err(SessionError::Nobody);
            }
            let primary = view.stored.as_ref().and_then(|config| config.member(config.primary)).cloned();
            let primary = primary.filter(|primary| primary.id != self.me()).zip(self.peers());
            let (primary, peers) = primary.ok_or(SessionError::Nobody)?;
            // One that is frozen takes its time; another may lead by then.
            let reached = stop.run_until_cancelled(peers.stream(&primary)).await;
            let stream = reached.unwrap_or(Err(AskError::Silent(Duration::ZERO)))?;
            Ok(standby.follow(stream, stop).await?)
        };
        let followed = followed.await;
        (clock::now().saturating_duration_since(began), followed)
    }

    /// Everything in the journal counts now. `None` where the database was not opened yet.
    async fn take_over(&self, standby: &Standby) -> Result<Option<Rested>, PairError> {
        if !standby.is_open() {
            return Ok(None);
        }
        let last = self.0.parts.log.last().map_or(Txid::default(), |tip| tip.position.txid);
        let standby = standby.clone();
        let taken = tokio::task::spawn_blocking(move || standby.take_over(last)).await;
        Ok(Some(taken.map_err(|_| PairError::Died)??))
    }
}

/// What an order comes to.
enum Obeyed {
    Answered,
    /// This node takes over, and tells who waits for it once it has.
    Force(Told),
    Reconnect,
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("there is no primary to follow")]
    Nobody,
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Standby(#[from] StandbyError),
}

/// How long to wait before the next connection.
fn after((held, ended): (Duration, Result<(), SessionError>), pause: Duration) -> Result<Duration, PairError> {
    let held_long = held > AGAIN_MAX;
    match ended {
        Err(SessionError::Standby(fatal)) if is_fatal(&fatal) => return Err(fatal.into()),
        // What repeats itself every second is said once.
        Err(error) if held_long || pause == AGAIN_AFTER => {
            tracing::warn!(error = %Chain(&error), "not connected to the primary");
        }
        _ => {}
    }
    Ok(if held_long { AGAIN_AFTER } else { (pause * 2).min(AGAIN_MAX) })
}

async fn close(standby: &Standby) -> Next {
    let standby = standby.clone();
    drop(tokio::task::spawn_blocking(move || standby.close()).await);
    Next::End
}

/// After this the process has to start anew.
pub(super) fn is_fatal(error: &StandbyError) -> bool {
    match error {
        // What a flush that failed was for is on no disk for certain, and must not be acknowledged after another one.
        StandbyError::Receive(ReceiveError::Flush(_) | ReceiveError::Died)
        | StandbyError::Restart
        | StandbyError::Follow(FollowError::Died) => true,
        // Nor after another try to begin a segment: only where there was no space is nothing in doubt.
        StandbyError::Receive(ReceiveError::Journal(error)) => !error.is_full() && !error.is_misfit(),
        _ => false,
    }
}
