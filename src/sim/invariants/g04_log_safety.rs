//! G4: all nodes apply the same entries in the same order, and no node goes back.

use super::{Fact, Promise};
use crate::core::ids::{LogIndex, NodeId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was applied where.
#[derive(Default)]
pub struct LogSafety {
    entries: BTreeMap<LogIndex, (Term, u64)>,
    applied: BTreeMap<(NodeId, u64), LogIndex>,
}

impl Promise for LogSafety {
    fn name(&self) -> &'static str {
        "G4"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Applied { node, life, index, entry } = *fact else { return None };
        let before = self.applied.insert((node, life), index);
        if before.is_some_and(|before| before >= index) {
            return Some(format!("{node} applies {index} after {before:?}"));
        }
        let first = *self.entries.entry(index).or_insert(entry);
        let differs = first != entry;
        differs.then(|| format!("{node} applies {entry:x?} at {index}, others {first:x?}"))
    }
}
