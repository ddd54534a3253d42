//! G9: without a fault no task begins while an attempt of it runs, or after one has done it; whatever fails, no attempt
//! begins twice. The copy of an attempt that takes too long may run beside it.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{NodeId, TaskId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after a fault a second start is excused: the longest task, and what finding out about it takes.
const EXCUSED: Duration = Duration::from_secs(30);

/// Attempts that run, tasks that are done, and the last fault.
#[derive(Default)]
pub struct Starts {
    running: BTreeMap<TaskId, Token>,
    done: BTreeSet<TaskId>,
    begun: BTreeMap<(TaskId, Token), NodeId>,
    copies: BTreeSet<(TaskId, Token)>,
    excused_until: Duration,
}

impl Promise for Starts {
    fn name(&self) -> &'static str {
        "G9"
    }

    fn look(&mut self, at: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match *fact {
            TaskFact::Faulted => {
                self.excused_until = at + EXCUSED;
                // Who ran what when it struck may never be known.
                self.running.clear();
            }
            TaskFact::Began { node, task, token } => {
                let first = self.begun.insert((task, token), node);
                let copy = self.copies.contains(&(task, token));
                let before = if copy { None } else { self.running.insert(task, token) };
                if let Some(first) = first {
                    let text = format!("attempt {} of {task} begins on {node}", token.0);
                    return Some(format!("{text}, and began on {first}"));
                }
                if copy || at < self.excused_until {
                    return None;
                }
                if let Some(before) = before {
                    let text = format!("{} of {task} begins while {} runs", token.0, before.0);
                    return Some(format!("attempt {text}, and nothing was wrong"));
                }
                return self
                    .done
                    .contains(&task)
                    .then(|| format!("attempt {} of {task} begins after it was done", token.0));
            }
            TaskFact::Assigned { task, token, copy: true, .. } => {
                self.copies.insert((task, token));
            }
            TaskFact::Ended { task, token, done } => {
                if self.running.get(&task) == Some(&token) {
                    self.running.remove(&task);
                }
                if done {
                    self.done.insert(task);
                }
            }
            _ => {}
        }
        None
    }
}
