//! What of the shipped wire types the register speaks.

#[path = "../../../src/protocol/cluster.rs"]
pub mod cluster;
#[path = "../../../src/protocol/pages.rs"]
pub mod pages;
#[path = "../../../src/protocol/peer.rs"]
pub mod peer;
#[path = "../../../src/protocol/record.rs"]
pub mod record;
#[path = "../../../src/protocol/register.rs"]
pub mod register;
