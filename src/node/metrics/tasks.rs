//! What the leader counts of tasks, by the name of their function, as the log and the nodes' reports pass by.
//!
//! Each thing is counted once in the cluster, by who leads when it happens; all nodes together say how much there was.
//! Only a node that is asked for metrics counts.

use super::histogram::{BYTES, Histogram, SECONDS};
use crate::core::boundary::{Change, Ended, Event, RequeueReason};
use crate::core::cluster::command::{AssignCause, Outcome};
use crate::core::cluster::state::ClusterState;
use std::collections::BTreeMap;

/// Functions that are told apart; the rest count as one, called [`OTHERS`].
pub const MAX_NAMES: usize = 200;
/// The name under which functions beyond that bound are counted.
pub const OTHERS: &str = "(others)";
/// How a task can end.
pub const OUTCOMES: [&str; 6] =
    ["succeeded", "failed", "timed_out", "cancelled", "expired", "lost"];
/// Why there is an attempt.
pub const REASONS: [&str; 8] =
    ["first", "failed", "timed_out", "crashed", "handed_back", "node_lost", "stolen", "copied"];
/// Where something came twice: a submission of an id or a key that is there; a report that was sent again; a report of
/// an attempt that does not count any more.
pub const PLACES: [&str; 3] = ["submission", "report", "late_report"];

/// Counts of the tasks of one function.
#[derive(Clone, Debug)]
pub struct OfFunction {
    /// Its name.
    pub name: String,
    /// Accepted.
    pub submitted: u64,
    /// Ended, by [`OUTCOMES`].
    pub completed: [u64; OUTCOMES.len()],
    /// How long attempts ran, in seconds.
    pub durations: Histogram,
}

/// All counts.
#[derive(Clone, Debug)]
pub struct TaskTally {
    by_name: BTreeMap<String, usize>,
    functions: Vec<OfFunction>,
    /// The function that was met last: the next task is most often of the same.
    last: usize,
    /// By [`REASONS`].
    pub attempts: [u64; REASONS.len()],
    /// By [`PLACES`].
    pub duplicates: [u64; PLACES.len()],
    /// From acceptance to the first start, in seconds.
    pub waits: Histogram,
    /// Sizes of arguments.
    pub payloads: Histogram,
}

impl Default for TaskTally {
    fn default() -> Self {
        TaskTally {
            by_name: BTreeMap::new(),
            functions: vec![of_function(OTHERS)],
            last: 0,
            attempts: [0; REASONS.len()],
            duplicates: [0; PLACES.len()],
            waits: Histogram::new(SECONDS),
            payloads: Histogram::new(BYTES),
        }
    }
}

fn of_function(name: &str) -> OfFunction {
    OfFunction {
        name: name.to_owned(),
        submitted: 0,
        completed: [0; OUTCOMES.len()],
        durations: Histogram::new(SECONDS),
    }
}

impl TaskTally {
    /// Functions of which something was counted.
    pub fn functions(&self) -> impl Iterator<Item = &OfFunction> {
        let others = self.by_name.len() >= MAX_NAMES;
        self.functions.iter().skip(usize::from(!others))
    }

    /// Takes what the leader is told, before it is; `log_ms` is the clock of the log.
    pub fn see(&mut self, log_ms: u64, state: &ClusterState, event: &Event) {
        match event {
            Event::Applied { changes, .. } => {
                changes.iter().for_each(|change| self.on_change(state, change));
            }
            Event::Reported { reports, .. } => {
                reports.iter().for_each(|report| self.on_report(log_ms, state, report));
            }
            _ => {}
        }
    }

    fn on_change(&mut self, state: &ClusterState, change: &Change) {
        match change {
            Change::Submitted { spec } => {
                self.of(&spec.function.name).submitted += 1;
                let bytes = spec.blob.map_or(spec.payload.len() as u64, |blob| blob.size);
                self.payloads.observe(bytes as f64);
            }
            Change::Assigned { attempt, cause, .. } => match cause {
                AssignCause::Placed if *attempt == 1 => self.attempts[0] += 1,
                // Why it is placed again was counted when it had to be.
                AssignCause::Placed => {}
                AssignCause::Stolen => self.attempts[6] += 1,
                AssignCause::Copied => self.attempts[7] += 1,
            },
            Change::Requeued { reason, .. } => self.attempts[again(*reason)] += 1,
            Change::Finished { finished, .. } => {
                let ended = ended(&finished.outcome);
                match state.retention().get(finished.task) {
                    Some(done) => self.of(&done.function).completed[ended] += 1,
                    None => self.of(OTHERS).completed[ended] += 1,
                }
            }
            Change::Joined { .. } => self.duplicates[0] += 1,
            Change::Repeated { .. } => self.duplicates[1] += 1,
            Change::LateCompletion { .. } => self.duplicates[2] += 1,
            _ => {}
        }
    }

