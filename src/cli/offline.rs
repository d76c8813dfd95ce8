//! The state directory of a node that does not run, which a command opens, leads and closes itself.

use super::cluster::runs;
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
    if !is_there && runs(&config.of_witness()).await? {
        bail!("here runs a witness, which keeps neither agents nor users: ask a data node");
    }
    if !is_there && there == Where::ThereIsOne {
        bail!("no node runs, and there is no state in `{dir}`: is --config, or the directory, the right one?");
    }
    let core = Core::open(config, false).await?;
    if let Err(error) = core.lead_offline().await {
        return close(&core, Err(error)).await;
    }
    if !is_there {
        eprintln!("no node runs, and there was no state in `{dir}`: one is begun there");
    }
    Ok(core)
}

/// Closes it. What was done is done, also where it cannot be closed well: the next start sees to that.
pub(super) async fn close<T>(core: &Core, done: T) -> T {
    if let Err(error) = core.close().await {
        tracing::warn!("the state is not closed as it should be: {error:#}");
    }
    done
}

/// What the service's own answer is to a command.
pub(super) fn refused(error: &ApiError) -> anyhow::Error {
    if is_of_input(error.code()) { wrong(error.message()) } else { anyhow!("{}", error.message()) }
}
