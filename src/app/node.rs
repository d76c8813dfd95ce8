use super::core::{Core, read_agents};
use super::retention::keep;
use super::{hook, observe, peers, roles};
use crate::agents::Import;
use crate::analytics::{Analytics, Geo};
use crate::attachments;
use crate::base::Chain;
use crate::config::Config;
use crate::disk;
use crate::gateway::{self, Breakers, Gateway};
use crate::http::{self, Edge, Listen};
use crate::limiter::Limiter;
use crate::net::ServerTls;
use crate::replica::{Pair, Role};
use crate::sessions::{self, Elsewhere, History, Sessions};
use crate::store::{Store, StoreError, TurnEnd};
use crate::supervisor::{Manager, Reloads, StopSignals, Supervisor};
use crate::telemetry::{self, Exporter, Pushing, Telemetry};
use crate::watched::{News, Watched};
use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

impl Listeners {
    fn url(&self) -> Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = self.edge.local_addr().context("read the listening address")?;
        Ok(format!("{scheme}://{address}"))
    }
}

/// Every connection is an open file, and the usual soft limit of 1024 is for programs that use select.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = limit.current, "the limit of open files stays as it is");
    }
}

/// After the streams' own grace, for their last commits to be on both disks.
const LAST_TURNS_MAX: Duration = Duration::from_secs(5);
/// After the streams' own grace: the last commits, and the connections' last bytes.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Where a node is reached.
pub(crate) struct Listeners {
    pub(crate) edge: TcpListener,
    pub(crate) tls: Option<ServerTls>,
}

/// Runs a node until a signal or the first fault: opens everything from the disk upwards, serves,
/// and closes everything from the edge downwards.
///
/// # Errors
///
/// The start failed, or a task ended that should not have: systemd starts the process again.
pub(crate) async fn run(
    config: Config,
    listeners: Listeners,
    accept_loss: bool,
    stop: &mut StopSignals,
) -> Result<Ended> {
    raise_open_files();
    let address = listeners.url()?;
    let import = config.agents_file.as_deref().map(read_agents).transpose()?;
    let core = Core::open(&config, accept_loss).await?;
    core.note_open()?;
    let pair = core.pair.clone();
    pair.note_alike(config.alike());
    pair.note_lacks(import.iter().flat_map(|import| import.unset.iter().cloned()).collect());
    let (telemetry, exporter) = instruments(&config, &core)?;
    let (breakers, limiter) = (Breakers::new(config.breaker), Arc::new(Limiter::new(config.limits)));
    let sessions = sessions(&config, &core);
    let geo = geo(&config).await;
    let gateway = gateway(&config, &core, (&telemetry, &geo), (&sessions, &breakers, &limiter));
    let edge = edge(&config, &core, (&telemetry, &geo), (&gateway, sessions.clone(), &breakers, &limiter));
    observe::all(&telemetry, &core, (&gateway, breakers, limiter));
    let control = control_socket(&config)?;

    let mut tasks = Supervisor::new();
    let again = Again::default();
    // What streams still need when they end has to outlive them: the other node, and the way to it.
    let drained = CancellationToken::new();
    let (decides, begun_anew, later) = (pair.clone(), again.clone(), drained.clone());
    tasks.spawn("pair", async move |_| decide(decides, begun_anew, later).await);
    let (served, begun_anew) = (core.control(config.peer_listen), again.clone());
    tasks.spawn("control", async move |stop| Ok(http::serve_control(control, served, begun_anew.token(), stop).await?));
    let reloads = Reloads::new().context("listen for SIGHUP")?;
    let tls = listeners.tls.clone();
    tasks.spawn("reload", async move |stop| reload(reloads, (tls, geo), stop).await);
    let (store, deposed) = (core.store.clone(), pair.clone());
    tasks.spawn("store", async move |stop| fenced(store, deposed, stop).await);
    let (listening, reached, later) = (pair.clone(), edge.clone(), drained.clone());
    tasks.spawn("peers", async move |_| peers::serve(listening, reached, config.peer_listen, later).await);
    beside(&mut tasks, &config, (&core, sessions, &telemetry), listeners.tls.clone());
    let core = Arc::new(core);
    let listen = Listen { listener: listeners.edge, tls: listeners.tls, grace: config.shutdown_grace };
    let seeded = Arc::clone(&core);
    let (drains, ending, store, is_given_up) =
        (gateway.clone(), drained.drop_guard(), core.store.clone(), Arc::new(AtomicBool::new(false)));
    let gives_up = Arc::clone(&is_given_up);
    tasks.spawn("http", async move |stop| {
        let _ending = ending;
        let served = serve((seeded, import), (listen, edge), &address, stop).await;
        if tokio::time::timeout(LAST_TURNS_MAX, drains.close()).await.is_err() {
            // They wait for a standby that is not there, and would wait for ever: nobody was promised anything.
            // One that has failed by itself is a fault, as ever.
            gives_up.store(!store.is_fenced(), Ordering::Relaxed);
            store.give_up("the node stops, and the last turns are on this node alone");
            drains.close().await;
        }
        served
    });
    let pushing = exporter.map(|exporter| push(&mut tasks, exporter)).transpose()?;
    let leaving = pair.clone();
    let (store, begun_anew, closing_max) = (core.store.clone(), again.clone(), config.shutdown_grace + 2 * CLOSE_MAX);
    tasks.spawn("manager", async move |stop| manage((pair, store), begun_anew, closing_max, stop).await);

    let mut ending = Ending { stop, pair: leaving, again: again.clone(), is_told: false, is_signalled: false };
    let ran = tasks.run(async || ending.next().await, config.shutdown_grace + CLOSE_MAX).await;
    let closed = tokio::time::timeout(CLOSE_MAX, async {
        gateway.close().await;
        drop(gateway);
        core.close().await
    });
    let closed = closed.await.unwrap_or_else(|_| bail!("the store did not close within {CLOSE_MAX:?}"));
    // A store that was given up on the way out is closed well; who was told to stop has done so, though nobody took over.
    let is_demoted = ran.as_ref().is_err_and(|error| error.chain().any(Pair::is_demotion));
    let is_gone = ending.is_signalled && (ending.pair.is_deposed() || is_demoted);
    let ran = if is_gone { Ok(()) } else { ran };
    let closed = if is_gone || is_given_up.load(Ordering::Relaxed) { Ok(()) } else { closed };
    // Last of all, so that it says all that was counted.
    if let Some(pushing) = pushing {
        pushing.finish().await;
    }
    ran.and(closed).map(|()| if again.is_asked() && !ending.is_signalled { Ended::Again } else { Ended::Stopped })
}

