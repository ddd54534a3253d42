//! Rows as they lie on disk, each with a checksum over all of it, so that rot is noticed and never taken for data.

use crate::node::consensus::types::{Entry, position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

/// Checksum, index, term and length of the payload, before the payload.
const HEAD: usize = 8 + 8 + 8 + 4;

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It ends too early or too late.
    #[error("its length is wrong")]
    Length,
    /// Its bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// Its bytes are those that were written, and mean nothing here.
    #[error("its content cannot be read")]
    Content,
    /// It is another entry than its place says.
    #[error("it belongs elsewhere")]
    Place,
}

/// An entry of the log: checksum (over all that follows), index, term, length, payload.
pub fn seal_entry(entry: &Entry) -> Result<Vec<u8>, postcard::Error> {
    let (term, index) = position(Some(&entry.log_id));
    let mut row = postcard::to_extend(entry, vec![0; HEAD])?;
    let payload = (row.len() - HEAD) as u32;
    row[8..16].copy_from_slice(&index.to_le_bytes());
    row[16..24].copy_from_slice(&term.to_le_bytes());
    row[24..HEAD].copy_from_slice(&payload.to_le_bytes());
    let checksum = xxh3_64(&row[8..]);
    row[..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(row)
}

/// The entry in `row`, which must be the one of `index`.
pub fn open_entry(index: u64, row: &[u8]) -> Result<Entry, Flaw> {
    let head = row.first_chunk::<HEAD>().ok_or(Flaw::Length)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let length = u32::from_le_bytes(std::array::from_fn(|i| head[24 + i]));
    if row.len() != HEAD + length as usize {
        return Err(Flaw::Length);
    }
    if number(0) != xxh3_64(&row[8..]) {
        return Err(Flaw::Checksum);
    }
    let entry: Entry = postcard::from_bytes(&row[HEAD..]).map_err(|_| Flaw::Content)?;
    let (term, at) = position(Some(&entry.log_id));
    if (number(8), number(16)) != (at, term) || at != index {
        return Err(Flaw::Place);
    }
    Ok(entry)
}

/// Any small value: checksum, content.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut row = postcard::to_extend(value, vec![0; 8])?;
    let checksum = xxh3_64(&row[8..]);
    row[..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(row)
}

/// The value in `row`.
pub fn open<T: DeserializeOwned>(row: &[u8]) -> Result<T, Flaw> {
    let (checksum, content) = row.split_first_chunk::<8>().ok_or(Flaw::Length)?;
    if u64::from_le_bytes(*checksum) != xxh3_64(content) {
        return Err(Flaw::Checksum);
    }
    postcard::from_bytes(content).map_err(|_| Flaw::Content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cluster::command::{Batch, Command};
    use crate::core::ids::TaskId;
    use crate::node::consensus::types::LogId;
    use openraft::entry::RaftEntry;
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId;

    fn entry() -> Entry {
        let id = LogId::new(LeaderId::<u64, u64>::new(3, 9).to_committed(), 7);
        let commands = vec![Command::Cancel { task: TaskId(5) }; 3];
        Entry::new_normal(id, Batch { at_ms: 11, commands })
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_row_is_noticed() {
        let row = seal_entry(&entry()).unwrap();
        assert_eq!(open_entry(7, &row).unwrap(), entry());
        assert_eq!(open_entry(8, &row), Err(Flaw::Place));
        let value = seal(&(1u64, "x")).unwrap();
        assert_eq!(open::<(u64, String)>(&value), Ok((1, "x".into())));
        for bit in 0..row.len() * 8 {
            let mut row = row.clone();
            row[bit / 8] ^= 1 << (bit % 8);
            assert!(open_entry(7, &row).is_err(), "bit {bit}");
        }
        for bit in 0..value.len() * 8 {
            let mut value = value.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<(u64, String)>(&value).is_err(), "bit {bit}");
        }
        for length in 0..row.len() {
            assert!(open_entry(7, &row[..length]).is_err(), "{length}");
        }
        for length in 0..value.len() {
            assert!(open::<(u64, String)>(&value[..length]).is_err(), "{length}");
        }
    }
}
