//! What storage asks of a disk. Behind this door stands a folder, or a simulation that forgets, tears and fails.

use crate::error::Result;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Ends the name of a file that is being written; such files are removed when a data directory is opened.
pub const UNFINISHED: &str = ".new";

/// A flat set of named files. What was written counts after a crash only if [`DiskFile::sync`] returned, and a name
/// only if [`Disk::rename`] did.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The path of `name`, or of the whole, for people.
    fn path(&self, name: &str) -> String;
    /// Makes it ready to be looked at; an error says why it cannot hold anybody's state.
    fn prepare(&self) -> Result<()>;
    /// Takes the whole for one owner, until the value is dropped.
    fn lock(&self) -> Result<Box<dyn Debug + Send + Sync>>;
    /// All names, sorted.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a synced file another name, in the place of a file that had it; durable when it returns, and never
    /// half done.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; it may come back after a crash.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How long its operations take.
    fn pace(&self) -> Pace;
}

/// One open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; an error if the file ends before.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts it, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once what was written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// Empty, whatever was there before.
    Fresh,
    /// As it is, or empty.
    Either,
}

/// How long a disk's operations take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As long as they block: they want a thread of their own.
    Blocking,
    /// They return at once; whoever writes durably sleeps this long first, on tokio's clock. No thread is started.
    Virtual(Duration),
}

/// The content of `name`; `None` if there is no such file. A file longer than `limit` is an error.
pub fn read_all(disk: &dyn Disk, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name, Open::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > limit {
        let problem = format!("{len} bytes; at most {limit} were expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let mut content = vec![0; len as usize];
    file.read(0, &mut content)?;
    Ok(Some(content))
}

/// Gives `name` the content `data`, durably; after a crash it has the old content or the new one.
pub fn replace(disk: &dyn Disk, name: &str, data: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let file = disk.open(&unfinished, Open::Fresh)?;
    file.write(0, data)?;
    file.sync()?;
    disk.rename(&unfinished, name)
}
