//! What the operator wrote becomes what the rooms use. Each section is taken apart field by field, so that a new
//! key does not compile until it is checked.

use crate::accounts;
use crate::analytics;
use crate::attachments;
use crate::base::Cidr;
use crate::breaker;
use crate::cache;
use crate::config::rules::{DAY_MS, Rules, UrlForm, fits_socket, path};
use crate::config::sections::{
    Analytics, Attachments, Auth, Breaker, Cache, Chat, Cluster, Frontend, Journal, Limits, Log, Node, Store, Tls,
    Upstream,
};
use crate::gateway;
use crate::http;
use crate::limiter;
use crate::net::{ServerTls, TlsFiles, check_roots};
use crate::replica;
use crate::store;
use crate::upstream;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The control socket's name in `node.runtime_dir`.
pub(super) const CONTROL_SOCKET: &str = "control.sock";

impl Tls {
    pub(super) fn check(self, rules: &mut Rules) -> Option<TlsFiles> {
        let Self { cert, key } = self;
        let both = "cert and key must be set together";
        rules.need_text(!cert.is_empty() || key.is_empty(), "server.tls.cert", both, &cert);
        rules.need_text(!key.is_empty() || cert.is_empty(), "server.tls.key", both, &key);
        let (cert, key) = (rules.file("server.tls.cert", cert), rules.file("server.tls.key", key));
        let files = TlsFiles { cert: cert?, key: key? };
        if files.cert.is_file() && files.key.is_file() {
            rules.usable("server.tls.cert", &files.cert, ServerTls::load(files.clone()).map(drop));
        }
        Some(files)
    }
}

impl Frontend {
    pub(super) fn check(self, rules: &mut Rules) -> Option<PathBuf> {
        let dir = path(self.dir)?;
        if let Err(error) = http::check_frontend(&dir) {
            rules.unfit("frontend.dir", "must be a directory with a built front end", &dir, &error);
        }
        Some(dir)
    }
}

impl Node {
    /// The state directory and the runtime directory.
    pub(super) fn check(self, rules: &mut Rules) -> (PathBuf, PathBuf) {
        let Self { state_dir, runtime_dir } = self;
        rules.need_text(!state_dir.is_empty(), "node.state_dir", "must not be empty", &state_dir);
        let is_other = std::fs::metadata(&state_dir).is_ok_and(|found| !found.is_dir());
        rules.need(!is_other, "node.state_dir", "must be a directory, or not be there yet", &state_dir);
        let (key, runtime_dir) = match path(runtime_dir) {
            Some(runtime_dir) => ("node.runtime_dir", runtime_dir),
            None => ("node.state_dir", PathBuf::from(&state_dir)),
        };
        let short = fits_socket(&runtime_dir.join(CONTROL_SOCKET));
        rules.need(short, key, "must leave room for control.sock in 107 bytes", runtime_dir.display());
        (PathBuf::from(state_dir), runtime_dir)
    }
}

impl Log {
    pub(super) fn check(self, rules: &mut Rules) -> String {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let Self { level } = self;
        // A bare word that is no level would be taken for the name of a part of the program, and silence the rest.
        let known = |part: &str| {
            part.contains(['=', '[']) || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part.trim()))
        };
        let holds = level.split(',').all(known) && EnvFilter::try_new(&level).is_ok();
        let rule = "must be error, warn, info, debug, trace or off, perhaps per part: \"info,llmchat::store=debug\"";
        rules.need_text(holds, "log.level", rule, &level);
        level
    }
}

impl Chat {
    /// Whether chats are kept, and how they are relayed. `client_stall` is the edge's: who does not read is waited
    /// for so long on every floor.
    pub(super) fn check(self, client_stall: Duration, rules: &mut Rules) -> (bool, gateway::Settings) {
        let Self { persist, head_hold_ms, resume_grace_ms, record_wait_ms, turns_max, history_turns_max } = self;
        let settings = gateway::Settings {
            head_hold: rules.ms("chat.head_hold_ms", head_hold_ms, 0..=60_000),
            resume_grace: rules.ms("chat.resume_grace_ms", resume_grace_ms, 0..=3_600_000),
            record_wait: rules.ms("chat.record_wait_ms", record_wait_ms, 1..=60_000),
            client_stall,
            turns_max: rules.number("chat.turns_max", turns_max, 1..=100_000),
            history_turns_max: rules.number("chat.history_turns_max", history_turns_max, 0..=1_000),
        };
        (persist, settings)
    }
}

