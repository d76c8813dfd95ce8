//! The ground: small types that every floor speaks.

mod chain;
mod cidr;
mod id;
mod moment;
mod position;
mod region;
mod secret;
mod time;

pub use chain::Chain;
pub use cidr::{Cidr, CidrError};
pub use id::{AgentId, Label, LabelError, Owner, SessionId, SessionIdError, hex, ordered_id, random_id};
pub use moment::Moment;
pub use position::{Epoch, NoPosition, Position, Txid};
pub use region::{Region, RegionClass};
pub use secret::Secret;
pub use time::UnixMillis;
