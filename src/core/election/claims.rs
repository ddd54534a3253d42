//! What others say about scores is a claim: it counts as the nearest score there can be, and corrections are counted.
//!
//! A score moves leadership; a wrong one must neither upset a comparison nor pass unseen. Whoever always claims the
//! best score there is, is preferred, and no more: a handover needs a bad leader, rests for its cool-down, goes to live
//! and caught-up voters only; and a candidate that does not ask in time is passed over.

use super::Elector;
use crate::config::ScoreWeights;
use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use std::collections::BTreeMap;

/// Nodes that are counted one by one; more than a Raft group has.
const MAX_COUNTED: usize = 64;
/// The classic score has no bounds of its own; no machine scores near this.
const MAX_CLASSIC: f64 = 1e9;

/// Corrects scores that others report, and counts how often.
#[derive(Clone, Debug)]
pub struct Claims {
    bounds: (f64, f64),
    corrected: BTreeMap<NodeId, u64>,
}

impl Claims {
    /// Claims of scores by these weights.
    pub fn new(weights: &ScoreWeights) -> Self {
        let bounds = if weights.classic { (-MAX_CLASSIC, MAX_CLASSIC) } else { (0.0, 1.0) };
        Claims { bounds, corrected: BTreeMap::new() }
    }

    /// What the score that `author` told counts as. Not a number, or infinite: nothing available. The row says that it
    /// was corrected; it is written at the first time, the second, the fourth and so on.
    pub fn take(&mut self, author: NodeId, told: f64) -> (f64, Option<Record>) {
        let (least, most) = self.bounds;
        let score = if told.is_finite() { told.clamp(least, most) } else { 0.0 };
        if score == told {
            return (score, None);
        }
        if self.corrected.len() >= MAX_COUNTED && !self.corrected.contains_key(&author) {
            return (score, None);
        }
        let count = self.corrected.entry(author).or_default();
        *count = count.saturating_add(1);
        let record = Record::new(RecordKind::ScoreCorrected).subject(author).score(score);
        let record = record.value(*count as f64).detail(format!("it told {told}"));
        (score, count.is_power_of_two().then_some(record))
    }
}

impl Elector {
    /// What a score that was told counts as.
    pub(super) fn take_claim(&mut self, author: NodeId, told: f64) -> f64 {
        let (score, corrected) = self.claims.take(author, told);
        corrected.into_iter().for_each(|record| self.record(record));
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::Moment;
    use crate::core::election::boundary::{ElectionEffect, PollAnswer, PollQuestion};
    use crate::core::election::ranking::RankEntry;
    use crate::core::election::{RaftRole, RaftView};
    use std::time::Duration;

    const ME: NodeId = NodeId(1);
    const LIAR: NodeId = NodeId(4);
    const VOTERS: [u64; 5] = [1, 2, 3, 4, 5];

    fn check(classic: bool, told: f64, expected: f64) {
        let profile = if classic { "classic" } else { "lan" };
        let mut claims = Claims::new(&Config::profile(profile).unwrap().score);
        let (score, record) = claims.take(LIAR, told);
        assert_eq!((score, record.is_some()), (expected, expected != told), "{told}");
    }

    #[test]
    fn impossible_scores_count_as_the_nearest_possible_one() {
        for told in [0.0, 0.5, 1.0] {
            check(false, told, told);
        }
        for (told, expected) in [(-1.0, 0.0), (1.1, 1.0), (1e9, 1.0), (-1e300, 0.0)] {
            check(false, told, expected);
        }
        for told in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            check(false, told, 0.0);
            check(true, told, 0.0);
        }
        check(true, 73.5, 73.5);
        check(true, -0.9, -0.9);
        check(true, 1e300, 1e9);
    }

