//! **Acts.** Sockets, clocks, processes and openraft; performs what the core decides.

pub mod clock;
pub mod execution;
pub mod proto;
