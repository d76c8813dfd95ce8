//! Agents: what an operator writes, checked once, and the list that everything else reads.
//!
//! The agents file seeds and updates rows that came from it; a change by a person wins over the
//! file from then on, and the file is never written back.

mod check;
mod compare;
mod custom;
mod edit;
mod file;
mod import_old;
mod probe;
mod service;

pub(crate) use compare::Compared;
pub(crate) use edit::{Described, EditError};
pub(crate) use file::{FileError, Import, parse, read, read_for};
pub(crate) use probe::Probe;
pub(crate) use service::{Agents, AgentsError, Caches, ImportError, ImportReport, Roster, served};
