//! The rows of the fault matrix that concern elections, imagined: each with its rule and the figure it prints.

use hustings::config::Config;
use hustings::node::faults::LinkFault;
use hustings::sim::chronicle::{Cause, Reign};
use hustings::sim::loads::{Loads, Spikes};
use hustings::sim::script::{Action, Step, Who};
use hustings::sim::{Run, Spec, simulate};
use std::time::Duration;

const CUT: LinkFault =
    LinkFault { cut: true, drop_ratio: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO };

fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

fn named(n: usize) -> Who {
    Who::Named(format!("n{n}").into())
}

fn at(seconds: f64, action: Action) -> Step {
    Step { at: secs(seconds), action }
}

fn cut(from: Who, to: Who) -> Action {
    Action::Link(Some(from), Some(to), CUT)
}

/// `n1` is the best by far, then `n2` and so on.
fn ladder(nodes: usize) -> Vec<Loads> {
    (0..nodes).map(|n| Loads::noise(0.95 - 0.12 * n as f64, 0.0, 1).unwrap()).collect()
}

fn spec(nodes: usize, seconds: f64, script: Vec<Step>) -> Spec {
    Spec { nodes, duration: secs(seconds), script, loads: ladder(nodes), ..Spec::default() }
}

/// Runs it for several seeds; every promise holds, and the cluster serves at the end.
fn check(row: &str, make: impl Fn() -> Spec, figure: impl Fn(&Run) -> String) {
    for seed in 1..=5 {
        let run = simulate(Spec { seed, reads: 20.0, ..make() }).unwrap();
        assert!(run.violations.is_empty(), "{row}, seed {seed}: {:#?}", run.violations);
        assert!(run.healed.is_some(), "{row}, seed {seed}: not healed");
        eprintln!("{row}, seed {seed}: {}", figure(&run));
    }
}

fn reigns_after(run: &Run, seconds: f64) -> Vec<&Reign> {
    run.reigns.iter().filter(|reign| reign.began > secs(seconds)).collect()
}

fn gap_ms(reign: &Reign) -> f64 {
    reign.lost.map_or(f64::NAN, |lost| (reign.began - lost).as_secs_f64() * 1e3)
}

#[test]
fn row_4_a_leader_frozen_past_its_lease_comes_back_as_a_follower() {
    let script = || vec![at(5.0, Action::Freeze(Who::Leader)), at(9.0, Action::Resume(named(1)))];
    check(
        "frozen leader",
        || spec(5, 20.0, script()),
        |run| {
            let [after] = reigns_after(run, 5.0)[..] else { panic!("{:#?}", run.reigns) };
            assert_eq!((after.cause, after.terms), (Cause::Failover, 1));
            format!("{} leads after {:.1} ms", after.name, gap_ms(after))
        },
    );
}

#[test]
fn row_6_without_a_majority_nothing_is_acknowledged_and_with_it_all_goes_on() {
    let down = (3..=5).map(|n| at(5.0, Action::Kill(named(n))));
    let up = (3..=5).map(|n| at(15.0, Action::Restart(named(n))));
    let script: Vec<Step> = down.chain(up).collect();
    check(
        "majority lost",
        || spec(5, 25.0, script.clone()),
        |run| {
            let told: Vec<Duration> = run.acknowledged.iter().map(|(at, _)| *at).collect();
            let inside = told.iter().filter(|at| **at > secs(5.01) && **at < secs(15.0)).count();
            assert_eq!(inside, 0, "acknowledged without a majority");
            let first = told.iter().find(|at| **at >= secs(15.0)).expect("served again");
            format!(
                "first write {:.0} ms after the return",
                (*first - secs(15.0)).as_secs_f64() * 1e3
            )
        },
    );
}

#[test]
fn row_7_a_leader_in_the_minority_stops_and_the_majority_elects() {
    let groups = vec![vec![named(1), named(5)], vec![named(2), named(3), named(4)]];
    let script = vec![at(5.0, Action::Partition(groups)), at(12.0, Action::Heal)];
    check(
        "symmetric partition",
        || spec(5, 20.0, script.clone()),
        |run| {
            let [after] = reigns_after(run, 5.0)[..] else { panic!("{:#?}", run.reigns) };
            assert_eq!((&*after.name, after.terms), ("n2", 1));
            format!("{} leads after {:.1} ms", after.name, gap_ms(after))
        },
    );
}

