//! How a voter answers a poll: Raft's rules first, then preference, which lapses within milliseconds.

use super::{Elector, RaftRole};
use crate::core::Moment;
use crate::core::election::boundary::{PollAnswer, PollQuestion, PollRefusal};
use std::time::Duration;

/// A candidate this much better is worth a short wait. Scores nearer than this are as good as equal.
pub const CLEARLY_BETTER: f64 = 0.10;
/// Rounding of scores that differ by exactly [`CLEARLY_BETTER`].
const ROUNDING: f64 = 1e-9;
/// When to ask a voter again that has no better idea.
const ASK_AGAIN: Duration = Duration::from_millis(4);

impl Elector {
    /// A candidate asks whether this voter suspects too and could vote for it.
    pub fn on_poll(&mut self, now: Moment, question: &PollQuestion) -> PollAnswer {
        let refuse = |reason, retry_after| PollAnswer::Refuse { reason, retry_after };
        if self.view.role == RaftRole::Leader {
            return self.on_poll_as_leader(question);
        }
        let Some((since, _)) = self.suspicion(now) else {
            let due = self.detector.deadline(now).map_or(ASK_AGAIN, |due| due.since(now));
            return refuse(PollRefusal::LeaderAlive, due.min(ASK_AGAIN));
        };
        if question.last_log < self.view.last_log {
            return refuse(PollRefusal::StaleLog, ASK_AGAIN);
        }
        if self.campaign.resting(now).is_some() {
            return refuse(PollRefusal::JustVoted, ASK_AGAIN);
        }
        if let Some(wait) = self.preference(now, since, question) {
            return refuse(PollRefusal::BetterCandidate, wait);
        }
        self.campaign.on_agreed(now, question.rank);
        PollAnswer::Agree
    }

    /// A leader refuses, but for one that let go in vain: it may lose its leadership to anybody with a fresh log.
    fn on_poll_as_leader(&self, question: &PollQuestion) -> PollAnswer {
        let reason = match self.transfer.has_failed() {
            true if question.last_log >= self.view.last_log => return PollAnswer::Agree,
            true => PollRefusal::StaleLog,
            false => PollRefusal::ILead,
        };
        PollAnswer::Refuse { reason, retry_after: ASK_AGAIN }
    }

    /// How long the candidate should wait for a better one; never past the patience of this suspicion.
    fn preference(&self, now: Moment, since: Moment, question: &PollQuestion) -> Option<Duration> {
        let void = since.after(self.patience);
        if question.insistent || now >= void {
            return None;
        }
        if self.campaign.prefers(now, question.rank) {
            return Some(ASK_AGAIN.min(void.since(now)));
        }
        // A candidate of rank r has waited for r delays already: by then a better one would have asked. Half a delay
        // more, since not all notice the leader's end in the same moment; the best, rank 0, is never held up.
        let rank = question.rank.min(64);
        let slack = if rank > 0 { self.rank_delay / 2 } else { Duration::ZERO };
        let until = since.after(self.rank_delay * rank + slack).min(void);
        (now < until && self.knows_better(question)).then(|| until.since(now))
    }

    /// A live, caught-up voter, perhaps this one, is clearly better than the candidate.
    fn knows_better(&self, question: &PollQuestion) -> bool {
        let enough = question.score + CLEARLY_BETTER - ROUNDING;
        let dead = self.detector.leader();
        self.ranking.rows().iter().any(|row| {
            let other = row.node != question.candidate && Some(row.node) != dead;
            // Whether this node itself is caught up it knows better than any table.
            let fresh = match row.node == self.me {
                true => self.view.last_log >= question.last_log,
                false => row.caught_up,
            };
            other && fresh && row.score >= enough
        })
    }
}

