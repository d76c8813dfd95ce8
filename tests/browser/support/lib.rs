//! What the tests of the page stand on: the binary and a simulated FastGPT on free ports, and a headless Chromium that
//! a person's clicks and keys are sent to.
//!
//! Nothing here sleeps. Whoever waits, waits for a condition inside the page ([`Page::until`]) or for a line of a
//! process, and gives up after 20 seconds, which is far beyond what any answer may take.

#![expect(clippy::disallowed_methods, reason = "what a test writes is thrown away")]

mod page;
mod process;
mod stage;

pub use page::{Look, Page, named};
pub use stage::Stage;
