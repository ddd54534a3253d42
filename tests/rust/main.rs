//! One test binary.

mod client;
mod cluster;
mod tidy;
