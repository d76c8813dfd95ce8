//! The edge: connections, layers, routes, and the translation between HTTP and the rooms below.
//!
//! A handler translates; it does not decide. [`error`] is the one table from what went wrong to
//! what the caller is told.

mod api;
mod backup;
mod cluster;
mod configured;
mod control;
mod credentials;
mod docs;
mod drain;
mod edge;
mod error;
mod extract;
mod form;
mod forward;
mod frontend;
mod going;
mod health;
mod import;
mod layers;
mod levels;
mod limits;
mod line;
mod pace;
mod peer;
mod router;
mod routes;
mod serve;
mod settings;
mod upkeep;
mod upload;
mod users;
mod witness;
mod write;

pub(crate) use configured::{Configured, Fault, Setting};
pub(crate) use control::{Control, reported, serve as serve_control};
pub(crate) use edge::{Edge, Parts};
pub(crate) use error::ApiError;
pub(crate) use frontend::check as check_frontend;
pub(crate) use peer::serve as serve_peer;
pub(crate) use serve::{Listen, serve};
pub(crate) use settings::Settings;
pub(crate) use users::Deed;
pub(crate) use witness::serve as serve_witness;