/// Sends what is measured.
fn push(tasks: &mut Supervisor, exporter: Exporter) -> Result<Pushing> {
    let pushing = exporter.start()?;
    tasks.spawn("otlp", |stop| {
        let watch = pushing.watch(stop);
        async move { Ok(watch.await?) }
    });
    Ok(pushing)
}

/// What nobody waits for.
fn beside(
    tasks: &mut Supervisor,
    config: &Config,
    (core, sessions, telemetry): (&Core, Sessions, &Telemetry),
    tls: Option<ServerTls>,
) {
    let (pair, store) = (&core.pair, &core.store);
    let keeps = (History::new(store.clone(), sessions), core.accounts.clone(), pair);
    let gate = keep(tasks, keeps, config.retention, telemetry);
    pair.tell_clients_certificate(move || tls.as_ref().and_then(ServerTls::ends_at));
    if let Some(command) = config.role_hook.clone() {
        let hooked = pair.clone();
        tasks.spawn("hook", async move |stop| hook::follow(command, hooked, stop).await);
    }
    let (audited, led) = (store.clone(), pair.clone());
    tasks.spawn("roles", async move |stop| roles::follow(audited, led, stop).await);
    let warns = pair.clone();
    tasks.spawn("alarms", async move |stop| {
        stop.run_until_cancelled(async { tokio::join!(warns.warn(), warns.watch_witness(), warns.compare_settings()) })
            .await;
        Ok(())
    });
    let (leads, indexed) = (pair.role(), core.store.clone());
    tasks.spawn("index", async move |stop| {
        sessions::follow_with_index(indexed, || leads.now() == Role::Primary, stop).await;
        Ok(())
    });
    let (leads, files) = (pair.role(), (core.store.clone(), core.attachments.clone()));
    tasks.spawn("attachments", async move |stop| {
        let leads = || leads.now() == Role::Primary;
        let store = files.0.clone();
        let is_open = || gate.is_open_now(store.inherited().map(|found| found.epoch));
        attachments::sweep(files, (leads, is_open), stop).await;
        Ok(())
    });
    let scrubs = pair.clone();
    tasks.spawn("scrub", async move |stop| {
        scrubs.scrub(stop).await;
        Ok(())
    });
}

/// Tells systemd how the node is.
async fn manage(
    (pair, store): (Pair, Store),
    again: Again,
    closing_max: Duration,
    stop: CancellationToken,
) -> Result<()> {
    tokio::select! {
        () = pair.decided() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tokio::select! {
        // First: what is told to systemd cannot be taken back, and it kills what has said that it stops and does not.
        biased;
        // The process goes on: to systemd it does not stop.
        () = again.asked() => {
            stop.cancelled().await;
            Ok(())
        }
        followed = Manager::of_this_process().follow(stop.clone(), closing_max, || store.answers()) => followed,
    }
}

/// What ends a node: a signal, or that it has to begin again.
struct Ending<'a> {
    stop: &'a mut StopSignals,
    pair: Pair,
    again: Again,
    is_told: bool,
    /// It is not to begin again.
    is_signalled: bool,
}

