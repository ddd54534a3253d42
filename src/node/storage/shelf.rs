//! Snapshots as files: written beside, synced, then named, so that half a one is never taken for a whole.
//!
//! ```text
//!   snapshot-<term>-<index>:  data · footer (postcard) · footer length u32 · footer checksum u64 · "hustsnap"
//! ```

use super::Owner;
use super::disk::{Disk, DiskFile, Open, Pace, UNFINISHED};
use super::health::Health;
use crate::error::{Error, Result};
use crate::node::consensus::types::{SnapshotMeta, position};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Files of snapshots begin with this.
pub const SNAPSHOT: &str = "snapshot-";
/// Snapshots are read and written in pieces of this size.
pub const PIECE: usize = 256 << 10;
/// Longest footer: a configuration of seven voters is far smaller.
const MAX_FOOTER: u64 = 1 << 20;
const MAGIC: &[u8] = b"hustsnap";
/// Length, checksum and magic at the very end.
const TAIL: u64 = 4 + 8 + 8;

#[derive(Serialize, Deserialize)]
struct Footer {
    store: u128,
    meta: SnapshotMeta,
    size: u64,
    checksum: u64,
}

/// The data of one snapshot in a file. Clones read the same file, also after a newer one took its place.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<dyn DiskFile>,
    size: u64,
    checksum: u64,
    unnamed: Option<Arc<Unnamed>>,
}

impl SnapshotFile {
    /// Bytes of data.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of the data.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The piece at `offset`; empty at the end.
    pub fn piece(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; self.size.saturating_sub(offset).min(PIECE as u64) as usize];
        self.file.read(offset, &mut piece)?;
        Ok(piece)
    }

    /// All of it, in order.
    pub fn reader(&self) -> impl Read {
        Reader { file: self.clone(), offset: 0 }
    }
}

struct Reader {
    file: SnapshotFile,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min((self.file.size - self.offset) as usize);
        self.file.file.read(self.offset, &mut out[..count])?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A file that goes when nobody wants it any more, unless it was given its name.
#[derive(Debug)]
struct Unnamed {
    /// What it is called until it gets its name; `None` from then on.
    name: Mutex<Option<String>>,
    shelf: Shelf,
}

impl Unnamed {
    fn take(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let (Some(name), Ok(owner)) = (self.take(), self.shelf.owner()) {
            let removed = owner.disk.remove(&name);
            let _ = removed.inspect_err(|e| fail(&self.shelf.health, &owner.disk.path(&name), e));
        }
    }
}

/// A snapshot that is being written.
pub struct Draft {
    file: SnapshotFile,
    hasher: Box<Xxh3>,
    health: Arc<Health>,
    path: String,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Draft({} bytes in {})", self.file.size, self.path)
    }
}

impl Draft {
    /// Appends a piece.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.health.check()?;
        let written = self.file.file.write(self.file.size, piece);
        written.inspect_err(|error| fail(&self.health, &self.path, error))?;
        self.hasher.update(piece);
        self.file.size += piece.len() as u64;
        Ok(())
    }

    /// All pieces are there.
    pub fn finish(mut self) -> SnapshotFile {
        self.file.checksum = self.hasher.digest();
        self.file
    }
}

fn fail(health: &Health, path: &str, error: &io::Error) {
    health.fail(Error::Storage { path: path.to_owned(), problem: error.to_string() });
}

/// Where the snapshots of one data directory lie. Without its owner it only refuses.
#[derive(Clone, Debug)]
pub struct Shelf {
    owner: Weak<Owner>,
    health: Arc<Health>,
    drafts: Arc<AtomicU64>,
    pace: Pace,
}

impl Shelf {
    pub(super) fn new(owner: &Arc<Owner>, health: Arc<Health>) -> Self {
        let pace = owner.disk.pace();
        Shelf { owner: Arc::downgrade(owner), health, drafts: Arc::default(), pace }
    }

    /// Begins a snapshot.
    pub fn begin(&self) -> io::Result<Draft> {
        let owner = self.owner()?;
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SNAPSHOT}{number}{UNFINISHED}");
        let path = owner.disk.path(&name);
        let file = owner.disk.open(&name, Open::Fresh);
        let file = file.inspect_err(|error| fail(&self.health, &path, error))?;
        let unnamed = Some(Arc::new(Unnamed { name: Mutex::new(Some(name)), shelf: self.clone() }));
        let file = SnapshotFile { file, size: 0, checksum: 0, unnamed };
        Ok(Draft { file, hasher: Box::default(), health: self.health.clone(), path })
    }

    /// Gives a finished snapshot its name, durably, and removes older ones.
    pub fn place(&self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<SnapshotFile> {
        let owner = self.owner()?;
        let unfinished = snapshot.unnamed.as_ref().and_then(|unnamed| unnamed.take());
        let Some(unfinished) = unfinished else { return Ok(snapshot) };
        let placed = place(&owner, meta, &snapshot, &unfinished);
        placed.inspect_err(|error| fail(&self.health, &owner.disk.path(&name_of(meta)), error))?;
        Ok(SnapshotFile { unnamed: None, ..snapshot })
    }

    /// A snapshot could not be read: the disk is not to be trusted.
    pub fn distrust(&self, error: &io::Error) {
        let path = self.owner.upgrade().map_or_else(String::new, |owner| owner.disk.path(SNAPSHOT));
        fail(&self.health, &path, error);
    }

    /// Runs `work`, which reads or writes, where it keeps nobody waiting.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.pace {
            Pace::Virtual(latency) => {
                tokio::time::sleep(latency).await;
                work(self)
            }
            Pace::Blocking => {
                let shelf = self.clone();
                let done = tokio::task::spawn_blocking(move || work(&shelf)).await;
                done.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            }
        }
    }

    fn owner(&self) -> io::Result<Arc<Owner>> {
        self.health.check()?;
        let gone = || io::Error::other("storage is closed: the node stops");
        self.owner.upgrade().ok_or_else(gone)
    }
}

