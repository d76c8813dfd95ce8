//! One connection of a standby, as its primary serves it: agree where the histories part, copy what is missing whole, then
//! record after record.

use super::feed::Taken;
use super::local::LocalLog;
use super::pair::name;
use super::primary::Shared;
use super::removed::NO_MEMBER;
use super::standing::HearError;
use super::wire::{self, Incoming, Outgoing, Stream, WireError};
use crate::base::Txid;
use crate::clock;
use crate::journal::{JournalError, Pin, Reader};
use crate::protocol::cluster::MemberId;
use crate::protocol::pages;
use crate::protocol::peer::{Copying, Frame, FromPrimary, FromStandby, Hello, PROTOCOL, SAMPLES_MAX};
use crate::protocol::record::ChainHash;
use crate::store::{PAGE_BYTES, Piece};
use crate::watched::{News, Watched};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A standby says something so often, and is answered; with the register's own beats that is under 2 KB/s.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);
/// For an answer that takes a look at the journal, or at every page.
pub(super) const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// Of a node that is not served: for its first word, and for the answer.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// Pages that are read at once: a reader in the way of nobody.
const CHUNK_PAGES: u32 = 256;
/// How pages are packed while packing is quicker than the wire, and while it is not: a third as long, or hardly at all.
const PACK_WELL: i32 = 1;
const PACK_QUICKLY: i32 = -100;
/// Records that are read from the journal at once.
const BATCH_BYTES: usize = 1 << 20;

/// A connection's two directions.
struct Line<S> {
    incoming: Incoming<FromStandby>,
    outgoing: Outgoing<S>,
    silence: Duration,
    /// Who is at the other end.
    member: MemberId,
    /// What the standby's clock said when it was heard last.
    heard_ms: u64,
}

/// Serves `stream` to its end.
pub(super) async fn run<S: Stream>(
    shared: &Arc<Shared>,
    stream: S,
    is_member: impl Fn(MemberId) -> bool,
    session: &Arc<CancellationToken>,
) -> Result<(), WireError> {
    let silence = shared.reigning.timing.sync_timeout;
    let (incoming, outgoing) = wire::split(stream, silence);
    let mut line = Line { incoming, outgoing, silence, member: 0, heard_ms: 0 };
    let FromStandby::Hello(hello) = line.incoming.message(silence).await? else { return Err(WireError::OutOfTurn) };
    let refused = match check(shared, &hello, is_member) {
        Ok(()) => remembers(shared, &hello).await?,
        Err(why) => Some(why),
    };
    if let Some(why) = refused {
        if shared.told_refused.is_due(hello.member, &why) {
            tracing::warn!(member = hello.member, why, "a node was refused");
        }
        return line.outgoing.send(&FromPrimary::Refused { why }).await;
    }
    if !shared.connected(session).await {
        return Err(WireError::HungUp);
    }
    line.member = hello.member;
    let durable = shared.reigning.store.durable().get().raw();
    line.outgoing.send(&FromPrimary::Welcome { epoch: shared.reigning.epoch, durable }).await?;
    let next = match agree(&shared.reigning.log, &hello, &mut line).await? {
        Some(common) => {
            if common < shared.reigning.store.durable().get() && hello.tip.is_none_or(|(tip, _)| tip > common.raw()) {
                shared.leaves_first().await;
            }
            line.outgoing.send(&FromPrimary::Follow { common: common.raw() }).await?;
            match next_word(&mut line).await? {
                FromStandby::Ready { flushed } if flushed <= common.raw() => {
                    shared.ready(line.member, Txid::from_raw(flushed)).await;
                    common.next()
                }
                FromStandby::CannotCut => copy(shared, &hello, &mut line).await?,
                _ => return Err(WireError::OutOfTurn),
            }
        }
        None => copy(shared, &hello, &mut line).await?,
    };
    ship(shared, next, &mut line).await
}

/// Answers whoever has connected that it is not served, and `why`.
pub(super) async fn refuse(stream: impl Stream, why: &str) -> Result<(), WireError> {
    let (mut incoming, mut outgoing) = wire::split::<FromStandby, _>(stream, REFUSED_WITHIN);
    let FromStandby::Hello(_) = incoming.message(REFUSED_WITHIN).await? else { return Err(WireError::OutOfTurn) };
    outgoing.send(&FromPrimary::Refused { why: why.to_owned() }).await
}

/// The next message that is more than a sign of life.
async fn next_word<S>(line: &mut Line<S>) -> Result<FromStandby, WireError> {
    loop {
        match line.incoming.message(LOOK_WITHIN).await? {
            FromStandby::Ack { .. } => {}
            word => return Ok(word),
        }
    }
}

