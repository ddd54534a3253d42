//! The one home of time: monotonic moments for decisions, wall time for people and retention.

use crate::core::Moment;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A node's clock. It reads tokio's time, so that a paused runtime (simulation) moves it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now. Moments begin at one second, so that "a while ago" never underflows.
    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Now, monotonic.
    pub fn now(&self) -> Moment {
        Moment(1_000_000 + self.start.elapsed().as_micros() as u64)
    }

    /// The instant at which `moment` is reached, for sleeping.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_micros(moment.0.saturating_sub(1_000_000))
    }

    /// Microseconds since 1970.
    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    pub fn wall_us() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }
}
