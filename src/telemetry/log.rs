use super::recent::recent;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("read the log filter `{filter}`")]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    #[error("start the log, once a process")]
    Twice(#[source] TryInitError),
}

/// Logs to stderr from now on, one line an event: what `filter` lets through (`info`, or
/// `warn,llmchat::store=debug`). Coloured on a terminal only. The last of them are kept, too: see [`super::recent()`].
pub(crate) fn log(filter: &str) -> Result<(), LogError> {
    let directives = parse(filter)?;
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(directives)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .with(recent())
        .try_init()
        .map_err(LogError::Twice)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_an_error_that_shows_it() {
        for good in ["info", "warn,llmchat::store=debug", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let error = parse("llmchat=loudest").expect_err("no level");
        assert_eq!(error.to_string(), "read the log filter `llmchat=loudest`");
    }
}
