//! When this node suspects the leader, when it campaigns, to whom a leader yields. Pure.
//!
//! Preference (the score) lives in *who polls when* and in *to whom a leader hands over*, never in RequestVote: a
//! vote is granted by Raft's rules alone, so liveness and safety stay Raft's. With equal scores plain Raft remains.
//!
//! ```text
//!   appends, ECONNREFUSED ──▶ suspicion ──▶ campaign ──Poll──▶ voters ──quorum──▶ Campaign (RequestVote)
//!   heartbeat replies ──▶ peer_scores ──▶ ranking ──▶ (rank, patience, handover)
//! ```

pub mod boundary;
pub mod broadcast;
pub mod campaign;
pub mod claims;
pub mod handover;
mod leader;
pub mod lease;
pub mod membership;
pub mod peer_scores;
pub mod ranking;
pub mod score;
mod scored;
pub mod suspicion;
mod voter;
pub mod watchdog;

use super::Moment;
use super::ids::{LogIndex, NodeId, Term};
use super::record::{Record, RecordKind};
use crate::config::Config;
use boundary::{ElectionEffect, PollAnswer, PollQuestion};
use broadcast::{Broadcast, is_news};
use campaign::Campaign;
use claims::Claims;
use handover::{Stabiliser, Transfer};
use lease::{Contacts, Told};
use peer_scores::PeerScores;
use ranking::{RankEntry, Ranking};
use scored::Scored;
use std::time::Duration;
use suspicion::{Cause, Detector};
use watchdog::Watchdog;

/// A node that watches no leader has little to decide by the clock.
const IDLE: Duration = Duration::from_millis(250);
/// Effects that wait for the next tick at most; older ones win, since records come first.
const MAX_PENDING: usize = 1_024;

/// What Raft says this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RaftRole {
    /// Follows, or knows no leader.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
    /// Is no voter.
    Learner,
}

/// What Raft knows, as the election needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RaftView {
    /// The highest term known.
    pub term: Term,
    /// What this node is in it.
    pub role: RaftRole,
    /// Who leads it, if known.
    pub leader: Option<NodeId>,
    /// The voters, sorted.
    pub voters: Vec<NodeId>,
    /// The end of this node's log: (term, index).
    pub last_log: (Term, LogIndex),
}

/// The election loop's mind. The shell calls it under a mutex and performs what [`Elector::tick`] returns.
#[derive(Debug)]
pub struct Elector {
    me: NodeId,
    plain: bool,
    jitter: f64,
    patience: Duration,
    rank_delay: Duration,
    own_score: f64,
    view: RaftView,
    detector: Detector,
    campaign: Campaign,
    ranking: Ranking,
    claims: Claims,
    peers: PeerScores,
    broadcast: Broadcast,
    told_score: Option<f64>,
    contacts: Contacts,
    stabiliser: Stabiliser,
    transfer: Transfer,
    watchdog: Watchdog,
    scored: Scored,
    pending: Vec<ElectionEffect>,
}

impl Elector {
    /// The mind of `me`; `seed` makes its jitter repeatable.
    pub fn new(me: NodeId, config: &Config, seed: u64) -> Self {
        let election = &config.election;
        Elector {
            me,
            plain: election.plain,
            jitter: config.score.jitter,
            patience: election.poll_patience,
            rank_delay: election.rank_delay,
            own_score: 0.0,
            view: RaftView::default(),
            detector: Detector::new(election),
            campaign: Campaign::new(election, seed),
            ranking: Ranking::default(),
            claims: Claims::new(&config.score),
            peers: PeerScores::default(),
            broadcast: Broadcast::default(),
            told_score: None,
            contacts: Contacts::default(),
            stabiliser: Stabiliser::new(election),
            transfer: Transfer::default(),
            watchdog: Watchdog::default(),
            scored: Scored::default(),
            pending: Vec::new(),
        }
    }

    /// This node measured itself. Returns whether, as leader, it should tell at once.
    pub fn set_score(&mut self, score: f64) -> bool {
        if score.is_finite() {
            self.own_score = score;
        }
        self.view.role == RaftRole::Leader && self.has_news()
    }

    /// Its score, as last set.
    pub fn own_score(&self) -> f64 {
        self.own_score
    }

    /// This node's score is not what the leader was last told.
    pub fn has_news(&self) -> bool {
        self.told_score.is_some_and(|told| is_news(told, self.own_score))
    }

    /// Its score, as the leader is told it now.
    pub fn tell_score(&mut self) -> f64 {
        self.told_score = Some(self.own_score);
        self.own_score
    }

    /// The leader this node may accuse; nobody in plain Raft.
    pub fn watched(&self) -> Option<NodeId> {
        self.detector.leader().filter(|_| !self.plain)
    }

    /// The table as it stands.
    pub fn ranking(&self) -> &Ranking {
        &self.ranking
    }

