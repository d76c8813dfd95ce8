//! Changes of who leads, in the audit: by whoever leads from then on.

use crate::accounts::Actor;
use crate::base::Chain;
use crate::replica::{Pair, Role};
use crate::store::{Store, StoreError};
use crate::watched::{News, Watched};
use anyhow::Result;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Writes a row each time that this node leads and was a standby before, until `stop`. Who begins to lead as a process that
/// was no standby has led before it, or is alone.
pub(super) async fn follow(store: Store, pair: Pair, stop: CancellationToken) -> Result<()> {
    let mut role = pair.role();
    role.mark_changed();
    let mut was_standby = false;
    while let Some(changed) = stop.run_until_cancelled(role.changed()).await {
        changed?;
        match role.news() {
            Role::Standby => was_standby = true,
            Role::Primary if was_standby => {
                was_standby = false;
                if let Err(error) = note(&store, &pair).await {
                    tracing::warn!(error = %Chain(&error), "the audit does not say that this node leads now");
                }
            }
            Role::Primary | Role::Starting(_) => {}
        }
    }
    Ok(())
}

async fn note(store: &Store, pair: &Pair) -> Result<(), StoreError> {
    let (node, epoch) = {
        let config = pair.config().now();
        let name = config.member(pair.me()).map(|member| member.name.clone()).unwrap_or_default();
        (name, config.epoch.to_string())
    };
    store.audit(Actor::Service.entry("lead", ("node", node), &json!({ "epoch": epoch })))?.await.map(drop)
}
