//! Ids of tasks that are over, with their fingerprints: a sorted list of millions of which a clone takes no time.
//!
//! ```text
//!   by least id:  [a b c d] [e f g h] [i j]      blocks; a clone shares each of them until one side changes it
//! ```
//!
//! A snapshot is encoded from a clone of the state while the log is applied further.

use crate::core::ids::TaskId;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::Error;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Ids of one block at most.
const BLOCK: usize = 1_024;
/// Bytes of an id and its fingerprint in a snapshot.
const PAIR: usize = size_of::<u128>() + size_of::<u64>();

/// Ids in order, and what goes with each.
#[derive(Clone, Debug, Default)]
struct Block {
    ids: VecDeque<TaskId>,
    fingerprints: VecDeque<u64>,
}

/// Ids in order, with their fingerprints.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// By an id that none in the block is less than, and all in those before are.
    blocks: BTreeMap<TaskId, Arc<Block>>,
    len: usize,
}

impl Block {
    fn insert(&mut self, at: usize, task: TaskId, fingerprint: u64) {
        self.ids.insert(at, task);
        self.fingerprints.insert(at, fingerprint);
    }

    fn split_off(&mut self, at: usize) -> Block {
        Block { ids: self.ids.split_off(at), fingerprints: self.fingerprints.split_off(at) }
    }

    fn pack(&self) -> Bytes {
        let mut packed = BytesMut::with_capacity(self.ids.len() * PAIR);
        for (task, fingerprint) in self.pairs() {
            packed.put_u128_le(task.0);
            packed.put_u64_le(fingerprint);
        }
        packed.freeze()
    }

    fn pairs(&self) -> impl Iterator<Item = (TaskId, u64)> + '_ {
        self.ids.iter().copied().zip(self.fingerprints.iter().copied())
    }
}

impl Remembered {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, task: TaskId) -> Option<u64> {
        let (_, block) = self.blocks.range(..=task).next_back()?;
        let at = block.ids.binary_search(&task).ok()?;
        block.fingerprints.get(at).copied()
    }

    /// The least id.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.blocks.first_key_value().and_then(|(_, block)| block.ids.front().copied())
    }

    /// Remembers `task`, once.
    pub(super) fn insert(&mut self, task: TaskId, fingerprint: u64) {
        let least = self.blocks.range(..=task).next_back().map(|(least, _)| *least);
        let Some(least) = least.or_else(|| self.take_lower(task)) else {
            return self.begin(task, fingerprint);
        };
        let Some(block) = self.blocks.get_mut(&least) else { return };
        let at = match block.ids.binary_search(&task) {
            Ok(at) => return Arc::make_mut(block).fingerprints[at] = fingerprint,
            // Most ids come in order: then blocks are left full.
            Err(BLOCK) => return self.begin(task, fingerprint),
            Err(at) => at,
        };
        let block = Arc::make_mut(block);
        block.insert(at, task, fingerprint);
        self.len += 1;
        if block.ids.len() > BLOCK {
            let upper = block.split_off(BLOCK / 2);
            if let Some(least) = upper.ids.front().copied() {
                self.blocks.insert(least, Arc::new(upper));
            }
        }
    }

    /// The first block takes ids from `task` on, which is less than all there are.
    fn take_lower(&mut self, task: TaskId) -> Option<TaskId> {
        let (_, block) = self.blocks.pop_first()?;
        self.blocks.insert(task, block);
        Some(task)
    }

    fn begin(&mut self, task: TaskId, fingerprint: u64) {
        let mut block = Block::default();
        block.insert(0, task, fingerprint);
        self.blocks.insert(task, Arc::new(block));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, task: TaskId) {
        let Some((&least, block)) = self.blocks.range_mut(..=task).next_back() else { return };
        let Ok(at) = block.ids.binary_search(&task) else { return };
        let block = Arc::make_mut(block);
        block.ids.remove(at);
        block.fingerprints.remove(at);
        self.len -= 1;
        if block.ids.is_empty() {
            self.blocks.remove(&least);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, u64)> + '_ {
        self.blocks.values().flat_map(|block| block.pairs())
    }
}

