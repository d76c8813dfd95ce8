//! The register as it ships, taken in by its sources: built with `--cfg faults`, so that a clause can be left out.

#[path = "../../../src/base/mod.rs"]
pub mod base;
pub mod protocol;
#[path = "../../../src/register/mod.rs"]
pub mod register;
