//! Shops as a whole: everything comes out, nothing twice, the same seed gives the same run, and stealing pays.

use super::workload::{Knowledge, Sizes, Workload};
use super::*;
use crate::config::Placement;
use crate::core::load::Position;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn spec(seed: u64) -> ShopSpec {
    let workload = Workload { tasks: 300, ..Workload::default() };
    let mut spec = ShopSpec { machines: 10, seed, workload, ..ShopSpec::default() };
    spec.config.steal.reach = f64::INFINITY;
    spec
}

fn check(spec: &ShopSpec) -> ShopRun {
    let ran = run(spec).unwrap();
    let figures = &ran.figures;
    assert_eq!((figures.finished, figures.failed), (figures.tasks, 0), "{figures:?}");
    assert!(ran.verdict.findings.is_empty(), "{:?}", ran.verdict.findings);
    assert!(figures.makespan.unwrap() >= figures.bound, "{figures:?}");
    ran
}

fn ratio(ran: &ShopRun) -> f64 {
    ran.figures.makespan.unwrap().as_secs_f64() / ran.figures.bound.as_secs_f64()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_one() {
    let told = |seed| {
        let ran = run(&spec(seed)).unwrap();
        (ran.figures, ran.rows, ran.task_rows)
    };
    assert!(told(3) == told(3));
    assert!(told(3).2 != told(4).2);
}

#[test]
fn every_workload_comes_out_whole() {
    for (name, sizes) in Sizes::ALL {
        for (_, knowledge) in Knowledge::ALL {
            let mut spec = spec(1);
            (spec.workload.sizes, spec.workload.knowledge) = (*sizes, *knowledge);
            let ran = check(&spec);
            assert!(ratio(&ran) < 3.0, "{name}: {}", ratio(&ran));
        }
    }
}

#[test]
fn stealing_mends_what_random_placement_spoils() {
    let mut with = spec(5);
    with.config.placement = Placement::Random;
    let mut without = with.clone();
    without.config.steal.per_task = 0;
    let (with, without) = (check(&with), check(&without));
    assert_eq!(without.figures.steals, 0);
    assert!(with.figures.steals > 0, "{:?}", with.figures);
    assert!(ratio(&with) < 1.1 && ratio(&without) > 1.1, "{} {}", ratio(&with), ratio(&without));
}

#[test]
fn a_pile_is_shared_out_once_others_come() {
    let mut piled = spec(2);
    piled.workload.pile_up = true;
    piled.config.placement = Placement::Random;
    let ran = check(&piled);
    assert!(ran.figures.steals > 100 && ratio(&ran) < 1.6, "{} {:?}", ratio(&ran), ran.figures);
}

#[test]
fn nobody_out_of_reach_is_given_work_and_nobody_steals_from_afar() {
    let mut limited = spec(3);
    limited.positions = (0..10).map(|i| Position { x: f64::from(i), y: 0.0 }).collect();
    limited.config.placement = Placement::Random;
    limited.config.assign_reach = 2.0;
    limited.config.steal.reach = 2.0;
    let ran = check(&limited);
    let leader = limited.first_leader() as f64;
    for row in ran.rows.iter().filter(|row| row.record.kind.as_str() == "stolen") {
        let thief = machine_of(row.record.subject) as f64;
        let victim: f64 = row.record.detail[1..].parse::<f64>().unwrap() - 1.0;
        assert!((thief - victim).abs() <= 2.0, "{thief} stole from {victim}");
    }
    let far = ran.rows.iter().filter(|row| row.record.kind.as_str() == "stolen");
    assert!(far.filter(|r| (machine_of(r.record.subject) as f64 - leader).abs() > 2.0).count() > 0);
}

#[test]
fn what_comes_online_stays_about_as_long_as_in_one_queue() {
    let mut online = spec(4);
    online.workload =
        Workload { tasks: 2_000, sizes: Sizes::Exponential, rho: Some(0.8), ..Workload::default() };
    let figures = check(&online).figures;
    let p99 = figures.stays.p99.as_secs_f64() / figures.ideal.p99.as_secs_f64();
    assert!((0.9..3.0).contains(&p99), "{p99}: {figures:?}");
}

#[test]
fn nothing_is_lost_when_machines_and_leaders_die() {
    for seed in 0..10 {
        let mut rough = spec(seed);
        rough.churn = Some(Churn { mtbf: ms(1_500), mttr: ms(300) });
        rough.elections = vec![ms(300), ms(900), ms(1_000), ms(2_000)];
        rough.config.limits.crash_budget = 1_000;
        let ran = check(&rough);
        assert!(ran.figures.deaths > 0);
    }
}

#[test]
fn impossible_shops_are_refused_by_name() {
    let refused = |change: fn(&mut ShopSpec)| {
        let mut spec = spec(1);
        change(&mut spec);
        run(&spec).unwrap_err().to_string()
    };
    assert!(refused(|s| s.machines = 0).starts_with("workers: 0"));
    assert!(refused(|s| s.slots = 0).starts_with("slots: 0"));
    assert!(refused(|s| s.speeds = vec![0.0]).starts_with("speeds"));
    assert!(refused(|s| s.positions = vec![Position::default()]).starts_with("positions: 1"));
    assert!(refused(|s| s.latency = (ms(2), ms(1))).starts_with("latency_s"));
    assert!(refused(|s| s.cpu_available = 2.0).starts_with("cpu_available: 2"));
    assert!(refused(|s| s.workload.tasks = 0).starts_with("workload.tasks"));
}