/// Why the node is not served, if so.
fn check(shared: &Shared, hello: &Hello, is_member: impl Fn(MemberId) -> bool) -> Result<(), String> {
    let me = shared.reigning.me;
    let peer = shared.view().now().config().and_then(|config| config.peer_of(me).map(|peer| peer.id));
    if hello.protocol != PROTOCOL {
        return Err(format!("it speaks protocol {}, this node speaks {PROTOCOL}", hello.protocol));
    }
    if hello.cluster != shared.reigning.cluster {
        return Err("it is of another cluster".to_owned());
    }
    if !is_member(hello.member) {
        return Err(NO_MEMBER.to_owned());
    }
    if peer != Some(hello.member) {
        return Err("it is no member of the cluster yet".to_owned());
    }
    if usize::try_from(hello.page_bytes).ok() != Some(PAGE_BYTES) {
        return Err("its pages have another size".to_owned());
    }
    Ok(())
}

/// Why the node is not heard, where it does not remember what it has said before.
async fn remembers(shared: &Shared, hello: &Hello) -> Result<Option<String>, WireError> {
    let (node, member, incarnation) = (Arc::clone(&shared.reigning.node), hello.member, hello.incarnation);
    let speaks = tokio::task::spawn_blocking(move || node.note_peer(member, incarnation, false)).await;
    let speaks = speaks.expect("noting does not panic").map_err(|error| WireError::Io(io::Error::other(error)))?;
    let view = shared.view().now();
    let name = view.config().map_or("the node", |config| name(config, member));
    Ok(HearError::check(speaks, name).err().map(|error| error.to_string()))
}

/// The last commit that both histories have; `None` where none is known, or what follows it is not kept any more.
async fn agree<S: Stream>(log: &LocalLog, hello: &Hello, line: &mut Line<S>) -> Result<Option<Txid>, WireError> {
    let (Some((theirs, chain)), Some(tip), Some(first)) = (hello.tip, log.last(), log.first()) else {
        return Ok(None);
    };
    let upto = theirs.min(tip.position.txid.raw());
    let (mut above, mut upto) = (first.raw().max(hello.first).saturating_sub(1), upto);
    let mut known = None;
    if upto == theirs && chain_at(log, theirs).await? == Some(chain) {
        return Ok(Some(Txid::from_raw(theirs)));
    }
    while upto > above {
        line.outgoing.send(&FromPrimary::Probe { above, upto }).await?;
        let FromStandby::Samples(samples) = line.incoming.message(LOOK_WITHIN).await? else {
            return Err(WireError::OutOfTurn);
        };
        let is_sane = samples.len() <= SAMPLES_MAX && samples.iter().all(|(txid, _)| (above + 1..=upto).contains(txid));
        if samples.is_empty() || !is_sane {
            return if samples.is_empty() { Ok(known) } else { Err(WireError::OutOfTurn) };
        }
        for (txid, chain) in samples {
            if chain_at(log, txid).await? == Some(chain) {
                (above, known) = (txid.max(above), Some(Txid::from_raw(txid.max(above))));
            } else {
                upto = upto.min(txid - 1);
            }
        }
    }
    Ok(known)
}

async fn chain_at(log: &LocalLog, txid: u64) -> Result<Option<ChainHash>, WireError> {
    let log = log.clone();
    blocking(move || log.chain_at(Txid::from_raw(txid)).map_err(|error| unreadable(&log, error))).await
}

