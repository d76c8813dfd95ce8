//! What the second disk costs, at the store's door: prints, and is run by hand.

use super::homes::{Follow, Lead, PATIENCE, homes, in_sync};
use crate::base::{AgentId, Label, Owner, UnixMillis};
use crate::clock;
use crate::journal::Settings as JournalSettings;
use crate::net::{Authority, Credentials, PeerConnector, PeerProtocol, Resolver, belongs};
use crate::protocol::cluster::Mode;
use crate::register::Timing;
use crate::store::{NewTurn, Store};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// As it is by default.
const SERVED: JournalSettings =
    JournalSettings { segment_bytes: 64 << 20, keep: Duration::from_hours(72), bytes_max: 4 << 30 };
const ROUNDS: usize = 10;
const ONE_BY_ONE: usize = 200;
const TOGETHER: Duration = Duration::from_secs(2);
/// Who wait for their commits at once.
const WRITERS: usize = 128;
/// Of a job: a short question.
const JOB_BYTES: usize = 400;

/// A connection as two servers have it: TCP, and TLS of the cluster's authority.
async fn connect(follow: &mut Follow, lead: &Lead) {
    let authority = Authority::make().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (primary, server) =
        (lead.primary.clone(), Credentials::of_authority(authority.clone(), 1).server().unwrap().config);
    TaskTracker::new().spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let socket = TlsAcceptor::from(server).accept(socket).await.unwrap();
        assert!(belongs(socket.get_ref().1.peer_certificates(), 2));
        primary.serve(socket, |member| member == 2, CancellationToken::new()).await;
    });
    let tls = Arc::new(Credentials::of_authority(authority, 2).client(PeerProtocol::Stream).unwrap());
    let stream = PeerConnector::new(Resolver::new(clock::now), tls, (address, 1), PATIENCE).connect().await.unwrap();
    follow.connect_by(stream);
}

fn job(id: &str) -> NewTurn {
    NewTurn {
        owner: Owner::visitor(id),
        agent_id: AgentId::parse("a").unwrap(),
        chat: Label::parse("c").unwrap(),
        upstream_chat_id: format!("up-{id}"),
        turn_id: id.to_owned(),
        label: Label::parse("t").unwrap(),
        idempotency_key: None,
        body_hash: [1; 32],
        upstream_item_id: id.to_owned(),
        question: format!("\"{}\"", "question ".repeat(JOB_BYTES / 9)),
        title: String::new(),
        settings: None,
        replaces: None,
        region: None,
        at: UnixMillis(1),
    }
}

async fn write(store: &Store, number: &AtomicU64) -> Duration {
    let id = format!("id{}", number.fetch_add(1, Ordering::Relaxed));
    let began = clock::now();
    store.turn_begin(job(&id)).unwrap().await.unwrap();
    clock::now() - began
}

async fn together(store: &Store, number: &Arc<AtomicU64>) -> Vec<Duration> {
    let until = clock::now() + TOGETHER;
    let tasks = TaskTracker::new();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, number) = (store.clone(), Arc::clone(number));
            tasks.spawn(async move {
                let mut took = Vec::new();
                while clock::now() < until {
                    took.push(write(&store, &number).await);
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all
}

fn raw(file: &File, at: u64) -> Duration {
    let began = clock::now();
    file.write_all_at(&[7; 4096], at * 4096).unwrap();
    file.sync_data().unwrap();
    clock::now() - began
}

fn say(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    eprintln!("{what:<28} p50 {:>9.3?}  p99 {:>9.3?}  of {}", at(50), at(99), took.len());
    at(50)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints what a commit costs; run by hand, in release"]
async fn cost_of_the_second_disk() {
    let timing = Timing::default();
    let (single, _) = homes(Mode::MaxPerformance);
    let single = single.with_journal(SERVED);
    let alone = single.lead(timing).await;
    let (one, two) = homes(Mode::MaxAvailability);
    let (one, two) = (one.with_journal(SERVED), two.with_journal(SERVED));
    let lead = one.lead(timing).await;
    let mut follow = two.follow();
    connect(&mut follow, &lead).await;
    in_sync(&lead).await;
    let scratch = tempfile::tempfile().unwrap();
    let number = Arc::new(AtomicU64::new(0));
    let (mut disk, mut local, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    let (mut local_all, mut sync_all) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for at in 0..ONE_BY_ONE {
            disk.push(raw(&scratch, u64::try_from(round * ONE_BY_ONE + at).unwrap()));
            local.push(write(&alone.store, &number).await);
            sync.push(write(&lead.store, &number).await);
        }
        local_all.extend(together(&alone.store, &number).await);
        sync_all.extend(together(&lead.store, &number).await);
    }
    let seconds = usize::try_from(TOGETHER.as_secs()).unwrap() * ROUNDS;
    say("append 4 KiB and fdatasync", disk);
    let local = say("one by one, one disk", local);
    let sync = say("one by one, two disks", sync);
    eprintln!("the second disk adds {:.3?}", sync.saturating_sub(local));
    eprintln!("{WRITERS} writers, one disk: {} jobs/s", local_all.len() / seconds);
    say("", local_all);
    eprintln!("{WRITERS} writers, two disks: {} jobs/s", sync_all.len() / seconds);
    say("", sync_all);
    follow.close().await;
    lead.close().await;
    alone.close().await;
}
