//! G16, the half that is seen at once: while nothing is wrong, nobody stands for election. The other half, that a
//! healed cluster finds its leader, is judged at the end of a run.

use super::{Fact, Promise};
use crate::core::ids::Term;
use std::time::Duration;

/// How long after the last fault, start or change of leader the cluster must be calm.
const SETTLED: Duration = Duration::from_secs(10);

/// The last thing that excuses an election.
#[derive(Default)]
pub struct Calm {
    excused: Duration,
    highest: Term,
}

impl Promise for Calm {
    fn name(&self) -> &'static str {
        "G16"
    }

    fn look(&mut self, at: Duration, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Disturbed | Fact::Started { .. } => self.excused = at,
            Fact::Led { term, .. } => {
                self.highest = self.highest.max(term);
                self.excused = at;
            }
            Fact::Voted { voter, term, candidate, .. } if voter == candidate => {
                let needless = term > self.highest && at > self.excused + SETTLED;
                let since = at.saturating_sub(self.excused);
                return needless.then(|| {
                    format!(
                        "{candidate} campaigns for term {term}, nothing was wrong for {since:?}"
                    )
                });
            }
            _ => {}
        }
        None
    }
}
