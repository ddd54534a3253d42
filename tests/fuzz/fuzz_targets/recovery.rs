//! A data directory with some of everything is edited at will, then opened: the node refuses, or finds what was there.
//! Each five bytes are one edit: which file, where (three bytes), what. `make fuzz`.

#![no_main]
#![allow(dead_code, clippy::unwrap_used, reason = "the tests use all of it; a fuzzer that cannot go on has found something")]

#[path = "../../rust/storage/fake_disk.rs"]
mod fake_disk;
#[path = "../../rust/storage/workload.rs"]
mod workload;

use fake_disk::FakeDisk;
use hustings::error::Error;
use hustings::node::consensus::Stores;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};
use workload::{State, Workload, open, state};

static WHOLE: OnceLock<(FakeDisk, State)> = OnceLock::new();

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

async fn found(disk: &FakeDisk) -> Result<State, Error> {
    let (storage, Stores { mut log, .. }) = open(disk)?;
    let found = state(&mut log).await;
    storage.close().await;
    Ok(found)
}

fn whole() -> &'static (FakeDisk, State) {
    WHOLE.get_or_init(|| {
        runtime().block_on(async {
            let disk = FakeDisk::default();
            let (storage, stores) = open(&disk).unwrap();
            Workload::on(stores, 2).await.run(24).await;
            storage.close().await;
            let found = found(&disk.copy()).await.unwrap();
            (disk, found)
        })
    })
}

fuzz_target!(|edits: &[u8]| {
    let (original, expected) = whole();
    let disk = original.copy();
    let names = disk.file_names();
    for edit in edits.as_chunks::<5>().0.iter().take(8) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let mut content = disk.file(name);
        if content.is_empty() {
            continue;
        }
        let at = u32::from_le_bytes([edit[1], edit[2], edit[3], 0]) as usize % content.len();
        content[at] ^= edit[4];
        disk.set_file(name, content);
    }
    runtime().block_on(async {
        match found(&disk).await {
            Ok(found) => assert_eq!(&found, expected, "accepted, and not the same"),
            Err(Error::CorruptLog { .. } | Error::Storage { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    });
});
