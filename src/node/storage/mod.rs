//! **Durable state.** One data directory per node: who it is, its log and vote, its last snapshot. What it confirms is
//! synced; what it finds after a restart is exactly what it confirmed, or it refuses to start.
//!
//! ```text
//!   consensus::log_store ──▶ journal ──▶ engine (redb) ─┐
//!   consensus::snapshots ──▶ shelf ─────────────────────┼──▶ Disk ──▶ folder, or a simulated disk
//!   node::assembly ────────▶ identity, lock ────────────┘
//! ```
//!
//! | file | holds | replaced |
//! |---|---|---|
//! | `lock` | the owner's process id; locked while it lives | |
//! | `identity` | node id, cluster id, how often it was started, format | as a whole |
//! | `log.redb` | entries, vote, purge point | by transactions |
//! | `seal` | the number of the last confirmed transaction | in place |
//! | `snapshot-<term>-<index>` | the state up to there | by the next one |

pub mod alone;
mod blobs;
pub mod disk;
mod engine;
pub mod folder;
mod health;
mod identity;
mod journal;
mod record;
mod seal;
mod shelf;

pub use engine::Recovered;
pub use health::Health;
pub use identity::Identity;
pub use journal::Journal;
pub use shelf::{Draft, PIECE, Shelf, SnapshotFile};

use crate::core::ids::ClusterId;
use crate::error::{Error, Result};
use crate::node::consensus::Stores;
use crate::node::consensus::log_store::LogStore;
use crate::node::consensus::runtime::random_u64;
use crate::node::consensus::snapshots::Snapshots;
use crate::node::consensus::types::{LogId, SnapshotMeta, position};
use disk::{Disk, UNFINISHED};
use engine::{Engine, LOG};
use identity::IDENTITY;
use shelf::SNAPSHOT;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whoever holds this may write; the lock goes with the last holder.
#[derive(Debug)]
struct Owner {
    disk: Arc<dyn Disk>,
    store: u128,
    _lock: Box<dyn Debug + Send + Sync>,
}

/// An open data directory.
#[derive(Debug)]
pub struct Storage {
    path: String,
    identity: Mutex<Identity>,
    /// How often before this time.
    started_before: u64,
    health: Arc<Health>,
    journal: Journal,
    owner: Mutex<Option<Arc<Owner>>>,
}

impl Storage {
    /// Takes `disk`, checks all of it and starts to serve it; an empty one gets a new identity. Blocks while it reads.
    /// On a simulated disk it must be called inside a tokio runtime.
    pub fn open(disk: Arc<dyn Disk>) -> Result<(Arc<Self>, Stores)> {
        disk.prepare()?;
        check_names(disk.as_ref())?;
        let lock = disk.lock()?;
        remove_unfinished(disk.as_ref())?;
        let mut identity = match Identity::read(disk.as_ref())? {
            Some(identity) => identity,
            None => settle(disk.as_ref())?,
        };
        let health = Arc::new(Health::default());
        let (engine, recovered) = Engine::open(disk.as_ref(), identity.store, &health)?;
        let snapshot = shelf::newest(disk.as_ref(), identity.store)?;
        check_joint(disk.as_ref(), &recovered, snapshot.as_ref().map(|(meta, _)| meta))?;
        let started_before = identity.incarnation;
        identity.incarnation += 1;
        identity.write(disk.as_ref()).map_err(|error| failed(disk.as_ref(), IDENTITY, &error))?;
        let owner = Arc::new(Owner { disk: disk.clone(), store: identity.store, _lock: lock });
        let journal = Journal::start(engine, owner.clone(), health.clone())?;
        let stores = Stores {
            log: LogStore::recovered(recovered, journal.clone()),
            snapshots: Snapshots::on(Shelf::new(&owner, health.clone()), snapshot),
        };
        let storage = Storage {
            path: disk.path(""),
            identity: Mutex::new(identity),
            started_before,
            health,
            journal,
            owner: Mutex::new(Some(owner)),
        };
        Ok((Arc::new(storage), stores))
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        *self.lock_identity()
    }

    /// The node belongs to `cluster` from now on; durable when this returns. An error is final, as any of a disk.
    pub fn belong(&self, cluster: ClusterId) -> Result<()> {
        let mut identity = self.lock_identity();
        if identity.cluster == Some(cluster) {
            return Ok(());
        }
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (None, Some(owner)) = (self.health.failure(), owner) else { return Ok(()) };
        let joined = Identity { cluster: Some(cluster), ..*identity };
        joined.write(owner.disk.as_ref()).map_err(|error| {
            let error = failed(owner.disk.as_ref(), IDENTITY, &error);
            self.health.fail(error.clone());
            error
        })?;
        *identity = joined;
        Ok(())
    }

