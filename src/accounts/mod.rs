//! Who is asking: a user, by a token that a password was given for, or else a visitor, known by a signed cookie.

mod data;
mod first;
mod frugal;
mod import;
mod password;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod token;
mod visitor;

pub(crate) use data::Export;
pub(crate) use first::{FirstAdmin, forget_first_admin, random_password};
pub(crate) use service::{Accounts, AccountsError, Actor, LoggedIn, Parts, Remote};
pub(crate) use settings::{Lifetimes, Settings};
pub(crate) use token::TokenError;
pub(crate) use visitor::{Caller, Visitors};
