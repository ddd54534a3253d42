//! When the leader tells its table: soon after anything changed, seldom while nothing does, for an idle cluster's sake.

use super::ranking::RankEntry;
use crate::core::Moment;
use crate::core::ids::{LogIndex, Term};
use std::time::Duration;

/// A new leader's first tables come fast, so that ranks are agreed soon.
const FIRST_TABLES: u32 = 5;
/// No table follows the last one sooner.
const LEAST: Duration = Duration::from_millis(20);
/// How often while the log grows: a voter may fall behind.
const MOVING: Duration = Duration::from_millis(100);
/// How often while nothing changes; the answers say who lives, and bring differences too small to be news.
const STILL: Duration = Duration::from_millis(250);
/// A score that changed by this much is told at once. Less could not make anybody clearly better.
const NEWS: f64 = 0.01;

/// Whether `now` differs so much from what was `told` that it should be told at once.
pub fn is_news(told: f64, now: f64) -> bool {
    (told - now).abs() >= NEWS
}

/// The leader's plan of telling.
#[derive(Clone, Debug, Default)]
pub struct Broadcast {
    sent: u32,
    last: Option<Moment>,
    next: Option<Moment>,
    told: Vec<RankEntry>,
    log: (Term, LogIndex),
}

impl Broadcast {
    /// When the next table is due; `None`: now.
    pub fn due(&self) -> Option<Moment> {
        self.next
    }

    /// Somebody's score changed, or is said to: ask, and tell, as soon as may be.
    pub fn on_news(&mut self) {
        self.next = self.last.map(|last| last.after(LEAST));
    }

    /// A table goes out; `log` is the end of the leader's.
    pub fn on_told(&mut self, now: Moment, rows: &[RankEntry], log: (Term, LogIndex)) {
        self.sent = self.sent.saturating_add(1);
        let ranked = |rows: &[RankEntry]| -> Vec<_> {
            rows.iter().map(|row| (row.node, row.caught_up)).collect()
        };
        let wait = if self.sent <= FIRST_TABLES {
            LEAST
        } else if log != self.log || ranked(rows) != ranked(&self.told) {
            MOVING
        } else {
            STILL
        };
        (self.last, self.next) = (Some(now), Some(now.after(wait)));
        (self.told, self.log) = (rows.to_vec(), log);
    }

    /// The score of `row` changed since it was told.
    pub fn is_news(&self, row: &RankEntry) -> bool {
        let told = self.told.iter().find(|told| told.node == row.node);
        told.is_none_or(|told| told.caught_up != row.caught_up || is_news(told.score, row.score))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::NodeId;

    fn rows(scores: &[f64]) -> Vec<RankEntry> {
        let row = |(i, score): (usize, &f64)| RankEntry {
            node: NodeId(i as u64 + 1),
            score: *score,
            caught_up: true,
        };
        scores.iter().enumerate().map(row).collect()
    }

    fn at(ms: u64) -> Moment {
        Moment(1_000_000 + ms * 1_000)
    }

    /// When tables go out within `until` ms, if the log's end is `log` then.
    fn told(broadcast: &mut Broadcast, until: u64, log: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut times = Vec::new();
        for ms in 0..until {
            if broadcast.due().is_none_or(|due| at(ms) >= due) {
                times.push(ms);
                broadcast.on_told(at(ms), &rows(&[0.5, 0.6]), (1, log(ms)));
            }
        }
        times
    }

    #[test]
    fn first_fast_then_seldom_while_nothing_changes() {
        let times = told(&mut Broadcast::default(), 1_000, |_| 7);
        assert_eq!(times, [0, 20, 40, 60, 80, 100, 350, 600, 850]);
    }

    #[test]
    fn a_growing_log_keeps_it_at_ten_a_second() {
        let times = told(&mut Broadcast::default(), 600, |ms| ms);
        assert_eq!(times, [0, 20, 40, 60, 80, 100, 200, 300, 400, 500]);
    }

    #[test]
    fn news_is_told_at_once_but_never_in_a_flood() {
        let mut b = Broadcast::default();
        told(&mut b, 120, |_| 7);
        assert_eq!(b.due(), Some(at(350)));
        let mut changed = rows(&[0.5, 0.6, 0.7]);
        assert!(b.is_news(&changed[2]), "a voter nobody was told of");
        changed[1].score = 0.605;
        assert!(!b.is_news(&changed[0]) && !b.is_news(&changed[1]));
        changed[1].score = 0.62;
        assert!(b.is_news(&changed[1]));
        b.on_news();
        assert_eq!(b.due(), Some(at(120)));
    }
}
