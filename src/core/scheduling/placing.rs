//! Waiting tasks and the nodes they go to: the leader's queue, its places, and its idea of what each node holds.

use super::holdings::Charge;
use super::leader::{Leader, Place};
use super::placement::{Candidates, policy};
use super::queue::Parked;
use crate::core::Moment;
use crate::core::boundary::Effect;
use crate::core::cluster::command::{AssignCause, Command, Member, TaskSpec};
use crate::core::cluster::live::Live;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use std::collections::BTreeSet;

/// Kinds of tasks that find no place in one step before the rest waits for the next one.
const MAX_FAILURES: usize = 256;

impl Leader {
    /// What a task costs whoever holds it.
    pub(super) fn charge_of(&mut self, spec: &TaskSpec) -> Charge {
        if spec.needs.is_some() {
            self.pools.tell_apart();
        }
        Charge { kind: self.durations.kind_of(spec), needs: spec.needs.clone() }
    }

    pub(super) fn enqueue(&mut self, task: TaskId, live: &Live) {
        let charge = self.charge_of(&live.spec);
        let length = self.durations.length(charge.kind);
        let spot = self.queue.push(task, live.spec.priority, live.ready_ms, charge, length);
        self.places.insert(task, Place::Queued(spot));
    }

    /// The same, but a task that is delayed, or waits for its next attempt, comes later.
    pub(super) fn enqueue_when_ready(&mut self, now: Moment, task: TaskId, live: &Live) {
        let due = self.era.moment(now, live.ready_ms);
        if due <= now {
            return self.enqueue(task, live);
        }
        self.delayed.insert((due, task));
        self.places.insert(task, Place::Delayed(due));
    }

    pub(super) fn leave_queue(&mut self, task: TaskId) {
        match self.places.remove(&task) {
            Some(Place::Queued(spot)) => self.queue.remove(spot),
            Some(Place::Delayed(due)) => {
                self.delayed.remove(&(due, task));
            }
            Some(Place::Proposed(_)) | None => {}
        }
    }

    /// A task that was proposed for `node` does not come there.
    pub(super) fn unburden(&mut self, node: NodeId, task: TaskId) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.holds.give_up_on(task);
        }
    }

    /// A submission that had a node reserved did not become a task.
    pub(super) fn withdraw(&mut self, task: TaskId) {
        if let Some(&Place::Proposed(node)) = self.places.get(&task) {
            self.places.remove(&task);
            self.unburden(node, task);
        }
    }

    /// The assignment proposed for `node` is void: the task, if it is still there, waits again.
    pub(super) fn requeue_proposed(&mut self, state: &ClusterState, task: TaskId, node: NodeId) {
        if self.places.get(&task) == Some(&Place::Proposed(node)) {
            self.places.remove(&task);
            let waits = state.live().get(&task).filter(|live| live.holder.is_none());
            if let Some(live) = waits {
                self.enqueue(task, live);
            }
        }
    }

    /// A place for a new submission at once, if nobody waits who could have it.
    pub(super) fn place_at_once(&mut self, spec: &TaskSpec) -> Option<NodeId> {
        self.follow_nodes();
        if self.place_at.is_some() || !self.queue.is_hopeless() {
            return None;
        }
        let charge = self.charge_of(spec);
        let node = self.choose(&charge).ok()?;
        self.reserve(node, spec.id, charge);
        Some(node)
    }

    /// Gives waiting tasks to nodes until nobody has room.
    pub(super) fn place_waiting(&mut self, state: &ClusterState, out: &mut Vec<Effect>) {
        let mut commands = Vec::new();
        // Where one found no place, no other of the same needs and about the same length will.
        let mut failed = BTreeSet::new();
        self.follow_nodes();
        while self.place_at.is_none() && failed.len() < MAX_FAILURES {
            let longest_first = self.policy().longest_first();
            let Some((spot, task, charge)) = self.queue.first(longest_first) else { break };
            if state.live().get(&task).is_none_or(|live| live.holder.is_some()) {
                // It was decided in the log meanwhile; the change is on its way.
                self.queue.remove(spot);
                self.places.remove(&task);
                continue;
            }
            let charge = charge.clone();
            let known = self.durations.known_us(charge.kind).is_some();
            let like = (charge.needs.clone(), known, self.durations.length(charge.kind));
            if failed.contains(&like) {
                self.queue.park(spot, Parked::NoPlace);
                continue;
            }
            match self.choose(&charge) {
                Ok(to) => {
                    self.queue.take(spot);
                    self.reserve(to, task, charge);
                    let cause = AssignCause::Placed;
                    commands.push(Command::Assign { task, to, cause, replaces: Token(0) });
                }
                Err(why) => {
                    self.queue.park(spot, why);
                    // Those for whom there is no kind of node must be known to be such.
                    if why == Parked::NoPlace {
                        failed.insert(like);
                    }
                }
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    fn policy(&self) -> &'static dyn super::placement::Policy {
        policy(self.config.placement, self.pools.has_unreached())
    }

    fn choose(&mut self, charge: &Charge) -> Result<NodeId, Parked> {
        let policy = self.policy();
        let (pools, durations) = (&self.pools, &self.durations);
        let cap = self.config.limits.node_queue;
        let candidates = Candidates::new(&self.roster, pools, durations, charge, cap);
        match policy.choose(&candidates, &mut self.chance) {
            Some(node) => Ok(node),
            None if candidates.is_empty() => Err(Parked::NoOffer),
            None => Err(Parked::NoPlace),
        }
    }

    fn reserve(&mut self, node: NodeId, task: TaskId, charge: Charge) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.holds.expect(task, charge);
        }
        self.places.insert(task, Place::Proposed(node));
        self.derive();
    }

    /// What is derived from the nodes follows them.
    fn derive(&mut self) {
        let cap = self.config.limits.node_queue;
        self.pools.follow(&mut self.roster, &self.durations, &self.reach, cap);
    }

    /// Brings what is derived from the nodes up to date, and lines back that may find a place now.
    pub(super) fn follow_nodes(&mut self) {
        self.look_around();
        if !self.roster.has_changed() {
            return;
        }
        let offers = self.pools.offers_version();
        self.derive();
        self.queue.unpark(offers != self.pools.offers_version());
    }

    /// Finds out who is in reach, if somebody moved, came or went.
    fn look_around(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        // A leader that is no member yet stands at the origin.
        let nowhere = || Member { id: self.me, ..Member::default() };
        let me = self.roster.get(&self.me).map_or_else(nowhere, |post| post.member.clone());
        let hops = self.reach.hops(&me, &self.roster);
        self.roster.set_hops(|post| hops.get(&post.member.id).copied());
    }
}
