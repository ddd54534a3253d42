//! One test binary.

mod consensus;
mod scenarios;
