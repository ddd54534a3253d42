//! G7: one outcome per task: every node that commits one and every client that is told one sees the same.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The outcomes as they were first seen.
#[derive(Default)]
pub struct OneOutcome {
    committed: BTreeMap<TaskId, (LogIndex, Arc<str>)>,
    told: BTreeMap<TaskId, Arc<str>>,
    cancels: BTreeSet<TaskId>,
}

impl Promise for OneOutcome {
    fn name(&self) -> &'static str {
        "G7"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match fact {
            TaskFact::CancelAsked { task } => {
                self.cancels.insert(*task);
                None
            }
            TaskFact::Finished { node, index, task, outcome } => {
                let this = (*index, outcome.clone());
                let first = self.committed.entry(*task).or_insert_with(|| this.clone());
                if *first != this {
                    return Some(format!(
                        "{task} ends as {this:?} on {node}, and did as {first:?}"
                    ));
                }
                let unasked = &**outcome == "cancelled" && !self.cancels.contains(task);
                unasked.then(|| format!("{task} is cancelled, and nobody asked"))
            }
            TaskFact::Told { task, outcome } => {
                let first = self.told.entry(*task).or_insert_with(|| outcome.clone());
                if first != outcome {
                    return Some(format!("clients were told {first} and {outcome} of {task}"));
                }
                match self.committed.get(task) {
                    None => Some(format!("a client was told {outcome} of {task}; no log says it")),
                    Some((_, committed)) => (committed != outcome)
                        .then(|| format!("a client was told {outcome} of {task}, not {committed}")),
                }
            }
            TaskFact::Denied { task } => (!self.told.contains_key(task)).then(|| {
                format!(
                    "the cluster knows nothing of {task}, accepted, whose outcome none was told"
                )
            }),
            _ => None,
        }
    }
}
