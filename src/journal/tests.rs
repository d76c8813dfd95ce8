use super::segment::START_BYTES;
use super::*;
use crate::base::{Epoch, Position, Txid, UnixMillis};
use crate::disk::replace;
use crate::protocol::pages::Pages;
use crate::protocol::record::{self, ChainHash, ClusterId, Encoder, Kind, Record, Sealed};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId([9; 16]);
const SETTINGS: Settings = Settings { segment_bytes: 1 << 20, keep: Duration::from_hours(1), bytes_max: 1 << 30 };

fn txid(raw: u64) -> Txid {
    Txid::from_raw(raw)
}

/// A record of one page that does not compress.
fn record(raw: u64, before: ChainHash, synced: u64) -> Record {
    let mut random = raw.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut page = Vec::new();
    while page.len() < 512 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        page.extend(random.to_le_bytes());
    }
    Record {
        kind: Kind::Commit,
        cluster: CLUSTER,
        position: Position { epoch: Epoch::from_raw(0x102), txid: txid(raw) },
        before,
        at: UnixMillis(1_790_000_000_000),
        db_pages: 7,
        sum_before: raw,
        sum_after: raw + 1,
        synced: txid(synced),
        pages: Pages::collect([(3, page)].into(), 512, 7),
    }
}

fn baseline() -> Sealed {
    let pages = Pages::collect([].into(), 512, 7);
    let baseline = Record { kind: Kind::Baseline, pages, ..record(4, ChainHash::default(), 4) };
    Encoder::new().seal(&baseline).unwrap()
}

/// A journal in `dir` with records 5 to `last`, each of which says that `synced` were on disk.
fn filled(dir: &Path, settings: Settings, last: u64, synced: impl Fn(u64) -> u64) -> Journal {
    let mut journal = Journal::begin(dir, (CLUSTER, 1), (ChainHash::default(), &baseline()), settings).unwrap();
    for raw in 5..=last {
        push(&mut journal, raw, synced(raw));
    }
    journal
}

fn push(journal: &mut Journal, raw: u64, synced: u64) {
    let before = journal.tip().chain;
    journal.reserve(1).unwrap();
    journal.append(before, &Encoder::new().seal(&record(raw, before, synced)).unwrap()).unwrap();
}

fn open(dir: &Path, known: u64) -> Result<Journal, JournalError> {
    Journal::open(dir, (CLUSTER, 1), txid(known), SETTINGS).map(|found| found.expect("there is a journal"))
}

fn read(journal: &Journal, from: u64) -> Vec<u64> {
    let mut reader = journal.read(txid(from)).expect("kept");
    let mut read = Vec::new();
    while let Some((head, bytes)) = reader.next().unwrap() {
        assert_eq!(record::decode(&bytes).unwrap().position, head.position);
        read.push(head.position.txid.raw());
    }
    read
}

fn only_segment(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// What lies in a segment, without the zeros behind.
fn written(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let end = usize::try_from(scan::scan(path, 1).unwrap().end).unwrap();
    assert!(bytes[end..].iter().all(|byte| *byte == 0));
    bytes.truncate(end);
    bytes
}

#[test]
fn zeros_that_were_written_ahead_are_no_part_of_the_journal_and_no_torn_tail() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path(), SETTINGS, 9, |raw| raw - 1));
    let path = only_segment(dir.path());
    let length = fs::metadata(&path).unwrap().len();
    assert!(length > u64::try_from(written(&path).len()).unwrap() + (100 << 10), "they are there: {length}");
    assert!(!scan::scan(&path, 1).unwrap().is_torn);
    let journal = Journal::open(dir.path(), (CLUSTER, 1), txid(9), SETTINGS).unwrap().unwrap();
    assert_eq!(journal.segments(), [txid(4), txid(9)], "only the last record is not known to be on disk");
    drop(journal);
    // A sector of nothing with something behind it is harm.
    let bytes = written(&path);
    let at = bytes.len() / 2;
    let mut harmed = bytes;
    harmed[at..at + 512].fill(0);
    let other = TempDir::new().unwrap();
    replace(&other.path().join(path.file_name().unwrap()), &harmed).unwrap();
    assert!(matches!(open(other.path(), 9), Err(JournalError::Rot { .. })));
}

