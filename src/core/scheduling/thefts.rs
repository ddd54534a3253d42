//! Steals as the leader arbitrates them: asked, revoked, confirmed not started, logged, granted; and what they came to.

use super::leader::Leader;
use super::roster::Post;
use super::stealing::{Market, Steal, StealRefusal};
use crate::core::Moment;
use crate::core::boundary::Effect;
use crate::core::cluster::command::{AssignCause, Command, ReleaseCause};
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A thief is served once in so long a time at most, unless its victim has answered.
const SERVED: Duration = Duration::from_secs(1);
/// What a steal is taken to cost before one has been seen.
const FIRST_COST_US: f64 = 5_000.0;
/// The most it is taken to cost: one that was slow for another reason must not end all others.
const MAX_COST_US: f64 = 50_000.0;
/// The least: words and an entry of the log take a while, and what runs is known no better.
const MIN_COST_US: f64 = 1_000.0;
/// Weight of the newest steal in what one costs; the first ones weigh more where they are cheaper than was guessed.
const COST_WEIGHT: f64 = 0.1;

/// Steals under way, and counts of what became of them since this node leads.
#[derive(Clone, Debug)]
pub struct Thefts {
    /// Thieves that are being fetched something, and until when that is believed.
    served: BTreeMap<NodeId, Moment>,
    /// When tasks were asked back for a thief.
    begun: BTreeMap<TaskId, Moment>,
    cost_us: f64,
    /// Steals whose cost was seen.
    seen: u32,
    asked: u64,
    granted: u64,
    refused: BTreeMap<StealRefusal, u64>,
}

impl Default for Thefts {
    fn default() -> Self {
        Thefts {
            served: BTreeMap::new(),
            begun: BTreeMap::new(),
            cost_us: FIRST_COST_US,
            seen: 0,
            asked: 0,
            granted: 0,
            refused: BTreeMap::new(),
        }
    }
}

impl Thefts {
    /// How often idle nodes asked for work.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Tasks that a victim gave up for a thief.
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// What was refused, by reason: requests of thieves, and from `started` on single tasks.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let count = |why: &StealRefusal| self.refused.get(why).copied().unwrap_or(0);
        StealRefusal::ALL.iter().map(move |why| (why.as_str(), count(why)))
    }

    fn refuse(&mut self, why: StealRefusal) {
        *self.refused.entry(why).or_default() += 1;
    }

    /// That thief is being fetched something.
    pub(super) fn is_served(&self, now: Moment, thief: NodeId) -> bool {
        self.served.get(&thief).is_some_and(|until| *until > now)
    }

    /// Whatever was asked back from a node for thieves will not be answered.
    pub(super) fn forget_revocations(&mut self, post: &mut Post) {
        for (task, thief) in std::mem::take(&mut post.revoking) {
            self.end(task, thief);
        }
    }

    /// A task that was asked back is not under way any more.
    pub(super) fn end(&mut self, task: TaskId, thief: Option<NodeId>) {
        self.begun.remove(&task);
        if let Some(thief) = thief {
            self.served.remove(&thief);
        }
    }

    /// A steal is in the log.
    pub(super) fn note_logged(&mut self, now: Moment, task: TaskId) {
        if let Some(begun) = self.begun.remove(&task) {
            let took_us = now.since(begun).as_micros() as f64;
            let took_us = took_us.clamp(MIN_COST_US, MAX_COST_US);
            self.seen = self.seen.saturating_add(1);
            // The guess must not keep thieves idle for long, nor one slow steal of the first ones.
            let weight = match took_us < self.cost_us {
                true => COST_WEIGHT.max(1.0 / f64::from(self.seen)),
                false => COST_WEIGHT,
            };
            self.cost_us += weight * (took_us - self.cost_us);
        }
    }
}

impl Leader {
    /// Steals since this node leads.
    pub fn thefts(&self) -> &Thefts {
        &self.thefts
    }