impl Ending<'_> {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            signal = self.stop.next() => {
                let is_first = !std::mem::replace(&mut self.is_signalled, true);
                // While the node is about to begin again, it only says that it shall not.
                if is_first && self.is_told {
                    return self.stop.next().await;
                }
                // Nobody who asks meanwhile has to wait for a lease to lapse; a second signal does not wait for it.
                tokio::select! {
                    () = self.pair.leave() => signal,
                    again = self.stop.next() => again,
                }
            }
            () = self.again.asked(), if !self.is_told => {
                self.is_told = true;
                "a new beginning"
            }
        }
    }
}

/// Keeps the node what it is in its cluster, until `stop`.
async fn decide(pair: Pair, again: Again, stop: CancellationToken) -> Result<()> {
    match pair.run(stop.clone()).await {
        Err(error) if error.wants_another_start() => {
            tracing::warn!(error = %Chain(&error), "the node begins again");
            again.token().cancel();
            stop.cancelled().await;
            Ok(())
        }
        ran => Ok(ran?),
    }
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    /// What it is has changed: it is to be run again, in the same process.
    Again,
}

/// The wish to begin again.
#[derive(Clone, Default)]
struct Again(CancellationToken);

impl Again {
    fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    async fn asked(&self) {
        self.0.cancelled().await;
    }

    fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// The agents file is to be durable before the first client; after this it may be so later.
const SEED_WITHIN: Duration = Duration::from_secs(5);

/// Serves clients, once it is known what this node is.
async fn serve(
    (core, import): (Arc<Core>, Option<Import>),
    (listen, edge): (Listen, Edge),
    address: &str,
    stop: CancellationToken,
) -> Result<()> {
    tokio::select! {
        () = core.pair.decided() => {}
        () = stop.cancelled() => return Ok(()),
    }
    if core.pair.role().now() == Role::Primary {
        core.end_restored_logins().await?;
    }
    if let Some(import) = import.clone()
        && core.pair.role().now() == Role::Primary
    {
        // Where nothing is durable without a standby there may be none for long.
        match tokio::time::timeout(SEED_WITHIN, core.seed_agents(import)).await {
            Ok(seeded) => seeded?,
            Err(_) => tracing::warn!("the agents file is read, and not durable yet"),
        }
    }
    if core.pair.role().now() == Role::Primary {
        // It goes on by itself: whoever it makes, and with what password, is said once that is stored.
        let made = TaskTracker::new().spawn(first_admin(Arc::clone(&core)));
        drop(tokio::time::timeout(SEED_WITHIN, made).await);
    }
    let pair = core.pair.clone();
    let seeds = seeds_again(core, import);
    // Scripts and people wait for this line; the port may have been chosen by the kernel.
    tracing::info!("listening on {address}");
    tokio::select! {
        () = http::serve(listen, edge, stop) => {}
        () = seeds => {}
    }
    if pair.is_deposed() {
        bail!("this node is not the primary any more, and starts anew");
    }
    Ok(())
}

/// Makes an administrator where there is none. A node without one serves all the same.
async fn first_admin(core: Arc<Core>) {
    if let Err(error) = core.first_admin().await {
        tracing::error!("there is perhaps no administrator; `llmchat user add NAME --admin` makes one: {error:#}");
    }
}

/// Reads the agents file into the store each time that this node becomes the primary: for ever.
async fn seeds_again(core: Arc<Core>, import: Option<Import>) {
    let mut role = core.pair.role();
    role.mark_unchanged();
    while role.changed().await.is_ok() {
        let is_primary = role.news() == Role::Primary;
        if let Some(import) = import.clone().filter(|_| is_primary)
            && let Err(error) = core.seed_agents(import).await
        {
            tracing::error!("the agents file is not read: {error:#}");
        }
        if is_primary {
            first_admin(Arc::clone(&core)).await;
        }
    }
    std::future::pending::<()>().await;
}

/// Where turns end that began under this node's reign, when that is over.
struct AtThePrimary(Pair);

/// So long a turn's end is tried to be stored elsewhere: its stream may have been told by then that it is not.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(30);

impl Elsewhere for AtThePrimary {
    fn finish(&self, end: Arc<TurnEnd>) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> {
        let pair = self.0.clone();
        Box::pin(async move { pair.finish_turn(end, ELSEWHERE_WITHIN).await })
    }
}

/// The instruments; and an exporter where the metrics are pushed.
fn instruments(config: &Config, core: &Core) -> Result<(Telemetry, Option<Exporter>)> {
    let made = match &config.export {
        None => Telemetry::new().map(|telemetry| (telemetry, None)),
        Some(export) => {
            let made = Telemetry::exporting(export.clone(), &core.node_id()?);
            made.map(|(telemetry, exporter)| (telemetry, Some(exporter)))
        }
    };
    made.context("set up the metrics")
}

/// What tells places by addresses; a database that cannot be read is no reason not to serve.
async fn geo(config: &Config) -> Geo {
    let geo = Geo::new(config.analytics.geo_database.clone(), config.analytics.home_country.clone());
    load_places(&geo).await;
    geo
}

/// A file may be large, and its disk slow.
async fn load_places(geo: &Geo) {
    let geo = geo.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || geo.load()).await {
        tracing::error!(%error, "the database of places is not read");
    }
}

