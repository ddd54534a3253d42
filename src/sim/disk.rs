//! Imagined disks: they forget what was not synced when the power goes, tear the last writes, flip bits while their
//! node is down, fill up, fail a sync, and are slow. Everything on them is decided by a seed and by what was written
//! where, never by the order in which it was flushed.

use super::unsynced::{Content, Pending};
use super::world::STRETCH;
use crate::core::chance::Chance;
use crate::error::{Error, Result};
use crate::node::storage::disk::{Disk, DiskFile, Open, Pace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a durable write takes on a disk that is well.
const QUICK: Duration = Duration::from_micros(300);
/// EIO, the same on every Unix.
const EIO: i32 = 5;

/// What becomes of what was not synced when a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Only its process ends: the system still writes everything.
    Process,
    /// The power goes: some of it is there, some is not, some in part; drawn from the number.
    Power(u64),
}

#[derive(Clone, Debug, Default)]
struct Inner {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    full: bool,
    sync_fails: bool,
    slow: Option<Duration>,
    /// Planted: a sync only says that it has synced.
    forgets: bool,
}

/// One node's disk; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct ImaginedDisk {
    inner: Arc<Mutex<Inner>>,
    locked: Arc<AtomicBool>,
}

impl ImaginedDisk {
    /// An empty one; `forgets`: its syncs are lies.
    pub fn new(forgets: bool) -> Self {
        let inner = Inner { forgets, ..Inner::default() };
        ImaginedDisk { inner: Arc::new(Mutex::new(inner)), locked: Arc::default() }
    }

    /// The disk as the next start of its node finds it.
    pub fn reopened(&self, down: Down) -> ImaginedDisk {
        let mut left = self.lock_inner().clone();
        if let Down::Power(seed) = down {
            left.lose_power(seed);
        }
        let named: BTreeSet<u64> =
            left.names.values().chain(left.durable_names.values()).copied().collect();
        left.files.retain(|file, _| named.contains(file));
        ImaginedDisk { inner: Arc::new(Mutex::new(left)), locked: Arc::default() }
    }