impl Attachments {
    /// `keep_idle` is `retention.attachments`: `None` removes no file for its age.
    pub(super) fn check(
        self,
        (public_url, keep_idle): (Option<String>, Option<Duration>),
        rules: &mut Rules,
    ) -> attachments::Settings {
        let Self { owner_day_bytes, owner_bytes, visitors_day_bytes, visitors_bytes, total_bytes, link_hours } = self;
        let bytes = 0..=1 << 50;
        let hours = 1..=24 * 365;
        attachments::Settings {
            quota: store::Quota {
                owner_day: rules.number("attachments.owner_day_bytes", owner_day_bytes, bytes.clone()),
                owner: rules.number("attachments.owner_bytes", owner_bytes, bytes.clone()),
                visitors_day: rules.number("attachments.visitors_day_bytes", visitors_day_bytes, bytes.clone()),
                visitors: rules.number("attachments.visitors_bytes", visitors_bytes, bytes.clone()),
                total: rules.number("attachments.total_bytes", total_bytes, bytes),
            },
            keep_idle,
            link_life: Duration::from_hours(rules.number("attachments.link_hours", link_hours, hours)),
            public_url,
        }
    }
}

impl Upstream {
    pub(super) fn check(self, rules: &mut Rules) -> upstream::Settings {
        let Self { connect_ms, first_byte_ms, first_token_ms, idle_ms, total_ms, ca_file, proxy } = self;
        let at_most = format!("must be at most total_ms ({total_ms})");
        rules.need(first_byte_ms <= total_ms, "upstream.first_byte_ms", &at_most, first_byte_ms);
        rules.need(first_token_ms <= total_ms, "upstream.first_token_ms", &at_most, first_token_ms);
        let less = format!("must be less than total_ms ({total_ms})");
        rules.need(idle_ms < total_ms, "upstream.idle_ms", less, idle_ms);
        let ca_file = rules.file("upstream.ca_file", ca_file);
        if let Some(path) = &ca_file {
            rules.usable("upstream.ca_file", path, check_roots(path));
        }
        upstream::Settings {
            connect: rules.ms("upstream.connect_ms", connect_ms, 1..=DAY_MS),
            first_byte: rules.ms("upstream.first_byte_ms", first_byte_ms, 1..=DAY_MS),
            first_token: rules.ms("upstream.first_token_ms", first_token_ms, 1..=DAY_MS),
            idle: rules.ms("upstream.idle_ms", idle_ms, 1..=DAY_MS),
            total: rules.ms("upstream.total_ms", total_ms, 1..=DAY_MS),
            ca_file,
            proxy: rules.url("upstream.proxy", proxy, UrlForm::Proxy),
        }
    }
}

impl Breaker {
    pub(super) fn check(self, rules: &mut Rules) -> breaker::Rule {
        let Self { failures_to_open, successes_to_close, cooldown_ms, distinct_apps, distinct_window_ms } = self;
        breaker::Rule {
            failures_to_open: rules.number("breaker.failures_to_open", failures_to_open, 1..=1_000),
            successes_to_close: rules.number("breaker.successes_to_close", successes_to_close, 1..=1_000),
            cooldown: rules.ms("breaker.cooldown_ms", cooldown_ms, 100..=DAY_MS),
            distinct_apps: rules.number("breaker.distinct_apps", distinct_apps, 1..=1_000),
            distinct_window: rules.ms("breaker.distinct_window_ms", distinct_window_ms, 100..=DAY_MS),
        }
    }
}

