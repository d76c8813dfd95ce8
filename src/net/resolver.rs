use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the operator changes in `/etc/hosts` or `/etc/resolv.conf` counts after this long.
pub(super) const REREAD_EVERY: Duration = Duration::from_secs(30);
/// All tries together: less than the 5 s of a connection attempt, so that a dead name server is called by its name.
pub(super) const LOOKUP_MAX: Duration = Duration::from_secs(4);
/// One try, whatever resolv.conf says: three of them fit into [`LOOKUP_MAX`].
const TRY_MAX: Duration = Duration::from_millis(1_200);
/// Answers kept for as long as they are good: an installation talks to a handful of hosts.
const CACHED_ANSWERS_MAX: u64 = 256;

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("`{host}` is no name that could be looked up")]
    Malformed { host: String },
    #[error("the name server knows no address of `{host}`")]
    Unknown { host: String },
    #[error("no name server answered for `{host}` in time")]
    Silent { host: String },
    #[error("read /etc/resolv.conf to look up `{host}`")]
    NoServers { host: String, source: NetError },
    #[error("look up `{host}`")]
    Failed { host: String, source: NetError },
}

/// Finds addresses of names as this machine is set up to: `/etc/hosts`, then the servers of `/etc/resolv.conf`.
///
/// Clones share what they know. Nothing is read before the first name is asked for, so that a machine without
/// name servers starts, and serves whatever needs none.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    now: fn() -> Instant,
    read: Box<dyn Fn() -> System + Send + Sync>,
    known: Mutex<Option<Known>>,
}

/// What the machine says about names.
pub(super) struct System {
    pub(super) hosts: Hosts,
    pub(super) servers: Result<(ResolverConfig, ResolverOpts), NetError>,
}

#[derive(Clone)]
struct Known {
    read_at: Instant,
    hosts: Arc<Hosts>,
    servers: Result<TokioResolver, NetError>,
    /// The servers as text, to see whether they are still the same: their configuration cannot be compared.
    written: String,
}

impl Resolver {
    /// By this machine's own files. `now` is the clock by which they grow old.
    pub(crate) fn new(now: fn() -> Instant) -> Self {
        Self::with(now, || System {
            hosts: Hosts::from_system().unwrap_or_default(),
            servers: hickory_resolver::system_conf::read_system_conf(),
        })
    }

    /// By what `read` says this machine says.
    pub(super) fn with(now: fn() -> Instant, read: impl Fn() -> System + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { now, read: Box::new(read), known: Mutex::new(None) }))
    }

    /// The addresses of `host`, with port 0. IPv6 is asked for only where there is no IPv4.
    ///
    /// A literal address and `localhost` are answered without asking anybody. Takes at most 4 s. Needs a runtime.
    ///
    /// # Cancel safety
    ///
    /// Safe; the answer may still reach the cache.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        let host = || host.to_owned();
        // Relaxed: names of containers have underscores.
        let name = Name::from_str_relaxed(bare).map_err(|_| ResolveError::Malformed { host: host() })?;
        let lower = bare.trim_end_matches('.').to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]);
        }
        let known = self.known();
        let written_down = in_hosts(&known.hosts, &name.to_lowercase());
        if !written_down.is_empty() {
            return Ok(written_down);
        }
        let servers = known.servers.map_err(|source| ResolveError::NoServers { host: host(), source })?;
        let found = match tokio::time::timeout(LOOKUP_MAX, servers.lookup_ip(name)).await {
            Ok(Ok(found)) => found,
            Err(_) | Ok(Err(NetError::Timeout | NetError::NoConnections)) => {
                return Err(ResolveError::Silent { host: host() });
            }
            Ok(Err(error)) if error.is_no_records_found() => return Err(ResolveError::Unknown { host: host() }),
            Ok(Err(source)) => return Err(ResolveError::Failed { host: host(), source }),
        };
        let found: Vec<_> = found.iter().map(|address| SocketAddr::new(address, 0)).collect();
        if found.is_empty() { Err(ResolveError::Unknown { host: host() }) } else { Ok(found) }
    }

    /// What is known, read again when it is old or was no use. Two small files: microseconds.
    fn known(&self) -> Known {
        let now = (self.0.now)();
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) if known.servers.is_ok() && now < known.read_at + REREAD_EVERY => known.clone(),
            known => {
                let read = Known::read(&self.0.read, known.take(), now);
                known.insert(read).clone()
            }
        }
    }
}

impl Known {
    fn read(read: &dyn Fn() -> System, before: Option<Self>, now: Instant) -> Self {
        let System { hosts, servers } = read();
        let hosts = Arc::new(hosts);
        let written = format!("{servers:?}");
        // The same servers as before keep their answers and their connections.
        let servers = match before {
            Some(before) if before.servers.is_ok() && before.written == written => before.servers,
            _ => servers.and_then(|(config, options)| build(config, options)),
        };
        Self { read_at: now, hosts, servers, written }
    }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHED_ANSWERS_MAX;
    options.timeout = options.timeout.min(TRY_MAX);
    options.attempts = options.attempts.min(2);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

/// Both families at once and no server: what is written down here is the whole truth about the name.
fn in_hosts(hosts: &Hosts, name: &Name) -> Vec<SocketAddr> {
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)))
        .flat_map(|found| found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .map(|address| SocketAddr::new(address, 0))
        .collect()
}
