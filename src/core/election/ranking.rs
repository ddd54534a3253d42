//! The agreed table: the leader orders the voters while it lives, so that ranks need no talk when it is gone.

use super::score::tie_break;
use crate::core::ids::{NodeId, Term};

/// Rows a table may have; more voters than any sensible Raft group.
pub const MAX_RANKED: usize = 64;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankEntry {
    /// Which voter.
    pub node: NodeId,
    /// Its score, as the leader last heard it.
    pub score: f64,
    /// Its log was near the leader's when the table was made, and it was heard from lately.
    pub caught_up: bool,
}

/// A table, best first. Empty until a leader has sent one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    term: Term,
    rows: Vec<RankEntry>,
}

impl Ranking {
    /// Orders `rows` as the leader of `term` does: caught up first, then by score plus a tie-breaking jitter below
    /// `jitter`, which every observer computes alike and which never outweighs a difference that matters.
    pub fn order(term: Term, mut rows: Vec<RankEntry>, jitter: f64) -> Self {
        rows.truncate(MAX_RANKED);
        let key = |row: &RankEntry| {
            let score = if row.score.is_finite() { row.score } else { f64::MIN };
            score + tie_break(term, row.node, jitter)
        };
        rows.sort_by(|a, b| {
            b.caught_up.cmp(&a.caught_up).then(key(b).total_cmp(&key(a))).then(a.node.cmp(&b.node))
        });
        Ranking { term, rows }
    }

    /// Takes over a table as the leader of `term` ordered it: agreement matters more than freshness.
    pub fn adopt(term: Term, rows: Vec<RankEntry>) -> Self {
        let mut adopted: Vec<RankEntry> = Vec::with_capacity(rows.len().min(MAX_RANKED));
        for row in rows.into_iter().take(MAX_RANKED) {
            if row.score.is_finite() && !adopted.iter().any(|r| r.node == row.node) {
                adopted.push(row);
            }
        }
        Ranking { term, rows: adopted }
    }

    /// The term whose leader made it.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The rows, best first.
    pub fn rows(&self) -> &[RankEntry] {
        &self.rows
    }

    /// The row of `node`.
    pub fn row(&self, node: NodeId) -> Option<&RankEntry> {
        self.rows.iter().find(|r| r.node == node)
    }

    /// The same nodes in the same places, and the same of them caught up.
    pub fn has_order_of(&self, other: &Ranking) -> bool {
        let order = |table: &Ranking| -> Vec<(NodeId, bool)> {
            table.rows.iter().map(|row| (row.node, row.caught_up)).collect()
        };
        order(self) == order(other)
    }

    /// The place of `node` among those that are not `dead`, 0 = best; behind all others if it is not listed.
    pub fn rank_of(&self, node: NodeId, dead: Option<NodeId>) -> u32 {
        self.rows.iter().filter(|r| Some(r.node) != dead).take_while(|r| r.node != node).count()
            as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(u64, f64, bool)]) -> Vec<RankEntry> {
        of.iter()
            .map(|&(n, score, caught_up)| RankEntry { node: NodeId(n), score, caught_up })
            .collect()
    }

    fn check(of: &[(u64, f64, bool)], expected: &[u64]) {
        for term in 0..50 {
            let ranking = Ranking::order(term, rows(of), 0.01);
            let got: Vec<u64> = ranking.rows().iter().map(|r| r.node.0).collect();
            assert_eq!(got, expected, "term {term}");
        }
    }

    #[test]
    fn better_scores_come_first_whatever_the_jitter() {
        check(&[(1, 0.5, true), (2, 0.6, true), (3, 0.55, true)], &[2, 3, 1]);
        check(&[(1, 0.51, true), (2, 0.50, true)], &[1, 2]);
    }

    #[test]
    fn laggards_come_last_and_are_never_dropped() {
        check(&[(1, 0.9, false), (2, 0.1, true), (3, f64::NAN, true)], &[2, 3, 1]);
    }

    #[test]
    fn equal_scores_are_ordered_by_chance_that_all_share() {
        let first = |term| Ranking::order(term, rows(&[(1, 0.5, true), (2, 0.5, true)]), 0.01);
        assert_eq!(first(7), first(7));
        let winners: std::collections::BTreeSet<u64> =
            (0..50).map(|term| first(term).rows()[0].node.0).collect();
        assert_eq!(winners.len(), 2, "both win in some terms");
    }

    #[test]
    fn the_order_is_places_and_who_is_caught_up() {
        let table = |of: &[(u64, f64, bool)]| Ranking::adopt(1, rows(of));
        let one = table(&[(1, 0.9, true), (2, 0.5, true)]);
        assert!(one.has_order_of(&table(&[(1, 0.8, true), (2, 0.7, true)])));
        assert!(!one.has_order_of(&table(&[(2, 0.9, true), (1, 0.5, true)])));
        assert!(!one.has_order_of(&table(&[(1, 0.9, true), (2, 0.5, false)])));
        assert!(!one.has_order_of(&table(&[(1, 0.9, true)])));
    }

    #[test]
    fn ranks_close_up_over_the_dead() {
        let ranking = Ranking::order(1, rows(&[(1, 0.9, true), (2, 0.5, true)]), 0.01);
        assert_eq!(ranking.rank_of(NodeId(2), None), 1);
        assert_eq!(ranking.rank_of(NodeId(2), Some(NodeId(1))), 0);
        assert_eq!(ranking.rank_of(NodeId(9), None), 2);
        assert_eq!(Ranking::default().rank_of(NodeId(9), None), 0);
    }

    #[test]
    fn a_table_from_outside_is_bounded_and_has_each_node_once() {
        let many = (0..1000).map(|n| (n, 0.5, true)).collect::<Vec<_>>();
        assert_eq!(Ranking::adopt(1, rows(&many)).rows().len(), MAX_RANKED);
        let twice = rows(&[(1, 0.5, true), (1, 0.7, true), (2, f64::NAN, true)]);
        assert_eq!(Ranking::adopt(1, twice).rows(), rows(&[(1, 0.5, true)]).as_slice());
    }
}