impl Store {
    /// Each of `turns_max` turns under way has an end for which the queue keeps room.
    pub(super) fn check(self, turns_max: usize, rules: &mut Rules) -> store::Settings {
        let Self {
            queue_jobs_max,
            group_jobs_max,
            group_wait_ms,
            question_wait_ms,
            readers_min,
            readers_max,
            acquire_timeout_ms,
            query_timeout_ms,
            chat_budget_ms,
            probe_every_ms,
            checkpoint_bytes,
            checkpoint_restart_bytes,
        } = self;
        let at_least = format!("must be at least group_jobs_max ({group_jobs_max})");
        rules.need(queue_jobs_max >= group_jobs_max, "store.queue_jobs_max", at_least, queue_jobs_max);
        let at_least = format!("must be at least readers_min ({readers_min})");
        rules.need(readers_max >= readers_min, "store.readers_max", at_least, readers_max);
        let larger = format!("must be more than checkpoint_bytes ({checkpoint_bytes})");
        let restarts_later = checkpoint_restart_bytes > checkpoint_bytes;
        rules.need(restarts_later, "store.checkpoint_restart_bytes", larger, checkpoint_restart_bytes);
        store::Settings {
            // 256 MB, which take 0.2 s.
            scan_pages_max: 65_536,
            queue_ends_max: turns_max,
            queue_jobs_max: rules.number("store.queue_jobs_max", queue_jobs_max, 1..=1_000_000),
            group_jobs_max: rules.number("store.group_jobs_max", group_jobs_max, 1..=100_000),
            group_wait: rules.ms("store.group_wait_ms", group_wait_ms, 0..=1_000),
            question_wait: rules.ms("store.question_wait_ms", question_wait_ms, 0..=50),
            readers_min: rules.number("store.readers_min", readers_min, 1..=1_000),
            readers_max: rules.number("store.readers_max", readers_max, 1..=1_000),
            acquire_timeout: rules.ms("store.acquire_timeout_ms", acquire_timeout_ms, 1..=600_000),
            query_timeout: rules.ms("store.query_timeout_ms", query_timeout_ms, 1..=600_000),
            chat_budget: rules.ms("store.chat_budget_ms", chat_budget_ms, 1..=60_000),
            probe_every: rules.ms("store.probe_every_ms", probe_every_ms, 100..=DAY_MS),
            checkpoint_bytes: rules.number("store.checkpoint_bytes", checkpoint_bytes, 65_536..=1 << 40),
            checkpoint_restart_bytes: rules.number(
                "store.checkpoint_restart_bytes",
                checkpoint_restart_bytes,
                65_536..=1 << 40,
            ),
        }
    }
}

impl Journal {
    pub(super) fn check(self, rules: &mut Rules) -> replica::Settings {
        let Self { keep_hours, bytes_max, segment_bytes } = self;
        let room = format!("must be at least twice journal.segment_bytes ({segment_bytes})");
        rules.need(bytes_max / 2 >= segment_bytes, "journal.bytes_max", room, bytes_max);
        let hours: u64 = rules.number("journal.keep_hours", keep_hours, 1..=24 * 365);
        replica::Settings {
            segment_bytes: rules.number("journal.segment_bytes", segment_bytes, 1 << 20..=256 << 20),
            keep: Duration::from_hours(hours),
            bytes_max: rules.number("journal.bytes_max", bytes_max, 2 << 20..=1 << 50),
        }
    }
}

impl Cluster {
    /// Where peers are listened for, how the pair behaves, and what is run when its roles change.
    pub(super) fn check(self, rules: &mut Rules) -> (SocketAddr, replica::PairSettings, Option<PathBuf>) {
        let Self { listen, sync_timeout_ms, reconnect_ms, stable_ms, start_alone, role_hook } = self;
        let address = listen.parse::<SocketAddr>();
        let rule = "must be an address and a port such as 0.0.0.0:7443 or [::]:7443";
        rules.need_text(address.is_ok(), "cluster.listen", rule, &listen);
        let timing = replica::Timing {
            sync_timeout: rules.ms("cluster.sync_timeout_ms", sync_timeout_ms, 500..=60_000),
            reconnect: rules.ms("cluster.reconnect_ms", reconnect_ms, 0..=60_000),
            flap_stable: rules.ms("cluster.stable_ms", stable_ms, 0..=600_000),
            ..replica::Timing::default()
        };
        let listen = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let rule = "must be an absolute path, or empty";
        let hook = (!role_hook.is_empty()).then(|| PathBuf::from(&role_hook));
        rules.need_text(hook.as_ref().is_none_or(|hook| hook.is_absolute()), "cluster.role_hook", rule, &role_hook);
        (listen, replica::PairSettings { timing, start_alone }, hook)
    }
}

