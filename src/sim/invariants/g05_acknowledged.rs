//! G5: what a client was told is in the log stays there, with its content.

use super::{Fact, Promise};
use crate::core::ids::LogIndex;
use std::collections::BTreeMap;
use std::time::Duration;

/// Acknowledged writes and applied entries by index.
#[derive(Default)]
pub struct Acknowledged {
    told: BTreeMap<LogIndex, u64>,
    applied: BTreeMap<LogIndex, u64>,
}

impl Promise for Acknowledged {
    fn name(&self) -> &'static str {
        "G5"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let (index, pair) = match *fact {
            Fact::Acknowledged { index, content } => {
                let told = *self.told.entry(index).or_insert(content);
                if told != content {
                    return Some(format!("two writes were acknowledged at {index}"));
                }
                (index, (Some(content), self.applied.get(&index).copied()))
            }
            Fact::Applied { index, entry: (_, content), .. } => {
                self.applied.insert(index, content);
                (index, (self.told.get(&index).copied(), Some(content)))
            }
            _ => return None,
        };
        match pair {
            (Some(told), Some(applied)) if told != applied => {
                Some(format!("the write acknowledged at {index} is lost: another entry is there"))
            }
            _ => None,
        }
    }
}
