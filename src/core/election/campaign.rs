//! Who campaigns when: rank by rank, after a poll, and by chance alone once preference has failed.
//!
//! ```text
//!   suspected ──rank x d──▶ poll ──quorum suspects──▶ campaign ──60 ms──▶ (nobody won) poll again
//!                            └──otherwise──▶ wait as told, from the 4th try on by chance, from the 9th insist
//! ```

use crate::config::ElectionConfig;
use crate::core::Moment;
use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::ids::Term;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// How long a poll's answers are awaited, and how long a voter rests after granting a real vote: one slow fsync must
/// not depose a new leader. On slow networks as many rank delays as [`ROUND_DELAYS`] instead.
const ROUND: Duration = Duration::from_millis(60);
/// See [`ROUND`]: a round trip and a vote fit into two rank delays, an election into seven.
const ROUND_DELAYS: u32 = 7;
/// Lost rounds after which a candidate stops asking in rank order.
const ORDERLY_TRIES: u32 = 3;
/// Lost rounds after which preference must no longer be heard.
const PATIENT_TRIES: u32 = 8;
/// Past that only one round in this many is written down: a long partition must not fill the history.
const RECORDED_EVERY: u32 = 16;
/// Back-off grows with every lost round up to this many rank delays.
const MAX_BACKOFF: u32 = 25;
/// Ranks that pre-table scores are spread over.
const UNRANKED_SPREAD: f64 = 5.0;

/// The clockwork of one candidacy; reset whenever the leader is heard.
#[derive(Clone, Debug)]
pub struct Campaign {
    rank_delay: Duration,
    round: Duration,
    due: Option<Moment>,
    tries: u32,
    /// When this node last voted, for itself too, and in which term.
    granted: Option<(Moment, Term)>,
    /// When this node last agreed to a poll, and the rank of who asked.
    agreed: Option<(Moment, u32)>,
    poll: Option<Poll>,
    random: SmallRng,
}

#[derive(Clone, Debug)]
struct Poll {
    question: PollQuestion,
    opened: Moment,
}

