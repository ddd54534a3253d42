//! When a runner may be started again after starts that failed, and when waiting for it is hopeless.

use std::time::Duration;

/// Failed rounds in a row after which waiting attempts are given up, if no runner lives.
const TRIES: u32 = 3;
/// Wait after the first failed round; doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Failed starts in a row.
#[derive(Default)]
pub(super) struct Backoff {
    rounds: u32,
    cooling: bool,
}

impl Backoff {
    /// A start failed. Returns how long to wait, unless a wait is under way: starts that fail together count once.
    pub(super) fn fail(&mut self) -> Option<Duration> {
        if self.cooling {
            return None;
        }
        self.cooling = true;
        self.rounds = self.rounds.saturating_add(1);
        Some((FIRST * (1 << (self.rounds - 1).min(16))).min(LONGEST))
    }

    /// The wait is over.
    pub(super) fn cool(&mut self) {
        self.cooling = false;
    }

    /// A runner has worked.
    pub(super) fn reset(&mut self) {
        self.rounds = 0;
    }

    /// Whether a runner may be started now.
    pub(super) fn allows(&self) -> bool {
        !self.cooling
    }

    /// Whether starting has worked the last time.
    pub(super) fn is_clear(&self) -> bool {
        self.rounds == 0
    }

    /// Failed rounds, if they are too many to wait on.
    pub(super) fn exhausted(&self) -> Option<u32> {
        (self.rounds >= TRIES).then_some(self.rounds)
    }
}
