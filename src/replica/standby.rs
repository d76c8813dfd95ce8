//! The standby's side of the conversation: agree where the histories part, give up what is not the primary's, or be
//! copied; then journal, flush, acknowledge, apply.

use super::apply::{Applying, Failed, FollowError, Pace};
use super::local::LocalLog;
use super::receive::{ReceiveError, Receiver};
use super::ship::HEARTBEAT;
use super::wire::{self, Incoming, Outgoing, Stream, WireError};
use crate::base::{Chain, Txid};
use crate::clock;
use crate::disk::DiskError;
use crate::journal::JournalError;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::{Config, MemberId};
use crate::protocol::peer::{Copying, Frame, FromPrimary, FromStandby, HASHES_MAX, Hello, PROTOCOL, SAMPLES_MAX};
use crate::protocol::record::{self, ClusterId, Sealed};
use crate::store::{OpenError, PAGE_BYTES, Replacement, Rested, Store};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A primary says something every quarter of a second, once records flow.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Before that it may have to look for something.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// Pages that are put before the progress of a copy is noted.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// Why a conversation with the primary ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandbyError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the primary refuses this node: {0}")]
    Refused(String),
    #[error("the other node is the primary of an older reign")]
    OldReign,
    #[error("keep the primary's configuration")]
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
    pub(crate) incarnation: u64,
    pub(crate) node: Arc<NodeState>,
    pub(crate) store: Store,
    pub(crate) log: LocalLog,
    pub(crate) state_dir: PathBuf,
    /// Told of every configuration that the primary sends, once it is stored.
    pub(crate) known: watch::Sender<Config>,
}

/// A node that follows the primary; one connection after the other. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Standby(Arc<Shared>);

struct Shared {
    following: Following,
    applying: Mutex<Option<Applying>>,
    seen: watch::Sender<PrimarySeen>,
}

/// What is known of the primary.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrimarySeen {
    /// Records come.
    pub(crate) is_connected: bool,
    pub(crate) durable: Txid,
    pub(crate) flushed: Txid,
    pub(crate) applied: Txid,
    /// When it last said how far it is.
    pub(crate) heard_at: Option<Instant>,
    /// The database stood where the primary did then.
    pub(crate) fresh_at: Option<Instant>,
    /// While it is copied: the next page.
    pub(crate) copying: Option<u32>,
}

struct Line<S> {
    incoming: Incoming<FromPrimary>,
    outgoing: Outgoing<S>,
    stop: CancellationToken,
}

impl Standby {
    pub(crate) fn new(following: Following) -> Self {
        Self(Arc::new(Shared { following, applying: Mutex::new(None), seen: watch::Sender::default() }))
    }

    /// As [`Standby::new`], of a node that was the primary until now.
    pub(crate) fn after_reign(following: Following, rested: Rested) -> Result<Self, StandbyError> {
        let flushed = rested.tip().position.txid;
        let follower = following.store.follow_on(rested)?;
        let applying = Applying::start(follower, following.log.clone(), flushed).map_err(ReceiveError::Flush)?;
        let standby = Self::new(following);
        *standby.applying() = Some(applying);
        Ok(standby)
    }

    pub(crate) fn seen(&self) -> watch::Receiver<PrimarySeen> {
        self.0.seen.subscribe()
    }

    /// Whether the database is open and follows.
    pub(crate) fn is_open(&self) -> bool {
        self.applying().is_some()
    }

    /// Brings what the database's own log has and the journal has not into the journal: this node may have been the
    /// primary when it died. Before the first connection; nothing may be open. Blocks meanwhile.
    pub(crate) fn prepare(&self) -> Result<(), StandbyError> {
        let Following { node, store, log, .. } = &self.0.following;
        if self.is_open() || node.copying()?.is_some() {
            return Ok(());
        }
        match store.append_beyond(&mut log.clone()) {
            Err(error) if error.is_misfit() => {
                tracing::warn!(error = %Chain(&error), "the database does not fit its journal, and is copied anew");
                Ok(node.note_copying(Some(Copying::ANEW))?)
            }
            appended => Ok(appended?),
        }
    }