fn edge(
    config: &Config,
    core: &Core,
    (telemetry, geo): (&Telemetry, &Geo),
    (gateway, sessions, breakers, limiter): (&Gateway, Sessions, &Breakers, &Arc<Limiter>),
) -> Edge {
    let log = telemetry::recent();
    log.keep_for(config.retention.logs);
    Edge::new(http::Parts {
        gateway: gateway.clone(),
        history: History::new(core.store.clone(), sessions),
        analytics: Analytics::new(core.store.clone(), config.analytics.time_zone.clone(), geo.clone()),
        agents: core.agents.clone(),
        breakers: breakers.clone(),
        limiter: Arc::clone(limiter),
        visitors: core.visitors.clone(),
        attachments: core.attachments.clone(),
        accounts: core.accounts.clone(),
        store: core.store.clone(),
        pair: core.pair.clone(),
        telemetry: telemetry.clone(),
        settings: config.http.clone(),
        state_dir: config.state_dir.clone(),
        log,
        configured: config.loaded.clone().map(|loaded| -> Arc<dyn http::Configured> { loaded }),
        cache_hits: Arc::clone(&core.caches.counters),
    })
}

fn sessions(config: &Config, core: &Core) -> Sessions {
    let elsewhere: Arc<dyn Elsewhere> = Arc::new(AtThePrimary(core.pair.clone()));
    let kept_in = config.keeps_chats.then(|| (core.store.clone(), elsewhere));
    Sessions::new(kept_in, core.caches.known.clone(), config.cache.session_ttl)
}

fn gateway(
    config: &Config,
    core: &Core,
    (telemetry, geo): (&Telemetry, &Geo),
    (sessions, breakers, limiter): (&Sessions, &Breakers, &Arc<Limiter>),
) -> Gateway {
    Gateway::new(gateway::Parts {
        agents: core.agents.clone(),
        sessions: sessions.clone(),
        attachments: core.attachments.clone(),
        breakers: breakers.clone(),
        limiter: Arc::clone(limiter),
        client: core.client.clone(),
        telemetry: telemetry.clone(),
        geo: geo.clone(),
        settings: config.chat,
        leave: core.store.leave().clone(),
    })
}

/// On SIGHUP reads the certificate and the database of places again; without them there is nothing to read, and no reason
/// to die of it.
async fn reload(mut reloads: Reloads, (tls, geo): (Option<ServerTls>, Geo), stop: CancellationToken) -> Result<()> {
    loop {
        tokio::select! {
            () = reloads.next() => {
                match tls.as_ref().map(ServerTls::reload) {
                    Some(Ok(())) => tracing::info!("certificate read again"),
                    Some(Err(error)) => tracing::error!(error = %Chain(&error), "the old certificate stays in use"),
                    None => tracing::info!("SIGHUP: no certificate to read again"),
                }
                load_places(&geo).await;
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Ends, as a fault, when the store has given up: no reply may be made up from memory after that.
async fn fenced(store: Store, pair: Pair, stop: CancellationToken) -> Result<()> {
    tokio::select! {
        () = store.fenced() => bail!(if pair.is_deposed() {
            "this node is not the primary any more: it ends, and starts anew as what it is then"
        } else {
            "the store has failed and accepts nothing more; see the log above"
        }),
        () = stop.cancelled() => Ok(()),
    }
}

/// The socket of an earlier process is removed: the state lock says that nobody serves it.
pub(super) fn control_socket(config: &Config) -> Result<UnixListener> {
    disk::make_dir(&config.runtime_dir)?;
    let path = config.control_socket();
    disk::remove_if_present(&path)?;
    let socket = UnixListener::bind(&path).with_context(|| format!("listen on `{}`", path.display()))?;
    disk::set_mode(&path, 0o660)?;
    Ok(socket)
}