#[test]
fn records_are_read_as_they_were_appended_and_follow_each_other() {
    let dir = TempDir::new().unwrap();
    assert!(Journal::open(dir.path(), (CLUSTER, 1), txid(0), SETTINGS).unwrap().is_none());
    let mut journal = filled(dir.path(), SETTINGS, 9, |_| 4);
    assert_eq!(read(&journal, 4), [4, 5, 6, 7, 8, 9]);
    assert_eq!(read(&journal, 8), [8, 9]);
    assert_eq!(read(&journal, 10), [0; 0]);
    assert!(journal.read(txid(3)).is_none() && journal.read(txid(11)).is_none());
    let before = journal.tip().chain;
    for (raw, before) in [(11, before), (9, before), (10, ChainHash([1; 32]))] {
        let sealed = Encoder::new().seal(&record(raw, before, 4)).unwrap();
        assert!(matches!(journal.append(before, &sealed), Err(JournalError::Gap { .. })));
    }
    let tip = journal.tip();
    drop(journal);
    let journal = open(dir.path(), 9).unwrap();
    assert_eq!(journal.tip(), tip);
    assert_eq!(read(&journal, 4), [4, 5, 6, 7, 8, 9]);
    assert!(matches!(
        Journal::open(dir.path(), (ClusterId([8; 16]), 1), txid(0), SETTINGS),
        Err(JournalError::Foreign { .. })
    ));
    assert!(matches!(open(dir.path(), 10), Err(JournalError::Lost { .. })));
}

#[test]
fn what_a_crash_cuts_off_is_dropped_and_the_journal_goes_on() {
    let whole = TempDir::new().unwrap();
    drop(filled(whole.path(), SETTINGS, 6, |_| 4));
    let bytes = written(&only_segment(whole.path()));
    let last = Encoder::new().seal(&record(6, ChainHash::default(), 4)).unwrap().bytes.len();
    for cut in 0..=last {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(only_segment(whole.path()).file_name().unwrap());
        replace(&path, &bytes[..bytes.len() - cut]).unwrap();
        let mut journal = open(dir.path(), 4).unwrap();
        let kept = if cut == 0 { 6 } else { 5 };
        assert_eq!(journal.tip().position.txid, txid(kept), "{cut} bytes are missing");
        push(&mut journal, kept + 1, kept);
        drop(journal);
        assert_eq!(read(&open(dir.path(), kept + 1).unwrap(), 4).last(), Some(&(kept + 1)));
    }
}

#[test]
fn a_record_of_which_only_the_beginning_reached_the_disk_is_a_torn_tail() {
    let whole = TempDir::new().unwrap();
    drop(filled(whole.path(), SETTINGS, 6, |_| 4));
    let bytes = written(&only_segment(whole.path()));
    let last = Encoder::new().seal(&record(6, ChainHash::default(), 4)).unwrap().bytes.len();
    for kept in 0..last {
        let dir = TempDir::new().unwrap();
        let mut torn = bytes.clone();
        let from = torn.len() - last + kept;
        torn[from..].fill(0);
        replace(&dir.path().join(only_segment(whole.path()).file_name().unwrap()), &torn).unwrap();
        assert_eq!(open(dir.path(), 4).unwrap().tip().position.txid, txid(5), "{kept} bytes, and zeros");
    }
}

