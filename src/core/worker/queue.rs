//! What waits on a node for a place: first in, first out, but for what has no room yet.

use crate::core::boundary::Assignment;
use crate::core::ids::{TaskId, Token};
use std::collections::BTreeMap;

/// How often the first in the queue may be passed by others while it waits for slots or resources.
pub(super) const MAX_PASSED: u32 = 32;
/// How many in the queue are looked at for one that can start.
const LOOKS: usize = 64;

/// Assignments that have not started: first in, first out, at most one per task.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeMap<u64, Assignment>,
    index: BTreeMap<TaskId, u64>,
    next: u64,
    /// How often the first was passed.
    passed: u32,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Assignment> {
        self.order.values()
    }

    pub(super) fn token(&self, task: TaskId) -> Option<Token> {
        self.index.get(&task).and_then(|at| self.order.get(at)).map(|a| a.token)
    }

    pub(super) fn first(&self) -> Option<&Assignment> {
        self.order.values().next()
    }

    pub(super) fn push(&mut self, assignment: Assignment) {
        self.remove(assignment.spec.id);
        self.index.insert(assignment.spec.id, self.next);
        self.order.insert(self.next, assignment);
        self.next += 1;
    }

    pub(super) fn remove(&mut self, task: TaskId) -> bool {
        self.index.remove(&task).is_some_and(|at| self.order.remove(&at).is_some())
    }

    /// The first that `fits`; one that waits for room is passed so often and then waited for.
    pub(super) fn pop(&mut self, fits: impl Fn(&Assignment) -> bool) -> Option<Assignment> {
        let looks = if self.passed < MAX_PASSED { LOOKS } else { 1 };
        let first = self.order.iter().take(looks).enumerate().find(|(_, (_, a))| fits(a));
        let (place, at) = first.map(|(place, (at, _))| (place, *at))?;
        self.passed = if place == 0 { 0 } else { self.passed + 1 };
        let assignment = self.order.remove(&at)?;
        self.index.remove(&assignment.spec.id);
        Some(assignment)
    }

    pub(super) fn drain(&mut self) -> Vec<TaskId> {
        self.index.clear();
        std::mem::take(&mut self.order).into_values().map(|a| a.spec.id).collect()
    }
}
