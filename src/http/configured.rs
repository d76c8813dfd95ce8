//! What the edge shows of a configuration that it knows nothing of.

use serde_json::Value;

/// A setting in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    /// Without passwords.
    pub(crate) value: Value,
    /// `default`, `file`, or `env` and the variable's name.
    pub(crate) source: String,
}

/// Something that is wrong, and would keep a node from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) key: String,
    pub(crate) rule: String,
    /// As of a [`Setting`].
    pub(crate) source: String,
}

/// The configuration that the process was started with.
pub(crate) trait Configured: Send + Sync {
    /// Every setting, by section.
    fn settings(&self) -> &[Setting];

    /// What an operator should know though it stops nothing: old names in use, settings that do nothing.
    fn notes(&self) -> &[String];

    /// What would keep the node from starting with its file as that is now. Reads files, and may wait for a disk.
    fn faults(&self) -> Vec<Fault>;
}
