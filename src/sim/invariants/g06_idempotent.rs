//! G6: one id is one task. The same content joins it, another content is refused.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Which entry brought each task into being, and with what.
#[derive(Default)]
pub struct Idempotent {
    entered: BTreeMap<TaskId, (LogIndex, u64)>,
}

impl Promise for Idempotent {
    fn name(&self) -> &'static str {
        "G6"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match *fact {
            TaskFact::Entered { node, index, task, content } => {
                let first = *self.entered.entry(task).or_insert((index, content));
                (first != (index, content)).then(|| {
                    format!("{task} comes into being at {index} on {node}, and did at {}", first.0)
                })
            }
            TaskFact::Accepted { task, content } => {
                let (_, known) = *self.entered.get(&task)?;
                (known != content).then(|| format!("{task} is accepted with two contents"))
            }
            TaskFact::Conflicted { task, content } => {
                let (_, known) = *self.entered.get(&task)?;
                (known == content).then(|| format!("{task} is refused for its own content"))
            }
            _ => None,
        }
    }
}
