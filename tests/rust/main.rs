//! One test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod client;
mod cluster;
mod consensus;
mod execution;
mod scenarios;
mod storage;
mod tidy;
