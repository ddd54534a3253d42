//! The log, the vote and the purge point in a redb database: one durable transaction per batch of changes, and what is
//! found there after a restart, checked row by row.
//!
//! redb writes copies and switches a root, so a torn write leaves the state before. Which states were confirmed it
//! cannot know: if the newest rots after a crash, it falls back to the one before. So each transaction is numbered, and
//! the number of the last confirmed one is noted beside the database (`seal.rs`): falling back behind it is corruption.

use super::disk::{Disk, DiskFile, Open, UNFINISHED};
use super::health::Health;
use super::record::{self, Flaw};
use super::seal::Seal;
use crate::error::{Error, Result};
use crate::node::consensus::types::{Entry, LogId, Vote, position};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};
use std::fmt::Debug;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The database's name.
pub const LOG: &str = "log.redb";
/// What redb may cache. Entries are read from memory, so this only serves writing.
const CACHE_BYTES: usize = 8 << 20;
/// Rows one transaction removes of what was purged, so that a purge delays no append for long.
const REMOVED_PER_COMMIT: usize = 512;

const ENTRIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("entries");
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");
const STORE: &str = "store";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const NUMBER: &str = "number";

/// One change of the log's state.
#[derive(Debug)]
pub enum Change {
    /// New entries at the end.
    Append(Vec<Entry>),
    /// No entry from this index on.
    Truncate(u64),
    /// No entry up to this one.
    Purge(LogId),
    /// A vote was given.
    Vote(Vote),
    /// Entries up to this one are known to be committed.
    Committed(LogId),
}

/// What a database holds.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All entries behind the purge point, without a gap.
    pub entries: Vec<Entry>,
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry known to be committed, perhaps an old one.
    pub committed: Option<LogId>,
    /// The purge point.
    pub purged: Option<LogId>,
}

/// The open database.
#[derive(Debug)]
pub struct Engine {
    database: Database,
    path: String,
    seal: Seal,
    number: u64,
    /// The first index behind the purge point, while rows before it may still be there.
    leftovers: Option<u64>,
}

impl Engine {
    /// Makes an empty database for `store`. What a crash leaves of one is overwritten by the next attempt.
    pub fn create(disk: &dyn Disk, store: u128) -> Result<()> {
        let unfinished = format!("{LOG}{UNFINISHED}");
        let made = || -> Result<(), Failure> {
            let file = disk.open(&unfinished, Open::Fresh)?;
            let backend = Backend::new(file, disk.path(&unfinished), Arc::default());
            let database = builder().create_with_backend(backend)?;
            let write = begin(&database, false)?;
            write.open_table(ENTRIES)?;
            write.open_table(FACTS)?.insert(STORE, record::seal(&store)?.as_slice())?;
            write.commit()?;
            drop(database);
            Ok(disk.rename(&unfinished, LOG)?)
        };
        made().map_err(|failure| failure.explain(&disk.path(LOG)))
    }

    /// Opens the database of `store` and checks all of it.
    pub fn open(disk: &dyn Disk, store: u128, health: &Arc<Health>) -> Result<(Self, Recovered)> {
        let path = disk.path(LOG);
        // redb's checks are thorough, but not every broken page is an error to it: some break an assertion.
        let opened = catch_unwind(AssertUnwindSafe(|| Engine::open_checked(disk, store, health)));
        let opened =
            opened.unwrap_or_else(|_| Err(Failure::corrupt("its pages", "they make no sense")));
        opened.map_err(|failure| failure.explain(&path))
    }

    /// Whether the database is one that nothing was ever confirmed in; if it cannot be read it is not.
    pub fn is_blank(disk: &dyn Disk) -> bool {
        let blank = || -> Result<bool, Failure> {
            let file = disk.open(LOG, Open::Existing)?;
            let backend = Backend::new(file, disk.path(LOG), Arc::default());
            let database = builder().create_with_backend(backend)?;
            Ok(fact::<u64>(&database.begin_read()?.open_table(FACTS)?, NUMBER)?.is_none())
        };
        catch_unwind(AssertUnwindSafe(blank)).is_ok_and(|blank| blank.is_ok_and(|blank| blank))
    }

