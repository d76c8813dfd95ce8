//! The operator's own command, run each time that this node's role changes.

use crate::replica::{Pair, Role};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// One that takes longer is killed: the next role would wait for it.
const RUN_MAX: Duration = Duration::from_secs(30);

/// Runs `hook ROLE NODE EPOCH` after each change, one after the other, until `stop`. A role that has changed again by
/// then is left out. Nothing waits for it: a node is what it is whatever the command does.
pub(super) async fn follow(hook: PathBuf, pair: Pair, stop: CancellationToken) -> Result<()> {
    let mut role = pair.role();
    role.mark_changed();
    let mut told = None;
    loop {
        tokio::select! {
            changed = role.changed() => changed?,
            () = stop.cancelled() => return Ok(()),
        }
        let now = role.borrow_and_update().clone();
        if matches!(now, Role::Starting(_)) || told.as_ref() == Some(&now) {
            continue;
        }
        let (node, epoch) = {
            let config = pair.config();
            let config = config.borrow();
            let name = config.member(pair.me()).map(|member| member.name.clone()).unwrap_or_default();
            (name, config.epoch.counter().to_string())
        };
        let mut command = Command::new(&hook);
        // None of what the service is told by its environment is the command's business.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.args([now.as_str(), &node, &epoch]).stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::select! {
            ran = tokio::time::timeout(RUN_MAX, command.status()) => ran,
            () = stop.cancelled() => return Ok(()),
        };
        let hook = hook.display();
        match ran {
            Ok(Ok(status)) if status.success() => tracing::info!(%hook, role = now.as_str(), "the hook ran"),
            Ok(Ok(status)) => tracing::error!(%hook, role = now.as_str(), %status, "the hook failed"),
            Ok(Err(error)) => tracing::error!(%hook, role = now.as_str(), %error, "the hook cannot be run"),
            Err(_) => tracing::error!(%hook, role = now.as_str(), "the hook took over {RUN_MAX:?} and was killed"),
        }
        told = Some(now);
    }
}
