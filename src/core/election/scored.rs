//! When the leader writes its view of the scores down; who should have won an election is judged by the last of it.

use super::ranking::Ranking;
use crate::core::Moment;
use crate::core::record::{Record, RecordKind};
use std::time::Duration;

/// How often.
const EVERY: Duration = Duration::from_millis(250);
/// How soon again if their order changed.
const REORDERED: Duration = Duration::from_millis(100);

/// What was written last.
#[derive(Clone, Debug, Default)]
pub(super) struct Scored(Option<(Moment, Ranking)>);

impl Scored {
    /// The rows of `table`, if it is time.
    pub(super) fn rows(&mut self, now: Moment, table: &Ranking) -> Vec<Record> {
        let due = self.0.as_ref().is_none_or(|(at, written)| {
            now.since(*at) >= if written.has_order_of(table) { EVERY } else { REORDERED }
        });
        if !due {
            return Vec::new();
        }
        self.0 = Some((now, table.clone()));
        let row = |(rank, row): (usize, &super::ranking::RankEntry)| {
            let record = Record::new(RecordKind::Scored).term(table.term()).subject(row.node);
            record.score(row.score).rank(rank as u32)
        };
        table.rows().iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::election::ranking::RankEntry;
    use crate::core::ids::NodeId;

    #[test]
    fn a_new_order_is_written_down_sooner_than_an_old_one() {
        let mut scored = Scored::default();
        let mut written = Vec::new();
        for ms in (0..2_000).step_by(20) {
            let row = |n, score| RankEntry { node: NodeId(n), score, caught_up: true };
            let second = if ms >= 840 { 0.9 } else { 0.1 + ms as f64 / 1e4 };
            let table = Ranking::order(3, vec![row(1, 0.5), row(2, second)], 0.01);
            let rows = scored.rows(Moment(ms * 1_000), &table);
            if let Some(best) = rows.first() {
                assert_eq!((rows.len(), best.rank, rows[1].rank, best.term), (2, 0, 1, 3));
                written.push((ms, best.subject.0));
            }
        }
        let (before, after) = ([0, 260, 520, 780], [880, 1_140, 1_400, 1_660, 1_920]);
        let expected = before.map(|ms| (ms, 1)).into_iter().chain(after.map(|ms| (ms, 2)));
        assert_eq!(written, expected.collect::<Vec<_>>());
    }
}