    /// An append of the leader of `term` arrived; `is_heartbeat`: it was sent by the clock, not by load.
    pub fn on_append(&mut self, now: Moment, leader: NodeId, term: Term, is_heartbeat: bool) {
        if let Some(gap) = self.detector.on_append(now, leader, term, is_heartbeat) {
            let record = Record::new(RecordKind::FalseSuspicion).term(term).subject(leader);
            self.record(record.value(gap.as_secs_f64()));
        }
        if self.detector.suspected(now).is_none() {
            self.campaign.reset();
            self.campaign.on_leader_heard(term);
        }
    }

    /// The port of `leader` refused a connection just now.
    pub fn on_connection_evidence(&mut self, now: Moment, leader: NodeId) {
        self.detector.on_refused(now, leader);
    }

    /// This voter granted a real vote.
    pub fn on_vote_granted(&mut self, now: Moment, term: Term, to: NodeId) {
        self.campaign.on_vote_granted(now, term);
        self.record(Record::new(RecordKind::Voted).term(term).subject(to));
    }

    /// Raft's own state changed.
    pub fn on_raft_changed(&mut self, now: Moment, view: RaftView) {
        let was_leading = self.view.role == RaftRole::Leader;
        let leads = view.role == RaftRole::Leader;
        let new_term = view.term != self.view.term;
        if was_leading && (!leads || new_term) {
            self.record(Record::new(RecordKind::SteppedDown).term(self.view.term).subject(self.me));
            self.stabiliser.on_following();
            self.transfer.on_ended();
            self.detector.on_stepped_down(now);
        }
        if leads && (!was_leading || new_term) {
            let record = Record::new(RecordKind::BecameLeader).term(view.term).subject(self.me);
            self.record(record.score(self.own_score));
            self.stabiliser.on_leading(now);
            // What the last leader knew, but for itself, until the voters answer this one.
            self.peers.inherit(now, &self.ranking, self.detector.leader());
            self.scored = Scored::default();
            self.broadcast = Broadcast::default();
        }
        if let Some(leader) = view.leader.filter(|l| *l != self.me)
            && (new_term || view.leader != self.view.leader)
        {
            self.record(Record::new(RecordKind::Followed).term(view.term).subject(leader));
        }
        self.detector.on_term(view.term);
        self.view = view;
    }

    /// The leader of `term` sent its table.
    pub fn on_table(&mut self, term: Term, mut rows: Vec<RankEntry>) {
        for row in &mut rows {
            row.score = self.take_claim(row.node, row.score);
        }
        if term >= self.ranking.term() && self.view.role != RaftRole::Leader {
            self.ranking = Ranking::adopt(term, rows);
        }
    }

    /// The leader said how it stands with its quorum.
    pub fn on_told(&mut self, told: Told) {
        self.contacts.on_told(told);
    }

    /// The leader this voter follows, hears, and may call so: it has not said that it lost its quorum.
    pub fn heard_leader(&self, now: Moment) -> Option<NodeId> {
        let follows = self.view.role == RaftRole::Follower && !self.suspects(now);
        let heard = self.view.leader.filter(|leader| follows && self.watched() == Some(*leader));
        heard.filter(|_| self.contacts.is_leased(self.view.term))
    }

    /// This node would accuse the leader, or is one that let go in vain: the lease may be passed over for a candidate
    /// that suspects as well.
    pub fn suspects(&self, now: Moment) -> bool {
        match self.view.role {
            RaftRole::Leader => self.transfer.has_failed(),
            _ => self.suspicion(now).is_some(),
        }
    }

    /// How long a poll's answers are awaited.
    pub fn poll_ttl(&self) -> Duration {
        self.campaign.round()
    }

    /// Enough voters agree already: the poll need not wait for the rest.
    pub fn is_poll_decided(&self, answers: &[(NodeId, PollAnswer)]) -> bool {
        self.agreeing(answers) >= self.quorum()
    }

    /// The poll is over, by quorum, by all answers, or by time.
    pub fn on_poll_closed(&mut self, now: Moment, answers: &[(NodeId, PollAnswer)]) {
        for (node, _) in answers {
            self.contacts.on_answer(now, *node);
        }
        let Some(question) = self.campaign.close_poll() else { return };
        let words: Vec<PollAnswer> = answers.iter().map(|(_, answer)| *answer).collect();
        self.watchdog.on_poll(self.quorum(), &words);
        let suspects = self.suspects(now) && self.is_voter();
        // A newer term than the question's: somebody campaigns already, whom this node may just have voted for.
        let overtaken = self.view.term != question.term;
        let yields = overtaken || self.campaign.must_yield(now, question.rank);
        if suspects && !yields && self.agreeing(answers) >= self.quorum() {
            self.start_campaign(now, &question);
            return;
        }
        self.campaign.on_poll_lost(now, &words);
        let detail = match (suspects, yields) {
            (false, _) => "the leader is heard again".into(),
            (true, true) => "yields to another candidate".into(),
            (true, false) => voter::describe(&words),
        };
        let record = Record::new(RecordKind::PollLost).term(self.view.term);
        if self.campaign.is_notable() {
            self.record(record.subject(question.suspect).rank(question.rank).detail(detail));
        }
    }

