//! Our own page as a person meets it: clicks and keys in Chromium, the real binary, a simulated FastGPT.
//!
//! What FastGPT does is said in the question itself, by the words of `llmchat fastgpt-sim --help`.

mod account;
mod chat;
mod fault;
mod history;
mod look;
