//! The operator's own command, run each time that this node's role changes.

use crate::replica::{Pair, Role};
use crate::watched::{News, Watched};
use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// One that takes longer is killed: the next role would wait for it. So is whatever it leaves running: a role that is over
/// must not go on acting.
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
        let now = role.news();
        if matches!(now, Role::Starting(_)) || told.as_ref() == Some(&now) {
            continue;
        }
        let (node, epoch) = {
            let config = pair.config().now();
            let name = config.member(pair.me()).map(|member| member.name.clone()).unwrap_or_default();
            (name, config.epoch.counter().to_string())
        };
        let mut command = Command::new(&hook);
        // None of what the service is told by its environment is the command's business.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.args([now.as_str(), &node, &epoch]).stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        let ran = tokio::select! {
            ran = tokio::time::timeout(RUN_MAX, run(command)) => ran,
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

/// Runs `command`, the first of a process group, to its end.
///
/// # Cancel safety
///
/// Safe: all of its group is killed, as it is at its end.
async fn run(mut command: Command) -> std::io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let _group = Group(group);
    child.wait().await
}

/// The processes of one run.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // Where nobody of it is left there is nothing to do.
        let _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }
}
