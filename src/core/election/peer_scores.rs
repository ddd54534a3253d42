//! What the leader last heard from each voter, and the table it makes of it.

use super::ranking::{MAX_RANKED, RankEntry, Ranking};
use crate::core::Moment;
use crate::core::ids::{LogIndex, NodeId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// A voter this many entries behind counts as caught up: they are on their way.
pub const CAUGHT_UP_WITHIN: u64 = 64;
/// From this age on a score fades.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// A score older than this ranks last; also: how recently a target of a handover was heard.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// Time constant of the fading.
const FADE_S: f64 = 5.0;

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Moment,
    score: f64,
    caught_up: bool,
}

/// The leader's notes about the other voters.
#[derive(Clone, Debug, Default)]
pub struct PeerScores {
    heard: BTreeMap<NodeId, Heard>,
}

impl PeerScores {
    /// `node` told its score and the end of its log; `mine` is the end of the leader's. Its row, if there is room.
    pub fn note(
        &mut self,
        now: Moment,
        node: NodeId,
        score: f64,
        log: (Term, LogIndex),
        mine: (Term, LogIndex),
    ) -> Option<RankEntry> {
        if self.heard.len() >= MAX_RANKED && !self.heard.contains_key(&node) {
            return None;
        }
        let score = if score.is_finite() { score } else { 0.0 };
        let caught_up = log.0 == mine.0 && log.1.saturating_add(CAUGHT_UP_WITHIN) >= mine.1;
        self.heard.insert(node, Heard { at: now, score, caught_up });
        Some(RankEntry { node, score, caught_up })
    }

    /// A new reign begins with the last table, without the leader that was lost. Nobody in it counts as live yet.
    pub fn inherit(&mut self, now: Moment, table: &Ranking, lost: Option<NodeId>) {
        let at = Moment(now.0.saturating_sub(FRESH_FOR.as_micros() as u64 + 1));
        let rows = table.rows().iter().filter(|row| Some(row.node) != lost);
        let heard = |row: &RankEntry| Heard { at, score: row.score, caught_up: row.caught_up };
        self.heard = rows.map(|row| (row.node, heard(row))).collect();
    }

    /// `node` answered within the last second.
    pub fn is_live(&self, now: Moment, node: NodeId) -> bool {
        self.heard.get(&node).is_some_and(|heard| now.since(heard.at) <= FRESH_FOR)
    }

    /// The table of `voters`, with `own` score for `me`.
    pub fn table(
        &self,
        now: Moment,
        term: Term,
        voters: &[NodeId],
        (me, own): (NodeId, f64),
        jitter: f64,
    ) -> Ranking {
        let row = |node: NodeId| {
            if node == me {
                return RankEntry { node, score: own, caught_up: true };
            }
            let Some(heard) = self.heard.get(&node) else {
                return RankEntry { node, score: 0.0, caught_up: false };
            };
            let age = now.since(heard.at);
            let stale = age.saturating_sub(FRESH_FOR).as_secs_f64();
            let score =
                if stale > 0.0 { heard.score * (-stale / FADE_S).exp() } else { heard.score };
            RankEntry { node, score, caught_up: heard.caught_up && age <= STALE_AFTER }
        };
        Ranking::order(term, voters.iter().take(MAX_RANKED).copied().map(row).collect(), jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    /// Node 2 said 0.8 with its log at `log`; what does node 1, whose log ends at (2, 1000), write `age_s` later?
    fn check(log: (Term, LogIndex), age_s: u64, expected: (f64, bool)) {
        let mut scores = PeerScores::default();
        scores.note(Moment(0), NodeId(2), 0.8, log, (2, 1000));
        let table = scores.table(Moment(age_s * 1_000_000), 2, &VOTERS, (NodeId(1), 0.5), 0.01);
        let row = table.row(NodeId(2)).unwrap();
        assert!((row.score - expected.0).abs() < 1e-3, "{row:?}");
        assert_eq!(row.caught_up, expected.1);
        assert_eq!(table.rows().len(), 3, "nobody is left out");
    }

    #[test]
    fn a_voter_is_caught_up_within_a_few_entries_of_the_same_term() {
        check((2, 1000), 0, (0.8, true));
        check((2, 936), 1, (0.8, true));
        check((2, 935), 0, (0.8, false));
        check((1, 1000), 0, (0.8, false));
    }

    #[test]
    fn old_scores_fade_and_then_rank_last() {
        check((2, 1000), 3, (0.8 * (-0.4f64).exp(), true));
        check((2, 1000), 6, (0.8 * (-1.0f64).exp(), false));
    }

    #[test]
    fn a_reign_begins_with_what_the_last_leader_knew() {
        let row = |n, score| RankEntry { node: NodeId(n), score, caught_up: true };
        let old = Ranking::adopt(2, vec![row(1, 0.9), row(2, 0.8), row(3, 0.7)]);
        let mut scores = PeerScores::default();
        scores.inherit(Moment(9_000_000), &old, Some(NodeId(1)));
        assert!(!scores.is_live(Moment(9_000_000), NodeId(3)));
        let table = scores.table(Moment(9_000_000), 3, &VOTERS, (NodeId(2), 0.8), 0.01);
        let order: Vec<u64> = table.rows().iter().map(|row| row.node.0).collect();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn live_means_heard_within_a_second() {
        let mut scores = PeerScores::default();
        scores.note(Moment(0), NodeId(2), f64::NAN, (2, 1), (2, 1));
        assert!(scores.is_live(Moment(1_000_000), NodeId(2)));
        assert!(!scores.is_live(Moment(1_000_001), NodeId(2)));
        assert!(!scores.is_live(Moment(0), NodeId(3)));
    }
}
