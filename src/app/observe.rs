//! What is counted in other rooms, shown as metrics.

use super::core::Core;
use crate::base::UnixMillis;
use crate::clock;
use crate::gateway::{Breakers, Gateway};
use crate::limiter::Limiter;
use crate::protocol::cluster::Config;
use crate::replica::{Certificate, DECISIONS, Pair, Role};
use crate::telemetry::Telemetry;
use crate::watched::Watched;
use std::sync::Arc;

/// What the other rooms count, under the names of the operators' runbook.
pub(super) fn all(
    telemetry: &Telemetry,
    core: &Core,
    (gateway, breakers, limiter): (&Gateway, Breakers, Arc<Limiter>),
) {
    let store = core.store.clone();
    telemetry.observe("db_pool_total", "Readers of the store.", move || count(store.stats().readers_total));
    let store = core.store.clone();
    telemetry.observe("db_pool_idle", "Readers that wait for a query.", move || count(store.stats().readers_idle));
    let store = core.store.clone();
    telemetry
        .observe("db_pool_waiting", "Queries that wait for a reader.", move || count(store.stats().readers_waiting));
    let hits = Arc::clone(&core.caches.counters);
    telemetry.observe("cache_hit_rate", "Hits per lookup since the start, 0 to 1.", move || {
        let (hits, misses) = hits();
        count(hits) / count((hits + misses).max(1))
    });
    let store = core.store.clone();
    telemetry.observe_total("db_queries_total", "Reads of the store.", move || store.stats().queries);
    let store = core.store.clone();
    telemetry.observe_total("llmchat_store_commits_total", "Transactions of the store.", move || store.stats().commits);
    let store = core.store.clone();
    telemetry.observe_total("llmchat_store_jobs_total", "Writes in those transactions.", move || store.stats().jobs);
    let store = core.store.clone();
    telemetry.observe("llmchat_store_queue", "Writes that wait for the writer.", move || count(store.stats().queued));
    let store = core.store.clone();
    telemetry.observe(
        "llmchat_audit_broken_row",
        "Row of the audit that was changed, as its trimming has found; 0 where none was.",
        move || count(store.stats().audit_broken_at),
    );
    of_pair(telemetry, &core.pair);
    of_register(telemetry, &core.pair);
    of_scrub(telemetry, &core.pair);
    of_certificates(telemetry, &core.pair);
    telemetry.observe_by("llmchat_breakers", "Circuits by how they stand.", "state", move || breakers.states());
    of_limiter(telemetry, limiter);
    let gateway = gateway.clone();
    telemetry.observe("llmchat_turns_running", "Turns under way.", move || count(gateway.running()));
}

/// Who asked too often, and whether the limiter works.
fn of_limiter(telemetry: &Telemetry, limiter: Arc<Limiter>) {
    let refusals = Arc::clone(&limiter);
    telemetry.observe_totals_by(
        "llmchat_limiter_refusals_total",
        "Requests refused because they came too often, by limit.",
        "limit",
        move || refusals.refused_total().to_vec(),
    );
    let keys = Arc::clone(&limiter);
    telemetry.observe_by(
        "llmchat_limiter_keys",
        "Clients, logins and agents in memory, by limit.",
        "limit",
        move || keys.keys().map(|(limit, keys)| (limit, count(keys))).to_vec(),
    );
    let faults = Arc::clone(&limiter);
    telemetry.observe_total(
        "llmchat_limiter_faults_total",
        "Faults of the limiter; each let a request through and lost the counts.",
        move || faults.faults_total(),
    );
    telemetry.observe_total(
        "llmchat_limiter_uncounted_total",
        "Requests let through uncounted, as all whom the limiter remembers were at their limit.",
        move || limiter.uncounted_total(),
    );
}

