//! Makes a database large, as people would: with long answers.

use crate::assume;
use crate::cluster::Cluster;
use crate::http;
use crate::place::Place;
use crate::upstream::{BOOK, BOOK_BYTES};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WRITERS: u64 = 3;
const PATIENCE: Duration = Duration::from_mins(1);
/// A writer that fails so often gives up.
const FAILURES_MAX: u32 = 100;

/// Asks for long answers until the database has `bytes`; how many it has then.
pub(crate) fn grow(cluster: &Cluster, bytes: u64) -> Result<u64, String> {
    let primary = cluster.primary().ok_or("nobody is the primary")?;
    let books = bytes / u64::try_from(BOOK_BYTES).expect("a megabyte");
    let begun = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let begun = Arc::clone(&begun);
            cluster.net.within(Place::Clients, move || write(primary, &begun, books))
        })
        .collect();
    writers.into_iter().try_for_each(|writer| writer.join().expect("a writer panicked"))?;
    Ok(size(&cluster.node(primary).home.state()))
}

fn write(at: Place, begun: &AtomicU64, books: u64) -> Result<(), String> {
    let mut failures = 0;
    loop {
        let book = begun.fetch_add(1, Ordering::Relaxed);
        if book >= books {
            return Ok(());
        }
        let content = format!("{BOOK} {book}");
        let body =
            json!({ "agentId": assume::FASTGPT, "messages": [{ "role": "user", "content": content }] }).to_string();
        let asked = http::ask(at.api(), &http::request("POST", assume::CHAT_PATH, "", &body), PATIENCE);
        let why = match asked {
            Ok(answer) if answer.status == 200 => continue,
            Ok(answer) => answer.body.chars().take(200).collect(),
            Err(fault) => format!("{fault:?}"),
        };
        failures += 1;
        if failures > FAILURES_MAX {
            return Err(format!("make a large database: {why}"));
        }
    }
}

/// Bytes of the database itself.
fn size(state: &Path) -> u64 {
    let files = fs::read_dir(state).into_iter().flatten().flatten();
    let databases = files.filter(|file| file.file_name().to_string_lossy().ends_with(".db"));
    databases.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