    /// Time passes: decides, and hands over everything that is to be done, in order.
    pub fn tick(&mut self, now: Moment) -> Vec<ElectionEffect> {
        self.detector.tick(now);
        if self.view.role == RaftRole::Leader {
            self.detector.on_leading(now, self.me, self.view.term);
            self.campaign.reset();
            self.repair_transfer(now);
        } else if self.is_voter() && !self.plain {
            self.tick_follower(now);
        } else {
            self.campaign.reset();
        }
        // In plain Raft the library's own elections are on from the start.
        if !self.plain {
            self.tick_watchdog(now);
        }
        let next = match self.view.role {
            RaftRole::Leader => self.next_duty(now),
            _ if self.is_voter() && !self.plain => self.next_look(now),
            _ => now.after(IDLE),
        };
        self.detector.promise(next);
        std::mem::take(&mut self.pending)
    }

    /// When [`Elector::tick`] is needed again, at the latest: a shell that comes later shows that this node is slow.
    pub fn next_tick(&self) -> Option<Moment> {
        self.detector.promised()
    }

    fn next_look(&self, now: Moment) -> Moment {
        let look = self.detector.next_look(now);
        let Some(due) = self.suspicion(now).and_then(|_| self.campaign.deadline()) else {
            return look;
        };
        // A deadline that has passed waits for an answer, not for the clock.
        if due > now { look.min(due) } else { look }
    }

    fn tick_follower(&mut self, now: Moment) {
        let Some((since, cause)) = self.detector.suspected(now) else {
            self.campaign.reset();
            return;
        };
        let dead = self.detector.leader();
        if dead.is_some() && self.detector.announce() {
            let silence = self.detector.contact().map_or(Duration::ZERO, |at| now.since(at));
            let detail = match cause {
                Cause::Silence => "silence",
                Cause::Refused => "connection refused",
            };
            let record = Record::new(RecordKind::Suspected).term(self.view.term);
            let record = record.subject(dead.unwrap_or_default()).value(silence.as_secs_f64());
            self.record(record.detail(detail));
        }
        let ranked = !self.ranking.rows().is_empty();
        let rank = ranked.then(|| self.ranking.rank_of(self.me, dead));
        let due = self.campaign.due(since, rank, self.own_score);
        if now >= due && !self.campaign.is_polling(now) {
            self.open_poll(now, dead.unwrap_or_default(), rank.unwrap_or(0));
        }
    }

    fn open_poll(&mut self, now: Moment, suspect: NodeId, rank: u32) {
        let question = PollQuestion {
            candidate: self.me,
            suspect,
            term: self.view.term,
            last_log: self.view.last_log,
            score: self.agreed_score(),
            rank,
            insistent: self.campaign.is_insistent(),
        };
        self.campaign.open_poll(now, question.clone());
        let record = Record::new(RecordKind::Polled).term(question.term).subject(suspect);
        if self.campaign.is_notable() {
            self.record(record.score(question.score).rank(rank));
        }
        if self.quorum() == 1 {
            self.on_poll_closed(now, &[]);
        } else {
            let spared = self.campaign.spares_suspect().then_some(suspect);
            self.push(ElectionEffect::Poll(question, spared));
        }
    }

    fn start_campaign(&mut self, now: Moment, question: &PollQuestion) {
        self.campaign.on_campaigned(now, self.view.term + 1, question.rank);
        let record = Record::new(RecordKind::Campaigned).term(self.view.term + 1).subject(self.me);
        self.record(record.score(question.score).rank(question.rank));
        self.push(ElectionEffect::Campaign);
    }

    fn tick_watchdog(&mut self, now: Moment) {
        let heard = self.detector.suspected(now).is_none() && self.detector.leader().is_some();
        let content = heard || self.view.role == RaftRole::Leader || !self.is_voter();
        if let Some(on) = self.watchdog.tick(now, content) {
            self.push(ElectionEffect::EnableLibraryElections(on));
        }
    }

    /// Since when and why the leader is suspected. In plain Raft nobody suspects: the library counts for itself.
    fn suspicion(&self, now: Moment) -> Option<(Moment, Cause)> {
        self.detector.suspected(now).filter(|_| !self.plain)
    }

    /// The score all observers agree on, as far as there is a table.
    fn agreed_score(&self) -> f64 {
        self.ranking.row(self.me).map_or(self.own_score, |row| row.score)
    }

    fn is_voter(&self) -> bool {
        self.view.voters.contains(&self.me)
    }

    fn quorum(&self) -> usize {
        self.view.voters.len() / 2 + 1
    }

    /// Distinct voters that agree, this node among them.
    fn agreeing(&self, answers: &[(NodeId, PollAnswer)]) -> usize {
        let agrees =
            |voter: &&NodeId| **voter == self.me || answers.contains(&(**voter, PollAnswer::Agree));
        self.view.voters.iter().filter(agrees).count()
    }

    fn record(&mut self, record: Record) {
        self.push(ElectionEffect::Record(record));
    }

    fn push(&mut self, effect: ElectionEffect) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(effect);
        }
    }
}
