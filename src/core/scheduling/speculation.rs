//! Which attempts take too long, and where a copy of them runs beside: only of tasks that say they may run twice
//! (`idempotent`), only in idle slots, and only so many at once. Whichever ends first counts, as the log says.
//!
//! ```text
//!   given, seen to run ──due: twice what 95 in 100 take──▶ still there? idle slot elsewhere? room? ──▶ Assign (copied)
//! ```
//!
//! Dean and Ghemawat call them backup tasks (MapReduce, OSDI 2004, section 3.6).

use super::expiry::Dues;
use super::holdings::Charge;
use super::leader::Leader;
use super::placement::Candidates;
use super::roster::Post;
use crate::core::Moment;
use crate::core::boundary::Effect;
use crate::core::cluster::command::{AssignCause, Command};
use crate::core::cluster::live::Live;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use std::collections::BTreeMap;
use std::time::Duration;

/// No attempt is copied that runs for less: a copy costs two entries of the log and a slot.
const FLOOR: Duration = Duration::from_millis(250);
/// When one is looked at again that finds no place, or of whose kind too little is known.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A node that said nothing for longer is given no copy: it may be why the task takes so long.
const SILENT: Duration = Duration::from_secs(1);

/// Attempts that may come to take too long, and copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    due: Dues,
    /// Proposed or running, and where.
    out: BTreeMap<TaskId, NodeId>,
    /// There was no room for another one: nobody is looked at before.
    paused: Option<Moment>,
}

impl Copies {
    pub(super) fn next(&self) -> Option<Moment> {
        self.due.next().map(|due| self.paused.map_or(due, |paused| due.max(paused)))
    }

    /// The task has an outcome, or waits.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.due.forget(task);
        if self.out.remove(&task).is_some() {
            self.paused = None;
        }
    }

    /// The copy meant for `to` does not come there.
    pub(super) fn void(&mut self, task: TaskId, to: NodeId) {
        if self.out.get(&task) == Some(&to) {
            self.out.remove(&task);
        }
    }

    /// A copy is in the log.
    pub(super) fn note(&mut self, task: TaskId, to: NodeId) {
        self.due.forget(task);
        self.out.insert(task, to);
    }
}

enum Verdict {
    /// It is over, is a copy's twin, or is not known to run.
    Nothing,
    Later(Moment),
    /// Nobody can be copied now.
    Full,
    Copy {
        to: NodeId,
        beside: Token,
        charge: Charge,
    },
}

impl Leader {
    /// An attempt was given to a node, or is seen to run from now on: it is looked at when it should have ended.
    pub(super) fn watch_attempt(&mut self, now: Moment, live: &Live) {
        if self.config.speculate && live.spec.idempotent && live.copy.is_none() {
            let kind = self.durations.known_kind(&live.spec);
            let limit = self.durations.straggles(kind).map_or(LOOK_AGAIN, |limit| limit.max(FLOOR));
            self.copies.due.watch(live.spec.id, now.after(limit));
        }
    }

    /// Gives copies of attempts that take too long to nodes that are idle, after everything that waits had its turn.
    pub(super) fn copy_stragglers(
        &mut self,
        now: Moment,
        state: &ClusterState,
        out: &mut Vec<Effect>,
    ) {
        if self.place_at.is_some() || self.copies.paused.is_some_and(|until| until > now) {
            return;
        }
        self.copies.paused = None;
        let mut commands = Vec::new();
        while let Some(task) = self.copies.due.pop(now) {
            match self.judge(now, state, task) {
                Verdict::Nothing => {}
                Verdict::Later(due) => self.copies.due.watch(task, due),
                Verdict::Full => {
                    self.copies.due.watch(task, now);
                    self.copies.paused = Some(now.after(LOOK_AGAIN));
                    break;
                }
                Verdict::Copy { to, beside, charge } => {
                    if let Some(post) = self.roster.get_mut(&to) {
                        post.holds.expect(task, charge);
                    }
                    self.copies.note(task, to);
                    let cause = AssignCause::Copied;
                    commands.push(Command::Assign { task, to, cause, replaces: beside });
                    self.follow_nodes();
                }
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    fn judge(&self, now: Moment, state: &ClusterState, task: TaskId) -> Verdict {
        let live = state.live().get(&task).filter(|live| live.copy.is_none());
        let Some((live, holder)) = live.and_then(|live| Some((live, live.holder?))) else {
            return Verdict::Nothing;
        };
        let Some(post) = self.roster.get(&holder.node) else { return Verdict::Nothing };
        let held = post.holds.get(task).filter(|held| held.token == holder.token);
        let Some(held) = held.filter(|_| !self.copies.out.contains_key(&task)) else {
            return Verdict::Nothing;
        };
        // Where a node is silent nobody knows what runs there.
        let silent = self.is_silent(now, post);
        let Some(began) = held.started.or(silent.then_some(held.since)) else {
            return Verdict::Later(now.after(SILENT.max(now.since(held.since))));
        };
        let Some(limit) = self.durations.straggles(held.charge.kind) else {
            return Verdict::Later(now.after(LOOK_AGAIN.max(now.since(began))));
        };
        let due = began.after(limit.max(FLOOR));
        if due > now {
            return Verdict::Later(due);
        }
        let idle = |post: &Post| post.holds.slots() < post.slots();
        let first = self.pools.all().by_want().next().and_then(|node| self.roster.get(&node));
        if self.copies.out.len() >= self.copies_allowed() || !first.is_some_and(idle) {
            return Verdict::Full;
        }
        match self.place_for_copy(now, live, &held.charge, (post, began)) {
            Some(to) => Verdict::Copy { to, beside: holder.token, charge: held.charge.clone() },
            None => Verdict::Later(now.after(LOOK_AGAIN)),
        }
    }

    fn is_silent(&self, now: Moment, post: &Post) -> bool {
        post.member.id != self.me && now.since(post.heard) > SILENT
    }

    /// So many at once: a share of all slots, one at least.
    fn copies_allowed(&self) -> usize {
        let share = self.pools.slots() as f64 * self.config.limits.copies_ratio;
        (share as usize).max(1)
    }

    /// An idle node that would be done sooner than the attempt that runs, which will take as long again as it took.
    fn place_for_copy(
        &self,
        now: Moment,
        live: &Live,
        charge: &Charge,
        (holder, began): (&Post, Moment),
    ) -> Option<NodeId> {
        let cap = self.config.limits.node_queue;
        let from = Candidates::new(&self.roster, &self.pools, &self.durations, charge, cap);
        let expected_us = self.durations.expected_us(charge.kind);
        let age_us = now.since(began).as_micros() as u64;
        let would_help = |post: &&Post| {
            let elsewhere = post.member.id != holder.member.id;
            let here = post.holds.get(live.spec.id).is_some();
            elsewhere && !here && !self.is_silent(now, post) && post.time_us(expected_us) < age_us
        };
        from.idle().find(would_help).map(|post| post.member.id)
    }
}
