//! When a task's time is over, and which time that is: the leader watches, proposes, and the log decides.
//!
//! The clock of the log goes on from leader to leader by how long each of them has waited, measured by its own
//! monotonic clock; wall clocks, which may be wrong, only say where it begins, and how long all nodes were down.

use super::leader::{Leader, Place};
use crate::core::Moment;
use crate::core::boundary::Effect;
use crate::core::cluster::command::{Command, ExpireCause};
use crate::core::cluster::live::Live;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When a task that was asked back from its node, or is on its way to one, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How this node's moments, the clock of the log and the wall clock go together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Era {
    /// The clock of the log as last seen, and when.
    seen: (u64, Moment),
    /// While it leads: both clocks at one moment.
    since: Moment,
    log_ms: u64,
    wall_ms: u64,
}

impl Era {
    /// A follower sees how far the log has come.
    pub(super) fn see(&mut self, now: Moment, clock_ms: u64) {
        if clock_ms > self.seen.0 {
            self.seen = (clock_ms, now);
        }
    }

    /// This node begins to lead.
    pub(super) fn begin(&mut self, now: Moment, clock_ms: u64, wall_ms: u64, followed: bool) {
        self.see(now, clock_ms);
        let waited = now.since(self.seen.1).as_millis() as u64;
        self.log_ms = match followed && clock_ms > 0 {
            true => clock_ms.saturating_add(waited),
            false => clock_ms.max(wall_ms),
        };
        (self.since, self.wall_ms) = (now, wall_ms);
    }

    pub(super) fn log_ms(&self, now: Moment) -> u64 {
        self.log_ms.saturating_add(now.since(self.since).as_millis() as u64)
    }

    pub(super) fn wall_ms(&self, now: Moment) -> u64 {
        self.wall_ms.saturating_add(now.since(self.since).as_millis() as u64)
    }

    /// When the clock of the log comes to `at_ms`; now, if it has.
    pub(super) fn moment(&self, now: Moment, at_ms: u64) -> Moment {
        now.after(Duration::from_millis(at_ms.saturating_sub(self.log_ms(now))))
    }

    /// A time of the log by the wall clock, for people and callbacks.
    pub(super) fn on_the_wall(&self, at_ms: u64) -> u64 {
        at_ms.saturating_add(self.wall_ms).saturating_sub(self.log_ms)
    }
}

/// Tasks whose time will be over some day.
#[derive(Debug, Default)]
pub(super) struct Dues {
    order: BTreeSet<(Moment, TaskId)>,
    watched: BTreeMap<TaskId, Moment>,
}

impl Dues {
    pub(super) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(due, _)| *due)
    }

    pub(super) fn watch(&mut self, task: TaskId, due: Moment) {
        self.forget(task);
        self.order.insert((due, task));
        self.watched.insert(task, due);
    }

    pub(super) fn forget(&mut self, task: TaskId) {
        if let Some(due) = self.watched.remove(&task) {
            self.order.remove(&(due, task));
        }
    }

    pub(super) fn pop(&mut self, now: Moment) -> Option<TaskId> {
        let &(_, task) = self.order.first().filter(|(due, _)| *due <= now)?;
        self.forget(task);
        Some(task)
    }
}

impl Leader {
    /// Remembers to look at a task when its time may be over.
    pub(super) fn watch_terms(&mut self, now: Moment, state: &ClusterState, task: TaskId) {
        let Some(live) = state.live().get(&task) else { return };
        let by = [live.start_by_ms(), live.end_by_ms()].into_iter().flatten().min();
        if let Some(by_ms) = by {
            self.dues.watch(task, self.era.moment(now, by_ms));
        }
    }

    pub(super) fn check_terms(&mut self, now: Moment, state: &ClusterState, out: &mut Vec<Effect>) {
        let mut commands = Vec::new();
        while let Some(task) = self.dues.pop(now) {
            let Some(live) = state.live().get(&task) else { continue };
            let over = |by: Option<u64>| by.is_some_and(|by| by <= self.era.log_ms(now));
            let (ends, starts) = (over(live.end_by_ms()), over(live.start_by_ms()));
            if ends {
                commands.push(Command::Expire { task, cause: ExpireCause::Deadline });
            } else if starts && live.holder.is_none() && !self.is_on_its_way(task) {
                self.leave_queue(task);
                commands.push(Command::Expire { task, cause: ExpireCause::NeverStarted });
            } else if starts && !self.is_running(task, live) {
                self.ask_back(task, live, out);
                self.dues.watch(task, now.after(LOOK_AGAIN));
            } else if let Some(by_ms) = live.end_by_ms() {
                self.dues.watch(task, self.era.moment(now, by_ms));
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    fn is_on_its_way(&self, task: TaskId) -> bool {
        matches!(self.places.get(&task), Some(Place::Proposed(_)))
    }

    fn is_running(&self, task: TaskId, live: &Live) -> bool {
        let post = live.holder.and_then(|holder| self.roster.get(&holder.node));
        post.is_some_and(|post| post.status.running.contains(&task))
    }

    /// Only its node knows whether it has started; if not, it gives the task back.
    fn ask_back(&mut self, task: TaskId, live: &Live, out: &mut Vec<Effect>) {
        let Some(holder) = live.holder else { return };
        let Some(post) = self.roster.get_mut(&holder.node).filter(|post| post.open) else { return };
        if post.holds.token(task) == Some(holder.token) && !post.revoking.contains_key(&task) {
            post.revoking.insert(task, None);
            out.push(Effect::Revoke { node: holder.node, tasks: vec![task] });
        }
    }
}