/// How the pair stands, as this node sees it.
fn of_pair(telemetry: &Telemetry, pair: &Pair) {
    let is = |yes: bool| if yes { 1.0 } else { 0.0 };
    let role = pair.role();
    telemetry.observe("llmchat_is_primary", "1 on the primary, 0 on any other node.", move || {
        is(role.now() == Role::Primary)
    });
    let synced = pair.clone();
    let config = pair.config();
    telemetry.observe("llmchat_in_sync", "1 where every acknowledged commit is on two disks.", move || {
        let has_two = config.look(Config::has_two_in_sync);
        is(has_two && synced.is_connected())
    });
    let seen = pair.clone();
    telemetry.observe("llmchat_standby_connected", "On the primary: 1 while the standby follows.", move || {
        is(seen.standby_seen().is_some_and(|standby| standby.is_connected))
    });
    let diverged = pair.log().clone();
    telemetry.observe_total(
        "llmchat_diverged_commits_total",
        "Commits given up for another history, as far as they are kept.",
        move || diverged.given_up(),
    );
    let behind = pair.clone();
    telemetry.observe(
        "llmchat_standby_lag_commits",
        "Commits that the standby's disk lacks, or its database on a standby.",
        move || count(behind.lag()),
    );
    let behind = pair.clone();
    telemetry.observe(
        "llmchat_standby_apply_lag_seconds",
        "On the primary: for how long the standby's database has lacked something that is on its disk for good.",
        move || behind.standby_seen().map_or(0.0, |seen| seen.apply_lag.as_secs_f64()),
    );
    let paused = pair.clone();
    telemetry.observe(
        "llmchat_writer_pause_seconds",
        "Before each group of commits, while the standby's database does not follow quickly enough.",
        move || paused.store().pause().as_secs_f64(),
    );
    let stale = pair.clone();
    telemetry.observe(
        "llmchat_standby_lag_seconds",
        "On the standby: since its database was as the primary's.",
        move || stale.primary_seen().and_then(|seen| seen.staleness()).map_or(0.0, |age| age.as_secs_f64()),
    );
    let applied = telemetry.clone();
    pair.tell_applied(move |took| applied.record_applied(took));
}

/// What would happen if a node were lost, and what was decided when one was.
fn of_register(telemetry: &Telemetry, pair: &Pair) {
    let is = |yes: bool| if yes { 1.0 } else { 0.0 };
    let seen = pair.clone();
    telemetry.observe_where(
        "llmchat_witness_up",
        "On the primary of a pair with a witness: 1 while that votes.",
        move || seen.has_witness().map(is),
    );
    let seen = pair.clone();
    telemetry.observe_where(
        "llmchat_failover_ready",
        "On the primary of a pair with a witness: 1 while the loss of any one node is survived without a hand.",
        move || seen.is_failover_ready().map(is),
    );
    let seen = pair.clone();
    telemetry.observe_where(
        "llmchat_lease_remaining_seconds",
        "On a primary that needs a majority's leave to answer: how long it has it.",
        move || seen.lease_left().map(|left| left.as_secs_f64()),
    );
    telemetry.may_decide(&DECISIONS);
    let decides = telemetry.clone();
    pair.voter().tell_decided(move |decision| decides.decided(decision));
}

/// What was looked at on the disk, and found.
fn of_scrub(telemetry: &Telemetry, pair: &Pair) {
    let scrub = pair.clone();
    telemetry.observe_total("llmchat_scrub_pages_total", "Pages of the database that were checked.", move || {
        scrub.scrubbed().pages
    });
    let scrub = pair.clone();
    telemetry.observe_total("llmchat_scrub_damaged_total", "Pages that came to harm on the disk.", move || {
        scrub.scrubbed().damaged
    });
    let scrub = pair.clone();
    telemetry.observe_total("llmchat_scrub_mended_total", "Pages mended with the other node's.", move || {
        scrub.scrubbed().mended
    });
    let scrub = pair.clone();
    telemetry.observe("llmchat_scrub_damaged", "Pages that are damaged now.", move || count(scrub.scrubbed().open));
}

fn of_certificates(telemetry: &Telemetry, pair: &Pair) {
    let pair = pair.clone();
    telemetry.observe_by(
        "llmchat_certificate_expiry_seconds",
        "Until a certificate ends; below 0 it has.",
        "certificate",
        move || {
            let now = clock::unix_millis();
            let left = |ends_at: UnixMillis| i32::try_from((ends_at.0 - now.0) / 1000).unwrap_or(i32::MAX);
            let all = pair.certificates();
            all.iter().map(|one: &Certificate| (one.of.as_str(), f64::from(left(one.ends_at)))).collect()
        },
    );
}

/// Counts stay far below 2^53, where a float still tells neighbours apart.
fn count(value: impl TryInto<u32>) -> f64 {
    value.try_into().map_or(f64::from(u32::MAX), f64::from)
}
