//! The last resort: when no election of ours works though a majority answers, the library shall hold its own.
//!
//! A voter that reaches no majority, or is told that the leader lives, gains nothing by elections of any kind: it would
//! only raise its term, and depose a healthy leader with it once it is heard again.

use crate::core::Moment;
use crate::core::election::boundary::{PollAnswer, PollRefusal};
use std::time::Duration;

/// Without a leader for this long, though a majority answers, the library's own elections help out.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Counts the time in which an election should have worked and none did.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    hopeful: bool,
    since: Option<Moment>,
    on: bool,
}

impl Watchdog {
    /// A poll of a group in which `quorum` voters decide is over.
    pub fn on_poll(&mut self, quorum: usize, answers: &[PollAnswer]) {
        let led = |answer: &PollAnswer| {
            let PollAnswer::Refuse { reason, .. } = answer else { return false };
            matches!(reason, PollRefusal::LeaderAlive | PollRefusal::ILead)
        };
        self.hopeful = answers.len() + 1 >= quorum && !answers.iter().any(led);
    }

    /// Time passes; `content`: there is a leader, or no vote to cast. Returns what the library shall do from now on, if
    /// that changes.
    pub fn tick(&mut self, now: Moment, content: bool) -> Option<bool> {
        if content {
            self.hopeful = false;
        }
        if !self.hopeful {
            self.since = None;
        }
        let needed = self.hopeful && now.since(*self.since.get_or_insert(now)) >= PATIENCE;
        let changed = needed != self.on;
        self.on = needed;
        changed.then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(reason: PollRefusal) -> PollAnswer {
        PollAnswer::Refuse { reason, retry_after: Duration::from_millis(4) }
    }

    /// What the library is told at the seconds given, if every poll is answered like this.
    fn told(answers: &[PollAnswer], seconds: &[u64]) -> Vec<Option<bool>> {
        let mut watchdog = Watchdog::default();
        let at = |s: &u64| {
            watchdog.on_poll(3, answers);
            watchdog.tick(Moment(s * 1_000_000), false)
        };
        seconds.iter().map(at).collect()
    }

    #[test]
    fn it_helps_where_a_majority_answers_and_nobody_hears_a_leader() {
        let stuck = [PollAnswer::Agree, refuse(PollRefusal::JustVoted)];
        assert_eq!(told(&stuck, &[1, 3, 5, 6, 7]), [None, None, None, Some(true), None]);
    }

    #[test]
    fn it_stays_quiet_where_an_election_could_only_do_harm() {
        assert_eq!(told(&[], &[1, 10, 100]), [None; 3]);
        assert_eq!(told(&[PollAnswer::Agree], &[1, 10, 100]), [None; 3]);
        let led = [PollAnswer::Agree, PollAnswer::Agree, refuse(PollRefusal::LeaderAlive)];
        assert_eq!(told(&led, &[1, 10, 100]), [None; 3]);
    }

    #[test]
    fn it_stops_as_soon_as_there_is_a_leader() {
        let mut watchdog = Watchdog::default();
        let mut tick = |s: u64, content| {
            watchdog.on_poll(2, &[PollAnswer::Agree]);
            watchdog.tick(Moment(s * 1_000_000), content)
        };
        assert_eq!([tick(1, false), tick(6, false)], [None, Some(true)]);
        assert_eq!([tick(7, true), tick(8, false), tick(12, false)], [Some(false), None, None]);
    }
}
