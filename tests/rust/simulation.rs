//! Simulated clusters: every promise holds under every fault, a seed replays, and planted bugs are seen.

use hustings::config::Config;
use hustings::node::faults::LinkFault;
use hustings::sim::bugs::{BUGS, Bug};
use hustings::sim::chronicle::Cause;
use hustings::sim::failures::{FAILURE_KINDS, FailureKind, Failures};
use hustings::sim::loads::Loads;
use hustings::sim::script::{Action, Step, Who};
use hustings::sim::{Run, Spec, simulate};
use std::time::Duration;

pub fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

/// Everything that can fail, failing often.
pub fn chaos(nodes: usize, seed: u64, seconds: f64) -> Spec {
    let failures = Failures {
        mtbf: secs(8.0),
        mttr: secs(1.5),
        kinds: FAILURE_KINDS
            .iter()
            .map(|(_, kind)| *kind)
            .filter(|kind| !kind.needs_disk())
            .collect(),
        // What a majority loses at once without disks is lost by right.
        spare_majority: seed.is_multiple_of(2) || seed.is_multiple_of(3),
        seed,
    };
    Spec {
        nodes,
        seed,
        duration: secs(seconds),
        loads: (0..nodes as u64).map(|n| Loads::noise(0.6, 0.2, seed ^ n).unwrap()).collect(),
        reads: 10.0,
        failures: Some(failures),
        disk: !seed.is_multiple_of(3),
        ..Spec::default()
    }
}

fn check(run: &Run, what: &str) {
    assert!(run.violations.is_empty(), "{what}: {:#?}", run.violations);
    assert!(run.facts > 0 && run.writes.1 > 0, "{what}: nothing was seen");
    assert!(run.healed.is_some(), "{what}: not healed");
}

#[test]
fn a_calm_cluster_elects_once_and_serves() {
    let run = simulate(Spec { duration: secs(30.0), ..Spec::default() }).unwrap();
    check(&run, "calm");
    assert_eq!(run.reigns.len(), 1, "{:?}", run.reigns);
    assert_eq!(run.reigns[0].cause, Cause::Founding);
    assert!(run.writes.1 + 2 >= run.writes.0, "{:?}", run.writes);
}

#[test]
fn the_best_survivor_takes_over_within_milliseconds() {
    let steps = (1..=10u32).flat_map(|n| {
        let at = |s| secs(f64::from(n) * 10.0 + s);
        [
            Step { at: at(0.0137 * f64::from(n)), action: Action::Kill(Who::Leader) },
            Step { at: at(3.0), action: Action::Restart(Who::Named("n1".into())) },
            Step { at: at(3.0), action: Action::Restart(Who::Named("n2".into())) },
            Step { at: at(3.0), action: Action::Restart(Who::Named("n3".into())) },
            Step { at: at(3.0), action: Action::Restart(Who::Named("n4".into())) },
            Step { at: at(3.0), action: Action::Restart(Who::Named("n5".into())) },
        ]
    });
    let loads = (0..5).map(|n| Loads::noise(0.2 + 0.15 * f64::from(n), 0.0, 1).unwrap()).collect();
    let spec = Spec { duration: secs(120.0), script: steps.collect(), loads, ..Spec::default() };
    let run = simulate(spec).unwrap();
    check(&run, "kills");
    let failovers: Vec<_> = run.reigns.iter().filter(|r| r.cause == Cause::Failover).collect();
    assert_eq!(failovers.len(), 10, "{:#?}", run.reigns);
    for reign in failovers {
        assert_eq!(reign.best, Some(reign.leader), "{reign:?}");
        assert_eq!(reign.terms, 1, "{reign:?}");
    }
}

#[test]
fn promises_hold_whatever_fails() {
    for seed in 0..12 {
        let nodes = [3, 5, 7][seed as usize % 3];
        let run = simulate(chaos(nodes, seed, 60.0)).unwrap();
        eprintln!("seed {seed} n={nodes}: {} reigns, {} messages", run.reigns.len(), run.messages);
        check(&run, &format!("seed {seed}"));
    }
}

