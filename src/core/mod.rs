//! **Decides.** Pure functions of `(now, event)`: no clock, socket, thread, file, process or Python in here.
#![forbid(unsafe_code)]

pub mod boundary;
pub mod chance;
pub mod cluster;
pub mod election;
pub mod ids;
pub mod load;
pub mod record;
pub mod scheduling;
pub mod trace;
pub mod worker;

/// A moment: microseconds since this node's own start, monotonic. Never compared between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `d` later.
    pub fn after(self, d: std::time::Duration) -> Moment {
        Moment(self.0.saturating_add(d.as_micros() as u64))
    }

    /// The moment `d` earlier, or the first of all.
    pub fn before(self, d: std::time::Duration) -> Moment {
        Moment(self.0.saturating_sub(d.as_micros() as u64))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Moment) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod every_order_tests;
#[cfg(test)]
mod world_tests;
