//! The number of the last confirmed transaction, noted beside the database and never waited for.
//!
//! It is written after each sync and not synced itself, so after a power cut it may be old or torn, and then says less.
//! But it never names a transaction that was not durable, so a database that lacks what it names has rotted.

use super::disk::{Disk, DiskFile, Open};
use std::io;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Its name.
pub const SEAL: &str = "seal";
const BYTES: usize = 16;

/// The note.
#[derive(Debug)]
pub struct Seal {
    file: Arc<dyn DiskFile>,
    store: u64,
    confirmed: Option<u64>,
}

impl Seal {
    /// The note of `store`, as far as it can be read.
    pub fn open(disk: &dyn Disk, store: u128) -> io::Result<Self> {
        let file = disk.open(SEAL, Open::Either)?;
        let store = (store ^ (store >> 64)) as u64;
        let mut note = [0; BYTES];
        let whole = file.len()? == BYTES as u64;
        if whole {
            file.read(0, &mut note)?;
        }
        let number = u64::from_le_bytes(std::array::from_fn(|i| note[i]));
        let confirmed = (whole && note == encode(number, store)).then_some(number);
        Ok(Seal { file, store, confirmed })
    }

    /// The last transaction that is known to have been confirmed.
    pub fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    /// Transaction `number` is durable.
    pub fn confirm(&mut self, number: u64) -> io::Result<()> {
        self.confirmed = Some(number);
        self.file.write(0, &encode(number, self.store))
    }
}

fn encode(number: u64, store: u64) -> [u8; BYTES] {
    let number = number.to_le_bytes();
    let checksum = xxh3_64_with_seed(&number, store).to_le_bytes();
    std::array::from_fn(|i| if i < 8 { number[i] } else { checksum[i - 8] })
}
