//! The embedded store: one writer thread, many readers, and a watermark that releases replies.

mod settings;

pub(crate) use settings::Settings;
