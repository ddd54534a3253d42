//! A map whose entries lie side by side, in the order of their keys.
//!
//! A tree looks into another place of memory at each of its levels, and has more of them the more it holds; what is
//! looked up for every task must cost the same with five nodes and with thousands. Coming and going is cheap at both
//! ends, where tasks do; in the middle it moves what lies between there and the nearer end.

use std::collections::VecDeque;

/// Room for so many entries is kept when the last one goes.
const KEPT: usize = 16;

/// The map.
#[derive(Clone, Debug)]
pub struct Row<K, V> {
    entries: VecDeque<(K, V)>,
}

impl<K, V> Default for Row<K, V> {
    fn default() -> Self {
        Row { entries: VecDeque::new() }
    }
}

impl<K: Copy + Ord, V> Row<K, V> {
    fn find(&self, key: K) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&key, |(key, _)| *key)
    }

    /// The value at `key`.
    pub fn get(&self, key: K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.entries[at].1)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.entries[at].1)
    }

    /// Whether there is one.
    pub fn contains(&self, key: K) -> bool {
        self.find(key).is_ok()
    }

    /// Puts `value` at `key`; returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.entries.back().is_none_or(|(last, _)| *last < key) {
            self.entries.push_back((key, value));
            return None;
        }
        match self.find(key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes out what is at `key`.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let at = self.find(key).ok()?;
        let (_, value) = self.entries.remove(at)?;
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries.shrink_to(KEPT);
        }
        Some(value)
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.entries.iter().map(|(key, value)| (*key, value))
    }

    /// The same, to change their values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (*key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chance::Chance;
    use std::collections::BTreeMap;

    #[test]
    fn it_holds_what_a_tree_holds_in_the_same_order() {
        let mut chance = Chance::seeded(11);
        let (mut row, mut tree) = (Row::default(), BTreeMap::new());
        for round in 0..5_000 {
            let key = chance.below(40);
            if chance.below(3) == 0 {
                assert_eq!(row.remove(key), tree.remove(&key));
            } else if chance.below(3) == 0 {
                assert_eq!(row.get_mut(key).copied(), tree.get(&key).copied());
                row.get_mut(key).into_iter().for_each(|value| *value += 1);
                tree.get_mut(&key).into_iter().for_each(|value| *value += 1);
            } else {
                assert_eq!(row.insert(key, round), tree.insert(key, round));
            }
            assert_eq!(row.get(key), tree.get(&key));
            assert_eq!((row.len(), row.is_empty()), (tree.len(), tree.is_empty()));
            assert!(row.iter().eq(tree.iter().map(|(key, value)| (*key, value))));
        }
    }

    #[test]
    fn the_room_of_a_crowd_is_given_back_when_it_has_gone() {
        let mut row = Row::default();
        (0..1_000).for_each(|key| assert!(row.insert(key, [0u64; 8]).is_none()));
        (0..1_000).for_each(|key| assert!(row.remove(key).is_some()));
        assert!(row.entries.capacity() <= KEPT);
    }
}
