//! The power goes at every single operation of the disk: what was confirmed is there, and nothing that never was.

use super::fake_disk::{Crash, FakeDisk, Fault};
use super::workload::{Workload, open, state};
use hustings::core::chance::Chance;

const CHANGES: usize = 24;

/// Runs the workload of `seed` with the power cut at operation `at`; `None` once the run ends before that.
async fn run(seed: u64, at: u64) -> (FakeDisk, Option<Workload>, bool) {
    let disk = FakeDisk::default();
    disk.set_fault(Some(Fault::PowerCut(at)));
    let Ok((storage, stores)) = open(&disk) else { return (disk, None, true) };
    let mut workload = Workload::on(stores, seed).await;
    workload.run(CHANGES).await;
    let struck = storage.health().failure().is_some();
    // The crash is looked at as it was at the cut: a halt writes nothing.
    storage.halt();
    (disk, Some(workload), struck)
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_survives_a_power_cut_at_every_operation() {
    let (mut cuts, mut opened) = (0, 0);
    for seed in 1..=8 {
        let mut chance = Chance::seeded(seed);
        for at in 1.. {
            let (disk, workload, struck) = run(seed, at).await;
            for how in [Crash::Nothing, Crash::Everything, Crash::Some] {
                let left = disk.crash(how, &mut chance);
                let about = format!("seed {seed}, cut at {at}, {how:?}");
                let (storage, mut stores) = open(&left).unwrap_or_else(|e| panic!("{about}: {e}"));
                opened += 1;
                let found = state(&mut stores.log).await;
                match &workload {
                    Some(workload) => workload.check(&found, &about),
                    None => assert_eq!(found, Default::default(), "{about}"),
                }
                storage.halt();
            }
            cuts += 1;
            if !struck {
                break;
            }
        }
    }
    println!("{cuts} cuts, {opened} disks reopened");
}
