//! G10: no queue grows beyond its bound, whatever fails.

use super::{Fact, Promise, TaskFact};
use crate::config::Limits;
use std::time::Duration;

/// The bounds, as the nodes were configured.
pub struct Bounds {
    limits: Limits,
}

impl Bounds {
    /// These.
    pub fn new(limits: Limits) -> Self {
        Bounds { limits }
    }
}

impl Promise for Bounds {
    fn name(&self) -> &'static str {
        "G10"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(TaskFact::Waiting { node, live, bytes, queued, outcomes }) = fact else {
            return None;
        };
        let limits = &self.limits;
        let held = [
            ("limits.queued_tasks", *live, limits.queued_tasks),
            ("limits.queued_bytes", *bytes, limits.queued_bytes),
            ("limits.node_queue", *queued, limits.node_queue),
            ("limits.outcomes", *outcomes, limits.outcomes),
        ];
        let over = held.into_iter().find(|(_, held, bound)| held > bound);
        over.map(|(name, held, bound)| format!("{node} holds {held}, {name} is {bound}"))
    }
}
