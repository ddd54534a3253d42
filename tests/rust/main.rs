//! One test binary.

mod client;
