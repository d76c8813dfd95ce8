//! Conversations as such: lists, numbers and changes, for their owners and for administrators.

pub(in crate::http) mod admin;
mod asked;
pub(in crate::http) mod of_agent;
pub(in crate::http) mod own;
mod shown;

pub(super) use asked::{Asked, Asking, agent_id, ids, session_id};
pub(super) use shown::whole as of_admin;
