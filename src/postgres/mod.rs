//! The PostgreSQL of the old service, read once by an import.
//!
//! One transaction, read-only and of one moment ([`Source`]); each table is one statement whose rows are taken from the
//! socket as they are asked for ([`reading::Reading`]), so that memory does not grow with the tables. Columns are cast to text by
//! the server, and times to milliseconds: what type a column has there hardly matters. Messages are put together to turns
//! on the way ([`Pairs`]).

mod address;
mod connect;
mod error;
mod pairs;
mod pass_file;
mod reading;
mod source;
mod tables;

pub(crate) use address::{Address, Environment};
pub(crate) use pairs::Pairs;
pub(crate) use reading::{Item, OldRow, PlacedMessage};
pub(crate) use source::Source;
pub(crate) use tables::COUNTED;
