//! One test binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod consensus;
mod scenarios;