impl Campaign {
    /// A candidacy that has not begun; `seed` makes its jitter repeatable.
    pub fn new(config: &ElectionConfig, seed: u64) -> Self {
        Campaign {
            rank_delay: config.rank_delay,
            round: ROUND.max(config.rank_delay * ROUND_DELAYS),
            due: None,
            tries: 0,
            granted: None,
            agreed: None,
            poll: None,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// How long a poll's answers are awaited.
    pub fn round(&self) -> Duration {
        self.round
    }

    /// The leader was heard, or this node leads.
    pub fn reset(&mut self) {
        (self.due, self.tries, self.poll) = (None, 0, None);
    }

    /// This node granted a real vote.
    pub fn on_vote_granted(&mut self, now: Moment, term: Term) {
        self.granted = Some((now, term));
    }

    /// The leader of `term` spoke: the elections up to it are over, and their votes need no rest any more.
    pub fn on_leader_heard(&mut self, term: Term) {
        if self.granted.is_some_and(|(_, granted)| granted <= term) {
            (self.granted, self.agreed) = (None, None);
        }
    }

    /// This node agreed to the poll of a candidate with `rank`.
    pub fn on_agreed(&mut self, now: Moment, rank: u32) {
        if !self.prefers(now, rank) {
            self.agreed = Some((now, rank));
        }
    }

    /// Not long ago this node agreed to a candidate better than `rank`: two that are agreed to split the votes.
    pub fn prefers(&self, now: Moment, rank: u32) -> bool {
        self.agreed.is_some_and(|(at, other)| other < rank && now < at.after(self.round / 2))
    }

    /// Since the poll was opened a better candidate, or one that has votes already, came forward: this one yields.
    pub fn must_yield(&self, now: Moment, rank: u32) -> bool {
        self.resting(now).is_some() || (!self.is_insistent() && self.prefers(now, rank))
    }

    /// How long this node must still let a granted vote rest.
    pub fn resting(&self, now: Moment) -> Option<Duration> {
        let until = self.granted?.0.after(self.round);
        (now < until).then(|| until.since(now))
    }

    /// Preference must no longer be heard.
    pub fn is_insistent(&self) -> bool {
        self.tries > PATIENT_TRIES
    }

    /// The suspect need not be asked. Later it is: one that is back, with less in its log than others hold, can lead no
    /// more, and its vote may be the one that is wanted.
    pub fn spares_suspect(&self) -> bool {
        self.tries <= ORDERLY_TRIES
    }

    /// This round is worth a row of history.
    pub fn is_notable(&self) -> bool {
        self.tries <= PATIENT_TRIES || self.tries.is_multiple_of(RECORDED_EVERY)
    }

    /// A poll waits for its answers; one that nobody closed is void after twice its time.
    pub fn is_polling(&self, now: Moment) -> bool {
        self.poll.as_ref().is_some_and(|poll| now < poll.opened.after(self.round * 2))
    }

    /// When to poll: rank by rank after `since`. Without a table `score` stands in for the rank.
    pub fn due(&mut self, since: Moment, rank: Option<u32>, score: f64) -> Moment {
        let base = match self.due {
            Some(due) => due,
            None => {
                let wait = match rank {
                    Some(rank) => self.rank_delay * rank.min(64),
                    None => {
                        self.rank_delay.mul_f64(UNRANKED_SPREAD * (1.0 - score.clamp(0.0, 1.0)))
                    }
                };
                let due = since.after(wait + self.jitter(self.rank_delay / 8));
                self.due = Some(due);
                due
            }
        };
        // All who voted wake from their rest together, so the ranks count from there again.
        let order = self.rank_delay * rank.unwrap_or(0).min(64);
        let rested = self.granted.map(|(at, _)| at.after(self.round + order));
        let better = self.agreed.filter(|(_, other)| *other < rank.unwrap_or(0));
        let deferred = better.map(|(at, _)| at.after(self.round / 2));
        base.max(rested.unwrap_or(base)).max(deferred.unwrap_or(base))
    }

    /// A poll is on its way.
    pub fn open_poll(&mut self, now: Moment, question: PollQuestion) {
        self.tries = self.tries.saturating_add(1);
        self.poll = Some(Poll { question, opened: now });
    }

    /// The poll is over; the question it asked.
    pub fn close_poll(&mut self) -> Option<PollQuestion> {
        self.poll.take().map(|poll| poll.question)
    }

    /// No quorum: ask again when the voters said, later by chance, so that equals do not meet for ever.
    pub fn on_poll_lost(&mut self, now: Moment, answers: &[PollAnswer]) {
        let wait = if self.tries <= ORDERLY_TRIES {
            let told = answers.iter().filter_map(|answer| match answer {
                PollAnswer::Agree => None,
                PollAnswer::Refuse { retry_after, .. } => Some(*retry_after),
            });
            // 20 ms if nobody answered: the network needs a moment more than the voters do.
            let least = told.min().unwrap_or(Duration::from_millis(20));
            least.clamp(Duration::from_millis(1), self.round)
        } else {
            self.rank_delay / 2 + self.backoff()
        };
        self.due = Some(now.after(wait));
    }

    /// RequestVote is out: if nobody wins, begin again.
    pub fn on_campaigned(&mut self, now: Moment, term: Term, rank: u32) {
        self.granted = Some((now, term));
        let order = if self.is_insistent() { 0 } else { rank.min(64) };
        let wait = self.round + self.rank_delay * order + self.backoff();
        self.due = Some(now.after(wait));
    }

    /// The next moment something is due.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.poll {
            Some(poll) => Some(poll.opened.after(self.round * 2)),
            None => self.due,
        }
    }

    /// How long it takes from one poll's answers to the next one's at most.
    pub fn longest_pause(&self) -> Duration {
        self.rank_delay * (MAX_BACKOFF + 1) + self.round * 2
    }

