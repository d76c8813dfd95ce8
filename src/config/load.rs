use crate::accounts;
use crate::analytics;
use crate::attachments;
use crate::breaker;
use crate::cache;
use crate::config::check::{CONTROL_SOCKET, allowed};
use crate::config::layers::{Layers, Origin};
use crate::config::loaded::Loaded;
use crate::config::old_names;
use crate::config::otel_names;
use crate::config::problems::{Note, Problem, Problems};
use crate::config::retention::Retention;
use crate::config::rules::{Rules, UrlForm};
use crate::config::sections;
use crate::config::sections::{Agents, File, Metrics};
use crate::config::unit::{self, UnitVariables};
use crate::gateway;
use crate::http;
use crate::limiter;
use crate::net::TlsFiles;
use crate::replica;
use crate::store;
use crate::telemetry::Export;
use crate::upstream;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Read when no file is named, where it exists.
const SYSTEM_FILE: &str = "/etc/llmchat/llmchat.toml";
/// A configuration is a few KB; more than this is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Variables of our own: `LLMCHAT__SECTION__KEY`.
const PREFIX: &str = "LLMCHAT__";

/// Everything that was configured, checked: what each room is given when it is built.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) agents_file: Option<PathBuf>,
    /// Directives for `EnvFilter`, which has accepted them.
    pub(crate) log_level: String,
    /// From the first signal to the end, streams in flight included.
    pub(crate) shutdown_grace: Duration,
    /// `false`: nothing of any chat is stored.
    pub(crate) keeps_chats: bool,
    pub(crate) chat: gateway::Settings,
    pub(crate) attachments: attachments::Settings,
    pub(crate) upstream: upstream::Settings,
    pub(crate) breaker: breaker::Rule,
    pub(crate) store: store::Settings,
    pub(crate) journal: replica::Settings,
    /// Where other nodes of the cluster reach this one.
    pub(crate) peer_listen: SocketAddr,
    pub(crate) pair: replica::PairSettings,
    /// Run when the node's role changes.
    pub(crate) role_hook: Option<PathBuf>,
    pub(crate) accounts: accounts::Settings,
    pub(crate) analytics: analytics::Settings,
    pub(crate) cache: cache::Settings,
    pub(crate) limits: limiter::Rules,
    pub(crate) http: http::Settings,
    /// Where the metrics are pushed, if anywhere.
    pub(crate) export: Option<Export>,
    pub(crate) retention: Retention,
    /// The same, for administrators to look at.
    pub(crate) loaded: Option<Arc<Loaded>>,
}

impl Config {
    /// Where the control socket is.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join(CONTROL_SOCKET)
    }

    /// The same for a witness on this machine: what it keeps lies beside what a node would.
    pub(crate) fn of_witness(&self) -> Self {
        Self { state_dir: witness(&self.state_dir), runtime_dir: witness(&self.runtime_dir), ..self.clone() }
    }
}

fn witness(dir: &Path) -> PathBuf {
    // Without a slash at its end.
    let mut name = dir.components().as_path().as_os_str().to_owned();
    name.push("-witness");
    name.into()
}

/// Where the service listens and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
}

/// What the layers are read from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The operator's file and whether it must exist.
    file: (PathBuf, bool),
    environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// The named file, else the system's where it exists; and an environment, such as `std::env::vars_os()`.
    pub(crate) fn new(file: Option<PathBuf>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let file = file.map_or_else(|| (PathBuf::from(SYSTEM_FILE), false), |file| (file, true));
        Self { file, environment: environment.into_iter().collect() }
    }

    /// Where this is the packaged service's file, with the variables that systemd gives the service: what is wrong there is
    /// wrong for the service, whoever looks.
    pub(crate) fn of_unit(&self) -> (Self, Option<UnitVariables>) {
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let unit = (file.0 == Path::new(SYSTEM_FILE)).then(unit::of_package).flatten();
        let variables = unit.iter().flat_map(UnitVariables::pairs);
        let environment = environment.into_iter().chain(variables).collect();
        (Self { file, environment }, unit)
    }
}

/// Reads, sums and checks the layers.
///
/// # Errors
///
/// Everything that is wrong in any of them, at once.
pub(crate) fn load(sources: &Sources) -> Result<(Config, Vec<Note>), Problems> {
    read(sources).map(|(layers, config, notes)| {
        let loaded = Some(Arc::new(Loaded::new(sources, &layers, &notes)));
        (Config { loaded, ..config }, notes)
    })
}

/// As [`load`], for whoever looks for what else is wrong: what can be read of a configuration in spite of its problems.
/// Nothing is to be started with it.
pub(crate) fn look(sources: &Sources) -> (Config, Vec<Note>, Problems) {
    let (_, config, notes, problems) = sum(sources);
    (config, notes, problems)
}

/// As [`load`], with the layers it came from.
pub(super) fn read(sources: &Sources) -> Result<(Layers, Config, Vec<Note>), Problems> {
    let (layers, config, notes, problems) = sum(sources);
    if problems.is_empty() { Ok((layers, config, notes)) } else { Err(problems) }
}

fn sum(sources: &Sources) -> (Layers, Config, Vec<Note>, Problems) {
    let (mut problems, mut notes) = (Problems::default(), Vec::new());
    let mut layers = Layers::shipped();
    let (path, must_exist) = &sources.file;
    lay_file(path, *must_exist, &mut layers, &mut problems);
    let variables = variables(sources, &mut problems);
    old_names::lay(&variables, &mut layers, &mut problems, &mut notes);
    otel_names::lay(&variables, &mut layers, &mut problems, &mut notes);
    for (name, text) in &variables {
        if let Some(key) = name.strip_prefix(PREFIX) {
            layers.lay_variable(name, &key.to_ascii_lowercase().replace("__", "."), text, &mut problems);
        }
    }
    let file =
        File::deserialize(layers.table()).expect("layers keep the shape of the shipped file, and a test reads it");
    let config = check(file, &mut Rules(&mut problems));
    problems.trace(|key| layers.origin(key));
    (layers, config, notes, problems)
}