fn name_of(meta: &SnapshotMeta) -> String {
    let (term, index) = position(meta.last_log_id.as_ref());
    format!("{SNAPSHOT}{term}-{index}")
}

/// (term, index) in the name of a whole snapshot.
fn parse(name: &str) -> Option<(u64, u64)> {
    let (term, index) = name.strip_prefix(SNAPSHOT)?.split_once('-')?;
    Some((term.parse().ok()?, index.parse().ok()?))
}

fn place(
    owner: &Owner,
    meta: &SnapshotMeta,
    snapshot: &SnapshotFile,
    from: &str,
) -> io::Result<()> {
    let (disk, store) = (owner.disk.as_ref(), owner.store);
    let (size, checksum) = (snapshot.size, snapshot.checksum);
    let footer = Footer { store, meta: meta.clone(), size, checksum };
    let mut end = postcard::to_stdvec(&footer).map_err(io::Error::other)?;
    let (length, sum) = (end.len() as u32, xxh3_64(&end));
    end.extend_from_slice(&length.to_le_bytes());
    end.extend_from_slice(&sum.to_le_bytes());
    end.extend_from_slice(MAGIC);
    snapshot.file.write(size, &end)?;
    snapshot.file.sync()?;
    disk.rename(from, &name_of(meta))?;
    let newest = position(meta.last_log_id.as_ref());
    let names = disk.names()?;
    let older = names.iter().filter(|name| parse(name).is_some_and(|other| other < newest));
    older.into_iter().try_for_each(|name| disk.remove(name))
}

/// The newest snapshot on `disk`, all of it checked. One that is not whole is an error, not a reason to take an older.
pub(super) fn newest(disk: &dyn Disk, store: u128) -> Result<Option<(SnapshotMeta, SnapshotFile)>> {
    let failed = |name: &str, error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::CorruptLog {
            file: disk.path(name),
            place: "its content".into(),
            problem: error.to_string(),
        },
        _ => Error::Storage { path: disk.path(name), problem: error.to_string() },
    };
    let names = disk.names().map_err(|error| failed("", error))?;
    let mut found: Option<(SnapshotMeta, SnapshotFile)> = None;
    for name in names.iter().filter(|name| parse(name).is_some()) {
        let (meta, file) = read(disk, name, store).map_err(|error| failed(name, error))?;
        if found.as_ref().is_none_or(|(known, _)| known.last_log_id < meta.last_log_id) {
            found = Some((meta, file));
        }
    }
    Ok(found)
}

fn read(disk: &dyn Disk, name: &str, store: u128) -> io::Result<(SnapshotMeta, SnapshotFile)> {
    let wrong = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    let file = disk.open(name, Open::Existing)?;
    let len = file.len()?;
    let Some(before_tail) = len.checked_sub(TAIL) else { return wrong("it is cut short") };
    let mut tail = [0; TAIL as usize];
    file.read(before_tail, &mut tail)?;
    let length = u64::from(u32::from_le_bytes(std::array::from_fn(|i| tail[i])));
    let sum = u64::from_le_bytes(std::array::from_fn(|i| tail[4 + i]));
    let start = before_tail.checked_sub(length).filter(|_| length <= MAX_FOOTER);
    let (Some(start), MAGIC) = (start, &tail[12..]) else { return wrong("it has no end") };
    let mut end = vec![0; length as usize];
    file.read(start, &mut end)?;
    if xxh3_64(&end) != sum {
        return wrong("the checksum of its footer is wrong");
    }
    let Ok(footer) = postcard::from_bytes::<Footer>(&end) else {
        return wrong("its footer cannot be read");
    };
    if footer.store != store || name != name_of(&footer.meta) {
        return wrong("it belongs to another data directory or has another's name");
    }
    if footer.size != start {
        return wrong("its length is wrong");
    }
    let snapshot =
        SnapshotFile { file, size: footer.size, checksum: footer.checksum, unnamed: None };
    let mut hasher = Xxh3::new();
    let mut offset = 0;
    while offset < snapshot.size {
        let piece = snapshot.piece(offset)?;
        hasher.update(&piece);
        offset += piece.len() as u64;
    }
    if hasher.digest() != footer.checksum {
        return wrong("its checksum is wrong");
    }
    Ok((footer.meta, snapshot))
}
