//! The state directory of a node that does not run, which a command opens, leads and closes itself.

use super::control_client::shown;
use super::outcome::{is_of_input, wrong};
use crate::app::Core;
use crate::config::Config;
use crate::http::ApiError;
use anyhow::{Context, Result, anyhow, bail};

/// What a command does where there is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// It would answer for an empty one, made in the wrong place.
    ThereIsOne,
    /// It is what a node may begin with, and that is said.
    Begins,
}

/// Opens the state, locked until it is closed.
pub(super) async fn open(config: &Config, there: Where) -> Result<Core> {
    let dir = shown(&config.state_dir);
    let is_there = config.state_dir.try_exists().with_context(|| format!("look for `{dir}`"))?;
    if !is_there && there == Where::ThereIsOne {
        bail!("no node runs, and there is no state in `{dir}`: is --config, or the directory, the right one?");
    }
    let core = Core::open(config, false).await?;
    core.lead_offline().await?;
    if !is_there {
        eprintln!("no node runs, and there was no state in `{dir}`: one is begun there");
    }
    Ok(core)
}

/// What the service's own answer is to a command.
pub(super) fn refused(error: &ApiError) -> anyhow::Error {
    if is_of_input(error.code()) { wrong(error.message()) } else { anyhow!("{}", error.message()) }
}
