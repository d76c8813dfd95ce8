//! Files that people send along with their questions, or keep here: what is taken, how much of it, who may use it, and how
//! an upstream reaches it.
//!
//! A file's name is the right to read it; an upstream is given a token instead, which ends. A file is kept in pieces in the store, and removed some time after the last question
//! that names it is gone ([`mod@sweep`]).

mod links;
mod service;
mod settings;
mod sweep;

pub(crate) use links::Links;
pub(crate) use service::{Attachments, AttachmentsError, FILE_BYTES_MAX, NotTheirs, Sent};
pub(crate) use settings::Settings;
pub(crate) use sweep::follow as sweep;
