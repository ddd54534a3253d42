//! What Prometheus reads of one node: gathered at each scrape from what the node knows anyway, under no global name, so
//! that many nodes in one process do not mix.
//!
//! ```text
//!   task loop (tally of the leader, load, queue) ─┐
//!   history (elections) ──────────────────────────┼──▶ gather ──▶ families ──▶ exposition ──▶ http
//!   consensus (term, lease, round trips) ─────────┘
//! ```

mod elections;
mod exposition;
mod families;
mod gather;
pub mod histogram;
pub mod tasks;

pub use exposition::CONTENT_TYPE;

use super::clock::Clock;
use super::shared::Shared;
use crate::core::Moment;
use crate::error::Result;
use elections::{ElectionTally, Hearsay};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the history is read on, so that it forgets nothing unread.
const READ_EVERY: Duration = Duration::from_secs(1);

/// What is counted beside the task loop.
pub struct Metrics {
    shared: Arc<Shared>,
    counted: Mutex<Counted>,
}

struct Counted {
    elections: ElectionTally,
    hearsay: Hearsay,
    read_at: Moment,
}

impl Metrics {
    /// Counts from now on; needs [`Metrics::keep_up`].
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        let counted = Counted {
            elections: ElectionTally::new(Clock::wall_us()),
            hearsay: Hearsay::default(),
            read_at: shared.clock.now(),
        };
        Arc::new(Metrics { shared, counted: Mutex::new(counted) })
    }

    /// Reads on in the history for as long as the node runs.
    pub async fn keep_up(self: Arc<Self>) {
        loop {
            drop(self.read_on());
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// Everything, as text.
    pub async fn scrape(&self) -> Result<String> {
        let gathered = gather::gather(&self.shared).await?;
        let counted = self.read_on();
        let votes = self.shared.consensus.is_some();
        let now_us = Clock::wall_us();
        Ok(families::write(
            &gathered,
            &counted.elections,
            (!votes).then_some(&counted.hearsay),
            now_us,
        ))
    }

    fn read_on(&self) -> MutexGuard<'_, Counted> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.elections.read_on(&self.shared.history);
        let now = self.shared.clock.now();
        let since_s = now.since(counted.read_at).as_secs_f64();
        counted.read_at = now;
        let leader = self.shared.leader().map(|leader| leader.node);
        let connected = self.shared.connected.load(std::sync::atomic::Ordering::Acquire);
        counted.hearsay.note(leader, connected, since_s);
        counted
    }
}