#[test]
fn row_8_a_leader_that_speaks_but_does_not_hear_is_replaced_once() {
    for (what, deaf) in [("deaf leader", true), ("mute leader", false)] {
        let wires = (2..=5).map(|n| match deaf {
            true => at(5.0, cut(named(n), named(1))),
            false => at(5.0, cut(named(1), named(n))),
        });
        let script: Vec<Step> = wires.chain([at(25.0, Action::Heal)]).collect();
        check(
            what,
            || spec(5, 35.0, script.clone()),
            |run| {
                let after = reigns_after(run, 5.0);
                let last = after.last().expect("a new leader");
                // Terms are not inflated: a deaf leader keeps its voters' patience for a while, then one election.
                assert!(last.term <= 6, "{:#?}", run.reigns);
                format!("{} leads term {} after {:.0} ms", last.name, last.term, gap_ms(after[0]))
            },
        );
    }
}

#[test]
fn row_9_partial_partitions_leave_one_stable_leader() {
    // Two voters cannot see each other, both see the third.
    let wedge = vec![at(5.0, cut(named(1), named(2))), at(5.0, cut(named(2), named(1)))];
    // Each sees its neighbours only.
    let chain: Vec<Step> = (1..=5usize)
        .flat_map(|a| (1..=5usize).map(move |b| (a, b)))
        .filter(|(a, b)| a.abs_diff(*b) > 1)
        .map(|(a, b)| at(5.0, cut(named(a), named(b))))
        .collect();
    // Cloudflare, November 2020: the leader reaches one voter only, and that one reaches all.
    let bridge: Vec<Step> = [(1, 3), (3, 1)].map(|(a, b)| at(5.0, cut(named(a), named(b)))).into();
    for (what, nodes, script) in [("wedge", 3, wedge), ("chain", 5, chain), ("bridge", 3, bridge)] {
        check(
            what,
            || spec(nodes, 125.0, script.clone()),
            |run| {
                let settled = reigns_after(run, 65.0);
                assert!(settled.len() <= 1, "{what}: leadership wanders: {:#?}", run.reigns);
                let changes = reigns_after(run, 5.0).len();
                let served = run.acknowledged.iter().filter(|(at, _)| *at > secs(65.0)).count();
                assert!(served > 600, "{what}: only {served} writes in the last minute");
                format!("{changes} changes, {} of them in the last minute", settled.len())
            },
        );
    }
}

#[test]
fn row_15_loss_and_delay_slow_things_down_and_break_nothing() {
    let ms = Duration::from_millis;
    for loss in [0.01, 0.1, 0.3] {
        let fault = LinkFault { drop_ratio: loss, ..LinkFault::default() };
        let script = vec![at(5.0, Action::Link(None, None, fault)), at(35.0, Action::Heal)];
        check(
            &format!("loss {loss}"),
            || spec(5, 40.0, script.clone()),
            |run| {
                let after = reigns_after(run, 5.0).len();
                format!("{after} elections, {} of {} written", run.writes.1, run.writes.0)
            },
        );
    }
    for delay in [5, 50, 500] {
        let fault = LinkFault { delay: ms(delay), jitter: ms(delay / 2), ..LinkFault::default() };
        let script = vec![at(5.0, Action::Link(None, None, fault)), at(35.0, Action::Heal)];
        check(
            &format!("delay {delay} ms"),
            || spec(5, 40.0, script.clone()),
            |run| {
                let after = reigns_after(run, 5.0).len();
                format!("{after} elections, {} of {} written", run.writes.1, run.writes.0)
            },
        );
    }
}

#[test]
fn row_16_a_black_hole_is_noticed_without_any_reset() {
    let script = vec![at(5.0, Action::Isolate(Who::Leader)), at(12.0, Action::Heal)];
    check(
        "black hole",
        || spec(5, 20.0, script.clone()),
        |run| {
            let [after] = reigns_after(run, 5.0)[..] else { panic!("{:#?}", run.reigns) };
            assert!(after.lost.is_some_and(|lost| after.began - lost < secs(1.5)), "{after:?}");
            format!("{:.1} ms", gap_ms(after))
        },
    );
}

#[test]
fn row_17_a_clock_at_double_or_half_speed_breaks_no_promise() {
    for rate in [0.5, 2.0] {
        let script =
            (1..=3).map(|n| at(5.0, Action::ClockRate(named(n), rate))).collect::<Vec<_>>();
        check(
            &format!("clock x{rate}"),
            || spec(5, 60.0, script.clone()),
            |run| {
                let after = reigns_after(run, 5.0).len();
                assert!(after <= 2, "{:#?}", run.reigns);
                format!("{after} elections")
            },
        );
    }
}

