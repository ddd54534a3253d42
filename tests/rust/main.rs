//! One test binary.

mod client;
mod cluster;
mod consensus;
mod execution;
mod scenarios;
mod tidy;