    /// Follows the primary at the other end of `stream`, until it hangs up, or `stop`. One at a time.
    pub(crate) async fn follow(&self, stream: impl Stream, stop: CancellationToken) -> Result<(), StandbyError> {
        let (incoming, outgoing) = wire::split(stream, SILENCE_MAX);
        let mut line = Line { incoming, outgoing, stop };
        let mut followed = self.converse(&mut line).await;
        if let Err(StandbyError::Journal(error)) = &followed
            && error.is_misfit()
        {
            tracing::error!(error = %Chain(error), "the journal came to harm: this node is copied anew");
            self.0.following.node.note_copying(Some(Copying::ANEW))?;
            followed = Err(StandbyError::Restart);
        }
        self.0.seen.send_modify(|seen| seen.is_connected = false);
        followed
    }

    /// Applies everything up to `last`, which is durable, and ends: what a writer goes on from. No connection may be
    /// open. Blocks meanwhile.
    pub(crate) fn take_over(&self, last: Txid) -> Result<Rested, StandbyError> {
        let applying = self.applying().take().ok_or(StandbyError::Restart)?;
        applying.pace().durable(last);
        Ok(applying.end()?)
    }

    /// Closes the database, once everything that is durable is applied. No connection may be open. Blocks meanwhile.
    pub(crate) fn close(&self) {
        if let Some(applying) = self.applying().take()
            && let Err(error) = applying.end()
        {
            tracing::warn!(error = %Chain(&error), "the database was not closed as it should be");
        }
    }

    fn applying(&self) -> MutexGuard<'_, Option<Applying>> {
        self.0.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse<S: Stream>(&self, line: &mut Line<S>) -> Result<(), StandbyError> {
        let following = &self.0.following;
        let hello = self.hello()?;
        line.outgoing.send(&FromStandby::Hello(hello)).await?;
        let (config, durable) = match line.incoming.message(LOOK_WITHIN).await? {
            FromPrimary::Welcome { config, durable } => (config, Txid::from_raw(durable)),
            FromPrimary::Refused { why } => return Err(StandbyError::Refused(why)),
            _ => return Err(WireError::OutOfTurn.into()),
        };
        self.store_config(config).await?;
        loop {
            match line.incoming.message(LOOK_WITHIN).await? {
                FromPrimary::Probe { above, upto } => {
                    let log = following.log.clone();
                    let most = u64::try_from(SAMPLES_MAX).expect("64");
                    let samples =
                        blocking(move || Ok(log.samples(Txid::from_raw(above), Txid::from_raw(upto), most)?));
                    line.outgoing.send(&FromStandby::Samples(samples.await?)).await?;
                }
                FromPrimary::Follow { common } => {
                    if self.stand_at(Txid::from_raw(common), durable).await? {
                        line.outgoing.send(&FromStandby::Ready { flushed: common }).await?;
                        return self.receive(Txid::from_raw(common), None, line).await;
                    }
                    line.outgoing.send(&FromStandby::CannotCut).await?;
                }
                FromPrimary::Copy { copying, wants_hashes } => {
                    let stop = line.stop.clone();
                    let copied = tokio::select! {
                        copied = self.copy(copying, wants_hashes, line) => copied?,
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
        let tip = log.last().filter(|_| copying.is_none()).map(|tip| (tip.position.txid.raw(), tip.chain));
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
            schema: 0,
        })
    }

    /// Keeps the primary's configuration; one of an older reign than this node knows is none.
    async fn store_config(&self, config: Config) -> Result<(), StandbyError> {
        let (node, newest) = (Arc::clone(&self.0.following.node), config.clone());
        let stored = blocking(move || {
            let is_old = node.config()?.is_some_and(|known| known.epoch > newest.epoch);
            if is_old { Err(StandbyError::OldReign) } else { Ok(node.store_config(&newest)?) }
        });
        if stored.await? {
            self.0.following.known.send_replace(config);
        }
        Ok(())
    }

    /// Gives up what is behind `common`, and opens the database; `false` where it cannot be brought there.
    async fn stand_at(&self, common: Txid, durable: Txid) -> Result<bool, StandbyError> {
        let standby = self.clone();
        blocking(move || standby.stand(common, durable)).await
    }

    fn stand(&self, common: Txid, durable: Txid) -> Result<bool, StandbyError> {
        let Following { store, log, state_dir, .. } = &self.0.following;
        let tip = log.last().map_or(Txid::default(), |tip| tip.position.txid);
        let mut applying = self.applying();
        if tip > common {
            let dir = state_dir.join("diverged").join(format!("{}-{}", clock::unix_millis().0, common.next()));
            let count = log.save_beyond(common, &dir)?;
            tracing::warn!(commits = count, after = common.raw(), saved = %dir.display(), "commits that the primary does not have are given up");
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
                    Err(error) if error.is_misfit() => {
                        tracing::warn!(error = %Chain(&error), "the database does not fit the primary's history");
                        return Ok(false);
                    }
                    follower => follower?,
                };
                *applying = Some(Applying::start(follower, log.clone(), common).map_err(ReceiveError::Flush)?);
                Ok(true)
            }
        }
    }