    fn backoff(&mut self) -> Duration {
        let most = self.rank_delay * self.tries.clamp(1, MAX_BACKOFF);
        self.jitter(most)
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.random.random_range(0..=most.as_micros() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::election::boundary::PollRefusal;

    const SINCE: Moment = Moment(2_000_000);

    fn campaign(seed: u64) -> Campaign {
        Campaign::new(&Config::default().election, seed)
    }

    fn refuse(ms: u64) -> PollAnswer {
        let retry_after = Duration::from_millis(ms);
        PollAnswer::Refuse { reason: PollRefusal::LeaderAlive, retry_after }
    }

    fn ask(campaign: &mut Campaign, now: Moment) {
        let question = PollQuestion {
            candidate: Default::default(),
            suspect: Default::default(),
            term: 1,
            last_log: (0, 0),
            score: 0.5,
            rank: 0,
            insistent: campaign.is_insistent(),
        };
        campaign.open_poll(now, question);
    }

    #[test]
    fn every_rank_waits_one_delay_longer_whatever_the_seed() {
        for seed in 0..100 {
            let due = |rank| campaign(seed).due(SINCE, Some(rank), 0.5).since(SINCE);
            assert!(due(0) < Duration::from_millis(2));
            assert!(due(1) >= Duration::from_millis(8) && due(1) < Duration::from_millis(10));
            assert!(due(2) >= Duration::from_millis(16));
        }
    }

    #[test]
    fn without_a_table_the_better_score_asks_first() {
        let due = |score| campaign(3).due(SINCE, None, score).since(SINCE);
        assert!(due(0.9) < due(0.8) && due(0.8) < due(0.1));
        assert!(due(0.0) <= Duration::from_millis(41));
    }

    #[test]
    fn a_granted_vote_rests_and_an_agreed_poll_defers_the_worse() {
        let mut c = campaign(1);
        c.on_agreed(SINCE, 0);
        assert!(c.due(SINCE, Some(0), 0.5).since(SINCE) < Duration::from_millis(2));
        assert_eq!(c.due(SINCE, Some(1), 0.5), SINCE.after(ROUND / 2));
        assert!(c.must_yield(SINCE, 1) && !c.must_yield(SINCE, 0));
        assert!(!c.must_yield(SINCE.after(ROUND / 2), 1));
        c.on_vote_granted(SINCE, 2);
        assert!(c.must_yield(SINCE, 0));
        assert_eq!(c.due(SINCE, Some(0), 0.5), SINCE.after(ROUND));
        assert_eq!(c.resting(SINCE), Some(ROUND));
        assert_eq!(c.due(SINCE, Some(2), 0.5), SINCE.after(ROUND + Duration::from_millis(16)));
        assert_eq!(c.resting(SINCE.after(ROUND)), None);
        c.on_leader_heard(1);
        assert!(c.resting(SINCE).is_some(), "an older leader ends no election");
        c.on_leader_heard(2);
        assert!(c.resting(SINCE).is_none());
    }

    #[test]
    fn lost_polls_come_back_as_told_then_by_chance_then_insist() {
        let mut c = campaign(5);
        let mut now = SINCE;
        for lost in 1..=12 {
            assert_eq!(c.is_insistent(), lost > 9, "after {} lost rounds", lost - 1);
            ask(&mut c, now);
            assert_eq!(c.spares_suspect(), lost <= 3, "in round {lost}");
            assert!(c.is_polling(now) && c.close_poll().is_some());
            c.on_poll_lost(now, &[refuse(4), refuse(3)]);
            let wait = c.deadline().unwrap().since(now);
            match lost {
                1..=3 => assert_eq!(wait, Duration::from_millis(3)),
                _ => {
                    assert!(
                        (Duration::from_millis(4)..=Duration::from_millis(104)).contains(&wait),
                        "{wait:?}"
                    )
                }
            }
            now = c.deadline().unwrap();
        }
        c.reset();
        assert!(!c.is_insistent() && c.deadline().is_none());
    }

    #[test]
    fn a_poll_that_nobody_closes_does_not_block_for_ever() {
        let mut c = campaign(5);
        ask(&mut c, SINCE);
        assert!(c.is_polling(SINCE.after(ROUND)));
        assert!(!c.is_polling(SINCE.after(ROUND * 2)));
    }

    #[test]
    fn slow_networks_get_longer_rounds() {
        for (profile, ms) in [("lan", 60), ("ci", 175), ("wan", 630)] {
            let config = Config::profile(profile).unwrap().election;
            assert_eq!(Campaign::new(&config, 1).round(), Duration::from_millis(ms), "{profile}");
        }
    }
}