/// The same ids in other blocks are the same.
impl PartialEq for Remembered {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

/// Block by block, each as it lies in memory: millions of ids are written often.
impl Serialize for Remembered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut blocks = serializer.serialize_seq(Some(self.blocks.len()))?;
        for block in self.blocks.values() {
            blocks.serialize_element(&block.pack())?;
        }
        blocks.end()
    }
}

impl<'de> Deserialize<'de> for Remembered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut remembered = Remembered::default();
        for packed in Vec::<Bytes>::deserialize(deserializer)? {
            let pairs = packed.chunks_exact(PAIR);
            if !pairs.remainder().is_empty() {
                return Err(D::Error::custom("a block of ids is torn"));
            }
            for mut pair in pairs {
                let task = TaskId(pair.get_u128_le());
                remembered.insert(task, pair.get_u64_le());
            }
        }
        Ok(remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chance::Chance;

    fn check(remembered: &Remembered, expected: &BTreeMap<TaskId, u64>) {
        assert_eq!(remembered.len(), expected.len());
        assert!(remembered.iter().eq(expected.iter().map(|(task, print)| (*task, *print))));
        assert_eq!(remembered.first(), expected.first_key_value().map(|(task, _)| *task));
        let full = remembered.blocks.values().all(|b| (1..=BLOCK).contains(&b.ids.len()));
        assert!(full, "a block is empty or too long");
    }

    #[test]
    fn it_is_a_map_whatever_comes_and_goes_in_whatever_order() {
        let mut chance = Chance::seeded(11);
        let (mut remembered, mut expected) = (Remembered::default(), BTreeMap::new());
        for round in 0..60_000_u64 {
            // Mostly in order, as ids that carry their time come; others anywhere.
            let near = u128::from(round) * 10 + chance.below(400) as u128;
            let task = if chance.below(4) == 0 { chance.below(600_000) as u128 } else { near };
            let task = TaskId(task);
            match chance.below(8) {
                0 => {
                    remembered.remove(task);
                    expected.remove(&task);
                }
                1 => {
                    if let Some(first) = remembered.first() {
                        remembered.remove(first);
                        expected.pop_first();
                    }
                }
                _ => {
                    remembered.insert(task, round);
                    expected.insert(task, round);
                }
            }
            assert_eq!(remembered.get(task), expected.get(&task).copied());
            if round % 2_000 == 0 {
                check(&remembered, &expected);
            }
        }
        check(&remembered, &expected);
        while let Some(first) = remembered.first() {
            remembered.remove(first);
        }
        assert_eq!((remembered.len(), remembered.blocks.len()), (0, 0));
    }

    #[test]
    fn a_clone_is_what_it_was_and_shares_what_has_not_changed() {
        let mut remembered = Remembered::default();
        for task in 0..10 * BLOCK as u128 {
            remembered.insert(TaskId(task), 1);
        }
        assert_eq!(remembered.blocks.len(), 10, "ids that come in order leave full blocks");
        let before = remembered.clone();
        remembered.remove(TaskId(0));
        remembered.insert(TaskId(u128::from(u64::MAX)), 2);
        assert_eq!((before.len(), before.get(TaskId(0))), (10 * BLOCK, Some(1)));
        let shared = before.blocks.values().zip(remembered.blocks.values());
        assert_eq!(shared.filter(|(a, b)| Arc::ptr_eq(a, b)).count(), 9);
    }

    #[test]
    fn it_travels_and_is_the_same_in_other_blocks() {
        let mut remembered = Remembered::default();
        for task in (0..3_000_u128).rev() {
            remembered.insert(TaskId(task << 90 | task), !(task as u64));
        }
        let bytes = postcard::to_stdvec(&remembered).unwrap();
        let back: Remembered = postcard::from_bytes(&bytes).unwrap();
        assert_ne!(back.blocks.len(), remembered.blocks.len());
        assert_eq!(back, remembered);
        let mut item = vec![0; 64 << 10];
        let (read, _) = postcard::from_io((bytes.as_slice(), &mut item)).unwrap();
        assert_eq!(remembered, read);
    }

    #[test]
    fn what_is_torn_is_refused() {
        let torn = postcard::to_stdvec(&vec![Bytes::from_static(&[7; PAIR + 1])]).unwrap();
        assert!(postcard::from_bytes::<Remembered>(&torn).is_err());
    }
}
