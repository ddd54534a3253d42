//! The shared truth: what the log can say, and the one place that writes it down.

mod acceptance;
pub mod blobs;
pub mod command;
mod endings;
pub mod live;
pub mod needs;
pub mod output;
mod remembered;
pub mod retention;
pub mod state;
pub mod story;

#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod life_tests;
