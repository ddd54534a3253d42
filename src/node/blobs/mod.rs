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
use crate::core::ids::{BlobId, BlobRef};
use crate::error::{Error, Result};
use crate::node::storage::Storage;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use upkeep::keep;

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
    /// The log has named it since then.
    named: bool,
}

impl BlobStore {
    /// What was found in `storage`, or nothing.
    pub fn open(storage: Option<Arc<Storage>>, limits: &Limits) -> Result<Self> {
        let mut held = Held::default();
        if let Some(storage) = &storage {
            for BlobRef { id, size } in storage.blobs()? {
                held.bytes += size;
                // Young until the log was read: what it names is kept, the rest goes in time.
                let entry = Entry { size, content: None, since: Moment(0), named: false };
                held.blobs.insert(id, entry);
            }
        }
        Ok(BlobStore { storage, most: limits.blobs_bytes, held: Mutex::new(held) })
    }

    // Every change is one step, so a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is here.
    pub fn holds(&self, id: BlobId) -> bool {
        self.lock().blobs.contains_key(&id)
    }

    /// Keeps `content`, whose hash was checked; durable when this returns, if anything here is.
    pub async fn put(&self, now: Moment, blob: BlobRef, content: Bytes) -> Result<()> {
        {
            let mut held = self.lock();
            if let Some(entry) = held.blobs.get_mut(&blob.id) {
                (entry.since, entry.named) = (now, false);
                return Ok(());
            }
            if held.bytes + blob.size > self.most {
                let detail = format!(
                    "this voter holds {} bytes of large arguments and results, at most {} fit (limits.blobs_bytes)",
                    held.bytes, self.most
                );
                return Err(Error::QueueFull { detail, retry_after: RETRY_AFTER });
            }
            // Room is taken before the disk is asked, so that many at once stay within the bound.
            held.bytes += blob.size;
        }
        let kept = match &self.storage {
            Some(storage) => storage.write_blob(blob.id, content).await.map(|()| None),
            None => Ok(Some(content)),
        };
        let mut held = self.lock();
        let kept = kept.inspect_err(|_| held.bytes -= blob.size)?;
        let entry = Entry { size: blob.size, content: kept, since: now, named: false };
        if let Some(twin) = held.blobs.insert(blob.id, entry) {
            held.bytes -= twin.size;
        }
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

    /// Forgets what the log named and names no more, and what it has not named for `unclaimed`.
    async fn sweep(&self, now: Moment, unclaimed: Duration, needs: impl Fn(BlobId) -> bool) {
        let mut gone = Vec::new();
        {
            let mut held = self.lock();
            let Held { blobs, bytes } = &mut *held;
            blobs.retain(|id, entry| {
                let needed = needs(*id);
                let keep = needed || (!entry.named && now.since(entry.since) < unclaimed);
                entry.named |= needed;
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

    fn limits(most: u64) -> Limits {
        Limits { blobs_bytes: most, ..crate::config::Config::default().limits }
    }

    #[tokio::test]
    async fn a_blob_is_found_by_its_content_and_counted_once() {
        let store = BlobStore::open(None, &limits(10)).unwrap();
        let content = Bytes::from_static(b"123456");
        let blob = name(&content);
        assert_eq!(blob.size, 6);
        store.put(Moment(1), blob, content.clone()).await.unwrap();
        store.put(Moment(2), blob, content.clone()).await.unwrap();
        assert_eq!(store.get(blob.id).await.unwrap(), Some(content));
        let other = Bytes::from_static(b"12345");
        let error = store.put(Moment(3), name(&other), other.clone()).await.unwrap_err();
        assert!(error.to_string().contains("limits.blobs_bytes"), "{error}");
        store.sweep(Moment(10_000_000), Duration::from_secs(1), |_| false).await;
        assert!(!store.holds(blob.id));
        store.put(Moment(3), name(&other), other).await.unwrap();
    }

    #[tokio::test]
    async fn what_the_log_names_stays_and_what_it_named_goes() {
        let store = BlobStore::open(None, &limits(1 << 20)).unwrap();
        let (a, b) = (Bytes::from_static(b"named"), Bytes::from_static(b"never named"));
        let (name_a, name_b) = (name(&a), name(&b));
        for (blob, content) in [(name_a, a.clone()), (name_b, b)] {
            store.put(Moment(0), blob, content).await.unwrap();
        }
        let unclaimed = Duration::from_secs(900);
        store.sweep(Moment(1), unclaimed, |id| id == name_a.id).await;
        assert!(store.holds(name_a.id) && store.holds(name_b.id));
        store.sweep(Moment(2), unclaimed, |_| false).await;
        assert!(!store.holds(name_a.id), "named once, and no more");
        assert!(store.holds(name_b.id), "its task may be on its way");
        // Put again for another task: it must wait for that one.
        store.put(Moment(3), name_a, a).await.unwrap();
        store.sweep(Moment(4), unclaimed, |_| false).await;
        assert!(store.holds(name_a.id));
    }
}