    #[test]
    fn corrections_are_counted_and_told_ever_more_rarely() {
        let mut claims = Claims::new(&Config::default().score);
        let told: Vec<f64> = (0..1_000)
            .filter_map(|_| claims.take(LIAR, 9.0).1)
            .map(|record| record.value)
            .collect();
        assert_eq!(told, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        for n in 100..10_000 {
            claims.take(NodeId(n), -1.0);
        }
        assert_eq!(claims.corrected.len(), MAX_COUNTED);
    }

    /// `me` of 1..=5 in term 3.
    fn elector(me: NodeId, role: RaftRole) -> Elector {
        let mut elector = Elector::new(me, &Config::default(), 1);
        let leader = Some(if role == RaftRole::Leader { me } else { ME });
        let voters = VOTERS.map(NodeId).to_vec();
        let view = RaftView { term: 3, role, leader, voters, last_log: (3, 100) };
        elector.on_raft_changed(Moment(0), view);
        elector
    }

    fn seconds(s: f64) -> Moment {
        Moment(0).after(Duration::from_secs_f64(s))
    }

    /// Every quarter of a second for `hours` the leader scores `own`, the liar claims `claim` and the others 0.6, with
    /// the liar's log at `log`; when, in seconds, and to whom leadership was handed over in vain.
    fn reign(own: f64, claim: f64, log: (u64, u64), hours: u64) -> (Elector, Vec<(f64, NodeId)>) {
        let mut leader = elector(ME, RaftRole::Leader);
        leader.set_score(own);
        let mut moves = Vec::new();
        for quarter in 0..hours * 3_600 * 4 {
            let now = Moment(quarter * 250_000);
            for voter in [2, 3, 4, 5].map(NodeId) {
                let (score, log) = if voter == LIAR { (claim, log) } else { (0.6, (3, 100)) };
                leader.on_peer_score(now, voter, score, log);
            }
            leader.build_table(now);
            for effect in leader.tick(now) {
                if let ElectionEffect::TransferLeader { to } = effect {
                    moves.push((now.since(Moment(0)).as_secs_f64(), to));
                }
            }
        }
        (leader, moves)
    }

    #[test]
    fn a_liar_gets_the_leadership_of_a_good_leader_never_and_of_a_bad_one_once_per_cool_down() {
        let (good, moves) = reign(0.7, 1.0, (3, 100), 24);
        assert_eq!(moves, []);
        assert_eq!(good.ranking().rows()[0].node, LIAR, "it is preferred all the same");
        let (_, moves) = reign(0.1, 1.0, (3, 100), 24);
        // Nobody takes over here, so each attempt is repaired by asking the next best as well.
        assert_eq!(moves[0].1, LIAR, "it is asked first");
        let moves: Vec<_> = moves.into_iter().filter(|(_, to)| *to == LIAR).collect();
        let cooldown = Config::default().election.handover_cooldown.as_secs_f64();
        assert!(moves[0].0 >= cooldown);
        assert!(moves.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 2.0 * cooldown), "{moves:?}");
        // Each attempt within ten minutes doubles the rest, which settles at four minutes.
        assert!(moves.len() <= 24 * 15 + 1, "{}", moves.len());
    }

    #[test]
    fn a_liar_whose_log_is_behind_is_passed_over() {
        let (leader, moves) = reign(0.1, 1.0, (3, 20), 1);
        assert!(!moves.is_empty() && moves.iter().all(|(_, to)| *to != LIAR), "{moves:?}");
        assert_eq!(leader.ranking().rows().last().unwrap().node, LIAR);
    }

    #[test]
    fn a_liar_that_stops_answering_is_passed_over_within_a_second() {
        let mut leader = elector(ME, RaftRole::Leader);
        leader.set_score(0.5);
        for voter in [2, 3, 4, 5].map(NodeId) {
            leader.on_peer_score(seconds(0.0), voter, 1e9, (3, 100));
        }
        for voter in [2, 3, 5].map(NodeId) {
            leader.on_peer_score(seconds(1.1), voter, 0.6, (3, 100));
        }
        leader.build_table(seconds(1.1));
        assert_eq!(leader.ranking().rows()[0].node, LIAR);
        assert!(leader.plan_handover(seconds(1.1)).is_some_and(|to| to != LIAR));
        leader.build_table(seconds(6.0));
        assert_eq!(leader.ranking().rows().last().unwrap().node, LIAR);
        let corrected = leader.tick(seconds(6.0)).into_iter().filter(|effect| {
            matches!(effect, ElectionEffect::Record(row) if row.kind == RecordKind::ScoreCorrected)
        });
        assert_eq!(corrected.count(), 4, "once for each that claimed 1e9");
    }

    #[test]
    fn a_liar_that_should_follow_and_does_not_ask_costs_one_rank_delay() {
        let mut voter = elector(NodeId(2), RaftRole::Follower);
        let row = |n, score| RankEntry { node: NodeId(n), score, caught_up: true };
        // The leader's table holds what the liar claims, uncorrected: it may be of another version, or lie itself.
        voter.on_table(3, vec![row(4, 1e300), row(3, 0.6), row(2, 0.5), row(5, 0.4), row(1, 0.3)]);
        assert_eq!(voter.ranking().rows()[0].score, 1.0);
        let mut suspected = None;
        for ms in 0..=600 {
            let now = seconds(f64::from(ms) / 1e3);
            if ms <= 300 && ms % 20 == 0 {
                voter.on_append(now, ME, 3, true);
            }
            voter.tick(now);
            if voter.suspects(now) {
                let since = *suspected.get_or_insert(now);
                let question = PollQuestion {
                    candidate: NodeId(3),
                    suspect: ME,
                    term: 3,
                    last_log: (3, 100),
                    score: 0.6,
                    rank: 1,
                    insistent: false,
                };
                if voter.on_poll(now, &question) == PollAnswer::Agree {
                    let waited = now.since(since);
                    assert!(waited <= Config::default().election.rank_delay * 2, "{waited:?}");
                    return;
                }
            }
        }
        panic!("the second in line was never agreed to");
    }
}
