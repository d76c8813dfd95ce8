//! The in-process cache: bounded in bytes, by time, and one loader at a time for a key.
//!
//! Everything here may be forgotten at any moment; nothing may be kept only here. One cache holds
//! one kind of thing, and whoever makes it says how many of [`Settings::bytes_max`] it gets.

mod entries;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use entries::Cache;
pub(crate) use settings::Settings;