    pub(super) fn on_work_asked(
        &mut self,
        now: Moment,
        state: &ClusterState,
        thief: NodeId,
        free_slots: u32,
        cpu_available: f64,
    ) {
        if let Some(post) = self.roster.get_mut(&thief) {
            post.heard = now;
        }
        self.follow_nodes();
        self.thefts.asked += 1;
        self.note_bid(now, thief, free_slots, cpu_available);
        if self.thefts.is_served(now, thief) {
            return self.thefts.refuse(StealRefusal::NotIdle);
        }
        match self.plan_theft(now, state, thief, free_slots, cpu_available) {
            Ok(steal) => self.begin_theft(now, thief, steal),
            Err(why) => {
                self.thefts.refuse(why);
                self.bids.note_refusal(now, thief, why);
            }
        }
    }

    pub(super) fn market<'a>(&'a self, now: Moment, state: &'a ClusterState) -> Market<'a> {
        Market {
            now,
            roster: &self.roster,
            pools: &self.pools,
            state,
            durations: &self.durations,
            reach: &self.reach,
            policy: &self.config.steal,
            cost_us: self.thefts.cost_us as u64,
        }
    }

    pub(super) fn plan_theft(
        &mut self,
        now: Moment,
        state: &ClusterState,
        thief: NodeId,
        free_slots: u32,
        cpu_available: f64,
    ) -> Result<Steal, StealRefusal> {
        let mut chance = self.chance.clone();
        let found = self.market(now, state).plan(thief, free_slots, cpu_available, &mut chance);
        self.chance = chance;
        found
    }

    /// The victim is asked back what the thief shall get.
    pub(super) fn begin_theft(&mut self, now: Moment, thief: NodeId, steal: Steal) {
        let Some(victim) = self.roster.get_mut(&steal.victim) else { return };
        victim.revoking.extend(steal.tasks.iter().map(|task| (*task, Some(thief))));
        self.thefts.served.insert(thief, now.after(SERVED));
        self.thefts.begun.extend(steal.tasks.iter().map(|task| (*task, now)));
        self.asked_back.entry(steal.victim).or_default().extend(steal.tasks);
    }

    pub(super) fn on_released(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        tasks: Vec<TaskId>,
        out: &mut Vec<Effect>,
    ) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        post.heard = now;
        let mut returned = Vec::with_capacity(tasks.len());
        for task in tasks {
            let thief = post.revoking.remove(&task).flatten();
            if let Some(thief) = thief {
                self.thefts.served.remove(&thief);
            }
            // Not assigned there any more: the log has moved on, and the release changes nothing.
            if let Some(held) = post.holds.leave(task) {
                returned.push((task, held.token, held.charge.clone(), thief));
            } else {
                self.thefts.begun.remove(&task);
            }
        }
        let mut commands = Vec::with_capacity(returned.len());
        for (task, replaces, charge, thief) in returned {
            let live = state.live().contains_key(&task);
            let ready = thief
                .filter(|thief| live && self.roster.get(thief).is_some_and(|post| post.eligible()));
            commands.push(match ready {
                Some(to) => {
                    if let Some(post) = self.roster.get_mut(&to) {
                        post.holds.expect(task, charge);
                    }
                    self.thefts.granted += 1;
                    Command::Assign { task, to, cause: AssignCause::Stolen, replaces }
                }
                None => {
                    if thief.is_some() {
                        self.thefts.end(task, thief);
                        self.thefts.refuse(StealRefusal::ThiefGone);
                    }
                    Command::Release { task, replaces, cause: ReleaseCause::HandedBack }
                }
            });
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    /// What a node keeps it has started, or finished: it is not asked for it again.
    pub(super) fn on_kept(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        tasks: &[TaskId],
    ) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        post.heard = now;
        let mut thieves = BTreeSet::new();
        for task in tasks {
            if post.holds.get(*task).is_some() && !post.status.running.contains(task) {
                post.status.running.push(*task);
            }
            if let Some(thief) = post.revoking.remove(task) {
                if thief.is_some() {
                    self.thefts.refuse(StealRefusal::Started);
                }
                self.thefts.end(*task, thief);
                thieves.extend(thief);
            }
        }
        for thief in thieves {
            self.serve_again(now, state, thief);
        }
    }

    /// The log took `task` from `node`, that attempt or any: nothing is asked back any more.
    pub(super) fn take_from(&mut self, node: NodeId, task: TaskId, token: Option<Token>) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        let held = post.holds.token(task);
        if held.is_some() && token.is_some() && held != token {
            return;
        }
        post.let_go(task);
        if let Some(thief) = post.revoking.remove(&task) {
            self.thefts.end(task, thief);
        }
    }
}
