//! Pages that come to harm on the disk.

use super::*;
use crate::protocol::stamp::STAMP_PAGE;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

const SIZE: u64 = 4096;

/// A database in use whose pages are all in its own file, and those pages.
async fn at_home(dir: &TempDir) -> (Store, Vec<Vec<u8>>) {
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, SETTINGS), Box::new(log.clone())).unwrap();
    for number in 0..40 {
        let id = format!("id{number}");
        store.turn_begin(question("o", "c", &id, &id)).unwrap().await.unwrap();
        store.turn_finish(Arc::new(end(&id, TurnState::Complete, &"answer ".repeat(400)))).unwrap().await.unwrap();
    }
    let rested = store.rest().unwrap();
    let connection = Connection::open(dir.path().join("llmchat.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    let bytes = std::fs::read(dir.path().join("llmchat.db")).unwrap();
    store.lead_on(rested, epoch(2), Box::new(log)).unwrap();
    (store, bytes.chunks(4096).map(<[u8]>::to_vec).collect())
}

fn disk(dir: &TempDir) -> File {
    OpenOptions::new().read(true).write(true).open(dir.path().join("llmchat.db")).unwrap()
}

fn flip(file: &File, page: usize, at: u64) {
    let at = u64::try_from(page - 1).unwrap() * SIZE + at;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Goal: whatever bit of whatever page flips on the disk is found, named, and mended with what another node has, and with
/// nothing else.
#[tokio::test]
async fn a_flipped_bit_is_found_in_any_page_and_mended_with_the_right_page_only() {
    let dir = TempDir::new().unwrap();
    let (store, pages) = at_home(&dir).await;
    let (file, count) = (disk(&dir), u32::try_from(pages.len()).unwrap());
    assert!(count > 20, "{count} pages are few");
    let whole = Checked { pages: count, damaged: Vec::new(), unreadable: Vec::new(), next: None };
    assert_eq!(store.check(1, u32::MAX).await.unwrap(), whole);
    // That of the position first: each commit writes it anew, and what is in the log is not read from the file.
    let stamp = usize::try_from(STAMP_PAGE).unwrap();
    let others = (2..=pages.len()).filter(|page| *page != stamp);
    for (page, at) in std::iter::once(stamp).chain(others).map(|page| (page, u64::try_from(page * 37 % 4096).unwrap()))
    {
        flip(&file, page, at);
        let number = u32::try_from(page).unwrap();
        assert_eq!(store.check(1, u32::MAX).await.unwrap().damaged, [number], "byte {at}");
        let before = pages[page - 1].clone();
        // Trees that have nothing in them yet look alike.
        let after = pages[page..].iter().chain(&pages).find(|other| **other != before).cloned().unwrap();
        assert!(!store.mend(number, after).await.unwrap(), "another page is not this one");
        assert!(store.mend(number, before).await.unwrap());
        assert_eq!(store.check(1, u32::MAX).await.unwrap(), whole);
    }
    assert!(store.has_turns().await.unwrap());
    store.close().await.unwrap();
}

/// Of the first page the magic, the schema's version, the tree's head, and the tables' own rows.
#[tokio::test]
async fn the_first_page_is_found_and_mended_whatever_of_it_flips() {
    for at in [0, 40, 100, 105, 4000] {
        let dir = TempDir::new().unwrap();
        let (store, pages) = at_home(&dir).await;
        flip(&disk(&dir), 1, at);
        assert_eq!(store.check(1, 300).await.unwrap().damaged, [1], "byte {at}");
        assert!(store.mend(1, pages[0].clone()).await.unwrap(), "byte {at}");
        assert_eq!(store.check(1, 300).await.unwrap().damaged, [0; 0], "byte {at}");
        store.close().await.unwrap();
    }
}
