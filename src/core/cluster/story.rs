//! What happened to a task, bounded, so that `history` can tell it even after the end.

use crate::core::ids::NodeId;
use serde::{Deserialize, Serialize};

/// Steps kept of one task: its first and its last ones.
pub const MAX_STEPS: usize = 32;
/// How many of them are first ones.
const FIRST_STEPS: usize = 8;

/// A task's steps since it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// When it was accepted, by the clock of the log in milliseconds since 1970.
    pub submitted_ms: u64,
    /// What happened since, oldest first.
    pub steps: Vec<Step>,
    /// Steps left out after the first ones.
    pub skipped: u32,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, by the clock of the log.
    pub at_ms: u64,
    /// Where; 0: nowhere.
    pub node: NodeId,
    /// Which attempt.
    pub attempt: u32,
    /// What.
    pub kind: StepKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepKind {
    /// An attempt was given to a node.
    Assigned,
    /// A node took it from another one.
    Stolen,
    /// It raised.
    Failed,
    /// It ran too long.
    TimedOut,
    /// Its runner died.
    Crashed,
    /// Its node gave it back, not started.
    HandedBack,
    /// Its node died.
    NodeLost,
    /// Another task took its key.
    Replaced,
    /// It took too long: a copy was given to a node beside it.
    Copied,
}

impl StepKind {
    /// The word people read.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Assigned => "assigned",
            StepKind::Stolen => "stolen",
            StepKind::Failed => "failed",
            StepKind::TimedOut => "timed_out",
            StepKind::Crashed => "crashed",
            StepKind::HandedBack => "handed_back",
            StepKind::NodeLost => "node_lost",
            StepKind::Replaced => "replaced",
            StepKind::Copied => "copied",
        }
    }
}

impl Story {
    /// A story that begins now.
    pub fn begin(submitted_ms: u64) -> Self {
        Story { submitted_ms, ..Story::default() }
    }

    /// Adds a step.
    pub fn note(&mut self, step: Step) {
        if self.steps.len() >= MAX_STEPS {
            self.steps.remove(FIRST_STEPS);
            self.skipped += 1;
        }
        // Most tasks have one step, and there are many tasks.
        self.steps.reserve_exact(1);
        self.steps.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end() {
        let mut story = Story::begin(1);
        for attempt in 1..=100 {
            let kind = StepKind::Assigned;
            story.note(Step { at_ms: 2, node: NodeId(1), attempt, kind });
        }
        let attempts: Vec<u32> = story.steps.iter().map(|step| step.attempt).collect();
        assert_eq!(attempts.len(), MAX_STEPS);
        assert_eq!((attempts[0], attempts[7], attempts[8], attempts[31]), (1, 8, 77, 100));
        assert_eq!(story.skipped, 68);
    }
}