    /// Takes the primary's pages; what is left to do once the records behind them are here.
    async fn copy<S: Stream>(
        &self,
        copying: Copying,
        wants_hashes: bool,
        line: &mut Line<S>,
    ) -> Result<Copied, StandbyError> {
        let Following { node, store, log, state_dir, .. } = &self.0.following;
        node.note_copying(Some(copying))?;
        if self.is_open() {
            return Err(StandbyError::Restart);
        }
        log.forget(state_dir)?;
        let mut replacement = store.replace(copying.next_page)?;
        if wants_hashes {
            let reading = blocking(move || {
                let hashes = replacement.start_from_old().map_err(StandbyError::Pages)?;
                Ok((replacement, hashes))
            });
            let (begun, hashes) = alive(reading, line).await?;
            replacement = begun;
            for hashes in hashes.chunks(HASHES_MAX) {
                line.outgoing.send(&FromStandby::Has(hashes.to_vec())).await?;
            }
        }
        line.outgoing.send(&FromStandby::Has(Vec::new())).await?;
        let mut noted_at = clock::now();
        let end = loop {
            match line.incoming.message(LOOK_WITHIN).await? {
                FromPrimary::Pages { count, next_page, body } => {
                    let now = clock::now();
                    let is_due = now.saturating_duration_since(noted_at) >= NOTE_EVERY;
                    let node = Arc::clone(node);
                    replacement = blocking(move || {
                        put(&mut replacement, count, &body)?;
                        if is_due {
                            replacement.flush().map_err(StandbyError::Pages)?;
                            node.note_copying(Some(Copying { next_page, ..copying }))?;
                        }
                        Ok(replacement)
                    })
                    .await?;
                    if is_due {
                        noted_at = now;
                        line.outgoing.send(&FromStandby::Ack { flushed: 0, applied: 0 }).await?;
                    }
                    self.0.seen.send_modify(|seen| seen.copying = Some(next_page));
                }
                FromPrimary::Copied { end } => break Txid::from_raw(end),
                _ => return Err(WireError::OutOfTurn.into()),
            }
        };
        Ok(Copied { replacement, start: Txid::from_raw(copying.start), end })
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
        let receiver = Receiver::start(log, flushed, pace.clone()).map_err(ReceiveError::Flush)?;
        let stop = line.stop.clone();
        let ended = tokio::select! {
            ended = self.receive_by(&receiver, pace, copied, line) => ended,
            () = stop.cancelled() => Ok(()),
        };
        // Whoever connects next must not find it at work.
        receiver.end().await?;
        ended
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
        self.0.seen.send_modify(|seen| seen.is_connected = true);
        loop {
            // On both disks, then: nothing of it can be taken back.
            let is_whole = copied.as_ref().is_some_and(|copied| copied.end <= *told.borrow());
            if is_whole && let Some(copied) = copied.take() {
                pace = Some(self.complete(copied, receiver).await?);
                line.outgoing.push(&FromStandby::Ready { flushed: told.borrow().raw() });
            }
            tokio::select! {
                frame = line.incoming.next(SILENCE_MAX) => {
                    self.hear(frame?, receiver).await?;
                    while let Some(frame) = line.incoming.try_next()? {
                        self.hear(frame, receiver).await?;
                    }
                    if let Some(pace) = &pace {
                        pace.durable(self.0.seen.borrow().durable);
                    }
                    continue;
                }
                changed = told.changed() => changed.map_err(|_| receiver.failed())?,
                _ = beat.tick() => {}
            }
            let flushed = *told.borrow_and_update();
            let applied = pace.as_ref().map_or(Txid::default(), Pace::applied);
            match pace.as_ref().and_then(Pace::failed) {
                None => {}
                // The next start tries again; its journal has everything.
                Some(Failed::Passing) => return Err(StandbyError::Restart),
                // The database is not the primary's: it is copied anew.
                Some(Failed::Misfit) => {
                    self.0.following.node.note_copying(Some(Copying::ANEW))?;
                    return Err(StandbyError::Restart);
                }
            }
            self.note(flushed, applied);
            let (flushed, applied) = (flushed.raw(), applied.raw());
            line.outgoing.send(&FromStandby::Ack { flushed, applied }).await?;
        }
    }

