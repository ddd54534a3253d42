//! One test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod client;
mod cluster;
mod consensus;
mod execution;
mod faults_crossed;
mod faults_relay;
mod instructions;
mod scenarios;
mod security;
mod simulated_faults;
mod simulated_tasks;
mod simulation;
#[cfg(feature = "otel")]
mod spans;
mod storage;
mod threads;
mod tidy;