    fn on_report(&mut self, log_ms: u64, state: &ClusterState, report: &Ended) {
        let Some(live) = state.live().get(&report.task) else { return };
        let Some(attempt) = live.attempt_of(report.token) else { return };
        if report.took.is_zero() {
            return; // It did not run.
        }
        self.of(&live.spec.function.name).durations.observe(report.took.as_secs_f64());
        if attempt.attempt == 1 {
            let ready_ms = live.story.submitted_ms.saturating_add(live.spec.terms.delay_ms);
            let since_s = log_ms.saturating_sub(ready_ms) as f64 / 1_000.0;
            self.waits.observe((since_s - report.took.as_secs_f64()).max(0.0));
        }
    }

    fn of(&mut self, name: &str) -> &mut OfFunction {
        if self.functions[self.last].name != name {
            self.last = self.index_of(name);
        }
        &mut self.functions[self.last]
    }

    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        if self.by_name.len() >= MAX_NAMES {
            return 0;
        }
        let index = self.functions.len();
        self.functions.push(of_function(name));
        self.by_name.insert(name.to_owned(), index);
        index
    }
}

fn again(reason: RequeueReason) -> usize {
    match reason {
        RequeueReason::Failed => 1,
        RequeueReason::TimedOut => 2,
        RequeueReason::Crashed => 3,
        RequeueReason::HandedBack => 4,
        RequeueReason::NodeLost => 5,
    }
}

/// Which of [`OUTCOMES`] it is.
pub fn ended(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Value(_) => 0,
        Outcome::Failure(_) => 1,
        Outcome::TimedOut(_) => 2,
        Outcome::Cancelled => 3,
        Outcome::NeverStarted(_) | Outcome::PastDeadline(_) => 4,
        Outcome::Lost(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cluster::command::{FunctionRef, TaskSpec};
    use crate::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Token};
    use std::sync::Arc;
    use std::time::Duration;

    fn submitted(name: &str, bytes: usize) -> Change {
        let function = FunctionRef { name: name.to_owned(), hash: FunctionHash(1) };
        let spec = TaskSpec::new(TaskId(1), SessionId(1), function);
        Change::Submitted { spec: Arc::new(TaskSpec { payload: vec![0; bytes].into(), ..spec }) }
    }

    fn counted(tally: &TaskTally) -> Vec<(&str, u64)> {
        tally.functions().map(|of| (of.name.as_str(), of.submitted)).collect()
    }

    #[test]
    fn tasks_are_counted_by_the_name_of_their_function_up_to_a_bound() {
        let (mut tally, state) = (TaskTally::default(), ClusterState::default());
        for name in ["a", "b", "a"] {
            tally.on_change(&state, &submitted(name, 100));
        }
        assert_eq!(counted(&tally), [("a", 2), ("b", 1)]);
        assert_eq!((tally.payloads.count(), tally.payloads.sum()), (3, 300.0));
        for n in 0..MAX_NAMES {
            tally.on_change(&state, &submitted(&format!("f{n}"), 0));
        }
        assert_eq!(counted(&tally).len(), MAX_NAMES + 1);
        assert_eq!(counted(&tally)[0], (OTHERS, 2));
    }

    #[test]
    fn each_attempt_has_one_reason() {
        let (mut tally, state) = (TaskTally::default(), ClusterState::default());
        let Change::Submitted { spec } = submitted("f", 0) else { unreachable!() };
        let assigned = |attempt, cause| Change::Assigned {
            spec: spec.clone(),
            to: NodeId(1),
            from: None,
            token: Token(1),
            attempt,
            cause,
        };
        let requeued = Change::Requeued {
            spec: spec.clone(),
            from: NodeId(1),
            token: Token(1),
            attempt: 1,
            delay: Duration::ZERO,
            reason: RequeueReason::NodeLost,
        };
        let changes = [
            assigned(1, AssignCause::Placed),
            requeued,
            assigned(2, AssignCause::Placed),
            assigned(3, AssignCause::Stolen),
            assigned(4, AssignCause::Copied),
        ];
        changes.iter().for_each(|change| tally.on_change(&state, change));
        let found: Vec<(&str, u64)> = REASONS.into_iter().zip(tally.attempts).collect();
        let expected = [("first", 1), ("node_lost", 1), ("stolen", 1), ("copied", 1)];
        assert!(expected.iter().all(|pair| found.contains(pair)), "{found:?}");
        assert_eq!(tally.attempts.iter().sum::<u64>(), 4);
    }
}
