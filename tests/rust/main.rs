//! One test binary.

mod client;
mod cluster;
mod execution;
mod tidy;
