//! Copies of attempts that take too long.

use super::*;

fn idempotent(id: u128) -> TaskSpec {
    TaskSpec { idempotent: true, ..spec(id) }
}

#[test]
fn one_that_takes_too_long_gets_a_copy_and_the_first_to_end_counts() {
    let mut bench = Bench::new(3);
    bench.teach();
    bench.submit(idempotent(1));
    let first = bench.holder(1).unwrap();
    bench.pass(200);
    assert_eq!(bench.copy(1), None, "it is not late yet");
    bench.pass(100);
    let copy = bench.copy(1).unwrap();
    assert_ne!(copy, first);
    let (kind, why) = bench.why(1);
    assert!(kind == "running" && why.contains("has a copy, attempt 2"), "{why}");
    bench.pass(10_000);
    assert_eq!(bench.state.counters().copies, 1, "one is enough");
    let token = bench.state.live()[&TaskId(1)].copy.unwrap().token;
    let took = Duration::from_millis(1);
    let reports =
        vec![Ended { task: TaskId(1), token, report: value(), took, output: Default::default() }];
    bench.tell(Event::Reported { node: copy, reports });
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
    assert!(bench.said(&Effect::Kill { node: first, tasks: vec![TaskId(1)] }));
    assert!(!bench.said(&Effect::Kill { node: copy, tasks: vec![TaskId(1)] }));
    assert_eq!(bench.state.counters().copies_first, 1);
    assert!(bench.leader.roster().values().all(|post| post.holds.is_empty()));
}

#[test]
fn nothing_is_copied_that_may_not_be_or_that_nobody_has_room_for() {
    let check = |config: Config, nodes: u64, taught: bool, task: TaskSpec| {
        let mut bench = Bench::with(config, nodes);
        if taught {
            bench.teach();
        }
        let id = task.id.0;
        bench.submit(task);
        for _ in 0..20 {
            bench.pass(300);
        }
        assert!(bench.holder(id).is_some());
        bench.copy(id)
    };
    assert!(check(Config::default(), 2, true, idempotent(1)).is_some());
    assert_eq!(check(Config::default(), 2, true, spec(1)), None, "it may not run twice");
    assert_eq!(check(Config::default(), 1, true, idempotent(1)), None, "nobody else is there");
    assert_eq!(check(Config::default(), 2, false, idempotent(1)), None, "its kind is not known");
    let off = Config { speculate: false, ..Config::default() };
    assert_eq!(check(off, 2, true, idempotent(1)), None);
}

#[test]
fn copies_take_no_more_than_their_share_and_no_slot_that_others_wait_for() {
    let mut config = Config::default();
    config.limits.copies_ratio = 0.25;
    let mut bench = Bench::with(config, 8);
    bench.teach();
    for id in 1..=4 {
        bench.submit(idempotent(id));
    }
    let copies = |bench: &Bench| (1..=4).filter(|id| bench.copy(*id).is_some()).count();
    bench.pass(300);
    assert_eq!(copies(&bench), 2, "a quarter of eight slots");
    let done = (1..=4).find(|id| bench.copy(*id).is_some()).unwrap();
    bench.report(done, value());
    bench.pass(200);
    assert_eq!(copies(&bench), 2, "there is room for another one");
    let mut bench = Bench::new(2);
    bench.teach();
    for id in [1, 2] {
        bench.submit(idempotent(id));
    }
    bench.pass(300);
    assert_eq!(bench.state.counters().copies, 0, "both slots are taken");
    bench.report(2, value());
    bench.pass(200);
    assert!(bench.copy(1).is_some());
}

#[test]
fn a_copy_survives_its_leader_and_the_node_beside_which_it_runs() {
    let mut bench = Bench::new(2);
    bench.teach();
    bench.submit(idempotent(1));
    let first = bench.holder(1).unwrap();
    bench.pass(300);
    let copy = bench.copy(1).unwrap();
    bench.elect(NOON_MS + 1_000);
    let held = |bench: &Bench, node| bench.leader.roster()[&node].holds.len();
    assert_eq!((held(&bench, first), held(&bench, copy)), (1, 1));
    bench.tell(Event::SessionBroken { node: first, refused: true });
    assert_eq!((bench.holder(1), bench.copy(1)), (Some(copy), None));
    bench.pass(10_000);
    bench.report(1, value());
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
    assert_eq!(bench.state.counters().reassigned, 0);
}