#[test]
fn a_flipped_bit_in_what_was_on_disk_is_rot_and_in_what_may_not_have_been_is_a_torn_tail() {
    let whole = TempDir::new().unwrap();
    // The last record says that 5 was on disk, and says nothing of 6.
    drop(filled(whole.path(), SETTINGS, 7, |raw| if raw == 7 { 5 } else { 4 }));
    let name = only_segment(whole.path());
    let bytes = written(&name);
    let length = |sealed: &Sealed| sealed.bytes.len();
    let fifth = START_BYTES + length(&baseline());
    let sixth = fifth + length(&Encoder::new().seal(&record(5, baseline().chain, 4)).unwrap());
    for at in (0..bytes.len()).step_by(13) {
        let dir = TempDir::new().unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        replace(&dir.path().join(name.file_name().unwrap()), &damaged).unwrap();
        let opened = open(dir.path(), 4);
        match opened {
            Err(JournalError::NoSegment { .. }) => assert!(at < START_BYTES),
            // A flipped bit may also make a number of a newer version, or another cluster.
            Err(JournalError::Rot { .. } | JournalError::TooNew { .. }) => {
                assert!(at >= START_BYTES && at < sixth, "byte {at}");
            }
            Err(error) => panic!("byte {at}: {error}"),
            Ok(journal) => {
                assert!(at >= sixth, "byte {at} of {} was taken", bytes.len());
                assert!(journal.tip().position.txid >= txid(5));
            }
        }
        // Where the database stands at 7, nothing of the journal may be missing.
        assert!(open(dir.path(), 7).is_err(), "byte {at}");
    }
}

/// What the primary knew to be on its own disk is no proof of what is on a standby's.
#[test]
fn a_standbys_tail_is_written_again_whatever_its_primary_had_flushed() {
    let whole = TempDir::new().unwrap();
    drop(filled(whole.path(), SETTINGS, 8, |raw| raw - 1));
    let name = only_segment(whole.path());
    let bytes = written(&name);
    let open_as = |dir: &Path, me: u8| Journal::open(dir, (CLUSTER, me), txid(4), SETTINGS).map(|found| found.unwrap());
    for (me, rewritten) in [(1, 8), (2, 4)] {
        let dir = TempDir::new().unwrap();
        replace(&dir.path().join(name.file_name().unwrap()), &bytes).unwrap();
        let journal = open_as(dir.path(), me).unwrap();
        assert_eq!(journal.tip().position.txid, txid(8));
        let last = journal.segments().last().copied().unwrap();
        assert_eq!(last, txid(rewritten), "of member {me}");
    }
    // And a record in the middle that never reached the disk is a torn tail, not rot.
    let dir = TempDir::new().unwrap();
    let mut torn = bytes.clone();
    let length = Encoder::new().seal(&record(8, ChainHash::default(), 7)).unwrap().bytes.len();
    let at = torn.len() - 2 * length - length / 2;
    torn[at..at + 20].fill(0);
    replace(&dir.path().join(name.file_name().unwrap()), &torn).unwrap();
    assert!(matches!(open_as(dir.path(), 1), Err(JournalError::Rot { .. })));
    assert_eq!(open_as(dir.path(), 2).unwrap().tip().position.txid, txid(5));
}

#[test]
fn segments_are_closed_by_size_and_removed_by_bytes_and_by_time() {
    let dir = TempDir::new().unwrap();
    let small = Settings { segment_bytes: 2_000, bytes_max: 6_000, ..SETTINGS };
    let mut journal = filled(dir.path(), small, 40, |raw| raw - 1);
    let now = UnixMillis(0);
    journal.keep_from(txid(6), now);
    assert!(read_all_kept(&journal).contains(&6), "what the database lacks is kept, whatever it takes");
    journal.keep_from(txid(39), now);
    let kept = read_all_kept(&journal);
    assert_eq!(kept.last(), Some(&40));
    assert!(kept.len() > 4 && kept.len() < 20, "{kept:?}");
    let bytes: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 6_000 + 3_000, "{bytes}");
    let tip = journal.tip();
    journal.keep_from(txid(40), UnixMillis(i64::MAX));
    assert!(read_all_kept(&journal).len() < kept.len(), "older than any limit");
    assert_eq!(journal.tip(), tip);
    drop(journal);
    assert_eq!(open(dir.path(), 40).unwrap().tip(), tip);
}

