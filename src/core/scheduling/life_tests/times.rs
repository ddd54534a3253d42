//! When a task starts, expires and is given up, by whichever clock; under one leader and the next.

use super::*;

#[test]
fn a_queue_timeout_goes_on_under_the_next_leader_however_wrong_its_clock() {
    for wall_ms in [NOON_MS, NOON_MS + HOUR_MS, NOON_MS - HOUR_MS] {
        let mut bench = Bench::new(0);
        bench.submit(with_terms(1, 0, 5_000, 0));
        bench.pass(3_000);
        bench.elect(wall_ms);
        bench.pass(1_900);
        assert_eq!(bench.outcome(1), None, "clock off by {} ms", wall_ms as i64 - NOON_MS as i64);
        assert_eq!(bench.why(1).0, "no_node");
        bench.pass(200);
        assert_eq!(bench.outcome(1), Some(Outcome::NeverStarted(5_000)));
    }
}

#[test]
fn after_all_were_down_the_wall_clock_says_how_long() {
    let mut bench = Bench::new(0);
    bench.submit(with_terms(1, 0, 0, HOUR_MS));
    let mut restarted = leader(3);
    let voters = BTreeSet::new();
    let gained = |wall_ms| Event::LeadershipGained { term: 9, wall_ms, followed: false, voters };
    restarted.on_event(Moment(5), &bench.state, gained(NOON_MS + 2 * HOUR_MS), &mut vec![]);
    bench.leader = restarted;
    bench.now = Moment(5);
    bench.pass(1);
    assert_eq!(bench.outcome(1), Some(Outcome::PastDeadline(HOUR_MS)));
}

#[test]
fn an_assigned_task_expires_only_if_its_node_says_that_it_has_not_started() {
    let mut bench = Bench::new(1);
    for id in [1, 2] {
        bench.submit(with_terms(id, 0, 1_000, 0));
        assert_eq!(bench.holder(id), Some(NodeId(1)));
    }
    bench.run(NodeId(1), 1);
    bench.pass(1_001);
    assert!(!bench.said(&Effect::Revoke { node: NodeId(1), tasks: vec![TaskId(1)] }), "it runs");
    assert!(bench.said(&Effect::Revoke { node: NodeId(1), tasks: vec![TaskId(2)] }));
    assert_eq!(bench.outcome(2), None);
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] });
    assert_eq!(bench.outcome(2), Some(Outcome::NeverStarted(1_000)));
    bench.pass(10_000);
    assert_eq!(bench.outcome(1), None);
    bench.report(1, value());
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
}

#[test]
fn a_deadline_kills_what_runs() {
    let mut bench = Bench::new(1);
    bench.submit(with_terms(1, 0, 0, 2_000));
    bench.run(NodeId(1), 1);
    let sent = bench.effects.iter().find_map(|effect| match effect {
        Effect::Assign { assignments, .. } => Some(assignments[0].end_by_ms),
        _ => None,
    });
    assert_eq!(sent, Some(NOON_MS + 2_000), "the callback is told");
    bench.pass(2_001);
    assert_eq!(bench.outcome(1), Some(Outcome::PastDeadline(2_000)));
    assert!(bench.said(&Effect::Kill { node: NodeId(1), tasks: vec![TaskId(1)] }));
    assert_eq!(bench.leader.next_deadline().map(|at| at > bench.now), Some(true));
}

#[test]
fn a_delayed_start_and_a_back_off_survive_a_change_of_leader() {
    let mut bench = Bench::new(1);
    bench.submit(with_terms(1, 3_000, 0, 0));
    bench.submit(spec(2));
    bench.report(2, failure());
    bench.pass(500);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, None));
    bench.elect(NOON_MS + HOUR_MS);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, None));
    assert_eq!(bench.why(1).0, "delayed");
    assert!(bench.why(2).1.contains("retry 1 of 3 comes in"), "{:?}", bench.why(2));
    bench.pass(1_000);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, Some(NodeId(1))));
    bench.pass(1_500);
    assert_eq!(bench.holder(1), Some(NodeId(1)));
}
