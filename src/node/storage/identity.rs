//! Who owns a data directory: a small text file, replaced as a whole, that people may read and nobody may edit.
//!
//! ```text
//! hustings data directory, format 5
//! node 5f0e6c1d9a3b2c41
//! store 8c1f...            tells this directory's files from those of any other
//! cluster 0d9e...          or -
//! incarnation 3            how often the node was started with it
//! checksum 1f2e...         of all lines above
//! ```

use super::disk::{Disk, read_all, replace};
use crate::core::ids::{ClusterId, NodeId};
use crate::error::{Error, Result};
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

/// The file's name.
pub const IDENTITY: &str = "identity";
/// The format this version writes, of the whole directory.
pub const FORMAT: u32 = 5;
/// The longest such file.
const LIMIT: u64 = 4_096;
const TITLE: &str = "hustings data directory, format ";

/// The owner of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its node id, kept for ever.
    pub node: NodeId,
    /// A random number that all files of this directory carry.
    pub store: u128,
    /// The cluster it belongs to, once it does.
    pub cluster: Option<ClusterId>,
    /// How often it was started.
    pub incarnation: u64,
}

impl Identity {
    /// The identity in `disk`; `None` in an empty one.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>> {
        let corrupt = |problem: &str| Error::CorruptLog {
            file: disk.path(IDENTITY),
            place: "its text".into(),
            problem: problem.into(),
        };
        let content = match read_all(disk, IDENTITY, LIMIT) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(corrupt(&error.to_string()));
            }
            Err(error) => {
                let (path, problem) = (disk.path(IDENTITY), error.to_string());
                return Err(Error::Storage { path, problem });
            }
        };
        let Some(content) = content else { return Ok(None) };
        let text = String::from_utf8(content).map_err(|_| corrupt("it is no text"))?;
        match Identity::parse(&text) {
            Ok(identity) => Ok(Some(identity)),
            Err(Unreadable::OtherFormat(format)) => Err(Error::Storage {
                path: disk.path(IDENTITY),
                problem: format!(
                    "it has format {format}, this version knows {FORMAT}; run the version that wrote it, or \
                     give another data_dir"
                ),
            }),
            Err(Unreadable::Corrupt) => Err(corrupt("it is not what was written")),
        }
    }

    /// Writes it, durably.
    pub fn write(&self, disk: &dyn Disk) -> std::io::Result<()> {
        replace(disk, IDENTITY, self.text().as_bytes())
    }

    fn text(&self) -> String {
        let cluster = self.cluster.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let mut text = format!(
            "{TITLE}{FORMAT}\nnode {}\nstore {:032x}\ncluster {cluster}\nincarnation {}\n",
            self.node, self.store, self.incarnation
        );
        let checksum = xxh3_64(text.as_bytes());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "checksum {checksum:016x}");
        text
    }

    fn parse(text: &str) -> std::result::Result<Self, Unreadable> {
        let (title, fields) = text.split_once('\n').ok_or(Unreadable::Corrupt)?;
        let format = title.strip_prefix(TITLE).and_then(|format| format.parse().ok());
        if let Some(other) = format.filter(|format| *format != FORMAT && *format > 0) {
            return Err(Unreadable::OtherFormat(other));
        }
        // Whatever differs in a byte is not what was written: no field needs a check of its own.
        Identity::fields(fields).filter(|read| read.text() == text).ok_or(Unreadable::Corrupt)
    }

    fn fields(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name);
        let hex = |digits: &str| u128::from_str_radix(digits, 16).ok();
        Some(Identity {
            node: NodeId(hex(value("node ")?)?.try_into().ok()?),
            store: hex(value("store ")?)?,
            cluster: match value("cluster ")? {
                "-" => None,
                id => Some(ClusterId(hex(id)?)),
            },
            incarnation: value("incarnation ")?.parse().ok()?,
        })
    }
}

enum Unreadable {
    OtherFormat(u32),
    Corrupt,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: Option<ClusterId>) -> Identity {
        Identity { node: NodeId(0x5f0e), store: 77, cluster, incarnation: 3 }
    }

    #[test]
    fn it_reads_what_it_wrote_and_nothing_else() {
        for identity in [identity(None), identity(Some(ClusterId(9)))] {
            let text = identity.text();
            assert_eq!(Identity::parse(&text).ok(), Some(identity));
            for bit in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let read = String::from_utf8(bytes).ok().and_then(|t| Identity::parse(&t).ok());
                assert_eq!(read, None, "bit {bit}");
            }
            for length in 0..text.len() {
                assert!(Identity::parse(&text[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn another_format_is_named() {
        for other in [1, FORMAT - 1, FORMAT + 1] {
            let (ours, theirs) = (format!("format {FORMAT}"), format!("format {other}"));
            let text = identity(None).text().replace(&ours, &theirs);
            let read = Identity::parse(&text);
            assert!(matches!(read, Err(Unreadable::OtherFormat(format)) if format == other));
        }
    }
}
