//! Which blobs the cluster still needs: those that a task without outcome, or an outcome that is held, refers to.

use crate::core::ids::{BlobId, BlobRef, LogIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Blobs whose end is remembered, until every voter has looked.
const REMEMBERED: usize = 4_096;

/// Blobs by how often they are referred to, and those whose last reference went lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blobs {
    held: BTreeMap<BlobId, Held>,
    freed: VecDeque<(LogIndex, BlobId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    size: u64,
    count: u64,
}

impl Blobs {
    /// Somebody refers to it.
    pub(super) fn hold(&mut self, blob: Option<BlobRef>) {
        if let Some(BlobRef { id, size }) = blob {
            self.held.entry(id).or_insert(Held { size, count: 0 }).count += 1;
        }
    }

    /// One refers to it no more, by the entry at `index`.
    pub(super) fn release(&mut self, index: LogIndex, blob: Option<BlobRef>) {
        let Some(BlobRef { id, .. }) = blob else { return };
        if let Some(held) = self.held.get_mut(&id) {
            held.count -= 1;
            if held.count == 0 {
                self.held.remove(&id);
                self.freed.truncate(REMEMBERED - 1);
                self.freed.push_front((index, id));
            }
        }
    }

    /// Blobs that are referred to no more, with the entry that let them go; the latest first.
    pub fn freed(&self) -> impl Iterator<Item = (LogIndex, BlobId)> {
        self.freed.iter().copied()
    }

    /// Whether anybody refers to it.
    pub fn needs(&self, id: BlobId) -> bool {
        self.held.contains_key(&id)
    }

    /// All that are referred to, by id.
    pub fn all(&self) -> impl Iterator<Item = BlobRef> {
        self.held.iter().map(|(id, held)| BlobRef { id: *id, size: held.size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_needed_while_anybody_refers_to_it() {
        let blob = BlobRef { id: BlobId([7; 32]), size: 9 };
        let mut blobs = Blobs::default();
        blobs.hold(Some(blob));
        blobs.hold(Some(blob));
        blobs.hold(None);
        blobs.release(5, Some(blob));
        assert!(blobs.needs(blob.id));
        assert_eq!(blobs.all().collect::<Vec<_>>(), [blob]);
        blobs.release(6, Some(blob));
        blobs.release(7, Some(blob));
        assert!(!blobs.needs(blob.id));
        assert_eq!(blobs.freed().collect::<Vec<_>>(), [(6, blob.id)]);
    }
}