#[test]
fn row_18_noise_does_not_move_leadership_and_liars_do_not_hold_it_hostage() {
    let calm = Spikes::default();
    let pull = secs(30.0);
    let walk = |n: u64| Loads::wandering(0.6, 0.1, pull, calm, n).unwrap();
    let noisy = || (0..5).map(walk).collect::<Vec<_>>();
    let hour = || Spec { loads: noisy(), writes: 1.0, ..spec(5, 1_200.0, vec![]) };
    check("white noise", hour, |run| {
        let moves = run.reigns.len() - 1;
        assert!(moves <= 1, "{:#?}", run.reigns);
        format!("{moves} moves in 20 virtual minutes")
    });
    for claimed in [f64::NAN, f64::INFINITY, -1.0, 1e9, 1.0] {
        let liar = move || {
            let mut loads = noisy();
            loads[4] = Loads::Claims(claimed);
            let script = vec![
                at(30.0, Action::Handover(Some(named(5)))),
                at(60.0, Action::Kill(Who::Leader)),
                at(70.0, Action::Restart(named(5))),
            ];
            Spec { loads, ..spec(5, 120.0, script) }
        };
        check(&format!("a node claims {claimed}"), liar, |run| {
            let last = run.reigns.last().expect("a leader");
            format!("{} reigns, {} leads at the end", run.reigns.len(), last.name)
        });
    }
}

#[test]
fn row_19_whoever_changes_the_group_and_when_no_two_majorities_miss_each_other() {
    let groups = vec![vec![named(1), named(2)], vec![named(3), named(4), named(5)]];
    let script = vec![
        at(5.0, Action::Partition(groups)),
        // Both sides may still believe that they lead; then two admins ask the same leader at once.
        at(5.05, Action::Unseat(named(5))),
        at(6.0, Action::Unseat(named(4))),
        at(6.0, Action::Unseat(named(3))),
        at(12.0, Action::Heal),
        at(14.0, Action::Unseat(Who::Leader)),
        at(16.0, Action::Kill(named(2))),
        at(16.5, Action::Unseat(named(2))),
        at(18.0, Action::Seat(named(2))),
        at(20.0, Action::Restart(named(2))),
        at(24.0, Action::Seat(named(2))),
        at(26.0, Action::Seat(named(3))),
        at(28.0, Action::Seat(named(4))),
        at(30.0, Action::Seat(named(5))),
        at(32.0, Action::Seat(named(1))),
    ];
    check(
        "membership",
        || spec(5, 40.0, script.clone()),
        |run| {
            let told = run.acknowledged.iter().filter(|(at, _)| *at > secs(35.0)).count();
            assert!(told > 50, "{told} writes at the end");
            format!("{} reigns, {} written", run.reigns.len(), run.writes.1)
        },
    );
}

#[test]
fn a_failed_handover_is_repaired() {
    // The target freezes in the very moment it is told to take over.
    let script = vec![
        at(5.0, Action::Freeze(named(2))),
        at(5.0, Action::Handover(Some(named(2)))),
        at(8.0, Action::Resume(named(2))),
    ];
    check(
        "frozen target",
        || spec(5, 15.0, script.clone()),
        |run| {
            let after = reigns_after(run, 5.0);
            let first = after.first().expect("somebody leads again");
            assert!(first.began < secs(5.3), "{:#?}", run.reigns);
            let writes: Vec<Duration> = run.acknowledged.iter().map(|(at, _)| *at).collect();
            let gap = writes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
            format!(
                "{} leads; longest gap between writes {:.0} ms",
                first.name,
                gap.as_secs_f64() * 1e3
            )
        },
    );
}

#[test]
fn plain_raft_keeps_the_same_promises() {
    let script = vec![at(5.0, Action::Kill(Who::Leader)), at(9.0, Action::Restart(named(1)))];
    let plain =
        || Spec { config: Config::profile("raft").unwrap(), ..spec(5, 20.0, script.clone()) };
    check("plain raft", plain, |run| {
        let after = reigns_after(run, 5.0);
        let first = after.first().expect("a new leader");
        format!("{} leads after {:.0} ms", first.name, gap_ms(first))
    });
}
