//! The leader's opinion: who runs what, who may take it from whom. Pure, rebuilt from the log at each election.

mod changes;
mod expiry;
pub mod explanation;
mod intake;
mod leader;
mod leases;
mod placement;
pub mod roster;
mod stealing;

pub use intake::cancellable;
pub use leader::Leader;

#[cfg(test)]
mod life_tests;