/// The answers of a lost poll, for its row of history.
pub(super) fn describe(answers: &[PollAnswer]) -> String {
    let word = |answer: &PollAnswer| match answer {
        PollAnswer::Agree => "agrees",
        PollAnswer::Refuse { reason: PollRefusal::LeaderAlive, .. } => "hears the leader",
        PollAnswer::Refuse { reason: PollRefusal::StaleLog, .. } => "has a newer log",
        PollAnswer::Refuse { reason: PollRefusal::BetterCandidate, .. } => "knows a better one",
        PollAnswer::Refuse { reason: PollRefusal::ILead, .. } => "leads",
        PollAnswer::Refuse { reason: PollRefusal::JustVoted, .. } => "has just voted",
    };
    if answers.is_empty() {
        return "nobody answered".into();
    }
    answers.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::election::RaftView;
    use crate::core::election::ranking::RankEntry;
    use crate::core::ids::NodeId;

    const T0: Moment = Moment(1_000_000);

    fn at(ms: u64) -> Moment {
        T0.after(Duration::from_millis(ms))
    }

    /// Voter 2 of 1..=5 that followed 1 in term 3 with its log at (3, 100), and last heard it at 400 ms.
    fn voter(scores: &[(u64, f64)]) -> Elector {
        voter_of("lan", scores)
    }

    fn voter_of(profile: &str, scores: &[(u64, f64)]) -> Elector {
        let mut elector = Elector::new(NodeId(2), &Config::profile(profile).unwrap(), 1);
        elector.on_raft_changed(
            T0,
            RaftView {
                term: 3,
                role: RaftRole::Follower,
                leader: Some(NodeId(1)),
                voters: (1..=5).map(NodeId).collect(),
                last_log: (3, 100),
            },
        );
        let row = |&(n, score): &(u64, f64)| RankEntry { node: NodeId(n), score, caught_up: true };
        elector.on_table(3, scores.iter().map(row).collect());
        for ms in 0..=400 {
            if ms % 20 == 0 {
                elector.on_append(at(ms), NodeId(1), 3, true);
            }
            elector.tick(at(ms));
        }
        elector
    }

    fn run(elector: &mut Elector, until: u64) {
        for ms in 401..=until {
            elector.tick(at(ms));
        }
    }

    fn question(candidate: u64, log: (u64, u64), score: f64, rank: u32) -> PollQuestion {
        PollQuestion {
            candidate: NodeId(candidate),
            suspect: NodeId(1),
            term: 3,
            last_log: log,
            score,
            rank,
            insistent: false,
        }
    }

    fn check(elector: &mut Elector, ms: u64, q: PollQuestion, expected: Option<PollRefusal>) {
        let got = match elector.on_poll(at(ms), &q) {
            PollAnswer::Agree => None,
            PollAnswer::Refuse { reason, .. } => Some(reason),
        };
        assert_eq!(got, expected, "at {ms} ms: {q:?}");
    }

    #[test]
    fn a_voter_that_hears_the_leader_refuses() {
        let mut v = voter(&[]);
        check(&mut v, 401, question(3, (3, 100), 0.9, 0), Some(PollRefusal::LeaderAlive));
        run(&mut v, 520);
        check(&mut v, 520, question(3, (3, 100), 0.9, 0), None);
    }

    #[test]
    fn a_plain_voter_never_suspects_and_leaves_the_lease_alone() {
        let mut v = voter_of("raft", &[]);
        run(&mut v, 5_000);
        check(&mut v, 5_000, question(3, (3, 100), 0.9, 0), Some(PollRefusal::LeaderAlive));
        v.on_connection_evidence(at(5_000), NodeId(1));
        assert!(!v.suspects(at(5_000)) && v.watched().is_none());
        assert!(voter(&[]).watched().is_some());
    }

    #[test]
    fn a_log_older_than_mine_is_refused_however_good_the_score() {
        let mut v = voter(&[]);
        run(&mut v, 520);
        check(&mut v, 520, question(3, (3, 99), 1.0, 0), Some(PollRefusal::StaleLog));
        check(&mut v, 520, question(3, (2, 500), 1.0, 0), Some(PollRefusal::StaleLog));
        check(&mut v, 520, question(3, (3, 101), 0.1, 0), None);
    }

    #[test]
    fn a_voter_that_has_just_voted_rests() {
        let mut v = voter(&[]);
        run(&mut v, 520);
        v.on_vote_granted(at(520), 4, NodeId(4));
        check(&mut v, 579, question(3, (3, 100), 1.0, 0), Some(PollRefusal::LeaderAlive));
        run(&mut v, 579);
        check(&mut v, 579, question(3, (3, 100), 1.0, 0), Some(PollRefusal::JustVoted));
        run(&mut v, 580);
        check(&mut v, 580, question(3, (3, 100), 1.0, 0), None);
    }

    #[test]
    fn preference_is_bounded_and_insisting_ends_it() {
        let mut v = voter(&[(4, 0.9), (2, 0.5), (3, 0.5)]);
        run(&mut v, 520);
        let late_rank = question(3, (3, 100), 0.5, 2);
        check(&mut v, 520, late_rank.clone(), Some(PollRefusal::BetterCandidate));
        check(&mut v, 520, PollQuestion { insistent: true, ..late_rank.clone() }, None);
        run(&mut v, 540);
        check(&mut v, 539, late_rank.clone(), Some(PollRefusal::BetterCandidate));
        check(&mut v, 540, late_rank, None);
        let far = question(3, (3, 100), 0.5, 60);
        check(&mut v, 559, far.clone(), Some(PollRefusal::BetterCandidate));
        check(&mut v, 560, far, None);
    }

    #[test]
    fn a_voter_that_agreed_to_a_better_one_puts_the_worse_off_for_a_while() {
        let mut v = voter(&[]);
        run(&mut v, 530);
        check(&mut v, 521, question(4, (3, 100), 0.9, 0), None);
        check(&mut v, 522, question(3, (3, 100), 0.9, 1), Some(PollRefusal::BetterCandidate));
        check(&mut v, 522, question(5, (3, 100), 0.9, 0), None);
        run(&mut v, 552);
        check(&mut v, 552, question(3, (3, 100), 0.9, 1), None);
    }

    #[test]
    fn preference_ends_even_if_the_better_one_keeps_asking() {
        let mut v = voter(&[]);
        for ms in 520..560 {
            run(&mut v, ms);
            check(&mut v, ms, question(4, (3, 100), 0.9, 0), None);
        }
        run(&mut v, 560);
        check(&mut v, 560, question(3, (3, 100), 0.9, 1), None);
    }

    #[test]
    fn only_a_clear_live_difference_counts() {
        for (rows, expected) in [
            (vec![(4, 0.59)], None),
            (vec![(4, 0.60)], Some(PollRefusal::BetterCandidate)),
            (vec![(1, 0.99)], None),
            (vec![(2, 0.99)], Some(PollRefusal::BetterCandidate)),
        ] {
            let mut v = voter(&rows);
            run(&mut v, 520);
            check(&mut v, 521, question(3, (3, 100), 0.5, 2), expected);
        }
    }

    #[test]
    fn a_better_voter_with_an_older_log_does_not_hold_others_up() {
        let mut v = voter(&[(2, 0.99)]);
        run(&mut v, 520);
        check(&mut v, 520, question(3, (3, 101), 0.5, 2), None);
    }
}