impl Auth {
    pub(super) fn check(self, rules: &mut Rules) -> accounts::Settings {
        let Self { anonymous_chat, registration, access_seconds, refresh_seconds } = self;
        let at_least = format!("must be at least access_seconds ({access_seconds})");
        rules.need(refresh_seconds >= access_seconds, "auth.refresh_seconds", at_least, refresh_seconds);
        let lifetimes = accounts::Lifetimes {
            access: rules.number("auth.access_seconds", access_seconds, 60..=30 * 86_400),
            refresh: rules.number("auth.refresh_seconds", refresh_seconds, 60..=365 * 86_400),
        };
        accounts::Settings { anonymous_chat, registration, lifetimes }
    }
}

impl Cache {
    /// `memory_bytes` is what the whole process may use: a cache of more than half of it leaves none to work with.
    pub(super) fn check(self, memory_bytes: u64, rules: &mut Rules) -> cache::Settings {
        let Self { bytes_max, init_ttl_ms, session_ttl_ms } = self;
        let half = format!("must be at most half of limits.memory_bytes ({memory_bytes})");
        rules.need(bytes_max <= memory_bytes / 2, "cache.bytes_max", half, bytes_max);
        cache::Settings {
            bytes_max: rules.number("cache.bytes_max", bytes_max, 65_536..=1 << 40),
            init_ttl: rules.ms("cache.init_ttl_ms", init_ttl_ms, 1..=DAY_MS),
            session_ttl: rules.ms("cache.session_ttl_ms", session_ttl_ms, 1..=DAY_MS),
        }
    }
}

impl Limits {
    /// What the process may use, in bytes, and how often clients may ask.
    pub(super) fn check(self, rules: &mut Rules) -> (u64, limiter::Rules) {
        let Self {
            memory_bytes,
            api_requests_max,
            api_window_ms,
            chat_requests_max,
            chat_window_ms,
            chat_block_ms,
            login_failures_max,
            address_failures_max,
            login_window_ms,
            clients_max,
        } = self;
        // A shorter window would be told to clients as none.
        let window = 1_000..=DAY_MS;
        let times = 0..=1_000_000_000;
        let limit = |max, window, block| (max > 0).then_some(limiter::Rule { max, window, block });
        let api = limit(
            rules.number("limits.api_requests_max", api_requests_max, times.clone()),
            rules.ms("limits.api_window_ms", api_window_ms, window.clone()),
            Duration::ZERO,
        );
        let chat = limit(
            rules.number("limits.chat_requests_max", chat_requests_max, times.clone()),
            rules.ms("limits.chat_window_ms", chat_window_ms, window.clone()),
            rules.ms("limits.chat_block_ms", chat_block_ms, 0..=DAY_MS),
        );
        let lockout = rules.ms("limits.login_window_ms", login_window_ms, window);
        let login =
            limit(rules.number("limits.login_failures_max", login_failures_max, times.clone()), lockout, lockout);
        let failures = rules.number("limits.address_failures_max", address_failures_max, times);
        let address = limit(failures, lockout, lockout);
        let keys_max = rules.number("limits.clients_max", clients_max, 1_024..=16 << 20);
        let memory_bytes = rules.number("limits.memory_bytes", memory_bytes, 64 << 20..=1 << 44);
        (memory_bytes, limiter::Rules { api, chat, login, address, keys_max })
    }
}

impl Analytics {
    /// The database of places may be missing or broken: then no place is known, and the log says so.
    pub(super) fn check(self, time_zone: &str, rules: &mut Rules) -> analytics::Settings {
        let Self { geo_database, home_country } = self;
        let is_country = home_country.len() == 2 && home_country.bytes().all(|byte| byte.is_ascii_uppercase());
        let rule = "must be two letters of ISO 3166, such as CN";
        rules.need_text(is_country, "analytics.home_country", rule, &home_country);
        // Compiled in: both nodes know the same, whatever is installed on them.
        let zone = TimeZoneDatabase::bundled().get(time_zone);
        let rule = "must be a time zone's name, such as Asia/Shanghai or UTC";
        rules.need_text(zone.is_ok(), "server.time_zone", rule, time_zone);
        analytics::Settings { time_zone: zone.unwrap_or(TimeZone::UTC), geo_database: path(geo_database), home_country }
    }
}

/// The ranges of `metrics.allow`; an empty list is meant, and lets nobody in.
pub(super) fn allowed(allow: &[String], rules: &mut Rules) -> Vec<Cidr> {
    rules.cidrs("metrics.allow", allow)
}