fn lay_file(path: &Path, must_exist: bool, layers: &mut Layers, problems: &mut Problems) {
    let read = fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        let whole = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX);
        if whole { Ok(text) } else { Err(io::Error::other("it is longer than 1 MiB")) }
    });
    match read {
        Ok(text) => layers.lay_text(path, &text, problems),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
        Err(error) => problems.add(Problem {
            key: path.display().to_string(),
            rule: format!("must be a file that can be read: {error}"),
            got: None,
            origin: Origin::Default,
        }),
    }
}

/// The variables that are ours to read, sorted by name.
fn variables(sources: &Sources, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, text) in &sources.environment {
        let ours = |name: &&str| name.starts_with(PREFIX) || old_names::knows(name) || otel_names::knows(name);
        let Some(name) = name.to_str().filter(ours) else { continue };
        match text.to_str() {
            Some(text) => drop(variables.insert(name.to_owned(), text.to_owned())),
            None => problems.add(Problem {
                key: name.to_owned(),
                rule: "must be UTF-8".to_owned(),
                got: None,
                origin: Origin::Default,
            }),
        }
    }
    variables
}

fn check(file: File, rules: &mut Rules) -> Config {
    let File {
        server,
        frontend,
        node,
        log,
        agents,
        chat,
        attachments,
        upstream,
        breaker,
        store,
        journal,
        cluster,
        auth,
        cache,
        metrics,
        otlp,
        limits,
        analytics,
        retention,
    } = file;
    let memory_given = limits.memory_bytes;
    let public_url = Some(server.public_url.clone()).filter(|url| !url.is_empty());
    let (memory_bytes, limits) = limits.check(rules);
    let analytics = analytics.check(&server.time_zone, rules);
    let (server, mut http, shutdown_grace) = check_edge(server, &metrics, memory_bytes, rules);
    http.frontend = frontend.check(rules);
    let (state_dir, runtime_dir) = node.check(rules);
    let Agents { file: agents_file } = agents;
    let (keeps_chats, chat) = chat.check(http.client_stall, rules);
    let (peer_listen, pair, role_hook) = cluster.check(rules);
    let retention = retention.check(rules);
    Config {
        server,
        state_dir,
        runtime_dir,
        log_level: log.check(rules),
        agents_file: rules.file("agents.file", agents_file),
        upstream: upstream.check(rules),
        breaker: breaker.check(rules),
        store: store.check(chat.turns_max, rules),
        keeps_chats,
        chat,
        attachments: attachments.check((public_url, retention.attachments), rules),
        journal: journal.check(rules),
        peer_listen,
        pair,
        role_hook,
        accounts: auth.check(rules),
        analytics,
        cache: cache.check(memory_given, rules),
        limits,
        shutdown_grace,
        http,
        export: otlp.check(rules),
        retention,
        loaded: None,
    }
}

/// `[server]` with what else the edge needs to know.
fn check_edge(
    server: sections::Server,
    metrics: &Metrics,
    memory_bytes: u64,
    rules: &mut Rules,
) -> (Server, http::Settings, Duration) {
    let sections::Server {
        listen,
        public_url,
        trusted_proxies,
        cors_origins,
        connections_max,
        head_timeout_ms,
        client_stall_ms,
        body_bytes_max,
        comment_every_ms,
        shutdown_grace_ms,
        time_zone: _,
        tls,
    } = server;
    let address = listen.parse::<SocketAddr>();
    let rule = "must be an address and a port such as 127.0.0.1:3001 or [::]:3001";
    rules.need_text(address.is_ok(), "server.listen", rule, &listen);
    let public_url = rules.url("server.public_url", public_url, UrlForm::Public);
    let trusted_proxies = rules.cidrs("server.trusted_proxies", &trusted_proxies);
    let origin = |origin| rules.url("server.cors_origins", origin, UrlForm::Origin);
    let cors_origins = cors_origins.into_iter().filter_map(origin).collect();
    let connections_max = rules.number("server.connections_max", connections_max, 1..=1_000_000);
    let head_timeout = rules.ms("server.head_timeout_ms", head_timeout_ms, 100..=600_000);
    let client_stall = rules.ms("server.client_stall_ms", client_stall_ms, 100..=600_000);
    let body_bytes_max = rules.number("server.body_bytes_max", body_bytes_max, 1_024..=32 << 20);
    let comment_every = rules.ms("server.comment_every_ms", comment_every_ms, 100..=600_000);
    let shutdown_grace = rules.ms("server.shutdown_grace_ms", shutdown_grace_ms, 0..=3_600_000);
    let tls = tls.check(rules);
    let Metrics { allow } = metrics;
    let http = http::Settings {
        body_bytes_max,
        head_timeout,
        client_stall,
        connections_max,
        comment_every,
        cors_origins,
        metrics_allow: allowed(allow, rules),
        trusted_proxies,
        frontend: None,
        secure: tls.is_some() || public_url.as_ref().is_some_and(|url| url.starts_with("https://")),
        memory_bytes_max: memory_bytes,
    };
    let listen = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    (Server { listen, tls }, http, shutdown_grace)
}
