//! G8: an attempt that is no longer the live one, or one of two, never becomes the outcome.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId, Token};
use crate::sim::work::attempt_of;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The live attempts of each task, in log order: one, or two while a copy runs.
#[derive(Default)]
pub struct Fencing {
    live: BTreeMap<TaskId, BTreeMap<LogIndex, BTreeSet<Token>>>,
}

impl Fencing {
    /// Those that are live once that entry is applied, as far as it is known.
    fn live_at(&self, task: TaskId, index: LogIndex) -> BTreeSet<Token> {
        let entries = self.live.get(&task).and_then(|live| live.range(..=index).next_back());
        entries.map(|(_, live)| live.clone()).unwrap_or_default()
    }
}

impl Promise for Fencing {
    fn name(&self) -> &'static str {
        "G8"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match fact {
            TaskFact::Assigned { index, task, token, copy } => {
                let mut now = if *copy { self.live_at(*task, *index) } else { BTreeSet::new() };
                now.insert(*token);
                self.live.entry(*task).or_default().insert(*index, now);
                None
            }
            TaskFact::Narrowed { index, task, token } => {
                let mut now = self.live_at(*task, *index);
                now.remove(token);
                self.live.entry(*task).or_default().insert(*index, now);
                None
            }
            TaskFact::Finished { index, task, outcome, .. } => {
                let from = attempt_of(outcome)?;
                let (_, live) = self.live.get(task)?.range(..index).next_back()?;
                (!live.contains(&from))
                    .then(|| format!("{task} ends by attempt {}, and live were {live:?}", from.0))
            }
            _ => None,
        }
    }
}
