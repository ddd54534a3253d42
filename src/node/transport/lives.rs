//! Which life of each node speaks: how often it was started with its data, and a number that process drew. Whoever has
//! been outlived has forgotten what it promised since, and must be heard no more (guarantees, row 32).

use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Nodes whose latest life is remembered.
const MAX_LIVES: usize = 4_096;

/// One start of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How often it was started with its data directory; 0 without one: then its id is new at each start.
    pub incarnation: u64,
    /// The number this process drew; 0: not known.
    pub number: u64,
}

impl Life {
    /// This one must end when it hears of `other`: that is another process of the same node, and not an earlier one.
    pub fn is_outlived_by(self, other: Life) -> bool {
        let known = other.number != 0 && self.incarnation != 0;
        known && other.number != self.number && other.incarnation >= self.incarnation
    }
}

/// The latest life of each node that was heard of.
#[derive(Debug, Default)]
pub struct Lives(BTreeMap<NodeId, Life>);

impl Lives {
    /// The latest life of `node`.
    pub fn of(&self, node: NodeId) -> Life {
        self.0.get(&node).copied().unwrap_or_default()
    }

    /// The log says that `node` was started so often.
    pub fn remember(&mut self, node: NodeId, incarnation: u64) {
        if incarnation > self.of(node).incarnation {
            self.note(node, Life { incarnation, number: 0 });
        }
    }

    /// `node` speaks in this life; an error if it was outlived.
    pub fn check(&mut self, node: NodeId, life: Life) -> Result<()> {
        if life.incarnation == 0 {
            return Ok(());
        }
        let known = self.of(node);
        if life.is_outlived_by(known) || life.incarnation < known.incarnation {
            return Err(Error::incarnation_mismatch(node, known.incarnation, life.incarnation));
        }
        self.note(node, life);
        Ok(())
    }

    fn note(&mut self, node: NodeId, life: Life) {
        if self.0.len() < MAX_LIVES || self.0.contains_key(&node) {
            self.0.insert(node, life);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn life(incarnation: u64, number: u64) -> Life {
        Life { incarnation, number }
    }

    #[test]
    fn a_later_life_replaces_an_earlier_one_and_never_the_reverse() {
        let mut lives = Lives::default();
        for (incarnation, number, welcome) in [
            (0, 5, true), // no data directory: nothing to compare
            (2, 7, true),
            (2, 7, true),
            (2, 8, false), // a copy that was started as often
            (1, 9, false), // an old copy
            (3, 9, true),
            (2, 7, false), // the one that was replaced wakes up
            (0, 5, true),
        ] {
            let checked = lives.check(NODE, life(incarnation, number));
            assert_eq!(checked.is_ok(), welcome, "{incarnation} {number}: {checked:?}");
        }
        assert!(lives.check(NodeId(2), life(1, 1)).is_ok());
    }

    #[test]
    fn what_the_log_knows_bounds_what_may_speak() {
        let mut lives = Lives::default();
        lives.remember(NODE, 4);
        lives.remember(NODE, 3);
        assert!(lives.check(NODE, life(3, 1)).is_err());
        // The same start goes on; its number is heard now.
        assert!(lives.check(NODE, life(4, 1)).is_ok());
        assert!(lives.check(NODE, life(4, 2)).is_err());
    }

    #[test]
    fn a_process_ends_when_it_hears_of_its_successor_and_not_of_its_predecessor() {
        let me = life(2, 7);
        for (other, outlived) in [
            (life(2, 7), false),
            (life(2, 8), true),
            (life(3, 9), true),
            (life(1, 6), false), // the sender has not heard of this start yet
            (life(0, 0), false),
        ] {
            assert_eq!(me.is_outlived_by(other), outlived, "{other:?}");
        }
        assert!(!life(0, 7).is_outlived_by(life(3, 9)));
    }
}
