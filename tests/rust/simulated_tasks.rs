//! Simulated clusters that run tasks: nothing accepted is lost, no task has two outcomes, whatever fails.

use crate::simulation::{self, secs};
use hustings::config::Placement;
use hustings::sim::bugs::{Bug, TASK_BUGS};
use hustings::sim::failures::{FAILURE_KINDS, FailureKind};
use hustings::sim::work::Work;
use hustings::sim::{Run, Spec, simulate};
use std::time::Duration;

fn calm(nodes: usize, workers: usize, seed: u64, seconds: f64) -> Spec {
    let work = Some(Work::default());
    let duration = secs(seconds);
    Spec { nodes, workers, seed, duration, work, writes: 0.0, ..Spec::default() }
}

/// Everything that can fail, failing often.
fn chaos(nodes: usize, workers: usize, seed: u64, seconds: f64) -> Spec {
    let work = Some(Work::default());
    Spec { workers, work, writes: 0.0, reads: 0.0, ..simulation::chaos(nodes, seed, seconds) }
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
    assert!(run.verdict.submitted > 80, "{:?}", run.verdict);
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

/// Voters on imagined disks, which fail as well.
fn failing_disks(nodes: usize, workers: usize, seed: u64, seconds: f64) -> Spec {
    let mut spec = chaos(nodes, workers, seed, seconds);
    (spec.disk, spec.storage) = (true, true);
    if let Some(failures) = &mut spec.failures {
        failures.kinds = FAILURE_KINDS.iter().map(|(_, kind)| *kind).collect();
        failures.spare_majority = seed.is_multiple_of(2);
    }
    spec
}

#[test]
fn tasks_keep_their_promises_when_disks_fail() {
    for seed in 0..8 {
        let (nodes, workers) = ([3, 5][seed as usize % 2], seed as usize % 3);
        let run = simulate(failing_disks(nodes, workers, seed, 90.0)).unwrap();
        eprintln!(
            "seed {seed} n={nodes}+{workers}: {:?} drained {:?}, {:?}",
            run.verdict, run.drained, run.faults
        );
        check(&run, &format!("seed {seed}"));
    }
}

#[test]
fn a_seed_with_tasks_replays_to_the_last_message() {
    let told = |make: fn(usize, usize, u64, f64) -> Spec, seed| {
        let run = simulate(make(5, 2, seed, 30.0)).unwrap();
        (run.trace, run.messages, run.rows, run.task_rows)
    };
    for make in [chaos, failing_disks] {
        for seed in [3, 4] {
            assert!(told(make, seed) == told(make, seed), "seed {seed}");
        }
        assert_ne!(told(make, 3).0, told(make, 4).0);
    }
}

/// Worlds in which a bug of the task plane has its chance.
fn hunt(bug: Bug, seed: u64) -> Spec {
    let nodes = 3 + 2 * (seed as usize % 2);
    let mut spec = Spec { disk: true, ..chaos(nodes, 2, seed, 60.0) };
    let work = spec.work.get_or_insert_default();
    (work.per_s, work.again) = (4.0, 0.2);
    if bug == Bug::StealWithoutLog {
        // Thieves need somebody who has too much, and a day without a fault.
        work.per_s = 30.0;
        spec.config.placement = Placement::Random;
        spec.config.steal.cooldown = Duration::ZERO;
        spec.config.steal.cpu_floor = 0.0;
    }
    if let Some(failures) = &mut spec.failures {
        failures.spare_majority = false;
        if seed % 4 >= 2 {
            (failures.mtbf, failures.mttr) = (secs(4.0), secs(0.5));
            failures.kinds = vec![FailureKind::Kill, FailureKind::Freeze, FailureKind::Partition];
        }
    }
    if bug == Bug::SyncForgets {
        spec.storage = true;
        if let Some(failures) = &mut spec.failures {
            failures.kinds = vec![FailureKind::PowerCut, FailureKind::Torn, FailureKind::Kill];
        }
    }
    (spec.bug, spec.stop_at_violation) = (Some(bug), true);
    spec
}

fn bugs() -> Vec<Bug> {
    TASK_BUGS.iter().map(|(_, bug)| *bug).chain([Bug::AckBeforeCommit]).collect()
}

#[test]
fn every_bug_planted_among_tasks_is_seen() {
    for bug in bugs() {
        let found = (0..200).find_map(|seed| {
            let run = simulate(hunt(bug, seed)).unwrap();
            run.violations.first().map(|violation| (seed + 1, violation.clone()))
        });
        let (seeds, violation) = found.unwrap_or_else(|| panic!("{bug:?} was not seen"));
        eprintln!("{bug:?}: {} after {seeds} seeds: {}", violation.promise, violation.problem);
    }
}

#[test]
fn without_a_bug_the_hunts_among_tasks_find_nothing() {
    for seed in 0..4 {
        for bug in bugs() {
            let run = simulate(Spec { bug: None, ..hunt(bug, seed) }).unwrap();
            assert!(run.violations.is_empty(), "{bug:?}, {seed}: {:#?}", run.violations);
        }
    }
}

#[test]
fn impossible_task_simulations_are_refused_by_name() {
    let refused = |spec| simulate(spec).unwrap_err().to_string();
    let work = |change: fn(&mut Work)| {
        let mut work = Work::default();
        change(&mut work);
        refused(Spec { work: Some(work), ..Spec::default() })
    };
    assert!(work(|w| w.per_s = f64::NAN).starts_with("tasks_per_s: NaN"));
    assert!(work(|w| w.clients = 0).starts_with("clients: 0"));
    assert!(work(|w| w.slots = 0).starts_with("slots: 0"));
    assert!(refused(Spec { workers: 1, ..Spec::default() }).starts_with("workers: 1"));
    let spec = Spec { storage: false, ..failing_disks(3, 0, 1, 1.0) };
    assert!(refused(spec).starts_with("failures.kinds"));
}
