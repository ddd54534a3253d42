//! A folder of the operating system as a [`Disk`]: private, locked, and synced down to its names.

use super::disk::{Disk, DiskFile, Open, Pace};
use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file whose lock says that the folder has an owner; it holds the owner's process id.
const LOCK: &str = "lock";
/// A process that was just killed may hold its lock a little longer; how often, and how many times, it is asked.
const LOCK_RETRY: Duration = Duration::from_millis(50);
const LOCK_RETRIES: u32 = 40;
/// Longest process id, in decimal.
const PID_DIGITS: usize = 20;

/// One folder. Its files are readable by their owner only.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which need not exist.
    pub fn new(path: &Path) -> Self {
        Folder { path: path.to_owned() }
    }

    fn make(path: &Path) -> Result<()> {
        let fail = |problem: String| Error::Storage { path: path.display().to_string(), problem };
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !path.is_dir() {
                    return Err(fail("it is a file; give a folder as data_dir".into()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let problem = "the folder above it does not exist; make that one first".into();
                return Err(fail(problem));
            }
            Err(error) => return Err(fail(format!("cannot make it: {error}"))),
        }
        if let Some(system) = network_file_system(path) {
            return Err(fail(format!(
                "it is on a network file system ({system}), whose locks and syncs cannot be relied on; choose a folder \
                 on a local disk as data_dir"
            )));
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the names themselves durable.
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn refuse(&self, error: &io::Error) -> Error {
        let problem = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("{error}; this user must be able to read and write it")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                format!("{error}; choose a data_dir that can be written")
            }
            _ => error.to_string(),
        };
        Error::Storage { path: self.path.display().to_string(), problem }
    }

    fn take_lock(&self, file: &mut File) -> Result<()> {
        for retry in 0.. {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if retry < LOCK_RETRIES => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(self.refuse(&error)),
            }
        }
        let mut pid = String::new();
        let _ = file.take(PID_DIGITS as u64).read_to_string(&mut pid);
        let pid = pid.trim().parse().unwrap_or_default();
        Err(Error::DataDirLocked { path: self.path.display().to_string(), pid })
    }
}

impl Disk for Folder {
    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Makes the folder if only its last part is missing.
    fn prepare(&self) -> Result<()> {
        Folder::make(&self.path)
    }

    fn lock(&self) -> Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        let refuse = |error: io::Error| self.refuse(&error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(self.file(LOCK)).map_err(refuse)?;
        self.take_lock(&mut file)?;
        // A folder that was there before may have been open to others.
        fs::set_permissions(&self.path, Permissions::from_mode(0o700)).map_err(refuse)?;
        file.set_len(0).map_err(refuse)?;
        file.seek(SeekFrom::Start(0)).map_err(refuse)?;
        writeln!(file, "{}", std::process::id()).map_err(refuse)?;
        Ok(Box::new(file))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.retain(|name| name != LOCK);
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options.create(how != Open::Existing).truncate(how == Open::Fresh);
        Ok(Arc::new(FolderFile(options.open(self.file(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file(from), self.file(to))?;
        self.sync_names()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }

    fn pace(&self) -> Pace {
        Pace::Blocking
    }
}

#[derive(Debug)]
struct FolderFile(File);

impl DiskFile for FolderFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync writes the length as well, and that is all the metadata anybody here needs.
        self.0.sync_data()
    }
}

/// The kind of network file system `path` lies on, if it does.
#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with a NUL, and `found` has room for what statfs writes.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: statfs succeeded, so it filled `found`.
    network_kind(i128::from(unsafe { found.assume_init() }.f_type))
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_path: &Path) -> Option<&'static str> {
    None
}

/// By the magic numbers of linux/magic.h.
#[cfg(target_os = "linux")]
fn network_kind(magic: i128) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0xFF53_4D42 | 0xFE53_4D42 | 0x517B => Some("smb"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        for (magic, kind) in [(0x6969, Some("nfs")), (0x517B, Some("smb")), (0xEF53, None)] {
            assert_eq!(network_kind(magic), kind);
        }
    }
}
