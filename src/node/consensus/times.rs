//! How long words between voters take, for metrics: once per entry and per table of scores, not per task.

use super::Consensus;
use crate::core::Moment;
use crate::node::metrics::histogram::{Histogram, SHORT_SECONDS};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was measured since this node started.
pub(super) struct Times {
    round_trips: Mutex<Histogram>,
    commits: Mutex<Histogram>,
}

impl Default for Times {
    fn default() -> Self {
        let empty = || Mutex::new(Histogram::new(SHORT_SECONDS));
        Times { round_trips: empty(), commits: empty() }
    }
}

// Counts, changed in one step each: whole after any panic.
fn lock(histogram: &Mutex<Histogram>) -> MutexGuard<'_, Histogram> {
    histogram.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Consensus {
    /// Now, for whoever measures how long something takes.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// An entry that was proposed at `begun` is committed.
    pub fn note_commit(&self, begun: Moment) {
        lock(&self.times.commits).observe(self.now().since(begun).as_secs_f64());
    }

    /// A voter answered what it was sent at `begun`.
    pub(super) fn note_round_trip(&self, begun: Moment) {
        lock(&self.times.round_trips).observe(self.now().since(begun).as_secs_f64());
    }

    /// From proposals to commits.
    pub fn commit_times(&self) -> Histogram {
        lock(&self.times.commits).clone()
    }

    /// From tables of scores to their answers.
    pub fn round_trips(&self) -> Histogram {
        lock(&self.times.round_trips).clone()
    }
}
