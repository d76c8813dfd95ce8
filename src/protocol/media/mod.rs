//! What a file is, by its content and by nothing else: the kinds that people may send along.
//!
//! Nothing is unpacked. Of an Office file only the list of its parts is read, which lies at its end and is as long as it
//! says it is; the numbers in it are believed no further than the file reaches.

mod kind;
mod sniff;
#[cfg(test)]
mod tests;

pub use kind::Media;
