//! The leader's opinion: who runs what, who may take it from whom. Pure, rebuilt from the log at each election.

mod bids;
mod changes;
pub mod durations;
mod expiry;
pub mod explanation;
pub mod holdings;
mod intake;
mod leader;
mod leases;
pub mod placement;
mod placing;
pub mod pools;
pub mod queue;
pub mod reach;
pub mod roster;
mod row;
mod sessions;
mod speculation;
pub mod stealing;
mod survey;
pub mod thefts;

pub use intake::cancellable;
pub use leader::Leader;

#[cfg(test)]
mod life_tests;
