//! Who is asking. Until accounts exist every caller is a visitor, known by a signed cookie.

mod visitor;

pub(crate) use visitor::{Caller, Visitors};
