//! What a leader does with what its voters tell: makes and tells the table, hands over, mends a handover that failed.

use super::handover::{Failed, plan_handover};
use super::ranking::RankEntry;
use super::{Elector, RaftRole};
use crate::core::Moment;
use crate::core::election::boundary::ElectionEffect;
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::core::record::{Record, RecordKind};
use std::collections::BTreeSet;

impl Elector {
    /// (leader) `node` answered a heartbeat with its score and the end of its log. Returns whether that is news.
    pub fn on_peer_score(
        &mut self,
        now: Moment,
        node: NodeId,
        score: f64,
        last_log: (Term, LogIndex),
    ) -> bool {
        let score = self.take_claim(node, score);
        let row = self.peers.note(now, node, score, last_log, self.view.last_log);
        let is_news = row.is_some_and(|row| self.broadcast.is_news(&row));
        if is_news {
            self.broadcast.on_news();
        }
        is_news
    }

    /// (leader) A voter says that its score changed.
    pub fn on_news(&mut self) {
        self.broadcast.on_news();
    }

    /// (leader) The table, if it is due to be told.
    pub fn take_table(&mut self, now: Moment) -> Option<(Term, Vec<RankEntry>)> {
        if self.broadcast.due().is_some_and(|due| now < due) {
            return None;
        }
        let (term, rows) = self.build_table(now)?;
        self.told_score = Some(self.own_score);
        self.broadcast.on_told(now, &rows, self.view.last_log);
        Some((term, rows))
    }

    /// (leader) Makes the table that is to be broadcast; `None` where this node does not lead.
    pub fn build_table(&mut self, now: Moment) -> Option<(Term, Vec<RankEntry>)> {
        if self.view.role != RaftRole::Leader {
            return None;
        }
        let (term, own) = (self.view.term, (self.me, self.own_score));
        self.ranking = self.peers.table(now, term, &self.view.voters, own, self.jitter);
        for record in self.scored.rows(now, &self.ranking) {
            self.record(record);
        }
        if self.plain {
            return Some((term, self.ranking.rows().to_vec()));
        }
        let (peers, transfer) = (&self.peers, &self.transfer);
        let able = |node| peers.is_live(now, node) && !transfer.is_muted(now, node);
        if let Some(to) = self.stabiliser.consider(now, &self.ranking, self.me, able) {
            self.start_handover(now, to, "a better voter leads");
        }
        Some((term, self.ranking.rows().to_vec()))
    }

    /// (leader) To whom leadership would go now: the best live, caught-up other voter that did not fail to take it.
    pub fn plan_handover(&self, now: Moment) -> Option<NodeId> {
        plan_handover(&self.ranking, self.me, |node| self.can_take_over(now, node))
    }

    /// (leader) Hands over to `to` at the next tick.
    pub fn start_handover(&mut self, now: Moment, to: NodeId, why: &str) {
        self.transfer.on_started(now, to, self.campaign.round());
        let record = Record::new(RecordKind::HandoverStarted).term(self.view.term).subject(to);
        self.record(record.score(self.own_score).detail(why));
        self.push(ElectionEffect::TransferLeader { to });
    }

    /// A leader that has let go cannot simply go on: the library neither writes nor beats until somebody is elected.
    pub(super) fn repair_transfer(&mut self, now: Moment) {
        let Some(Failed { to, first }) = self.transfer.take_overdue(now) else { return };
        self.stabiliser.on_failed(now);
        if !first {
            // Two have failed; the voters miss the heartbeats by now, and elect somebody.
            return;
        }
        match self.plan_handover(now) {
            Some(next) => self.start_handover(now, next, "the first choice did not take over"),
            None => self.push(ElectionEffect::Reclaim { from: to }),
        }
    }

    /// When this leader must look again, at the latest.
    pub(super) fn next_duty(&self, now: Moment) -> Moment {
        let table = self.broadcast.due().unwrap_or(now);
        self.transfer.due().map_or(table, |due| due.min(table))
    }

    fn can_take_over(&self, now: Moment, node: NodeId) -> bool {
        self.peers.is_live(now, node) && !self.transfer.is_muted(now, node)
    }

    /// How many voters are within reach, itself included: those that answered a leader within the last second; a
    /// follower goes by its leader's count, who has no leader by the answers to its polls. 0 where it is no voter.
    pub fn live_voters(&self, now: Moment) -> usize {
        if !self.is_voter() {
            return 0;
        }
        if self.view.role != RaftRole::Leader {
            let heard = self.heard_leader(now).map(|_| self.view.term);
            let fresh = self.campaign.longest_pause();
            return self.contacts.reachable(now, self.me, heard, &self.view.voters, fresh);
        }
        self.answering(now).len()
    }

    /// (leader) The voters that answered within the last second, itself included.
    pub fn answering(&self, now: Moment) -> BTreeSet<NodeId> {
        let live = |node: &NodeId| *node == self.me || self.peers.is_live(now, *node);
        self.view.voters.iter().copied().filter(live).collect()
    }
}
