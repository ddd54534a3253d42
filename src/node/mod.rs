//! **Acts.** Sockets, clocks, processes and openraft; performs what the core decides.

pub mod client;
pub mod clock;
pub mod proto;
