//! What a node lived through of elections, counted from its own history, which is read on once in a while.
//!
//! ```text
//!   suspected ──▶ polled ──▶ campaigned ──▶ became_leader            without a leader: from the first of these
//!        └────────────────────────────▶ followed, false_suspicion    to the last
//! ```

use super::histogram::{Histogram, SECONDS};
use crate::core::ids::NodeId;
use crate::core::record::RecordKind;
use crate::node::history::{History, MAX_READ, Stamped};
use std::sync::Arc;

/// How an election that this node began can end: it leads; another one does; a poll found no majority for it.
pub const OUTCOMES: [&str; 3] = ["won", "lost", "called_off"];

/// Counts since this node started.
#[derive(Clone, Debug)]
pub struct ElectionTally {
    read_up_to: u64,
    /// By [`OUTCOMES`].
    pub ended: [u64; OUTCOMES.len()],
    /// How often somebody else led than before.
    pub leader_changes: u64,
    /// From the first sign that the leader is gone to the next leader, in seconds.
    pub durations: Histogram,
    leader: Option<NodeId>,
    campaigns: bool,
    suspected_us: Option<u64>,
    /// Since when there is no leader.
    leaderless_us: Option<u64>,
    leaderless_before_us: u64,
}

impl ElectionTally {
    /// A node that started at `now_us`, microseconds since 1970, and knows no leader yet.
    pub fn new(now_us: u64) -> Self {
        ElectionTally {
            read_up_to: 0,
            ended: [0; OUTCOMES.len()],
            leader_changes: 0,
            durations: Histogram::new(SECONDS),
            leader: None,
            campaigns: false,
            suspected_us: None,
            leaderless_us: Some(now_us),
            leaderless_before_us: 0,
        }
    }

    /// Reads on in the node's history.
    pub fn read_on(&mut self, history: &History) {
        loop {
            let (rows, next) = history.after(self.read_up_to, MAX_READ);
            self.read_up_to = next;
            if rows.is_empty() {
                return;
            }
            rows.iter().for_each(|row: &Arc<Stamped>| self.see(row));
        }
    }

    /// How long there was no leader, in seconds, by `now_us`.
    pub fn leaderless_s(&self, now_us: u64) -> f64 {
        let now = self.leaderless_us.map_or(0, |since| now_us.saturating_sub(since));
        (self.leaderless_before_us + now) as f64 / 1e6
    }

    fn see(&mut self, row: &Stamped) {
        match row.record.kind {
            RecordKind::Suspected => {
                self.suspected_us = Some(row.at_us);
                self.leaderless_us.get_or_insert(row.at_us);
            }
            RecordKind::FalseSuspicion => {
                self.suspected_us = None;
                self.end_leaderless(row.at_us);
            }
            RecordKind::Campaigned => {
                self.end_campaign(1);
                self.campaigns = true;
            }
            RecordKind::PollLost => self.ended[2] += 1,
            RecordKind::BecameLeader => {
                self.end_campaign(0);
                self.on_leader(row);
            }
            RecordKind::Followed => {
                self.end_campaign(1);
                self.on_leader(row);
            }
            RecordKind::SteppedDown => {
                self.leaderless_us.get_or_insert(row.at_us);
            }
            _ => {}
        }
    }

    fn end_campaign(&mut self, outcome: usize) {
        if std::mem::take(&mut self.campaigns) {
            self.ended[outcome] += 1;
        }
    }

    fn on_leader(&mut self, row: &Stamped) {
        let leader = row.record.subject;
        if self.leader.is_some_and(|before| before != leader) {
            self.leader_changes += 1;
        }
        self.leader = Some(leader);
        if let Some(since) = self.suspected_us.take() {
            self.durations.observe(row.at_us.saturating_sub(since) as f64 / 1e6);
        }
        self.end_leaderless(row.at_us);
    }

    fn end_leaderless(&mut self, at_us: u64) {
        if let Some(since) = self.leaderless_us.take() {
            self.leaderless_before_us += at_us.saturating_sub(since);
        }
    }
}

/// The same of a node that is no voter: it takes part in no election and only hears who leads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearsay {
    leader: Option<NodeId>,
    /// How often somebody else led than before.
    pub leader_changes: u64,
    /// How long it had no leader's stream, in seconds.
    pub leaderless_s: f64,
}

impl Hearsay {
    /// What it knows now, `since_s` seconds after it was last asked.
    pub fn note(&mut self, leader: Option<NodeId>, connected: bool, since_s: f64) {
        if !connected {
            self.leaderless_s += since_s;
        }
        let Some(leader) = leader else { return };
        if self.leader.is_some_and(|before| before != leader) {
            self.leader_changes += 1;
        }
        self.leader = Some(leader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Record;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A history whose every row comes 100 ms after the last.
    fn history(kinds: &[(RecordKind, u64)]) -> History {
        let ticks = AtomicU64::new(0);
        let clock = move || 100_000 * (1 + ticks.fetch_add(1, Ordering::Relaxed));
        let history = History::with_clock(NodeId(1), "n1", 1_000, clock);
        for (kind, subject) in kinds {
            history.push(Record::new(*kind).subject(NodeId(*subject)));
        }
        history
    }

    fn tally(kinds: &[(RecordKind, u64)]) -> ElectionTally {
        let mut tally = ElectionTally::new(0);
        tally.read_on(&history(kinds));
        tally
    }

    #[test]
    fn a_failover_that_this_node_wins() {
        use RecordKind as K;
        let seen =
            tally(&[(K::Followed, 2), (K::Suspected, 2), (K::Polled, 2), (K::Campaigned, 1)]);
        assert_eq!((seen.ended, seen.leader_changes), ([0, 0, 0], 0));
        assert!((seen.leaderless_s(500_000) - 0.4).abs() < 1e-9, "0.1 s at first, 0.3 s now");
        let seen = tally(&[
            (K::Followed, 2),
            (K::Suspected, 2),
            (K::Polled, 2),
            (K::Campaigned, 1),
            (K::BecameLeader, 1),
        ]);
        assert_eq!((seen.ended, seen.leader_changes), ([1, 0, 0], 1));
        assert_eq!((seen.durations.count(), seen.durations.sum()), (1, 0.3));
        assert!((seen.leaderless_s(99_000_000) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn campaigns_that_come_to_nothing_are_lost_and_polls_called_off() {
        use RecordKind as K;
        let seen = tally(&[
            (K::Suspected, 2),
            (K::PollLost, 0),
            (K::Campaigned, 1),
            (K::Campaigned, 1),
            (K::Followed, 3),
        ]);
        assert_eq!((seen.ended, seen.leader_changes), ([0, 2, 1], 0));
    }

    #[test]
    fn a_wrong_suspicion_is_time_without_a_leader_and_no_change() {
        use RecordKind as K;
        let seen = tally(&[(K::Followed, 2), (K::Suspected, 2), (K::FalseSuspicion, 2)]);
        assert_eq!((seen.durations.count(), seen.leader_changes), (0, 0));
        assert!((seen.leaderless_s(99_000_000) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_worker_counts_what_it_hears() {
        let mut heard = Hearsay::default();
        heard.note(None, false, 1.0);
        heard.note(Some(NodeId(1)), true, 1.0);
        heard.note(Some(NodeId(2)), true, 1.0);
        assert_eq!((heard.leader_changes, heard.leaderless_s), (1, 1.0));
    }
}