/// Sends the whole database, but what the standby has of it; the record that it goes on with.
async fn copy<S: Stream>(shared: &Arc<Shared>, hello: &Hello, line: &mut Line<S>) -> Result<Txid, WireError> {
    shared.leaves_first().await;
    let log = &shared.reigning.log;
    let epoch = shared.reigning.epoch.raw();
    let last = log.last().ok_or(WireError::OutOfTurn)?.position.txid;
    let is_kept = |copying: &Copying| {
        copying.epoch == epoch
            && log.first().is_some_and(|first| first.raw() <= copying.start)
            && copying.start <= last.raw()
    };
    let resumed = hello.copying.filter(is_kept);
    let copying = resumed.unwrap_or(Copying { epoch, start: last.raw(), next_page: 1 });
    let start = Txid::from_raw(copying.start);
    log.pin(Pin::Standby, Some(start));
    tracing::info!(from_page = copying.next_page, txid = start.raw(), "the standby is being copied");
    line.outgoing.send(&FromPrimary::Copy { copying, wants_hashes: resumed.is_none() }).await?;
    let mut has = Vec::new();
    loop {
        match next_word(line).await? {
            FromStandby::Has(hashes) if hashes.is_empty() => break,
            FromStandby::Has(hashes) => has.extend(hashes),
            _ => return Err(WireError::OutOfTurn),
        }
    }
    let (mut page, mut end) = (copying.next_page.max(1), start);
    let (mut level, mut longest) = (PACK_WELL, Duration::ZERO);
    let mut packed = packed(shared, page, &has, level).await?;
    loop {
        let Packed { at, db_pages, count, body, took } = packed;
        (end, longest) = (end.max(at), longest.max(took));
        page = page.saturating_add(CHUNK_PAGES);
        let pages = FromPrimary::Pages { count, next_page: page, body };
        // The next ones are made ready meanwhile.
        let next =
            async { if page > db_pages { Ok(None) } else { self::packed(shared, page, &has, level).await.map(Some) } };
        let ((sent, sending), (next, packing)) = tokio::join!(timed(line.outgoing.send(&pages)), timed(next));
        sent?;
        // Whichever keeps the other waiting is spared.
        level = if sending < packing { PACK_QUICKLY } else { PACK_WELL };
        shared.copying(Some((page.min(db_pages), db_pages)));
        while let Some(frame) = line.incoming.try_next()? {
            if !matches!(frame, Frame::Message(FromStandby::Ack { .. })) {
                return Err(WireError::OutOfTurn);
            }
        }
        let Some(next) = next? else { break };
        packed = next;
    }
    // What the pages hold must be on this node's disk for good. That nobody needs to have been told of it: where nothing
    // is acknowledged without a standby, the first one could not be copied otherwise.
    shared.reigning.store.durable().reached_here(end).await;
    line.outgoing.send(&FromPrimary::Copied { end: end.raw() }).await?;
    tracing::info!(txid = end.raw(), longest_read_us = longest.as_micros(), "the standby was sent every page");
    Ok(start)
}

/// Some pages, as they are sent.
struct Packed {
    at: Txid,
    db_pages: u32,
    count: u32,
    body: Vec<u8>,
    /// To read them.
    took: Duration,
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = clock::now();
    let done = work.await;
    (done, clock::now().saturating_duration_since(began))
}

/// The pages from `page` on that the standby does not have.
async fn packed(shared: &Shared, page: u32, has: &[u64], level: i32) -> Result<Packed, WireError> {
    let piece = shared.reigning.store.pages(page, CHUNK_PAGES).await;
    let piece = piece.map_err(|error| WireError::Io(io::Error::other(error)))?;
    let has = has_of(has, &piece);
    blocking(move || {
        let (count, body) = pack(&piece, &has, level)?;
        Ok(Packed { at: piece.at, db_pages: piece.db_pages, count, body, took: piece.took })
    })
    .await
}

/// The standby's hashes of a piece's pages.
fn has_of(has: &[u64], piece: &Piece) -> Vec<Option<u64>> {
    let hash = |number: u32| has.get(usize::try_from(number).ok()?.checked_sub(1)?).copied();
    piece.pages.iter().map(|(number, _)| hash(*number)).collect()
}

/// The pages that the standby does not have, as they are sent.
fn pack(piece: &Piece, has: &[Option<u64>], level: i32) -> Result<(u32, Vec<u8>), WireError> {
    // Page 1 has bytes that its hash leaves out.
    let differs = |number: u32, page: &[u8], has: Option<u64>| {
        number == 1 || has.is_none_or(|has| has != pages::hash(number, page))
    };
    let pages: Vec<_> = piece
        .pages
        .iter()
        .zip(has)
        .filter(|((number, page), has)| differs(*number, page, **has))
        .map(|(page, _)| page)
        .collect();
    let mut body = Vec::with_capacity(pages.len() * (PAGE_BYTES + 4));
    for (number, _) in &pages {
        body.extend(number.to_le_bytes());
    }
    for (_, page) in &pages {
        body.extend(page);
    }
    let packed = zstd::bulk::compress(&body, level)?;
    Ok((u32::try_from(pages.len()).unwrap_or(u32::MAX), packed))
}

