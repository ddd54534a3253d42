//! Simulated clusters that run tasks: nothing accepted is lost, no task has two outcomes, whatever fails.

use hustings::sim::loads::Loads;
use hustings::sim::script::{FAILURE_KINDS, Failures};
use hustings::sim::work::Work;
use hustings::sim::{Run, Spec, simulate};
use std::time::Duration;

fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

fn calm(nodes: usize, workers: usize, seed: u64, seconds: f64) -> Spec {
    let work = Some(Work::default());
    let duration = secs(seconds);
    Spec { nodes, workers, seed, duration, work, writes: 0.0, ..Spec::default() }
}

/// Everything that can fail, failing often.
fn chaos(nodes: usize, workers: usize, seed: u64, seconds: f64) -> Spec {
    let failures = Failures {
        mtbf: secs(8.0),
        mttr: secs(1.5),
        kinds: FAILURE_KINDS.iter().map(|(_, kind)| *kind).collect(),
        // What a majority loses at once without disks is lost by right.
        spare_majority: seed.is_multiple_of(2) || seed.is_multiple_of(3),
        seed,
    };
    Spec {
        loads: (0..nodes as u64).map(|n| Loads::noise(0.6, 0.2, seed ^ n).unwrap()).collect(),
        failures: Some(failures),
        disk: !seed.is_multiple_of(3),
        ..calm(nodes, workers, seed, seconds)
    }
}

fn check(run: &Run, what: &str) {
    assert!(run.violations.is_empty(), "{what}: {:#?}", run.violations);
    assert!(run.drained.is_some() && run.verdict.accepted > 0, "{what}: {:?}", run.verdict);
    assert!(run.verdict.findings.is_empty(), "{what}: {:#?}", run.verdict.findings);
}

#[test]
fn a_calm_cluster_runs_every_task_once() {
    let run = simulate(calm(3, 2, 1, 60.0)).unwrap();
    check(&run, "calm");
    eprintln!("{:?}, drained after {:?}", run.verdict, run.drained);
    assert_eq!(run.reigns.len(), 1, "{:?}", run.reigns);
}

#[test]
fn tasks_keep_their_promises_whatever_fails() {
    for seed in 0..12 {
        let (nodes, workers) = ([3, 5, 7][seed as usize % 3], seed as usize % 4);
        let run = simulate(chaos(nodes, workers, seed, 120.0)).unwrap();
        eprintln!(
            "seed {seed} n={nodes}+{workers}: {:?} drained {:?}, {} messages",
            run.verdict, run.drained, run.messages
        );
        check(&run, &format!("seed {seed}"));
    }
}

#[test]
fn a_seed_with_tasks_replays_to_the_last_message() {
    let told = |seed| {
        let run = simulate(chaos(5, 2, seed, 30.0)).unwrap();
        (run.trace, run.messages, run.rows, run.task_rows)
    };
    for seed in [3, 4] {
        assert!(told(seed) == told(seed), "seed {seed}");
    }
    assert_ne!(told(3).0, told(4).0);
}
