//! A primary and a standby in one process, with real files and a connection in memory.

use crate::base::{AgentId, Chain, Label, Owner, Txid, UnixMillis};
use crate::clock;
use crate::node_state::NodeState;
use crate::protocol::cluster::{Config, Member, MemberId, Mode};
use crate::protocol::peer::Copying;
use crate::protocol::record::ClusterId;
use crate::register::Timing;
use crate::replica::apply::Applying;
use crate::replica::follow::is_fatal;
use crate::replica::primary::{Primary, Reigning};
use crate::replica::standby::{Following, PrimarySeen, Standby, StandbyError};
use crate::replica::wire::Stream;
use crate::replica::{Kept, LocalLog, Settings as JournalSettings};
use crate::store::{Base, Budget, Expect, NewTurn, Pending, Settings, Store, StoreError, TurnEnd, TurnState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const JOURNAL: JournalSettings =
    JournalSettings { segment_bytes: 1 << 16, keep: Duration::from_hours(1), bytes_max: 1 << 24 };
const SETTINGS: Settings = Settings {
    queue_jobs_max: 1024,
    queue_ends_max: 4,
    group_jobs_max: 256,
    group_wait: Duration::from_millis(1),
    question_wait: Duration::ZERO,
    readers_min: 1,
    readers_max: 2,
    acquire_timeout: Duration::from_secs(5),
    query_timeout: Duration::from_secs(5),
    chat_budget: Duration::from_secs(5),
    probe_every: Duration::from_mins(1),
    scan_pages_max: 65_536,
    checkpoint_bytes: 1 << 18,
    checkpoint_restart_bytes: 1 << 20,
};
/// Only a failing test waits so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A node's disk, which outlives what runs on it.
pub(super) struct Home {
    me: MemberId,
    dir: TempDir,
    cluster: ClusterId,
    /// Small, so that segments are closed while a test lasts.
    journal: JournalSettings,
}

fn config(mode: Mode) -> Config {
    let member = |id: MemberId| Member { id, name: format!("n{id}"), address: format!("127.0.0.1:{id}") };
    Config {
        name: "test".to_owned(),
        epoch: crate::base::Epoch::default(),
        version: 0,
        primary: 1,
        isr: vec![1],
        members: vec![member(1), member(2)],
        next_member_id: 3,
        mode,
        paused: false,
    }
}

/// Two nodes of a new cluster.
pub(super) fn homes(mode: Mode) -> (Home, Home) {
    let home = |me: MemberId| {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId([3; 16]);
        NodeState::open(dir.path()).unwrap().join(cluster.0, me, &config(mode)).unwrap();
        Home { me, dir, cluster, journal: JOURNAL }
    };
    (home(1), home(2))
}

struct Opened {
    me: MemberId,
    cluster: ClusterId,
    node: Arc<NodeState>,
    store: Store,
    log: LocalLog,
}

impl Home {
    pub(super) fn with_journal(self, journal: JournalSettings) -> Self {
        Self { journal, ..self }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn me(&self) -> MemberId {
        self.me
    }

    /// The same node, with what is in `dir`.
    pub(super) fn moved(&self, dir: TempDir) -> Self {
        Self { dir, ..*self }
    }

    /// A session that was just ended may still be storing what it had heard last: its process would have waited for that.
    fn node(&self) -> NodeState {
        let by = clock::now() + PATIENCE;
        loop {
            match NodeState::open(self.path()) {
                Ok(node) => return node,
                Err(error) => assert!(clock::now() < by, "{}", Chain(&error)),
            }
            std::thread::yield_now();
        }
    }

    fn open(&self) -> Opened {
        let node = Arc::new(self.node());
        let base = Base { cluster: self.cluster, data_key: [9; 32], settings: SETTINGS };
        let store = Store::new(self.path(), base);
        let open = || LocalLog::open(self.path(), (self.cluster, self.me), Kept::Maybe, self.journal);
        let log = match open() {
            // As a standby's process does.
            Err(error) if error.is_misfit() && node.config().unwrap().unwrap().primary != self.me => {
                LocalLog::put_aside(self.path()).unwrap();
                node.note_copying(Some(Copying::ANEW)).unwrap();
                open().unwrap()
            }
            opened => opened.unwrap(),
        };
        Opened { me: self.me, cluster: self.cluster, node, store, log }
    }

    pub(super) fn lead(&self, timing: Timing) -> Lead {
        let Opened { me, cluster, node, store, log } = self.open();
        let epoch = node.mint_epoch(false).unwrap();
        let config = node.config().unwrap().unwrap().reign(epoch, me);
        node.store_config(&config).unwrap();
        let kept = Arc::clone(&node);
        let reigning = Reigning { me, cluster, node, store: store.clone(), log: log.clone(), config, timing };
        let primary = Primary::new(reigning);
        store.lead(epoch, Expect::Nothing, Box::new(log.clone())).unwrap();
        primary.begins_at(store.durable().here());
        let stop = CancellationToken::new();
        let keeping = TaskTracker::new().spawn({
            let (primary, stop) = (primary.clone(), stop.clone());
            async move { primary.keep(stop).await.unwrap() }
        });
        Lead { store, log, primary, stop, keeping, node: kept }
    }

    pub(super) fn follow(&self) -> Follow {
        let opened = self.open();
        let (me, store, log) = (opened.me, opened.store.clone(), opened.log.clone());
        let standby = Standby::new(self.following(opened));
        standby.prepare().unwrap();
        Follow { me, store, log, standby, session: None }
    }

    fn following(&self, Opened { me, cluster, node, store, log }: Opened) -> Following {
        Following {
            me,
            cluster,
            incarnation: node.count_start().unwrap(),
            node,
            store,
            log,
            state_dir: self.dir.path().to_owned(),
            known: watch::Sender::new(config(Mode::MaxAvailability)),
            arrivals: Arc::default(),
        }
    }

    /// Ends the reign of `lead`, whose database stays open for the next primary's records.
    pub(super) async fn demote(&self, lead: Lead) -> Follow {
        let Lead { store, log, primary, stop, keeping, node } = lead;
        stop.cancel();
        keeping.await.unwrap();
        primary.end();
        let rested = store.rest().unwrap();
        let opened = Opened { me: self.me, cluster: self.cluster, node, store: store.clone(), log: log.clone() };
        let standby = Standby::after_reign(self.following(opened), rested).unwrap();
        Follow { me: self.me, store, log, standby, session: None }
    }

    /// Takes what the primary has until the two are in sync, and begins again where a process would.
    pub(super) async fn mend(&self, mut follow: Follow, lead: &Lead) -> Follow {
        let mended = async {
            loop {
                follow.connect(lead);
                let (stop, mut followed) = follow.session.take().unwrap();
                let ended = tokio::select! {
                    () = follow.is_whole(lead) => {
                        follow.session = Some((stop, followed));
                        return follow;
                    }
                    ended = &mut followed => ended.unwrap(),
                };
                if ended.is_err_and(|error| is_fatal(&error)) {
                    follow.close().await;
                    follow = self.follow();
                }
            }
        };
        tokio::time::timeout(PATIENCE, mended).await.expect("the two are in sync by themselves")
    }
}

pub(super) struct Lead {
    pub(super) store: Store,
    pub(super) log: LocalLog,
    pub(super) primary: Primary,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
    node: Arc<NodeState>,
}

impl Lead {
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.keeping.await.unwrap();
        drop(self.primary);
        self.store.close().await.unwrap();
    }

    /// Ends as a process whose disk is gone.
    pub(super) async fn die(self) {
        // Who waits for the other node would wait for ever.
        self.store.give_up("the power is gone");
        self.stop.cancel();
        drop(self.keeping.await);
        self.primary.end();
        drop(self.primary);
        drop(self.store.close().await);
    }
}

pub(super) struct Follow {
    me: MemberId,
    pub(super) store: Store,
    pub(super) log: LocalLog,
    standby: Standby,
    session: Option<(CancellationToken, JoinHandle<Result<(), StandbyError>>)>,
}

impl Follow {
    fn connect(&mut self, lead: &Lead) {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.connect_by(near);
        let (primary, peer) = (lead.primary.clone(), self.me);
        TaskTracker::new()
            .spawn(async move { primary.serve(far, move |member| member == peer, CancellationToken::new()).await });
    }

    /// Follows the primary at the other end of `stream`.
    pub(super) fn connect_by(&mut self, stream: impl Stream) {
        let (standby, stop) = (self.standby.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let followed = TaskTracker::new().spawn(async move { standby.follow(stream, stopped).await });
        self.session = Some((stop, followed));
    }

    /// Applies nothing, or goes on.
    pub(super) fn hold(&self, is_held: bool) {
        let pace = self.standby.applying().as_ref().map(Applying::pace);
        pace.unwrap().hold(is_held);
    }

    /// What it knows of its primary.
    pub(super) fn seen(&self) -> watch::Receiver<PrimarySeen> {
        self.standby.seen()
    }

    /// Whether clients may read here.
    pub(super) fn is_agreed(&self) -> bool {
        self.seen().borrow().is_agreed
    }

    pub(super) async fn hang_up(&mut self) {
        let (stop, followed) = self.session.take().unwrap();
        stop.cancel();
        followed.await.unwrap().unwrap();
    }

    /// Waits until everything that `lead` has is applied.
    pub(super) async fn caught_up(&self, lead: &Lead) {
        let last = lead.log.last().unwrap();
        let mut seen = self.standby.seen();
        let reached = seen.wait_for(|seen| seen.applied >= last.position.txid);
        tokio::time::timeout(PATIENCE, reached).await.expect("it catches up").unwrap();
        assert_eq!(self.log.last(), Some(last));
    }

    pub(super) async fn hang_up_if_open(&mut self) {
        if self.session.is_some() {
            self.hang_up().await;
        }
    }

    /// Whether a process would have to begin again after the end of its session.
    pub(super) async fn end_is_fatal(&mut self) -> bool {
        let (_, followed) = self.session.take().unwrap();
        followed.await.unwrap().is_err_and(|error| is_fatal(&error))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.session.as_ref().is_none_or(|(_, followed)| followed.is_finished())
    }

    /// Waits until this is as good as `lead`, for as long as that takes.
    async fn is_whole(&self, lead: &Lead) {
        let (mut config, mut seen) = (lead.primary.config(), self.standby.seen());
        config.wait_for(|config| config.isr.len() == 2).await.unwrap();
        let last = lead.log.last().unwrap().position.txid;
        seen.wait_for(|seen| seen.applied >= last).await.unwrap();
    }

    /// Waits until the primary is gone.
    pub(super) async fn left(mut self) -> Self {
        let (_, followed) = self.session.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, followed).await.expect("it notices").unwrap();
        assert!(ended.is_err(), "it had no reason to end");
        self
    }

    /// Ends as a process whose disk is gone.
    pub(super) async fn die(mut self) {
        if let Some((stop, followed)) = self.session.take() {
            stop.cancel();
            drop(followed.await);
        }
        drop(self.standby);
        drop(self.store.close().await);
    }

    pub(super) async fn close(mut self) {
        self.hang_up_if_open().await;
        drop(self.standby);
        self.store.close().await.unwrap();
    }
}

pub(super) async fn in_sync(lead: &Lead) {
    let mut config = lead.primary.config();
    let added = config.wait_for(|config| config.isr.len() == 2);
    tokio::time::timeout(PATIENCE, added).await.expect("it is added").unwrap();
}

pub(super) async fn alone(lead: &Lead) {
    let mut config = lead.primary.config();
    let dropped = config.wait_for(|config| config.isr.len() == 1);
    tokio::time::timeout(PATIENCE, dropped).await.expect("it is dropped").unwrap();
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn begin(store: &Store, id: &str, length: usize) -> Pending<()> {
    try_begin(store, id, length).unwrap()
}

fn try_begin(store: &Store, id: &str, length: usize) -> Result<Pending<()>, StoreError> {
    store.turn_begin(NewTurn {
        owner: Owner::visitor("1"),
        agent_id: AgentId::parse("a").unwrap(),
        chat: label("c"),
        upstream_chat_id: "up".to_owned(),
        turn_id: id.to_owned(),
        label: label(id),
        idempotency_key: None,
        body_hash: [1; 32],
        upstream_item_id: format!("item-{id}"),
        question: format!("\"{}\"", "q".repeat(length)),
        at: UnixMillis(1),
    })
}

pub(super) async fn ask(store: &Store, id: &str) {
    try_ask(store, id, 100).await.unwrap();
}

/// Asks, and is answered; the last commit of it, once it is acknowledged.
pub(super) async fn try_ask(store: &Store, id: &str, length: usize) -> Result<Txid, StoreError> {
    let begun = try_begin(store, id, length)?;
    let end = TurnEnd {
        turn_id: id.to_owned(),
        question_bytes: 1,
        state: TurnState::Complete,
        answer: format!("answer to {id}"),
        reasoning: String::new(),
        events: Vec::new(),
        usage: None,
        failure: None,
        at: UnixMillis(2),
    };
    let finished = store.turn_finish(end)?;
    tokio::time::timeout(PATIENCE, begun).await.expect("it becomes durable, or fails")?;
    Ok(tokio::time::timeout(PATIENCE, finished).await.expect("it becomes durable, or fails")?.position.txid)
}

pub(super) async fn answer(store: &Store, id: &str) -> Option<String> {
    let agent = AgentId::parse("a").unwrap();
    let past = store.past((&Owner::visitor("1"), &agent, &label("c")), Some(&label(id)), None, Budget::Normal).await;
    past.unwrap().turn.map(|turn| turn.answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_standby_is_copied_and_then_every_acknowledged_turn_is_on_both() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() });
    for number in 0..50 {
        ask(&lead.store, &format!("before-{number}")).await;
    }
    let mut follow = two.follow();
    follow.connect(&lead);
    for number in 0..50 {
        ask(&lead.store, &format!("while-{number}")).await;
    }
    in_sync(&lead).await;
    for number in 0..200 {
        ask(&lead.store, &format!("after-{number}")).await;
        assert!(follow.log.last().unwrap().position.txid >= lead.store.durable().get(), "acknowledged is on both");
    }
    follow.caught_up(&lead).await;
    for id in ["before-49", "while-3", "after-199"] {
        assert_eq!(answer(&follow.store, id).await, Some(format!("answer to {id}")));
    }
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_was_away_goes_on_where_it_was() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() });
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    ask(&lead.store, "both").await;
    follow.hang_up().await;
    ask(&lead.store, "alone").await;
    alone(&lead).await;
    // In the same process, and as another one.
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "alone").await.as_deref(), Some("answer to alone"));
    follow.hang_up().await;
    follow.close().await;
    ask(&lead.store, "again").await;
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "again").await.as_deref(), Some("answer to again"));
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_maximum_protection_nothing_is_acknowledged_by_one_node_alone() {
    let (one, two) = homes(Mode::MaxProtection);
    let lead = one.lead(Timing { reconnect: Duration::ZERO, ..Timing::default() });
    let mut early = begin(&lead.store, "early", 10);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut early).await.is_err());
    let mut follow = two.follow();
    follow.connect(&lead);
    tokio::time::timeout(PATIENCE, early).await.expect("with a standby it is").unwrap();
    in_sync(&lead).await;
    follow.hang_up().await;
    let mut late = begin(&lead.store, "late", 10);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut late).await.is_err());
    assert!(lead.store.durable().get() < lead.store.durable().here());
    follow.connect(&lead);
    tokio::time::timeout(PATIENCE, late).await.expect("with a standby it is").unwrap();
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_primary_has_alone_is_given_up_and_kept_aside() {
    let (one, two) = homes(Mode::MaxAvailability);
    let timing = Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() };
    let lead = one.lead(timing);
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    ask(&lead.store, "both").await;
    follow.caught_up(&lead).await;
    follow.hang_up().await;
    alone(&lead).await;
    ask(&lead.store, "lost").await;
    let common = follow.log.last().unwrap().position.txid;
    follow.close().await;
    lead.close().await;
    // The other one is forced to take over, and goes its own way.
    let (one, two) = (Home { me: 2, ..two }, Home { me: 1, ..one });
    NodeState::open(one.dir.path()).unwrap().mint_epoch(true).unwrap();
    let lead = one.lead(timing);
    ask(&lead.store, "new").await;
    let mut follow = two.follow();
    let tip = follow.log.last().unwrap().position.txid;
    assert!(tip > common);
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "lost").await, None);
    assert_eq!(answer(&follow.store, "new").await.as_deref(), Some("answer to new"));
    let kept: Vec<_> = std::fs::read_dir(two.dir.path().join("diverged")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    let kept = kept[0].as_ref().unwrap().path();
    let saved = crate::journal::Journal::open(&kept, (two.cluster, 1), Txid::default(), JOURNAL).unwrap().unwrap();
    assert_eq!((saved.first(), saved.tip().position.txid), (common.next(), tip));
    follow.close().await;
    lead.close().await;
}
