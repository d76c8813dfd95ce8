//! Records and what they are made from: the same there and back, every flipped bit found, and nothing that bytes alone
//! can break.

use llmchat::base::{Epoch, Position, Txid, UnixMillis};
use llmchat::protocol::pages::Pages;
use llmchat::protocol::record::{self, ChainHash, ClusterId, Damage, Encoder, Kind, Record};
use llmchat::protocol::stamp::Stamp;
use llmchat::protocol::wal::{Cursor, HEADER_BYTES};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn of(pages: BTreeMap<u32, Vec<u8>>, db_pages: u32) -> Record {
    Record {
        kind: Kind::Commit,
        cluster: ClusterId([3; 16]),
        position: Position { epoch: Epoch::from_raw(u64::MAX), txid: Txid::from_raw(u64::MAX) },
        before: ChainHash([4; 32]),
        at: UnixMillis(i64::MIN),
        db_pages,
        sum_before: u64::MAX,
        sum_after: 0,
        synced: Txid::from_raw(1),
        pages: Pages::collect(pages, 512, db_pages),
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let record = of([(1, vec![1; 512]), (7, vec![7; 512])].into(), 9);
    let bytes = Encoder::new().seal(&record).expect("small").bytes;
    assert_eq!(record::decode(&bytes), Ok(record));
    for at in 0..bytes.len() {
        assert!(record::decode(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(record::decode(&damaged).is_err() && record::head(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
    assert_eq!(record::decode(&bytes[..bytes.len() - 1]), Err(Damage::Cut));
}

#[test]
fn what_two_records_mean_tells_their_chain_hashes_apart() {
    let record = of([(1, vec![1; 512])].into(), 9);
    let others = [
        Record { kind: Kind::Baseline, ..record.clone() },
        Record { before: ChainHash([5; 32]), ..record.clone() },
        Record { at: UnixMillis(0), ..record.clone() },
        Record { db_pages: 8, ..record.clone() },
        Record { position: Position { txid: Txid::from_raw(1), ..record.position }, ..record.clone() },
        of([(1, vec![2; 512])].into(), 9),
        of([(2, vec![1; 512])].into(), 9),
    ];
    for other in others {
        assert_ne!(other.chain(), record.chain(), "{other:?}");
    }
    let same = Record { synced: Txid::from_raw(9), ..record.clone() };
    assert_eq!(same.chain(), record.chain(), "how much was flushed then is no part of history");
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(
        numbers in prop::collection::btree_set(1_u32..5_000, 0..40),
        fill in any::<u8>(),
        db_pages in 0_u32..6_000,
    ) {
        let pages = numbers.into_iter().map(|number| (number, vec![fill; 512])).collect();
        let record = of(pages, db_pages);
        let sealed = Encoder::new().seal(&record).expect("small");
        prop_assert_eq!(sealed.chain, record.chain());
        prop_assert_eq!(record::decode(&sealed.bytes), Ok(record));
    }

    #[test]
    fn no_bytes_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..2_000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(..bytes.len().min(8), *b"LLMR\x01\0\0\0");
        }
        let _ = (record::decode(&bytes), record::head(&bytes), Stamp::in_page(&bytes));
        if let Some(mut cursor) = bytes.first_chunk::<HEADER_BYTES>().and_then(Cursor::start) {
            let _ = cursor.step(&bytes[HEADER_BYTES..]);
        }
    }
}
