//! G8: an attempt that is no longer the live one, or one of two, never becomes the outcome.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId, Token};
use crate::sim::work::attempt_of;
use std::collections::BTreeMap;
use std::time::Duration;

/// A task's live attempt, and the copy that runs beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Tokens {
    holder: Option<Token>,
    copy: Option<Token>,
}

/// The live attempts of each task, in log order.
#[derive(Default)]
pub struct Fencing {
    live: BTreeMap<TaskId, BTreeMap<LogIndex, Tokens>>,
}

impl Fencing {
    /// Notes what is live once that entry is applied; every node tells of each, so a second telling changes nothing.
    fn note(&mut self, task: TaskId, index: LogIndex, change: impl FnOnce(Tokens) -> Tokens) {
        let entries = self.live.entry(task).or_default();
        let before = entries.range(..=index).next_back().map(|(_, live)| *live);
        entries.insert(index, change(before.unwrap_or_default()));
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
                let token = Some(*token);
                self.note(*task, *index, |live| match copy {
                    true => Tokens { copy: token, ..live },
                    // The attempt may be stolen before it starts while its copy runs on.
                    false => Tokens { holder: token, ..live },
                });
                None
            }
            TaskFact::Narrowed { index, task, token } => {
                self.note(*task, *index, |live| match live.holder == Some(*token) {
                    true => Tokens { holder: live.copy, copy: None },
                    false => Tokens { copy: None, ..live },
                });
                None
            }
            TaskFact::Finished { index, task, outcome, .. } => {
                let from = attempt_of(outcome)?;
                let (_, live) = self.live.get(task)?.range(..index).next_back()?;
                (![live.holder, live.copy].contains(&Some(from)))
                    .then(|| format!("{task} ends by attempt {}, and live were {live:?}", from.0))
            }
            _ => None,
        }
    }
}