/// Sends every record from `next` on as it comes, until the connection ends.
async fn ship<S: Stream>(shared: &Arc<Shared>, mut next: Txid, line: &mut Line<S>) -> Result<(), WireError> {
    let log = &shared.reigning.log;
    let mut durable = shared.reigning.store.durable().watch();
    // Later than the standby's next word, whose answer takes its place.
    let mut beat = tokio::time::interval(2 * HEARTBEAT);
    let mut heard_at = clock::now();
    log.feed.want(true);
    loop {
        next = send_records(log, next, line).await?;
        tokio::select! {
            biased;
            frame = line.incoming.next(line.silence) => {
                heard_at = clock::now();
                hear(shared, &frame?, line).await?;
                while let Some(frame) = line.incoming.try_next()? {
                    hear(shared, &frame, line).await?;
                }
                // What it has just flushed counts by now, and it learns how fresh its database is.
                say_durable(&mut durable, line);
                // That is a sign of life too: an idle link carries one, not two.
                beat.reset();
            }
            () = log.feed.grown() => {}
            _ = durable.changed() => say_durable(&mut durable, line),
            _ = beat.tick() => {
                say_durable(&mut durable, line);
                // Whoever is sent much to is not therefore alive.
                if clock::now().saturating_duration_since(heard_at) >= line.silence {
                    return Err(WireError::Silent(line.silence));
                }
            }
        }
    }
}

fn say_durable<S: Stream>(durable: &mut tokio::sync::watch::Receiver<Txid>, line: &mut Line<S>) {
    let txid = durable.news().raw();
    line.outgoing.push(&FromPrimary::Durable { txid, heard_ms: line.heard_ms });
}

async fn hear<S>(shared: &Shared, frame: &Frame<FromStandby>, line: &mut Line<S>) -> Result<(), WireError> {
    match *frame {
        Frame::Message(FromStandby::Ack { flushed, applied, at_ms }) => {
            line.heard_ms = at_ms;
            // Of a node that is being copied it is a sign of life, and no more.
            let last = shared.reigning.log.last().map_or(Txid::default(), |tip| tip.position.txid);
            if flushed > last.raw() {
                return Err(WireError::OutOfTurn);
            }
            if shared.is_ready() {
                shared.acknowledged(line.member, Txid::from_raw(flushed), Txid::from_raw(applied));
            }
            Ok(())
        }
        Frame::Message(FromStandby::Ready { flushed }) => {
            shared.copying(None);
            shared.reigning.log.pin(Pin::Standby, None);
            shared.ready(line.member, Txid::from_raw(flushed)).await;
            Ok(())
        }
        _ => Err(WireError::OutOfTurn),
    }
}

/// Sends what there is from `next` on; what comes after it.
async fn send_records<S: Stream>(log: &LocalLog, mut next: Txid, line: &mut Line<S>) -> Result<Txid, WireError> {
    loop {
        let last = log.last().map_or(Txid::default(), |tip| tip.position.txid);
        match log.feed.take(next, last) {
            Taken::Records(records) if records.is_empty() => {
                line.outgoing.flush().await?;
                return Ok(next);
            }
            Taken::Records(records) => {
                for (txid, record) in records {
                    line.outgoing.push_record(&record);
                    next = txid.next();
                }
            }
            Taken::Missed => {
                let reader = log
                    .read(next)
                    .ok_or_else(|| WireError::Io(io::Error::other("what it needs is not kept any more")))?;
                next = send_from_journal((log, reader), next, last, line).await?;
            }
        }
        line.outgoing.flush().await?;
    }
}

/// Sends the records of the journal up to `last`.
async fn send_from_journal<S: Stream>(
    (log, mut reader): (&LocalLog, Reader),
    mut next: Txid,
    last: Txid,
    line: &mut Line<S>,
) -> Result<Txid, WireError> {
    while next <= last {
        let log = log.clone();
        let read = blocking(move || {
            let (mut batch, mut bytes) = (VecDeque::new(), 0);
            while bytes < BATCH_BYTES
                && let Some((head, record)) = reader.next().map_err(|error| unreadable(&log, error))?
            {
                bytes += record.len();
                batch.push_back((head.position.txid, record));
            }
            Ok((reader, batch))
        });
        let (again, batch) = read.await?;
        reader = again;
        if batch.is_empty() {
            break;
        }
        for (txid, record) in batch {
            line.outgoing.push_record(&record);
            next = txid.next();
        }
        line.outgoing.flush().await?;
    }
    Ok(next)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WireError> + Send + 'static,
) -> Result<T, WireError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(WireError::Io(io::Error::other(error))))
}

/// The standby is copied instead, when it comes again.
fn unreadable(log: &LocalLog, error: JournalError) -> WireError {
    log.note_harm(&error);
    WireError::Io(io::Error::other(error))
}
