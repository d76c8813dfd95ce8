use crate::net::{ResolveError, RootsError};
use std::io;
use std::time::Duration;

/// What is wrong with where the old database is said to be. Nothing here quotes it: a password may be anywhere in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(
        "the old database's address is not of the form postgres://USER@HOST:PORT/DATABASE?sslmode=MODE; sslmode is disable, prefer or require, and what is special in a password is written as %XX"
    )]
    Malformed,
    #[error("the old database's address must name one host, or by ?host=/DIRECTORY the directory of its socket")]
    Host,
    #[error("the old database's address names no user, and PGUSER is not set")]
    NoUser,
    #[error("PGPASSFILE has a line that is not host:port:database:user:password")]
    PassFile,
}

/// Why the old database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("find the old database's host")]
    Resolve(#[source] ResolveError),
    #[error("connect to the old database at {place}")]
    Connect {
        /// A host with its port, or a socket.
        place: String,
        #[source]
        source: io::Error,
    },
    #[error("connect to the old database at {place}: no answer within {within:?}")]
    Silent { place: String, within: Duration },
    #[error("trust the old database's certificate")]
    Roots(#[from] RootsError),
    #[error("log in to the old database at {place}")]
    LogIn {
        place: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("read `{table}` of the old database")]
    Read {
        table: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("read `{table}` of the old database: no row within {within:?}")]
    Stalled { table: &'static str, within: Duration },
    #[error(
        "the old database has no table `{table}`: is it the old service's? (it looks where the user's search_path does)"
    )]
    NoTable { table: &'static str },
    #[error("the old database's table `{table}` has no column `{column}`")]
    NoColumn { table: &'static str, column: &'static str },
    #[error("the old database's `{table}.{column}` is of the type {found}, and must be a timestamp")]
    NoTime { table: &'static str, column: &'static str, found: String },
}
