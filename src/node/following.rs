//! The task loop's ear: the leader's stream to this node, and what it says.

use super::driver::TaskLoop;
use super::transport::upstream::{Upstream, Words};
use crate::core::boundary::{Effect, Event};
use crate::core::ids::{NodeId, Term};
use std::time::Duration;

/// How long a node that is no voter believes in a leader it hears nothing of.
const LEAD_BELIEVED: Duration = Duration::from_millis(2_500);

impl TaskLoop {
    /// The leader whose words arrive here, with its term and address, if they still do.
    pub fn heard_leader(&self) -> Option<(Term, NodeId, String)> {
        let upstream = self.upstream.as_ref()?;
        let heard = self.clock.now().since(self.heard_leader) <= LEAD_BELIEVED;
        heard.then(|| (upstream.term, upstream.leader, upstream.address.clone()))
    }

    pub(super) fn on_upstream(&mut self, upstream: Upstream, effects: &mut Vec<Effect>) {
        if upstream.term < self.worker.term() {
            upstream.refuse_stale(self.worker.term());
            return;
        }
        let (term, leader): (Term, NodeId) = (upstream.term, upstream.leader);
        self.upstream = Some(upstream);
        self.heard_leader = self.clock.now();
        self.followed = true;
        self.feed(Event::LeaderConnected { term, leader }, effects);
        self.next_status = self.clock.now();
    }

    pub(super) fn on_words(&mut self, stream: u64, words: Words, effects: &mut Vec<Effect>) {
        if self.upstream.as_ref().is_none_or(|u| u.stream != stream) {
            return;
        }
        self.heard_leader = self.clock.now();
        for function in words.functions {
            if (self.functions.len() as u64) < self.config.limits.functions {
                self.functions.insert(function.hash, function);
            }
        }
        if !words.members.is_empty() {
            self.told_members = words.members;
        }
        for event in words.events {
            if let (Event::ReportsSettled { tasks, .. }, Some(upstream)) =
                (&event, &mut self.upstream)
            {
                upstream.settled(tasks.len());
            }
            self.feed(event, effects);
        }
    }
}