    fn note(&self, flushed: Txid, applied: Txid) {
        self.0.seen.send_modify(|seen| {
            (seen.flushed, seen.applied) = (flushed, applied);
            if applied >= seen.durable {
                seen.fresh_at = seen.heard_at;
            }
        });
    }

    async fn hear(&self, frame: Frame<FromPrimary>, receiver: &Receiver) -> Result<(), StandbyError> {
        match frame {
            Frame::Record(bytes) => {
                let head = record::head(&bytes).map_err(|damage| {
                    tracing::error!(%damage, "a record came damaged");
                    WireError::OutOfTurn
                })?;
                if head.cluster != self.0.following.cluster {
                    return Err(WireError::OutOfTurn.into());
                }
                let record = Sealed { position: head.position, chain: head.chain, bytes };
                receiver.take(head.before, record).await?;
            }
            Frame::Message(FromPrimary::Durable { txid, .. }) => {
                self.0.seen.send_modify(|seen| {
                    seen.durable = Txid::from_raw(txid);
                    seen.heard_at = Some(clock::now());
                });
            }
            Frame::Message(FromPrimary::Config(config)) => self.store_config(config).await?,
            Frame::Message(_) => return Err(WireError::OutOfTurn.into()),
        }
        Ok(())
    }

    /// Every record that the copy needs is here: puts the database in its place, and follows.
    async fn complete(&self, copied: Copied, receiver: &Receiver) -> Result<Pace, StandbyError> {
        let Following { store, log, node, .. } = &self.0.following;
        let (store, log, node, flushed) = (store.clone(), log.clone(), Arc::clone(node), *receiver.flushed.borrow());
        let Copied { replacement, start, end } = copied;
        let applying = blocking(move || {
            if let Err(error) = replacement.finish(&log, start, end) {
                // The next one begins with the first page.
                node.note_copying(Some(Copying::ANEW))?;
                return Err(error.into());
            }
            node.note_copying(None)?;
            let follower = store.follow(&log, end)?;
            Ok(Applying::start(follower, log, flushed).map_err(ReceiveError::Flush)?)
        });
        let applying = applying.await?;
        let pace = applying.pace();
        receiver.pass_on(pace.clone());
        // It may have come between the two.
        pace.flushed(*receiver.flushed.borrow());
        *self.applying() = Some(applying);
        self.0.seen.send_modify(|seen| seen.copying = None);
        tracing::info!(txid = end.raw(), "the database is a whole copy of the primary's");
        Ok(pace)
    }
}

/// A database that lacks what was written while it was copied.
struct Copied {
    replacement: Replacement,
    start: Txid,
    end: Txid,
}

/// Waits for what takes long, and says meanwhile that this node lives.
async fn alive<T, S: Stream>(
    work: impl Future<Output = Result<T, StandbyError>>,
    line: &mut Line<S>,
) -> Result<T, StandbyError> {
    tokio::pin!(work);
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = beat.tick() => line.outgoing.send(&FromStandby::Ack { flushed: 0, applied: 0 }).await?,
        }
    }
}

fn put(replacement: &mut Replacement, count: u32, body: &[u8]) -> Result<(), StandbyError> {
    let nonsense = || StandbyError::Wire(WireError::OutOfTurn);
    let count = usize::try_from(count).ok().filter(|count| *count <= 1024).ok_or_else(nonsense)?;
    let body = zstd::bulk::decompress(body, count * (PAGE_BYTES + 4)).map_err(|_| nonsense())?;
    if body.len() != count * (PAGE_BYTES + 4) {
        return Err(nonsense());
    }
    let (numbers, pages) = body.split_at(count * 4);
    for (number, page) in numbers.as_chunks::<4>().0.iter().zip(pages.chunks_exact(PAGE_BYTES)) {
        let number = u32::from_le_bytes(*number);
        if number == 0 {
            return Err(nonsense());
        }
        replacement.put(number, page).map_err(StandbyError::Pages)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StandbyError> + Send + 'static,
) -> Result<T, StandbyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(WireError::Io(io::Error::other(error)).into()))
}