#[test]
fn a_seed_replays_to_the_last_message() {
    let told = |seed| {
        let run = simulate(chaos(5, seed, 30.0)).unwrap();
        (run.trace, run.messages, run.rows, run.writes)
    };
    for seed in [3, 4] {
        assert_eq!(told(seed), told(seed), "seed {seed}");
    }
    assert_ne!(told(3).0, told(4).0);
}

/// Worlds in which a bug has its chance: ranked or plain elections, slow repairs or quick ones.
fn hunt(bug: Bug, seed: u64) -> Spec {
    let nodes = 3 + 2 * (seed as usize % 2);
    // With disks: whoever fails finds again what it had, unless that is the bug.
    let mut spec = Spec { disk: true, ..chaos(nodes, seed, 60.0) };
    if seed % 4 >= 2 {
        spec.config = Config::profile("raft").unwrap();
    }
    if let Some(failures) = spec.failures.as_mut().filter(|_| seed % 8 >= 4) {
        (failures.mtbf, failures.mttr) = (secs(1.0), secs(0.05));
        failures.kinds = vec![FailureKind::Kill, FailureKind::Partition];
        failures.spare_majority = false;
    }
    if bug == Bug::PollIgnored {
        // One voter does not hear the leader, and all others; nobody else misses it.
        // Plain Raft has no poll, and there a deaf voter does stand for election.
        (spec.failures, spec.config) = (None, Config::default());
        let fault = LinkFault { cut: true, ..LinkFault::default() };
        let deaf = Action::Link(Some(Who::Leader), Some(Who::Named("n2".into())), fault);
        spec.script = vec![Step { at: secs(20.0), action: deaf }];
    }
    if bug == Bug::IdReusedAfterLoss {
        // What a majority loses at once is lost by right; here it never does, and lost seats are filled in time.
        spec.failures = chaos(nodes, seed, 60.0).failures;
        spec.disk = false;
        spec.failures.iter_mut().for_each(|failures| failures.spare_majority = true);
    }
    (spec.bug, spec.stop_at_violation) = (Some(bug), true);
    spec
}

#[test]
fn every_planted_bug_is_seen() {
    for (name, bug) in BUGS {
        let found = (0..400).find_map(|seed| {
            let run = simulate(hunt(*bug, seed)).unwrap();
            run.violations.first().map(|violation| (seed + 1, violation.clone()))
        });
        let (seeds, violation) = found.unwrap_or_else(|| panic!("{name} was not seen"));
        eprintln!("{name}: {} after {seeds} seeds: {}", violation.promise, violation.problem);
    }
}

#[test]
fn without_a_bug_the_same_hunts_find_nothing() {
    for seed in 0..8 {
        for (name, bug) in BUGS {
            let spec = Spec { bug: None, ..hunt(*bug, seed) };
            let run = simulate(spec).unwrap();
            assert!(run.violations.is_empty(), "{name}, {seed}: {:#?}", run.violations);
        }
    }
}

#[test]
fn impossible_simulations_are_refused_by_name() {
    let refused = |spec| simulate(spec).unwrap_err().to_string();
    assert!(refused(Spec { nodes: 0, ..Spec::default() }).starts_with("nodes: 0"));
    assert!(refused(Spec { nodes: 8, ..Spec::default() }).starts_with("nodes: 8"));
    assert!(refused(Spec { writes: f64::NAN, ..Spec::default() }).starts_with("writes_per_s: NaN"));
    assert!(refused(Spec { duration: Duration::ZERO, ..Spec::default() }).starts_with("seconds"));
    let mut config = Config::default();
    config.election.lease = Duration::from_millis(1);
    assert!(refused(Spec { config, ..Spec::default() }).contains("lease"));
}
