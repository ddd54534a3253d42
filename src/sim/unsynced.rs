//! What a file on an imagined disk holds, what of it is not durable yet, and how that may reach the disk unsynced.

use crate::core::chance::Chance;

/// What a disk writes as a whole, or not at all.
const SECTOR: usize = 512;

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// What is left if the power goes and nothing else arrived.
    pub durable: Vec<u8>,
    /// What is read.
    pub live: Vec<u8>,
    /// Changes since the last sync, in order.
    pub pending: Vec<Pending>,
}

/// A change that was not synced.
#[derive(Clone, Debug)]
pub enum Pending {
    /// Data at an offset.
    Write(u64, Vec<u8>),
    /// The file is cut, or lengthened with zeros.
    Length(u64),
}

impl Content {
    /// All of it is durable.
    pub fn of(bytes: Vec<u8>) -> Self {
        Content { durable: bytes.clone(), live: bytes, pending: Vec::new() }
    }

    /// Takes a change that is not durable.
    pub fn change(&mut self, pending: Pending) {
        pending.apply(&mut self.live);
        self.pending.push(pending);
    }

    /// What was changed is durable from now on.
    pub fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            pending.apply(&mut self.durable);
        }
    }
}

impl Pending {
    /// Makes the change.
    pub fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Pending::Length(len) => to.resize(*len as usize, 0),
            Pending::Write(offset, data) => {
                let end = *offset as usize + data.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset as usize..end].copy_from_slice(data);
            }
        }
    }

    /// What of it reaches the disk without a sync: nothing, its beginning, some of its sectors, or all.
    pub fn torn(&self, chance: &mut Chance) -> Vec<Pending> {
        match (self, chance.below(4)) {
            (_, 0) => Vec::new(),
            (Pending::Write(offset, data), 1) => {
                let keep = chance.below(data.len() + 1);
                vec![Pending::Write(*offset, data[..keep].to_vec())]
            }
            (Pending::Write(offset, data), 2) => {
                let sectors = data.chunks(SECTOR).enumerate();
                let kept = sectors.filter(|_| chance.below(2) == 0);
                let place = |i: usize| offset + (i * SECTOR) as u64;
                kept.map(|(i, sector)| Pending::Write(place(i), sector.to_vec())).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// A number that tells it from others, whatever the order they came in.
    pub fn mark(&self) -> u64 {
        match self {
            Pending::Write(offset, data) => offset.rotate_left(20) ^ data.len() as u64,
            Pending::Length(len) => u64::MAX ^ *len,
        }
    }
}
