//! Which blobs the cluster still needs: those that a task without outcome, or an outcome that is held, refers to.

use crate::core::ids::{BlobId, BlobRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Blobs by how often they are referred to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blobs(BTreeMap<BlobId, Held>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    size: u64,
    count: u64,
}

impl Blobs {
    /// Somebody refers to it.
    pub(super) fn hold(&mut self, blob: Option<BlobRef>) {
        if let Some(BlobRef { id, size }) = blob {
            self.0.entry(id).or_insert(Held { size, count: 0 }).count += 1;
        }
    }

    /// One refers to it no more.
    pub(super) fn release(&mut self, blob: Option<BlobRef>) {
        let Some(BlobRef { id, .. }) = blob else { return };
        if let Some(held) = self.0.get_mut(&id) {
            held.count -= 1;
            if held.count == 0 {
                self.0.remove(&id);
            }
        }
    }

    /// Whether anybody refers to it.
    pub fn needs(&self, id: BlobId) -> bool {
        self.0.contains_key(&id)
    }

    /// All that are referred to, by id.
    pub fn all(&self) -> impl Iterator<Item = BlobRef> {
        self.0.iter().map(|(id, held)| BlobRef { id: *id, size: held.size })
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
        blobs.release(Some(blob));
        assert!(blobs.needs(blob.id));
        assert_eq!(blobs.all().collect::<Vec<_>>(), [blob]);
        blobs.release(Some(blob));
        blobs.release(Some(blob));
        assert!(!blobs.needs(blob.id));
    }
}
