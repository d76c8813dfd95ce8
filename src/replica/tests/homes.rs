//! Two nodes in one process, with real files and a connection in memory; what asks them, and what mends them.

use crate::base::{AgentId, Chain, Label, Owner, Txid, UnixMillis};
use crate::clock;
use crate::journal::Settings as JournalSettings;
use crate::node_state::NodeState;
use crate::protocol::cluster::{Config, Kind, Member, MemberId, Mode, Rule};
use crate::protocol::peer::Copying;
use crate::protocol::record::ClusterId;
use crate::protocol::register::Message;
use crate::register::{Input, Output, Register, Timing};
use crate::replica::apply::Applying;
use crate::replica::follow::is_fatal;
use crate::replica::links::Links;
use crate::replica::primary::{Primary, Reigning};
use crate::replica::seat::DataSeat;
use crate::replica::standby::{Following, PrimarySeen, Standby, StandbyError};
use crate::replica::voter::{Seat, View, Voter};
use crate::replica::wire::Stream;
use crate::replica::{Kept, LocalLog};
use crate::store::{Base, Budget, Expect, NewTurn, Pending, Settings, Store, StoreError, TurnEnd, TurnState};
use crate::watched::Watched;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) const JOURNAL: JournalSettings =
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
    pub(super) me: MemberId,
    pub(super) dir: TempDir,
    pub(super) cluster: ClusterId,
    /// Small, so that segments are closed while a test lasts.
    pub(super) journal: JournalSettings,
}