    fn open_checked(
        disk: &dyn Disk,
        store: u128,
        health: &Arc<Health>,
    ) -> Result<(Self, Recovered), Failure> {
        let file = disk.open(LOG, Open::Existing)?;
        if file.is_empty()? {
            return Err(Failure::corrupt("offset 0", "the file is empty"));
        }
        let mut builder = builder();
        builder.set_check_integrity_on_open(true);
        let backend = Backend::new(file, disk.path(LOG), health.clone());
        let database = builder.create_with_backend(backend)?;
        let read = database.begin_read()?;
        let facts = read.open_table(FACTS)?;
        if fact::<u128>(&facts, STORE)? != Some(store) {
            let problem = "it is the file of another data directory";
            return Err(Failure::corrupt("its owner", problem));
        }
        let number = fact(&facts, NUMBER)?.unwrap_or_default();
        let seal = Seal::open(disk, store)?;
        if let Some(confirmed) = seal.confirmed().filter(|confirmed| *confirmed > number) {
            let problem = format!(
                "transaction {confirmed} was confirmed, and the newest that can be read is {number}"
            );
            return Err(Failure::corrupt("its newest pages", problem));
        }
        let recovered = Recovered {
            vote: fact(&facts, VOTE)?,
            committed: fact(&facts, COMMITTED)?,
            purged: fact(&facts, PURGED)?,
            ..Recovered::default()
        };
        let purged = recovered.purged.as_ref().map(|purged| position(Some(purged)));
        let rows = read.open_table(ENTRIES)?;
        let entries = entries(&rows, purged)?;
        let leftovers = purged.map(|(_, index)| index + 1);
        drop((rows, facts, read));
        let engine = Engine { database, path: disk.path(LOG), seal, number, leftovers };
        Ok((engine, Recovered { entries, ..recovered }))
    }

    /// Makes all of `changes` durable, in their order, or none of them.
    pub fn commit<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> Result<()> {
        self.write(changes).map_err(|failure| failure.explain(&self.path))
    }

    fn write<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> Result<(), Failure> {
        let mut write = begin(&self.database, false)?;
        let (number, mut leftovers, mut voted) = (self.number + 1, self.leftovers, false);
        {
            let mut rows = write.open_table(ENTRIES)?;
            let mut facts = write.open_table(FACTS)?;
            for change in changes {
                match change {
                    Change::Append(entries) => {
                        for entry in entries {
                            let index = position(Some(&entry.log_id)).1;
                            rows.insert(index, record::seal_entry(entry)?.as_slice())?;
                        }
                    }
                    Change::Truncate(first_gone) => {
                        rows.retain_in(*first_gone.., |_, _| false)?;
                    }
                    Change::Purge(last) => {
                        leftovers = Some(position(Some(last)).1 + 1);
                        facts.insert(PURGED, record::seal(last)?.as_slice())?;
                    }
                    Change::Vote(vote) => {
                        voted = true;
                        facts.insert(VOTE, record::seal(vote)?.as_slice())?;
                    }
                    Change::Committed(last) => {
                        facts.insert(COMMITTED, record::seal(last)?.as_slice())?;
                    }
                }
            }
            if let Some(kept) = leftovers {
                leftovers = remove_some(&mut rows, kept)?.then_some(kept);
            }
            facts.insert(NUMBER, record::seal(&number)?.as_slice())?;
        }
        // A vote must not be given twice, so its transaction is one that redb never falls back from.
        write.set_two_phase_commit(voted);
        write.commit()?;
        (self.number, self.leftovers) = (number, leftovers);
        self.seal.confirm(number)?;
        Ok(())
    }
}

