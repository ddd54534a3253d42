//! Every byte that is read is flipped, and every length is cut, on disks that were closed and on disks that were not: the
//! node refuses to start, or what it finds is what was confirmed. It never panics.

use super::fake_disk::{Crash, FakeDisk};
use super::workload::{State, Workload, open, state};
use futures::FutureExt;
use hustings::core::chance::Chance;
use hustings::error::Error;
use hustings::node::consensus::Stores;
use std::panic::AssertUnwindSafe;

/// What a node would go on with.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    state: State,
    snapshot: Option<u64>,
    node: u64,
    cluster: Option<u128>,
}

async fn found(disk: &FakeDisk) -> Result<Found, Error> {
    let (storage, Stores { mut log, snapshots }) = open(disk)?;
    let identity = storage.identity();
    let found = Found {
        state: state(&mut log).await,
        snapshot: snapshots.last().map(|(_, data)| data.checksum()),
        node: identity.node.0,
        cluster: identity.cluster.map(|cluster| cluster.0),
    };
    storage.close().await;
    Ok(found)
}

/// A disk with some of everything, as a node leaves it that was closed, or killed.
async fn disk(closed: bool) -> FakeDisk {
    let disk = FakeDisk::default();
    let (storage, stores) = open(&disk).unwrap();
    storage.belong(hustings::core::ids::ClusterId(77)).unwrap();
    let mut workload = Workload::on(stores, 2).await;
    workload.run(24).await;
    assert_eq!(workload.confirmed, workload.states.len() - 1, "the last change is a confirmed one");
    let left = match closed {
        true => {
            storage.close().await;
            disk.copy()
        }
        // The process was killed, the machine was not: what it wrote is there, synced or not.
        false => disk.crash(Crash::Everything, &mut Chance::seeded(1)),
    };
    storage.halt();
    left
}

struct Tally {
    tried: usize,
    refused: usize,
    panics: usize,
}

impl Tally {
    /// Opens `disk` after damage `about`.
    async fn judge(&mut self, disk: FakeDisk, whole: &Found, about: impl FnOnce() -> String) {
        self.tried += 1;
        let opened = AssertUnwindSafe(found(&disk)).catch_unwind().await;
        match opened {
            Ok(Ok(found)) => assert_eq!(&found, whole, "{}: accepted, and not the same", about()),
            Ok(Err(Error::CorruptLog { .. } | Error::Storage { .. })) => {
                self.refused += 1;
                assert!(found(&disk).await.is_err(), "{}: accepted the second time", about());
            }
            Ok(Err(other)) => panic!("{}: {other}", about()),
            Err(_) => self.panics += 1,
        }
    }
}

async fn flip_all(closed: bool) {
    let original = disk(closed).await;
    let whole = found(&original.copy()).await.unwrap();
    for name in original.file_names() {
        let mut tally = Tally { tried: 0, refused: 0, panics: 0 };
        let read = original.copy();
        found(&read).await.unwrap();
        let content = original.file(&name);
        let mut bytes = vec![false; content.len()];
        for (at, length) in read.reads(original.number(&name)) {
            let range = at as usize..(at + length) as usize;
            // It grows while it is open; what is read there was written there.
            bytes.iter_mut().take(range.end).skip(range.start).for_each(|byte| *byte = true);
        }
        // What nobody reads cannot mislead anybody.
        for at in (0..content.len()).filter(|at| bytes[*at]) {
            let damaged = original.copy();
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            damaged.set_file(&name, flipped);
            tally.judge(damaged, &whole, || format!("{name}, bit {} of byte {at}", at % 8)).await;
        }
        println!(
            "{name}: {} of {} bytes are read; flipped {}, refused {}, harmless {}",
            bytes.iter().filter(|read| **read).count(),
            content.len(),
            tally.tried,
            tally.refused,
            tally.tried - tally.refused
        );
        assert_eq!(tally.panics, 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_a_closed_directory_is_noticed_or_harmless() {
    flip_all(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_the_directory_of_a_killed_node_is_noticed_or_harmless() {
    flip_all(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_anywhere_is_noticed() {
    for closed in [true, false] {
        let original = disk(closed).await;
        let whole = found(&original.copy()).await.unwrap();
        for name in original.file_names() {
            let mut tally = Tally { tried: 0, refused: 0, panics: 0 };
            let content = original.file(&name);
            // Beyond the last byte that is not zero a cut takes nothing but room: some of those cuts are enough.
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            for length in (0..content.len()).filter(|cut| *cut <= used || cut % 4_096 < 2) {
                let damaged = original.copy();
                damaged.set_file(&name, content[..length].to_vec());
                tally.judge(damaged, &whole, || format!("{name} cut to {length}")).await;
            }
            println!("{name}: cut to {} lengths, refused {}", tally.tried, tally.refused);
            // The seal may be torn by a power cut; then it says nothing.
            let refused = if name == "seal" { 0 } else { tally.tried };
            assert_eq!((tally.panics, tally.refused), (0, refused), "{name}");
        }
    }
}
