//! The state directory of a node that does not run, which a command opens, leads and closes itself.

use super::outcome::wrong;
use crate::app::Core;
use crate::config::Config;
use crate::http::ApiError;
use anyhow::{Result, anyhow, bail};

/// What a command does where there is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// It would answer for an empty one, made in the wrong place.
    ThereIsOne,
    /// It is what a node may begin with, and says so.
    Begins,
}

/// Opens the state, locked until it is closed.
pub(super) async fn open(config: &Config, there: Where) -> Result<Core> {
    let dir = std::path::absolute(&config.state_dir).unwrap_or_else(|_| config.state_dir.clone());
    match there {
        _ if dir.exists() => {}
        Where::ThereIsOne => bail!(
            "no node runs, and there is no state in `{}`: is --config, or the directory, the right one?",
            dir.display()
        ),
        Where::Begins => eprintln!("no node runs, and there is no state in `{}`: it is begun there", dir.display()),
    }
    let core = Core::open(config, false).await?;
    core.lead_offline().await?;
    Ok(core)
}

/// What the service's own answer is to a command.
pub(super) fn refused(error: &ApiError) -> anyhow::Error {
    if error.is_of_input() { wrong(error.message()) } else { anyhow!("{}", error.message()) }
}