/// Removes rows before `kept`, a bounded number; whether more may be there.
fn remove_some(rows: &mut redb::Table<'_, u64, &[u8]>, kept: u64) -> Result<bool, Failure> {
    let (mut count, mut last) = (0, None);
    for row in rows.range(..kept)?.take(REMOVED_PER_COMMIT) {
        (count, last) = (count + 1, Some(row?.0.value()));
    }
    if let Some(last) = last {
        rows.retain_in(..=last, |_, _| false)?;
    }
    Ok(count == REMOVED_PER_COMMIT)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn begin(database: &Database, two_phase: bool) -> Result<WriteTransaction, Failure> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    write.set_two_phase_commit(two_phase);
    Ok(write)
}

fn fact<T: serde::de::DeserializeOwned>(
    facts: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
) -> Result<Option<T>, Failure> {
    let Some(row) = facts.get(name)? else { return Ok(None) };
    record::open(row.value()).map(Some).map_err(|flaw| Failure::flaw(name, flaw))
}

/// The rows behind `purged` (term, index), each where it must be.
fn entries(
    rows: &impl ReadableTable<u64, &'static [u8]>,
    purged: Option<(u64, u64)>,
) -> Result<Vec<Entry>, Failure> {
    let (mut term, mut next) = purged.map_or((0, 0), |(term, index)| (term, index + 1));
    let mut entries = Vec::new();
    for row in rows.range(next..)? {
        let (index, row) = row?;
        let index = index.value();
        if index != next {
            let problem = format!("the next entry is {index}: those between are missing");
            return Err(Failure::corrupt(format!("entry {next}"), problem));
        }
        let entry = record::open_entry(index, row.value())
            .map_err(|flaw| Failure::flaw(format!("entry {index}"), flaw))?;
        let entered = position(Some(&entry.log_id)).0;
        if entered < term {
            let problem = format!("its term is {entered}, after an entry of term {term}");
            return Err(Failure::corrupt(format!("entry {index}"), problem));
        }
        (term, next) = (entered, index + 1);
        entries.push(entry);
    }
    Ok(entries)
}

/// Why the database could not be used, before it is known how it is called.
#[derive(Debug)]
enum Failure {
    Disk(String),
    Corrupt { place: String, problem: String },
}

impl Failure {
    fn corrupt(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Failure::Corrupt { place: place.into(), problem: problem.into() }
    }

    fn flaw(place: impl Into<String>, flaw: Flaw) -> Self {
        Failure::corrupt(place, flaw.to_string())
    }

    fn explain(self, path: &str) -> Error {
        match self {
            Failure::Disk(problem) => Error::Storage { path: path.to_owned(), problem },
            Failure::Corrupt { place, problem } => {
                Error::CorruptLog { file: path.to_owned(), place, problem }
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::corrupt("its end", "it is cut short"),
            io::ErrorKind::NotFound => Failure::corrupt("all of it", "the file is missing"),
            _ => Failure::Disk(error.to_string()),
        }
    }
}

impl From<postcard::Error> for Failure {
    fn from(error: postcard::Error) -> Self {
        Failure::Disk(error.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                match redb::Error::from(error) {
                    redb::Error::Io(error) => error.into(),
                    redb::Error::Corrupted(problem) => Failure::corrupt("its pages", problem),
                    other => Failure::corrupt("its structure", other.to_string()),
                }
            }
        })*
    };
}

from_redb!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// A file as redb wants it. After the first error, of any file, it answers nothing but errors: see `health.rs`.
#[derive(Debug)]
struct Backend {
    file: Arc<dyn DiskFile>,
    path: String,
    health: Arc<Health>,
}

impl Backend {
    fn new(file: Arc<dyn DiskFile>, path: String, health: Arc<Health>) -> Self {
        Backend { file, path, health }
    }

    fn once<T>(&self, operation: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.health.check()?;
        operation(self.file.as_ref()).inspect_err(|error| {
            let (path, problem) = (self.path.clone(), error.to_string());
            self.health.fail(Error::Storage { path, problem });
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.once(|file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.once(|file| file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.once(|file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.once(|file| file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.once(|file| file.write(offset, data))
    }
}
