//! A disk in memory that loses what was not synced, tears and reorders writes, flips bits, fills up and fails.

use hustings::core::chance::Chance;
use hustings::error::{Error, Result};
use hustings::node::storage::disk::{Disk, DiskFile, Open, Pace};
use hustings::sim::unsynced::{Content, Pending};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Names = BTreeMap<String, u64>;

/// When and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From operation `n` on nothing works any more: the power is gone.
    PowerCut(u64),
    /// The first sync after operation `n` fails, and later ones say that all is well.
    FailedSync(u64),
    /// The first write after operation `n` fails, and later ones succeed.
    FailedWrite(u64),
    /// Files may hold this many bytes in all.
    Full(u64),
}

#[derive(Clone, Debug, Default)]
struct World {
    files: BTreeMap<u64, Content>,
    names: Names,
    durable_names: Names,
    next_file: u64,
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
    /// Writes after the first failure.
    written_after_failure: u64,
    failed: bool,
    /// Ranges that were read: file, offset, length.
    reads: BTreeSet<(u64, u64, u64)>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FakeDisk {
    world: Arc<Mutex<World>>,
    locked: Arc<AtomicBool>,
}

impl FakeDisk {
    /// The same content behind another lock: what a copy of the folder would be.
    pub fn copy(&self) -> FakeDisk {
        let world = self.world().clone();
        FakeDisk { world: Arc::new(Mutex::new(world)), locked: Arc::default() }
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        self.world().fault = fault;
    }

    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    pub fn written_after_failure(&self) -> u64 {
        self.world().written_after_failure
    }

    pub fn bytes(&self) -> u64 {
        self.world().total()
    }

    pub fn file_names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[&world.names[name]].live.clone()
    }

    pub fn set_file(&self, name: &str, content: Vec<u8>) {
        let mut world = self.world();
        let file = world.named(name);
        world.files.insert(file, Content::of(content));
        world.durable_names = world.names.clone();
    }

    pub fn remove_file(&self, name: &str) {
        let mut world = self.world();
        world.names.remove(name);
        world.durable_names.remove(name);
    }

    /// The number of the file that has that name now.
    pub fn number(&self, name: &str) -> u64 {
        self.world().names[name]
    }

    /// The ranges of file `number` that were ever read.
    pub fn reads(&self, number: u64) -> Vec<(u64, u64)> {
        let world = self.world();
        let reads = world.reads.iter().filter(|(file, ..)| *file == number);
        reads.map(|(_, at, length)| (*at, *length)).collect()
    }

    /// What is left after a crash now, for one choice of what the disk did with what was not synced.
    pub fn crash(&self, how: Crash, chance: &mut Chance) -> FakeDisk {
        let world = self.world();
        let mut left = World { next_file: world.next_file, ..World::default() };
        left.names = match how {
            Crash::Nothing => world.durable_names.clone(),
            Crash::Everything => world.names.clone(),
            Crash::Some => {
                let all = world.durable_names.iter().chain(&world.names);
                let mut names = Names::new();
                for (name, file) in all {
                    let certain = world.durable_names.get(name) == world.names.get(name);
                    if certain || chance.below(2) == 0 {
                        names.insert(name.clone(), *file);
                    }
                }
                names
            }
        };
        for (id, content) in &world.files {
            let mut kept = content.durable.clone();
            for pending in &content.pending {
                match how {
                    Crash::Nothing => {}
                    Crash::Everything => pending.apply(&mut kept),
                    Crash::Some => {
                        pending.torn(chance).into_iter().for_each(|p| p.apply(&mut kept))
                    }
                }
            }
            left.files.insert(*id, Content::of(kept));
        }
        left.durable_names = left.names.clone();
        FakeDisk { world: Arc::new(Mutex::new(left)), locked: Arc::default() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the disk did with what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is all lost.
    Nothing,
    /// It all arrived.
    Everything,
    /// Some of it arrived, in any order, some of that in part.
    Some,
}

impl World {
    fn named(&mut self, name: &str) -> u64 {
        let next = self.next_file;
        let file = *self.names.entry(name.to_owned()).or_insert(next);
        if file == next {
            self.next_file += 1;
        }
        file
    }

    fn total(&self) -> u64 {
        self.names.values().map(|file| self.files[file].live.len() as u64).sum()
    }

    /// Counts an operation that changes something, and fails it if it is time.
    fn operate(&mut self, sync: bool, grows_to: impl FnOnce(&World) -> u64) -> io::Result<()> {
        self.operations += 1;
        let n = self.operations;
        let strikes = match self.fault {
            Some(Fault::PowerCut(at)) if n >= at => {
                return Err(io::Error::other("the power is gone"));
            }
            Some(Fault::FailedSync(at)) => sync && n >= at,
            Some(Fault::FailedWrite(at)) => !sync && n >= at,
            Some(Fault::Full(limit)) if grows_to(self) > limit => {
                self.failed = true;
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => false,
        };
        if strikes {
            (self.fault, self.failed) = (None, true);
            return Err(io::Error::from_raw_os_error(libc_eio()));
        }
        self.written_after_failure += u64::from(self.failed);
        Ok(())
    }
}

/// EIO, the same on every Unix.
fn libc_eio() -> i32 {
    5
}

#[derive(Debug)]
struct Locked(Arc<AtomicBool>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Disk for FakeDisk {
    fn path(&self, name: &str) -> String {
        format!("fake/{name}")
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
        Ok(self.file_names())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        if how == Open::Existing && !world.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = world.named(name);
        let content = world.files.entry(file).or_default();
        if how == Open::Fresh {
            content.live.clear();
            content.pending.push(Pending::Length(0));
        }
        Ok(Arc::new(FakeFile { world: self.world.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.operate(true, World::total)?;
        let file = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), file);
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.operate(false, World::total)?;
        world.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn pace(&self) -> Pace {
        Pace::Virtual(Duration::from_millis(1))
    }
}

#[derive(Debug)]
struct FakeFile {
    world: Arc<Mutex<World>>,
    file: u64,
}

impl FakeFile {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, pending: Pending) -> io::Result<()> {
        let mut world = self.world();
        let file = self.file;
        let grows_to = |world: &World| {
            let mut live = world.files[&file].live.clone();
            let before = live.len() as u64;
            pending.apply(&mut live);
            world.total() + live.len() as u64 - before.min(live.len() as u64)
        };
        world.operate(false, grows_to)?;
        let content = world.files.entry(file).or_default();
        pending.apply(&mut content.live);
        content.pending.push(pending);
        Ok(())
    }
}

impl DiskFile for FakeFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.world().files[&self.file].live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut world = self.world();
        world.reads.insert((self.file, offset, out.len() as u64));
        let live = &world.files[&self.file].live;
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(live.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Pending::Write(offset, data.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Pending::Length(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        world.operate(true, World::total)?;
        world.syncs += 1;
        let content = world.files.entry(self.file).or_default();
        content.durable = content.live.clone();
        content.pending.clear();
        Ok(())
    }
}
