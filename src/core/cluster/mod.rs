//! The shared truth: what the log can say, and the one place that writes it down.

pub mod blobs;
pub mod command;
pub mod live;
pub mod retention;
pub mod state;
