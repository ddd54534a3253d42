//! One test binary.

mod execution;