#[test]
fn what_is_cut_off_is_gone_and_the_journal_goes_on_from_there() {
    let small = Settings { segment_bytes: 2_000, ..SETTINGS };
    for to in [4, 5, 20, 33, 39, 40] {
        let dir = TempDir::new().unwrap();
        let mut journal = filled(dir.path(), small, 40, |raw| raw - 1);
        let flusher = journal.flusher();
        journal.cut(txid(to)).unwrap();
        assert_eq!(journal.tip().position.txid, txid(to));
        assert_eq!(read(&journal, 4).last(), Some(&to));
        push(&mut journal, to + 1, to);
        flusher.flush().unwrap();
        let tip = journal.tip();
        drop(journal);
        let again = open(dir.path(), to + 1).unwrap();
        assert_eq!(again.tip(), tip, "cut to {to}");
        assert_eq!(read(&again, 4), (4..=to + 1).collect::<Vec<_>>());
    }
}

/// Goal: a part of the journal that cannot be read any more is in nobody's way, wherever it lies. Method: a bit of a record
/// flips in the first segment, in a middle one, and in the one that grows.
#[test]
fn a_segment_that_came_to_harm_is_given_up() {
    let small = Settings { segment_bytes: 2_000, ..SETTINGS };
    for place in [0, 2, usize::MAX] {
        let dir = TempDir::new().unwrap();
        let mut journal = filled(dir.path(), small, 20, |raw| raw - 1);
        let segments = journal.segments();
        let harmed = *segments.get(place).unwrap_or_else(|| segments.last().unwrap());
        let path = dir.path().join(format!("{:020}.segment", harmed.raw()));
        let (at, mut byte) = (u64::try_from(START_BYTES + 100).unwrap(), [0]);
        let segment = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        segment.read_exact_at(&mut byte, at).unwrap();
        segment.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let mut reader = journal.read(harmed).unwrap();
        let error = std::iter::from_fn(|| reader.next().transpose()).find_map(Result::err).expect("it is found");
        assert_eq!(error.harmed(), Some(harmed));
        assert!(journal.give_up(harmed), "it was not known");
        assert!(!journal.give_up(harmed), "it is known now");
        push(&mut journal, 21, 20);
        journal.flusher().flush().unwrap();
        let first = segments.iter().find(|first| **first > harmed).copied().unwrap_or(txid(21));
        assert_eq!(read_all_kept(&journal), (first.raw()..=21).collect::<Vec<_>>());
        assert!(path.exists(), "what of it can be read is for whoever needs it");
        push(&mut journal, 22, 21);
        assert_eq!(read(&journal, 21), [21, 22]);
        let tip = journal.tip();
        drop(journal);
        assert_eq!(open(dir.path(), 22).unwrap().tip(), tip);
    }
}

fn read_all_kept(journal: &Journal) -> Vec<u64> {
    let first = (0..=journal.tip().position.txid.raw() + 1).find(|raw| journal.read(txid(*raw)).is_some());
    read(journal, first.unwrap())
}

#[test]
fn space_is_set_aside_without_a_trace_in_what_is_read() {
    let dir = TempDir::new().unwrap();
    let mut journal = filled(dir.path(), SETTINGS, 5, |_| 4);
    journal.reserve(100_000).unwrap();
    push(&mut journal, 6, 5);
    journal.flusher().flush().unwrap();
    drop(journal);
    assert_eq!(read(&open(dir.path(), 6).unwrap(), 4), [4, 5, 6]);
}

/// The format of version 1, as an earlier build wrote it: it must be read for ever.
#[test]
fn a_segment_of_version_1_is_read() {
    let kept = include_bytes!("../../tests/fixtures/journal/v1.segment");
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path(), SETTINGS, 6, |raw| raw - 1));
    if std::env::var_os("LLMCHAT_WRITE_FIXTURES").is_some() {
        fs::copy(only_segment(dir.path()), "tests/fixtures/journal/v1.segment").unwrap();
    }
    let other = TempDir::new().unwrap();
    replace(&other.path().join("00000000000000000004.segment"), kept).unwrap();
    let journal = open(other.path(), 6).unwrap();
    assert_eq!(read(&journal, 4), [4, 5, 6]);
    let mut reader = journal.read(txid(6)).unwrap();
    let (_, bytes) = reader.next().unwrap().unwrap();
    let decoded = record::decode(&bytes).unwrap();
    assert_eq!(decoded, record(6, decoded.before, 5));
}
