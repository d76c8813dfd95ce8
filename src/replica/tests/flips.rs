//! Flipped bits: between two nodes, and in what lies on their disks.

use super::disk::files;
use super::homes::{Follow, Home, Lead, PATIENCE, answer, ask, homes, try_ask};
use super::pair_power::{TIMING, number};
use super::power::Random;
use crate::clock;
use crate::protocol::cluster::Mode;
use crate::register::Timing;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CONVERSATION_BYTES: usize = 12_000;
/// A standby says little: so much before it acknowledges the last records that fit in the other.
const ANSWER_BYTES: usize = 400;

/// A bit of what goes one way.
#[derive(Clone, Copy)]
struct Flip {
    byte: usize,
    bit: usize,
}

/// Carries bytes one way, to the end, and flips a bit of them.
async fn carry(
    (mut from, mut to): (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>),
    flip: Option<Flip>,
    is_flipped: Arc<AtomicBool>,
) {
    let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(Flip { byte, bit }) = flip
            && (passed..passed + read).contains(&byte)
        {
            buffer[byte - passed] ^= 1 << bit;
            is_flipped.store(true, Ordering::Relaxed);
        }
        passed += read;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Connects the two through somebody who flips a bit: of what the standby says, or the primary; whether he has.
fn connect(follow: &mut Follow, lead: &Lead, of_standby: bool, flip: Flip) -> Arc<AtomicBool> {
    let ((near, from_near), (far, from_far)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
    follow.connect_by(near);
    let primary = lead.primary.clone();
    let tasks = TaskTracker::new();
    tasks.spawn(async move { primary.serve(far, |_| true, CancellationToken::new()).await });
    let (near, far) = (tokio::io::split(from_near), tokio::io::split(from_far));
    let is_flipped = Arc::new(AtomicBool::new(false));
    let there = carry((near.0, far.1), of_standby.then_some(flip), Arc::clone(&is_flipped));
    let back = carry((far.0, near.1), (!of_standby).then_some(flip), Arc::clone(&is_flipped));
    tasks.spawn(async move {
        // Where one way ends the other does.
        tokio::select! {
            () = there => {}
            () = back => {}
        }
    });
    is_flipped
}

/// Goal: no flipped bit between two nodes is taken for what was said: the conversation ends, nothing of it is applied,
/// and the two are in sync again by themselves.
/// Method: a pair under load whose connection flips one bit, anywhere; again and again. `LLMCHAT_FLIPS` is how often,
/// from seed `LLMCHAT_FLIP_SEED` on.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_ends_the_conversation_and_nothing_of_it_is_applied() {
    let (seed, count) = (number("LLMCHAT_FLIP_SEED", 1), number("LLMCHAT_FLIPS", 30));
    let mut random = Random::new(seed);
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { reconnect: Duration::from_millis(50), ..TIMING }).await;
    let mut follow = two.mend(two.follow(), &lead).await;
    let mut acknowledged = Vec::new();
    for round in 0..count {
        follow.hang_up_if_open().await;
        let of_standby = random.below(2) == 0;
        let most = if of_standby { ANSWER_BYTES } else { CONVERSATION_BYTES };
        let flip = Flip { byte: random.below(most), bit: random.below(8) };
        let is_flipped = connect(&mut follow, &lead, of_standby, flip);
        let by = clock::now() + PATIENCE;
        while !follow.has_ended() {
            assert!(
                clock::now() < by,
                "seed {seed}, flip {round}: bit {} of byte {} was believed",
                flip.bit,
                flip.byte
            );
            let id = format!("f{round}-{}", acknowledged.len());
            try_ask(&lead.store, &id, random.below(4_000)).await.unwrap();
            acknowledged.push(id);
        }
        assert!(is_flipped.load(Ordering::Relaxed), "seed {seed}, flip {round}: it ended for another reason");
        follow = two.mend(follow, &lead).await;
        assert_eq!(follow.log.last(), lead.log.last(), "seed {seed}, flip {round}");
    }
    are_on_both(&acknowledged, &lead, &follow).await;
    follow.close().await;
    lead.close().await;
}

async fn are_on_both(acknowledged: &[String], lead: &Lead, follow: &Follow) {
    for id in acknowledged {
        for store in [&lead.store, &follow.store] {
            assert_eq!(answer(store, id).await, Some(format!("answer to {id}")));
        }
    }
}

/// The journal's files, oldest first.
fn segments(home: &Home) -> Vec<PathBuf> {
    files(&home.path().join("journal")).into_keys().map(|path| home.path().join("journal").join(path)).collect()
}

/// Flips a bit somewhere in `path`; half of the time in its last third.
fn flip(path: &Path, random: &mut Random) {
    let mut bytes = crate::disk::read_if_present(path).unwrap().unwrap();
    let from = if random.below(2) == 0 { 0 } else { bytes.len() * 2 / 3 };
    let at = from + random.below(bytes.len() - from);
    bytes[at] ^= 1 << random.below(8);
    crate::disk::replace(path, &bytes).unwrap();
}

/// Goal: a bit that was flipped in a standby's journal is never applied, and the standby is in sync again by itself.
/// Method: a standby that was closed, a flip anywhere in its journal, its database's own log lost, and a new start; again
/// and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_a_standbys_journal_is_found_or_does_no_harm() {
    let mut random = Random::new(2);
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(TIMING).await;
    let mut follow = two.mend(two.follow(), &lead).await;
    let mut acknowledged = Vec::new();
    for round in 0..number("LLMCHAT_FLIPS", 12) {
        for turn in 0..random.below(30) {
            let id = format!("j{round}-{turn}");
            try_ask(&lead.store, &id, random.below(6_000)).await.unwrap();
            acknowledged.push(id);
        }
        follow.close().await;
        let segments = segments(&two);
        flip(&segments[random.below(segments.len())], &mut random);
        if random.below(2) == 0 {
            // What is in the journal alone now has to be read from it.
            crate::disk::remove_if_present(&two.path().join("llmchat.db-wal")).unwrap();
        }
        follow = two.mend(two.follow(), &lead).await;
        assert_eq!(follow.log.last(), lead.log.last(), "flip {round}");
    }
    are_on_both(&acknowledged, &lead, &follow).await;
    follow.close().await;
    lead.close().await;
}

/// What a primary cannot read any more it cannot send: the standby that needs it is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_a_closed_segment_of_the_primary_costs_the_standby_a_copy_and_no_more() {
    for head in [true, false] {
        let (one, two) = homes(Mode::MaxAvailability);
        let lead = one.lead(TIMING).await;
        let follow = two.mend(two.follow(), &lead).await;
        ask(&lead.store, "both").await;
        follow.close().await;
        let before = segments(&one).len();
        let mut acknowledged = vec!["both".to_owned()];
        while segments(&one).len() < before + 3 {
            let id = format!("alone-{}", acknowledged.len());
            try_ask(&lead.store, &id, 6_000).await.unwrap();
            acknowledged.push(id);
        }
        let damaged = &segments(&one)[before];
        let mut bytes = crate::disk::read_if_present(damaged).unwrap().unwrap();
        let at = if head { 20 } else { bytes.len() / 2 };
        bytes[at] ^= 1;
        crate::disk::replace(damaged, &bytes).unwrap();
        let follow = two.mend(two.follow(), &lead).await;
        assert_eq!(follow.log.last(), lead.log.last());
        are_on_both(&acknowledged, &lead, &follow).await;
        follow.close().await;
        lead.close().await;
    }
}