    /// The cluster refused this start: it does not count, so that the next one is refused as well. If it did, an old
    /// copy would only have to be started often enough to pass for the latest life of its node.
    pub fn take_back_start(&self) {
        let mut identity = self.lock_identity();
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (None, Some(owner)) = (self.health.failure(), owner) else { return };
        let before = Identity { incarnation: self.started_before, ..*identity };
        // The node ends in any case; where its disk fails too, nothing better can be done.
        if before.write(owner.disk.as_ref()).is_ok() {
            *identity = before;
        }
    }

    /// Whether it can be trusted.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Writes what waits and gives the directory back.
    pub async fn close(&self) {
        // An error was told to whoever asked for the change.
        let _ = self.journal.close().await;
        self.halt();
    }

    /// Gives the directory back at once, as a crash would; what waits is not written. Blocks for one sync at most.
    pub fn halt(&self) {
        self.journal.halt();
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    // Replaced as a whole; no panic leaves it half done.
    fn lock_identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.halt();
    }
}

fn failed(disk: &dyn Disk, name: &str, error: &std::io::Error) -> Error {
    Error::Storage { path: disk.path(name), problem: error.to_string() }
}

fn is_ours(name: &str) -> bool {
    name == IDENTITY
        || name == LOG
        || name == seal::SEAL
        || name.starts_with(SNAPSHOT)
        || name.starts_with(blobs::BLOB)
        || name.ends_with(UNFINISHED)
}

/// A folder with other files in it was given by mistake; nothing in it is touched.
fn check_names(disk: &dyn Disk) -> Result<()> {
    let names = disk.names().map_err(|error| failed(disk, "", &error))?;
    if names.iter().any(|name| name == IDENTITY) {
        return Ok(());
    }
    match names.iter().find(|name| !is_ours(name)) {
        None => Ok(()),
        Some(stranger) => Err(Error::Storage {
            path: disk.path(""),
            problem: format!(
                "it holds {stranger:?} and is no data directory; give an empty or a new folder as data_dir"
            ),
        }),
    }
}

fn remove_unfinished(disk: &dyn Disk) -> Result<()> {
    let names = disk.names().map_err(|error| failed(disk, "", &error))?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        disk.remove(name).map_err(|error| failed(disk, name, &error))?;
    }
    Ok(())
}

/// Makes a new directory's files. The identity comes last: without it nothing was ever confirmed.
fn settle(disk: &dyn Disk) -> Result<Identity> {
    let names = disk.names().map_err(|error| failed(disk, "", &error))?;
    let used = names.iter().any(|name| name.starts_with(SNAPSHOT))
        || (names.iter().any(|name| name == LOG) && !Engine::is_blank(disk));
    if used {
        return Err(Error::CorruptLog {
            file: disk.path(IDENTITY),
            place: "all of it".into(),
            problem: "the file is missing".into(),
        });
    }
    let store = u128::from(random_u64()) << 64 | u128::from(random_u64());
    // 0 means "whoever listens there" in an envelope.
    let node = crate::core::ids::NodeId(random_u64().max(1));
    let identity = Identity { node, store, cluster: None, incarnation: 0 };
    Engine::create(disk, store)?;
    identity.write(disk).map_err(|error| failed(disk, IDENTITY, &error))?;
    Ok(identity)
}

/// Log and snapshot must fit together: what was purged is in the snapshot, what was committed is in one of the two.
fn check_joint(disk: &dyn Disk, log: &Recovered, snapshot: Option<&SnapshotMeta>) -> Result<()> {
    let covered = snapshot.and_then(|meta| meta.last_log_id);
    let shown = |id: &LogId| format!("entry {}", position(Some(id)).1);
    if let Some(purged) = log.purged.as_ref().filter(|purged| Some(**purged) > covered) {
        return Err(Error::CorruptLog {
            file: disk.path(SNAPSHOT),
            place: shown(purged),
            problem: "the log ends there, and no snapshot covers it".into(),
        });
    }
    let last = log.entries.last().map(|entry| entry.log_id).or(log.purged);
    if let Some(committed) = log.committed.as_ref().filter(|c| Some(**c) > last.max(covered)) {
        return Err(Error::CorruptLog {
            file: disk.path(LOG),
            place: shown(committed),
            problem: "it was committed, and it is missing".into(),
        });
    }
    Ok(())
}
