//! The OpenAPI of FastGPT: what it is asked and what its answers mean.
//!
//! HTTP's status does not tell whether it worked: the same bad key is 200, 500 or 403 by version.
//! So the body's `statusText` decides, then its number, then its words, and the status last. A
//! stream is whole only with `[DONE]`, and more may come after that. A failed node is a successful
//! stream whose only trace is in the node responses.

mod classify;
pub mod management;
mod nodes;
mod request;
mod stream;
mod whole;

pub use request::{Request, completions_url};
pub use stream::Stream;
pub(super) use whole::whole;
