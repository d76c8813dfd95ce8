//! The standby's side of the conversation: agree where the histories part, give up what is not the primary's, or be
//! copied; then journal, flush, acknowledge, apply.

use super::apply::{Applying, Failed, FollowError, Pace};
use super::arrivals::Arrivals;
use super::bootstrap::{Copied, alive};
use super::diverged::{self, GiveUpError};
use super::fresh::Fresh;
use super::local::LocalLog;
use super::receive::{ReceiveError, Receiver};
use super::ship::{HEARTBEAT, LOOK_WITHIN};
use super::voter::View;
use super::wire::{self, Incoming, Outgoing, Stream, WireError};
use crate::base::{Chain, Epoch, Txid};
use crate::clock;
use crate::disk::DiskError;
use crate::journal::JournalError;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::MemberId;
use crate::protocol::peer::{Frame, FromPrimary, FromStandby, Hello, Incarnation, PROTOCOL, SAMPLES_MAX};
use crate::protocol::record::{self, ClusterId, Sealed};
use crate::store::{OpenError, PAGE_BYTES, Rested, Store};
use crate::watched::{News, Watched};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A primary answers what this node says every [`HEARTBEAT`], once records flow.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Why a conversation with the primary ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandbyError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the primary refuses this node: {0}")]
    Refused(String),
    #[error("the other node is the primary of a reign that this one does not follow, or has not heard of yet")]
    OtherReign,
    #[error("keep what this node is")]
    Node(#[from] NodeError),
    #[error("use the journal")]
    Journal(#[from] JournalError),
    #[error("keep the primary's records")]
    Receive(#[from] ReceiveError),
    #[error("open the database")]
    Open(#[from] OpenError),
    #[error("follow the primary")]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("keep what is given up")]
    GiveUp(#[from] GiveUpError),
    #[error("put the primary's pages")]
    Pages(#[source] io::Error),
    /// What has to be done now can only be done before the database is opened.
    #[error("the database has to be brought in line with the primary's, which takes a restart")]
    Restart,
}

/// What a standby is made of.
pub(crate) struct Following {
    pub(crate) me: MemberId,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) node: Arc<NodeState>,
    pub(crate) store: Store,
    pub(crate) log: LocalLog,
    pub(crate) state_dir: PathBuf,
    pub(crate) view: watch::Receiver<View>,
    pub(super) arrivals: Arc<Arrivals>,
}

/// A node that follows the primary; one connection after the other. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Standby(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) following: Following,
    applying: Mutex<Option<Applying>>,
    pub(super) seen: watch::Sender<PrimarySeen>,
    /// It is to be copied anew, whatever it has.
    wants_copy: AtomicBool,
}

/// What is known of the primary.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrimarySeen {
    /// Records come.
    pub(crate) is_connected: bool,
    pub(crate) durable: Txid,
    pub(crate) flushed: Txid,
    pub(crate) applied: Txid,
    pub(super) fresh: Fresh,
    /// The database was found to stand in the primary's history: it may be read. Stays so when the connection breaks, as
    /// nothing gets into it that is not durable.
    pub(crate) is_agreed: bool,
    /// While it is copied: the next page.
    pub(crate) copying: Option<u32>,
}

pub(super) struct Line<S> {
    pub(super) incoming: Incoming<FromPrimary>,
    pub(super) outgoing: Outgoing<S>,
    stop: CancellationToken,
    /// Of the primary at the other end.
    epoch: Epoch,
    /// Before the first word: what the primary is told of this node's clock counts from here.
    began: Instant,
}

impl<S: Stream> Line<S> {
    /// What the primary says next, unless this node is to follow another one first.
    async fn message(&mut self) -> Result<FromPrimary, WireError> {
        let heard = self.stop.run_until_cancelled(self.incoming.message(LOOK_WITHIN)).await;
        heard.unwrap_or(Err(WireError::HungUp))
    }

    /// Says that this node lives, and where its database stands; not yet anywhere is 0.
    async fn acknowledge(&mut self, flushed: Txid, applied: Txid) -> Result<(), WireError> {
        let since = clock::now().saturating_duration_since(self.began);
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.outgoing.send(&FromStandby::Ack { flushed: flushed.raw(), applied: applied.raw(), at_ms }).await
    }

    /// Says that this node lives.
    pub(super) async fn send_beat(&mut self) -> Result<(), WireError> {
        self.acknowledge(Txid::default(), Txid::default()).await
    }
}

impl Standby {
    pub(crate) fn new(following: Following) -> Self {
        Self(Arc::new(Shared {
            following,
            applying: Mutex::new(None),
            seen: watch::Sender::default(),
            wants_copy: AtomicBool::new(false),
        }))
    }

    /// As [`Standby::new`], of a node that was the primary until now.
    pub(crate) fn after_reign(following: Following, rested: Rested) -> Result<Self, StandbyError> {
        let flushed = rested.tip().position.txid;
        let follower = following.store.follow_on(rested)?;
        let (log, arrivals) = (following.log.clone(), Arc::clone(&following.arrivals));
        let applying = Applying::start(follower, log, flushed, arrivals).map_err(ReceiveError::Flush)?;
        let standby = Self::new(following);
        *standby.applying() = Some(applying);
        Ok(standby)
    }

    pub(crate) fn seen(&self) -> watch::Receiver<PrimarySeen> {
        self.0.seen.subscribe()
    }

    /// From the next connection on this node says that it has nothing, and is copied anew.
    pub(super) fn want_copy(&self) {
        self.0.wants_copy.store(true, Ordering::Relaxed);
    }

    /// Whether the database is open and follows.
    pub(crate) fn is_open(&self) -> bool {
        self.applying().is_some()
    }

    /// Brings what the database's own log has and the journal has not into the journal: this node may have been the
    /// primary when it died. Before the first connection; nothing may be open. Blocks meanwhile.
    pub(crate) fn prepare(&self) -> Result<(), StandbyError> {
        let Following { me, node, store, log, .. } = &self.0.following;
        if self.is_open() || node.copying()?.is_some() {
            return Ok(());
        }
        match store.append_beyond(*me, &mut log.clone()) {
            Err(error) if error.is_misfit() => {
                tracing::warn!(error = %Chain(&error), "the database does not fit its journal, and is copied anew");
                Ok(node.copy_anew()?)
            }
            appended => {
                appended?;
                // It is about to be said that it is on this disk.
                log.flusher().map_or(Ok(()), |flusher| flusher.flush()).map_err(ReceiveError::Flush)?;
                Ok(())
            }
        }
    }

    /// Follows the primary at the other end of `stream`, until it hangs up, or `stop`. One at a time.
    pub(crate) async fn follow(&self, stream: impl Stream, stop: CancellationToken) -> Result<(), StandbyError> {
        let (incoming, outgoing) = wire::split(stream, SILENCE_MAX);
        let mut line = Line { incoming, outgoing, stop, epoch: Epoch::default(), began: clock::now() };
        let mut followed = self.converse(&mut line).await;
        if let Err(StandbyError::Journal(error) | StandbyError::GiveUp(GiveUpError::Journal(error))) = &followed
            && error.is_misfit()
        {
            tracing::error!(error = %Chain(error), "the journal came to harm: this node is copied anew");
            self.0.following.node.copy_anew()?;
            followed = Err(StandbyError::Restart);
        }
        // Refused, this node is nobody's standby; with something to take back, its database is of another history.
        let is_over = matches!(followed, Err(StandbyError::Refused(_) | StandbyError::Restart));
        self.0.seen.send_modify(|seen| {
            seen.is_connected = false;
            seen.is_agreed &= !is_over;
            seen.fresh.forget();
        });
        followed
    }

    /// Applies everything up to `last`, which is durable, and ends: what a writer goes on from. No connection may be
    /// open. Blocks meanwhile.
    pub(crate) fn take_over(&self, last: Txid) -> Result<Rested, StandbyError> {
        let applying = self.applying().take().ok_or(StandbyError::Restart)?;
        applying.pace().durable(last);
        Ok(applying.end()?)
    }

    /// Has `page` written over one of the database that came to harm; whether it was the right one. `None` where no
    /// database is open.
    pub(crate) async fn mend(&self, number: u32, page: Vec<u8>) -> Option<bool> {
        let open = self.applying().as_ref().map(Applying::pace)?;
        open.mend(number, page).await
    }

    /// Closes the database, once everything that is durable is applied. No connection may be open. Blocks meanwhile.
    pub(crate) fn close(&self) {
        if let Some(applying) = self.applying().take()
            && let Err(error) = applying.end()
        {
            tracing::warn!(error = %Chain(&error), "the database was not closed as it should be");
        }
    }

    pub(super) fn applying(&self) -> MutexGuard<'_, Option<Applying>> {
        self.0.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse<S: Stream>(&self, line: &mut Line<S>) -> Result<(), StandbyError> {
        let following = &self.0.following;
        following.arrivals.forget();
        let hello = self.hello()?;
        line.outgoing.send(&FromStandby::Hello(hello)).await?;
        let (epoch, durable) = match line.message().await? {
            FromPrimary::Welcome { epoch, durable } => (epoch, Txid::from_raw(durable)),
            FromPrimary::Refused { why } => return Err(StandbyError::Refused(why)),
            _ => return Err(WireError::OutOfTurn.into()),
        };
        // Nothing is cut, copied or journaled for anybody else (R6).
        if following.view.look(|view| view.follows) != Some(epoch) {
            return Err(StandbyError::OtherReign);
        }
        line.epoch = epoch;
        let mut is_kept = false;
        loop {
            match line.message().await? {
                FromPrimary::Probe { above, upto } => {
                    let log = following.log.clone();
                    let most = u64::try_from(SAMPLES_MAX).expect("64");
                    let samples =
                        blocking(move || Ok(log.samples(Txid::from_raw(above), Txid::from_raw(upto), most)?));
                    line.outgoing.send(&FromStandby::Samples(samples.await?)).await?;
                }
                FromPrimary::Follow { common } => {
                    if alive(self.stand_at(Txid::from_raw(common), durable), line).await? {
                        line.outgoing.send(&FromStandby::Ready { flushed: common }).await?;
                        return self.receive(Txid::from_raw(common), None, line).await;
                    }
                    is_kept = true;
                    line.outgoing.send(&FromStandby::CannotCut).await?;
                }
                FromPrimary::Copy { copying, wants_hashes } => {
                    let stop = line.stop.clone();
                    let copied = tokio::select! {
                        copied = self.copy((copying, wants_hashes), is_kept, line) => copied?,
                        () = stop.cancelled() => return Ok(()),
                    };
                    let before = Txid::from_raw(copying.start.saturating_sub(1));
                    return self.receive(before, Some(copied), line).await;
                }
                _ => return Err(WireError::OutOfTurn.into()),
            }
        }
    }

    fn hello(&self) -> Result<Hello, StandbyError> {
        let Following { me, cluster, incarnation, node, log, .. } = &self.0.following;
        let copying = node.copying()?;
        let has_history = copying.is_none() && !self.0.wants_copy.load(Ordering::Relaxed);
        let tip = log.last().filter(|_| has_history).map(|tip| (tip.position.txid.raw(), tip.chain));
        Ok(Hello {
            protocol: PROTOCOL,
            cluster: *cluster,
            member: *me,
            incarnation: *incarnation,
            tip,
            first: log.first().unwrap_or_default().raw(),
            copying: copying
                .filter(|copying| copying.next_page > 1 && self.0.following.store.has_replaced(copying.next_page)),
            page_bytes: u32::try_from(PAGE_BYTES).expect("4096"),
        })
    }

    /// Gives up what is behind `common`, and opens the database; `false` where it cannot be brought there.
    async fn stand_at(&self, common: Txid, durable: Txid) -> Result<bool, StandbyError> {
        let standby = self.clone();
        blocking(move || standby.stand(common, durable)).await
    }

    fn stand(&self, common: Txid, durable: Txid) -> Result<bool, StandbyError> {
        let Following { store, log, state_dir, arrivals, .. } = &self.0.following;
        let tip = log.last().map_or(Txid::default(), |tip| tip.position.txid);
        let mut applying = self.applying();
        if tip > common {
            // Its rows are read while nothing of the database is open.
            if applying.is_some() {
                return Err(StandbyError::Restart);
            }
            diverged::keep(store, log, state_dir, common)?;
        }
        match &*applying {
            Some(open) if open.pace().failed().is_some() || open.pace().applied() > common => {
                Err(StandbyError::Restart)
            }
            Some(open) => {
                log.cut(common)?;
                open.pace().cut(common);
                // What came before the connection broke may not have been flushed.
                log.flusher().map_or(Ok(()), |flusher| flusher.flush()).map_err(ReceiveError::Flush)?;
                open.pace().flushed(common);
                Ok(true)
            }
            None => {
                if tip > common && !store.cut(common)? {
                    return Ok(false);
                }
                log.cut(common)?;
                let follower = match store.follow(log, common.min(durable)) {
                    Err(error) if error.is_misfit() || error.is_damage() => {
                        tracing::warn!(error = %Chain(&error), "the database does not fit the primary's history");
                        return Ok(false);
                    }
                    follower => follower?,
                };
                let applies = Applying::start(follower, log.clone(), common, Arc::clone(arrivals));
                *applying = Some(applies.map_err(ReceiveError::Flush)?);
                Ok(true)
            }
        }
    }

    /// Journals, acknowledges and applies what comes, from behind `flushed` on.
    async fn receive<S: Stream>(
        &self,
        flushed: Txid,
        copied: Option<Copied>,
        line: &mut Line<S>,
    ) -> Result<(), StandbyError> {
        let pace = self.applying().as_ref().map(Applying::pace);
        let log = self.0.following.log.clone();
        let receiver = Receiver::start(log, line.epoch, flushed, pace.clone()).map_err(ReceiveError::Flush)?;
        let (stop, stands_from) = (line.stop.clone(), copied.as_ref().map_or(flushed, |copied| copied.end));
        let ended = tokio::select! {
            ended = self.receive_by(&receiver, pace, copied, line) => ended,
            () = stop.cancelled() => Ok(()),
            () = self.settle(stands_from) => Ok(()),
        };
        // Whoever connects next must not find it at work.
        receiver.end().await?;
        ended
    }

    /// Looks for turns that this node has given up, once the database stands in the primary's history; then for ever
    /// nothing.
    async fn settle(&self, stands_from: Txid) {
        let mut seen = self.seen();
        // The sender lives in `self`.
        let _ = seen.wait_for(|seen| seen.is_connected && seen.applied >= stands_from).await;
        let Following { store, log, state_dir, .. } = &self.0.following;
        diverged::settle(store, log, state_dir).await;
        std::future::pending::<()>().await;
    }

    async fn receive_by<S: Stream>(
        &self,
        receiver: &Receiver,
        mut pace: Option<Pace>,
        mut copied: Option<Copied>,
        line: &mut Line<S>,
    ) -> Result<(), StandbyError> {
        let mut told = receiver.flushed.clone();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut heard_at = clock::now();
        self.0.seen.send_modify(|seen| (seen.is_connected, seen.is_agreed) = (true, copied.is_none()));
        loop {
            // On both disks, then: nothing of it can be taken back.
            let is_whole = copied.as_ref().is_some_and(|copied| copied.end <= told.now());
            if is_whole && let Some(copied) = copied.take() {
                pace = Some(self.complete(copied, receiver).await?);
                self.0.seen.send_modify(|seen| seen.is_agreed = true);
                line.outgoing.push(&FromStandby::Ready { flushed: told.now().raw() });
            }
            tokio::select! {
                frame = line.incoming.next(Duration::MAX) => {
                    self.hear(frame?, receiver, line.began).await?;
                    while let Some(frame) = line.incoming.try_next()? {
                        self.hear(frame, receiver, line.began).await?;
                    }
                    if let Some(pace) = &pace {
                        let (durable, flushed) = (self.0.seen.look(|seen| seen.durable), told.now());
                        pace.durable(durable);
                        self.note(flushed, pace.applied());
                    }
                    // Only now: a disk that made the primary wait is not the primary's silence.
                    heard_at = clock::now();
                    continue;
                }
                changed = told.changed() => changed.map_err(|_| receiver.failed())?,
                _ = beat.tick() => {
                    // What this node says goes into a socket's buffer, also where nobody is at its other end.
                    if clock::now().saturating_duration_since(heard_at) >= SILENCE_MAX {
                        // This node may have slept itself, with the primary's words in a buffer.
                        let frame = line.incoming.try_next()?.ok_or(WireError::Silent(SILENCE_MAX))?;
                        self.hear(frame, receiver, line.began).await?;
                        heard_at = clock::now();
                    }
                }
            }
            let flushed = told.news();
            let applied = pace.as_ref().map_or(Txid::default(), Pace::applied);
            match pace.as_ref().and_then(Pace::failed) {
                None => {}
                // The next start tries again; its journal has everything.
                Some(Failed::Passing) => return Err(StandbyError::Restart),
                // The database is not the primary's: it is copied anew.
                Some(Failed::Misfit) => {
                    self.0.following.node.copy_anew()?;
                    return Err(StandbyError::Restart);
                }
            }
            self.note(flushed, applied);
            line.acknowledge(flushed, applied).await?;
        }
    }

    fn note(&self, flushed: Txid, applied: Txid) {
        self.0.seen.send_modify(|seen| {
            (seen.flushed, seen.applied) = (flushed, applied);
            seen.fresh.applied(applied);
        });
    }

    /// `began` is what this node's clock counts from where it acknowledges.
    async fn hear(&self, frame: Frame<FromPrimary>, receiver: &Receiver, began: Instant) -> Result<(), StandbyError> {
        match frame {
            Frame::Record(bytes) => {
                let head = record::head(&bytes).map_err(|damage| {
                    tracing::error!(%damage, "a record came damaged");
                    WireError::OutOfTurn
                })?;
                if head.cluster != self.0.following.cluster {
                    return Err(WireError::OutOfTurn.into());
                }
                self.0.following.arrivals.came(head.position.txid);
                let record = Sealed { position: head.position, chain: head.chain, bytes };
                receiver.take(head.before, record).await?;
            }
            Frame::Message(FromPrimary::Durable { txid, heard_ms }) => {
                // Nothing that this node has said is later than now.
                let since = clock::now().saturating_duration_since(began).min(Duration::from_millis(heard_ms));
                self.0.seen.send_modify(|seen| {
                    seen.durable = Txid::from_raw(txid);
                    seen.fresh.said(seen.durable, began + since);
                });
            }
            Frame::Message(_) => return Err(WireError::OutOfTurn.into()),
        }
        Ok(())
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StandbyError> + Send + 'static,
) -> Result<T, StandbyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(WireError::Io(io::Error::other(error)).into()))
}
