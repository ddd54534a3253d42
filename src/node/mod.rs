//! **Acts.** Sockets, clocks, processes and openraft; performs what the core decides.

pub mod clock;
pub mod consensus;
pub mod proto;
pub mod transport;