fn config(mode: Mode) -> Config {
    let member =
        |id: MemberId| Member { id, name: format!("n{id}"), address: format!("127.0.0.1:{id}"), kind: Kind::Data };
    Config {
        name: "test".to_owned(),
        epoch: crate::base::Epoch::default(),
        version: 0,
        primary: 1,
        isr: vec![1],
        members: vec![member(1), member(2)],
        register: Rule::Alone,
        next_member_id: 3,
        mode,
        paused_until: None,
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

    /// Leads by an operator's word: nobody else can be asked.
    pub(super) async fn lead(&self, timing: Timing) -> Lead {
        let Opened { me, cluster, node, store, log } = self.open();
        let was_primary = node.config().unwrap().unwrap().primary == me;
        let seat = Arc::new(DataSeat::new(&node, &store, &log, node.config().unwrap().unwrap()));
        let (promises, linked) = (node.promises().unwrap(), Arc::clone(&node));
        let incarnation = node.count_start().unwrap();
        let voter = Voter::new((me, promises), timing, Arc::clone(&node), Box::new(Arc::clone(&seat)), |asked| {
            Links::new((cluster, me, incarnation), linked, None, asked)
        });
        let stop = CancellationToken::new();
        let voting = TaskTracker::new().spawn({
            let (voter, stop) = (voter.clone(), stop.clone());
            async move { voter.run(stop).await.unwrap() }
        });
        let local = seat.local();
        let taken = if was_primary { Input::ResumeAlone(local) } else { Input::Force(local) };
        voter.order(taken).await.unwrap();
        let epoch = voter.view().now().promised;
        let kept = Arc::clone(&node);
        let (store, log) = (store.clone(), log.clone());
        let reigning =
            Reigning { me, cluster, node, store: store.clone(), log: log.clone(), epoch, timing, voter: voter.clone() };
        let primary = Primary::new(reigning);
        store.lead(epoch, Expect::Nothing, Box::new(log.clone())).unwrap();
        *seat.primary.lock().unwrap() = Some(primary.clone());
        voter.order(Input::Begins { inherited: store.durable().here() }).await.unwrap();
        Lead { store, log, primary, stop, voting, node: kept, voter, seat }
    }

    pub(super) fn follow(&self) -> Follow {
        let opened = self.open();
        let (me, store, log, node) = (opened.me, opened.store.clone(), opened.log.clone(), Arc::clone(&opened.node));
        let (following, view) = self.following(opened);
        let standby = Standby::new(following);
        standby.prepare().unwrap();
        Follow { me, store, log, node, view, standby, session: None }
    }

    fn following(&self, Opened { me, cluster, node, store, log }: Opened) -> (Following, watch::Sender<View>) {
        let machine = Register::new(me, node.promises().unwrap(), Timing::default(), clock::boot());
        let view = watch::Sender::new(View::of(&machine));
        let following = Following {
            me,
            cluster,
            incarnation: node.count_start().unwrap(),
            node,
            store,
            log,
            state_dir: self.dir.path().to_owned(),
            view: view.subscribe(),
            arrivals: Arc::default(),
        };
        (following, view)
    }

    /// Ends the reign of `lead`, whose database stays open for the next primary's records.
    pub(super) async fn demote(&self, lead: Lead) -> Follow {
        let Lead { store, log, primary, stop, voting, node, seat, voter: _ } = lead;
        seat.yields.store(true, Ordering::Relaxed);
        stop.cancel();
        voting.await.unwrap();
        primary.end();
        let rested = store.rest().unwrap();
        let kept = Arc::clone(&node);
        let opened = Opened { me: self.me, cluster: self.cluster, node, store: store.clone(), log: log.clone() };
        let (following, view) = self.following(opened);
        let standby = Standby::after_reign(following, rested).unwrap();
        Follow { me: self.me, store, log, node: kept, view, standby, session: None }
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
    voting: JoinHandle<()>,
    node: Arc<NodeState>,
    voter: Voter,
    seat: Arc<DataSeat>,
}

impl Lead {
    /// What the register says, as this node leads.
    pub(super) fn view(&self) -> watch::Receiver<View> {
        self.voter.view()
    }

    pub(super) fn is_in_sync(&self) -> bool {
        self.view().now().is_in_sync
    }

    fn let_go(&self) {
        *self.seat.primary.lock().unwrap() = None;
    }

    pub(super) async fn close(self) {
        self.stop.cancel();
        self.let_go();
        self.voting.await.unwrap();
        drop((self.primary, self.voter, self.seat));
        self.store.close().await.unwrap();
    }

    /// Ends as a process whose disk is gone.
    pub(super) async fn die(self) {
        // Who waits for the other node would wait for ever.
        self.store.give_up("the power is gone");
        self.stop.cancel();
        self.let_go();
        drop(self.voting.await);
        self.primary.end();
        drop((self.primary, self.voter, self.seat));
        drop(self.store.close().await);
    }
}

pub(super) struct Follow {
    me: MemberId,
    pub(super) store: Store,
    pub(super) log: LocalLog,
    node: Arc<NodeState>,
    view: watch::Sender<View>,
    standby: Standby,
    session: Option<(CancellationToken, JoinHandle<Result<(), StandbyError>>)>,
}

impl Follow {
    pub(super) fn connect(&mut self, lead: &Lead) {
        self.hear_of(lead);
        let (near, far) = tokio::io::duplex(1 << 20);
        self.connect_by(near);
        let (primary, peer) = (lead.primary.clone(), self.me);
        TaskTracker::new()
            .spawn(async move { primary.serve(far, move |member| member == peer, CancellationToken::new()).await });
    }

    /// Stores the configuration of `lead`, as the primary proposes it.
    pub(super) fn hear_of(&self, lead: &Lead) {
        let config = lead.view().now().in_force.clone().unwrap();
        let promises = self.node.promises().unwrap();
        let mut machine = Register::new(self.me, promises, Timing::default(), clock::boot());
        let from = config.primary;
        for output in machine.step(Input::Heard { from, message: Message::Propose { config } }, clock::boot()) {
            if let Output::Persist(promises) = output {
                self.node.promise(&promises, "a test").unwrap();
            }
        }
        let view = View::of(&machine);
        self.log.follow_only(view.follows);
        self.view.send_replace(view);
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
        self.seen().now().is_agreed
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
        let (mut view, mut seen) = (lead.view(), self.standby.seen());
        view.wait_for(|view| view.is_in_sync).await.unwrap();
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
    let mut view = lead.view();
    let added = view.wait_for(|view| view.is_in_sync);
    tokio::time::timeout(PATIENCE, added).await.expect("it is added").unwrap();
}

pub(super) async fn alone(lead: &Lead) {
    let mut view = lead.view();
    let dropped = view.wait_for(|view| view.in_force.as_ref().is_some_and(|config| !config.has_two_in_sync()));
    tokio::time::timeout(PATIENCE, dropped).await.expect("it is dropped").unwrap();
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(super) fn begin(store: &Store, id: &str, length: usize) -> Pending<()> {
    try_begin(store, id, length).unwrap()
}

pub(super) fn try_begin(store: &Store, id: &str, length: usize) -> Result<Pending<()>, StoreError> {
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
        title: String::new(),
        settings: None,
        replaces: None,
        region: None,
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
        conversation: None,
        replaces: None,
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
