//! A disk that fails once: nothing is confirmed after that, nothing is written any more, and the first error is kept.

use super::fake_disk::{Crash, FakeDisk, Fault};
use super::workload::{Workload, entry, open, state};
use hustings::core::chance::Chance;
use hustings::error::Error;
use hustings::node::consensus::types::{TypeConfig, Vote};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

const CHANGES: usize = 20;

/// How many operations opening takes, and a whole run.
async fn operations(seed: u64) -> (u64, u64) {
    let disk = FakeDisk::default();
    let (storage, stores) = open(&disk).unwrap();
    let opening = disk.operations();
    let mut workload = Workload::on(stores, seed).await;
    workload.run(CHANGES).await;
    storage.halt();
    (opening, disk.operations())
}

async fn check(seed: u64, fault: Fault) {
    let about = format!("seed {seed}, {fault:?}");
    let disk = FakeDisk::default();
    let (storage, stores) = open(&disk).unwrap();
    disk.set_fault(Some(fault));
    let mut workload = Workload::on(stores, seed).await;
    workload.run(CHANGES).await;
    assert!(!workload.confirmed_after_error, "{about}");
    match storage.health().failure() {
        Some(Error::Storage { path, .. }) => assert!(path.starts_with("fake/"), "{about}: {path}"),
        other => panic!("{about}: {other:?}"),
    }
    assert_eq!(disk.written_after_failure(), 0, "{about}");
    storage.close().await;
    assert_eq!(disk.written_after_failure(), 0, "{about}: closing wrote");
    for how in [Crash::Nothing, Crash::Everything, Crash::Some] {
        let left = disk.crash(how, &mut Chance::seeded(seed));
        let (storage, mut stores) = open(&left).unwrap_or_else(|e| panic!("{about} {how:?}: {e}"));
        workload.check(&state(&mut stores.log).await, &about);
        storage.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_sync_or_write_nothing_is_confirmed_and_nothing_is_written() {
    let mut faults = 0;
    for seed in 1..=2 {
        let (opening, all) = operations(seed).await;
        // The last operations are a write; every sync before them can fail.
        for at in opening + 1..all {
            check(seed, Fault::FailedWrite(at)).await;
            faults += 1;
        }
        let last_sync = last_sync(seed, all).await;
        for at in opening + 1..=last_sync {
            check(seed, Fault::FailedSync(at)).await;
            faults += 1;
        }
    }
    println!("{faults} faults");
}

/// The last operation that a failing sync can still meet.
async fn last_sync(seed: u64, all: u64) -> u64 {
    for at in (1..=all).rev() {
        let disk = FakeDisk::default();
        let (storage, stores) = open(&disk).unwrap();
        disk.set_fault(Some(Fault::FailedSync(at)));
        Workload::on(stores, seed).await.run(CHANGES).await;
        let met = storage.health().failure().is_some();
        storage.halt();
        if met {
            return at;
        }
    }
    0
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_confirming_and_loses_nothing() {
    let disk = FakeDisk::default();
    let (storage, _) = open(&disk).unwrap();
    let room = disk.bytes();
    storage.halt();
    for extra in (0..40_000).step_by(1_111) {
        let disk = FakeDisk::default();
        let (storage, stores) = open(&disk).unwrap();
        disk.set_fault(Some(Fault::Full(room + extra)));
        let mut workload = Workload::on(stores, 5).await;
        workload.run(60).await;
        assert!(!workload.confirmed_after_error, "{extra}");
        let full = storage.health().failure().map(|error| error.to_string());
        if let Some(text) = &full {
            assert!(text.contains("fake/"), "{text}");
        }
        assert_eq!(disk.written_after_failure(), 0, "{extra}");
        storage.halt();
        // Room was made, and the node was started again.
        let left = disk.crash(Crash::Everything, &mut Chance::seeded(extra));
        let (storage, mut stores) = open(&left).unwrap_or_else(|e| panic!("{extra}: {e}"));
        workload.check(&state(&mut stores.log).await, &format!("{extra} bytes of room, {full:?}"));
        storage.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_shares_one_sync_and_none_is_confirmed_before_it() {
    let disk = FakeDisk::default();
    let (storage, stores) = open(&disk).unwrap();
    let mut log = stores.log;
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    let before = disk.syncs();
    let mut receivers = Vec::new();
    for index in 0..100 {
        let (flushed, receiver) = TypeConfig::oneshot();
        log.append([entry(1, index, 3)], IOFlushed::signal(flushed)).await.unwrap();
        receivers.push(receiver);
    }
    assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_err()), "confirmed early");
    for receiver in receivers {
        receiver.await.unwrap().unwrap();
    }
    assert_eq!(disk.syncs() - before, 1, "a hundred appends, one sync");
    storage.close().await;
}
