//! A front end that the operator has built: the files of one directory, and its page for every path that is a place in
//! the application and not a file.
//!
//! Its names say nothing of their content, so what a page consists of is asked for anew each time, and is quickly said
//! to be the same as before: by an `ETag` of the content, which both nodes give alike. What is served is decided by the
//! path ([`path`]) and by where a file really is ([`crate::disk::find_within`]); a library opens it and reads it out.

mod base;
mod files;
mod path;
mod tag;

pub(crate) use files::check;
pub(super) use files::routes;