    /// One bit of one file turns over.
    pub fn rot(&self, seed: u64) {
        let mut chance = Chance::seeded(seed);
        let mut inner = self.lock_inner();
        let files: Vec<u64> = inner.names.values().copied().collect();
        let Some(file) = files.get(chance.below(files.len())) else { return };
        let Some(content) = inner.files.get_mut(file) else { return };
        let (at, bit) = (chance.below(content.live.len()), 1 << chance.below(8));
        for bytes in [&mut content.live, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
    }

    /// No more is written, or it is again.
    pub fn set_full(&self, full: bool) {
        self.lock_inner().full = full;
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.lock_inner().full
    }

    /// The next sync fails, and those after it say that all is well.
    pub fn fail_sync(&self) {
        self.lock_inner().sync_fails = true;
    }

    /// Every durable write takes so long; `None`: as long as it should.
    pub fn set_slow(&self, slow: Option<Duration>) {
        self.lock_inner().slow = slow;
    }

    /// Ends what can be mended.
    pub fn mend(&self) {
        let mut inner = self.lock_inner();
        (inner.full, inner.sync_fails, inner.slow) = (false, false, None);
    }

    // Every change is complete before anything can panic.
    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn lose_power(&mut self, seed: u64) {
        let certain = self.durable_names.clone();
        let mut names = BTreeMap::new();
        for (n, (name, file)) in certain.iter().chain(&self.names).enumerate() {
            let same = certain.get(name) == self.names.get(name);
            if same || Chance::seeded(seed ^ n as u64).below(2) == 0 {
                names.insert(name.clone(), *file);
            }
        }
        (self.names, self.durable_names) = (names.clone(), names);
        for (id, content) in &mut self.files {
            for pending in std::mem::take(&mut content.pending) {
                let drawn = seed ^ id.rotate_left(40) ^ pending.mark();
                let torn = pending.torn(&mut Chance::seeded(drawn));
                torn.iter().for_each(|part| part.apply(&mut content.durable));
            }
            content.live = content.durable.clone();
        }
    }

    fn named(&mut self, name: &str) -> u64 {
        let next = self.next;
        let file = *self.names.entry(name.to_owned()).or_insert(next);
        if file == next {
            self.next += 1;
        }
        file
    }

    fn check_room(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        if std::mem::take(&mut self.sync_fails) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if let Some(content) = self.files.get_mut(&file).filter(|_| !self.forgets) {
            content.sync();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Locked(Arc<AtomicBool>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Disk for ImaginedDisk {
    fn path(&self, name: &str) -> String {
        format!("imagined/{name}")
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Debug + Send + Sync>> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(Error::DataDirLocked { path: self.path(""), pid: 1 });
        }
        Ok(Box::new(Locked(self.locked.clone())))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock_inner().names.keys().cloned().collect())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock_inner();
        if how == Open::Existing && !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = inner.named(name);
        let content = inner.files.entry(file).or_default();
        if how == Open::Fresh {
            content.live.clear();
            content.pending.push(Pending::Length(0));
        }
        Ok(Arc::new(ImaginedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock_inner();
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), file);
        if !inner.forgets {
            inner.durable_names = inner.names.clone();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.lock_inner().names.remove(name);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn pace(&self) -> Pace {
        Pace::Virtual(self.lock_inner().slow.unwrap_or(QUICK) * STRETCH)
    }
}

#[derive(Debug)]
struct ImaginedFile {
    disk: ImaginedDisk,
    file: u64,
}

impl ImaginedFile {
    fn change(&self, pending: Pending) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        inner.check_room()?;
        inner.files.entry(self.file).or_default().change(pending);
        Ok(())
    }
}

impl DiskFile for ImaginedFile {
    fn len(&self) -> io::Result<u64> {
        let inner = self.disk.lock_inner();
        Ok(inner.files.get(&self.file).map_or(0, |content| content.live.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.lock_inner();
        let range = offset as usize..offset as usize + out.len();
        let content = inner.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        out.copy_from_slice(content.live.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Pending::Write(offset, data.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Pending::Length(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock_inner().sync(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(disk: &ImaginedDisk, data: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open("a.new", Open::Fresh).unwrap();
        file.write(0, data).unwrap();
        file.sync().unwrap();
        disk.rename("a.new", "a").unwrap();
        file
    }

    fn content(disk: &ImaginedDisk) -> Vec<u8> {
        crate::node::storage::disk::read_all(disk, "a", 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go_unless_only_the_process_ended() {
        let disk = ImaginedDisk::new(false);
        let file = written(&disk, &[1; 1_000]);
        file.write(500, &[2; 2_000]).unwrap();
        assert_eq!(content(&disk.reopened(Down::Process)).len(), 2_500);
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let left = content(&disk.reopened(Down::Power(seed)));
            assert_eq!(left, content(&disk.reopened(Down::Power(seed))), "drawn from the seed");
            assert_eq!(left[..500], [1; 500]);
            lengths.insert(left.len());
        }
        assert!(lengths.contains(&1_000) && lengths.contains(&2_500) && lengths.len() > 5);
    }

    #[test]
    fn a_disk_that_forgets_has_nothing_after_a_power_cut_that_it_claimed_to_have() {
        let disk = ImaginedDisk::new(true);
        written(&disk, &[1; 10]);
        let left: Vec<_> = (0..20).map(|seed| disk.reopened(Down::Power(seed)).names()).collect();
        assert!(left.into_iter().any(|names| names.unwrap().is_empty()));
    }

    #[test]
    fn it_fills_up_fails_one_sync_slows_down_and_rots() {
        let disk = ImaginedDisk::new(false);
        let file = written(&disk, &[0; 100]);
        disk.set_full(true);
        assert_eq!(file.write(0, &[1]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.fail_sync();
        assert!(file.sync().is_err() && file.sync().is_ok());
        disk.set_slow(Some(Duration::from_secs(1)));
        assert_eq!(disk.pace(), Pace::Virtual(Duration::from_secs(1) * STRETCH));
        disk.mend();
        assert!(file.write(0, &[0]).is_ok());
        disk.rot(7);
        assert_eq!(content(&disk).iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }
}
