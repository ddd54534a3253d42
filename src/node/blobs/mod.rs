//! **Blobs.** Arguments and results too large for the log, by the hash of their content. Voters hold them, in memory or
//! beside the log; the log only names them, and what it no longer names goes.
//!
//! ```text
//!   client, worker ──Put──▶ a voter ──Put──▶ the others       a majority holds it: then it may be named in the log
//!   worker, client ──Get──▶ any voter that holds it           the hash is checked where it arrives
//! ```

pub mod carrier;
pub mod hands;
mod upkeep;

use crate::config::Limits;
use crate::core::Moment;
use crate::core::ids::{BlobId, BlobRef, LogIndex};
use crate::error::{Error, Result};
use crate::node::storage::Storage;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use upkeep::keep;

/// How long a blob waits for a task or an outcome to name it.
const UNCLAIMED: Duration = Duration::from_secs(900);
/// What the log lets go is kept so long after it was put: this voter may hear late of an earlier use's end, when the
/// blob was put again already.
const SETTLED: Duration = Duration::from_secs(5);
/// How soon a client may ask again when there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The name of `content`.
pub fn name(content: &[u8]) -> BlobRef {
    BlobRef { id: BlobId(Sha256::digest(content).into()), size: content.len() as u64 }
}

/// The blobs this node holds.
#[derive(Debug)]
pub struct BlobStore {
    storage: Option<Arc<Storage>>,
    most: u64,
    held: Mutex<Held>,
    /// One writes or removes at a time: two of one blob would write the same file, and a removal must not meet a put.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    blobs: BTreeMap<BlobId, Entry>,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    size: u64,
    /// `None`: it is in a file.
    content: Option<Bytes>,
    /// When it was last put.
    since: Moment,
    /// The last entry applied then: whatever frees a blob before is about an earlier use.
    applied: LogIndex,
}

impl BlobStore {
    /// What was found in `storage`, or nothing.
    pub fn open(storage: Option<Arc<Storage>>, limits: &Limits) -> Result<Self> {
        let mut held = Held::default();
        if let Some(storage) = &storage {
            for BlobRef { id, size } in storage.blobs()? {
                held.bytes += size;
                // Which use of it the log means that is still to be read is not known: it goes by age alone.
                let entry = Entry { size, content: None, since: Moment(0), applied: LogIndex::MAX };
                held.blobs.insert(id, entry);
            }
        }
        let (most, changing) = (limits.blobs_bytes, tokio::sync::Mutex::default());
        Ok(BlobStore { storage, most, held: Mutex::new(held), changing })
    }

    // Every change is one step, so a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is here.
    pub fn holds(&self, id: BlobId) -> bool {
        self.lock().blobs.contains_key(&id)
    }

    /// Keeps `content`, whose hash was checked; durable when this returns, if anything here is. `applied` is the last
    /// entry applied here.
    pub async fn put(
        &self,
        now: Moment,
        applied: LogIndex,
        blob: BlobRef,
        content: Bytes,
    ) -> Result<()> {
        let _alone = self.changing.lock().await;
        {
            let mut held = self.lock();
            if let Some(entry) = held.blobs.get_mut(&blob.id) {
                (entry.since, entry.applied) = (now, applied);
                return Ok(());
            }
            if held.bytes + blob.size > self.most {
                let detail = format!(
                    "this voter holds {} bytes of large arguments and results, at most {} fit (limits.blobs_bytes)",
                    held.bytes, self.most
                );
                return Err(Error::QueueFull { detail, retry_after: RETRY_AFTER });
            }
        }
        let content = match &self.storage {
            Some(storage) => storage.write_blob(blob.id, content).await.map(|()| None)?,
            None => Some(content),
        };
        let mut held = self.lock();
        held.bytes += blob.size;
        held.blobs.insert(blob.id, Entry { size: blob.size, content, since: now, applied });
        Ok(())
    }

    /// Its content; `None` if it is not here.
    pub async fn get(&self, id: BlobId) -> Result<Option<Bytes>> {
        let Some(entry) = self.lock().blobs.get(&id).cloned() else { return Ok(None) };
        match (entry.content, &self.storage) {
            (Some(content), _) => Ok(Some(content)),
            (None, Some(storage)) => storage.read_blob(id, entry.size).await,
            (None, None) => Ok(None),
        }
    }

    /// Forgets what the log let go after it was put, and what it has not named for [`UNCLAIMED`].
    async fn sweep(
        &self,
        now: Moment,
        needed: &BTreeSet<BlobId>,
        freed: &BTreeMap<BlobId, LogIndex>,
    ) {
        let _alone = self.changing.lock().await;
        let mut gone = Vec::new();
        {
            let mut held = self.lock();
            let Held { blobs, bytes } = &mut *held;
            blobs.retain(|id, entry| {
                let age = now.since(entry.since);
                let freed = freed.get(id).is_some_and(|index| *index > entry.applied);
                let over = age >= UNCLAIMED || (freed && age >= SETTLED);
                let keep = needed.contains(id) || !over;
                if !keep {
                    *bytes -= entry.size;
                    gone.push(*id);
                }
                keep
            });
        }
        if let Some(storage) = &self.storage {
            storage.remove_blobs(gone).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(most: u64) -> BlobStore {
        let limits = Limits { blobs_bytes: most, ..crate::config::Config::default().limits };
        BlobStore::open(None, &limits).unwrap()
    }

    #[tokio::test]
    async fn a_blob_is_found_by_its_content_and_counted_once() {
        let store = store(10);
        let content = Bytes::from_static(b"123456");
        let blob = name(&content);
        assert_eq!(blob.size, 6);
        store.put(Moment(1), 0, blob, content.clone()).await.unwrap();
        store.put(Moment(2), 0, blob, content.clone()).await.unwrap();
        assert_eq!(store.get(blob.id).await.unwrap(), Some(content));
        let other = Bytes::from_static(b"12345");
        let error = store.put(Moment(3), 0, name(&other), other.clone()).await.unwrap_err();
        assert!(error.to_string().contains("limits.blobs_bytes"), "{error}");
        let (none, late) = (BTreeSet::new(), Moment(2).after(UNCLAIMED));
        store.sweep(late, &none, &BTreeMap::new()).await;
        assert!(!store.holds(blob.id), "nobody claimed it");
        store.put(late, 0, name(&other), other).await.unwrap();
    }

    #[tokio::test]
    async fn what_the_log_names_stays_and_what_it_let_go_goes() {
        let store = store(1 << 20);
        let content = Bytes::from_static(b"content");
        let blob = name(&content);
        let named = BTreeSet::from([blob.id]);
        let freed = BTreeMap::from([(blob.id, 7)]);
        store.put(Moment(0), 5, blob, content.clone()).await.unwrap();
        store.sweep(Moment(1).after(UNCLAIMED), &named, &freed).await;
        assert!(store.holds(blob.id), "somebody names it again");
        // Put again for another task, which is on its way.
        store.put(Moment(2), 9, blob, content.clone()).await.unwrap();
        let later = Moment(2).after(SETTLED);
        store.sweep(later, &BTreeSet::new(), &freed).await;
        assert!(store.holds(blob.id));
        let freed = BTreeMap::from([(blob.id, 12)]);
        store.sweep(Moment(3), &BTreeSet::new(), &freed).await;
        assert!(store.holds(blob.id), "it may have been an earlier use");
        store.sweep(later, &BTreeSet::new(), &freed).await;
        assert!(!store.holds(blob.id));
    }
}
