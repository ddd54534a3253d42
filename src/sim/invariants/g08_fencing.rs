//! G8: an attempt that is no longer the live one never becomes the outcome.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId, Token};
use crate::sim::work::attempt_of;
use std::collections::BTreeMap;
use std::time::Duration;

/// The live attempt of each task, in log order.
#[derive(Default)]
pub struct Fencing {
    live: BTreeMap<TaskId, BTreeMap<LogIndex, Token>>,
}

impl Promise for Fencing {
    fn name(&self) -> &'static str {
        "G8"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match fact {
            TaskFact::Assigned { index, task, token } => {
                self.live.entry(*task).or_default().insert(*index, *token);
                None
            }
            TaskFact::Finished { index, task, outcome, .. } => {
                let from = attempt_of(outcome)?;
                let (_, live) = self.live.get(task)?.range(..index).next_back()?;
                (*live != from).then(|| {
                    format!("{task} ends by attempt {}, and {} was the live one", from.0, live.0)
                })
            }
            _ => None,
        }
    }
}
