//! Which task a submission is: duplicates, ids that are old, names that nobody knows; and by which bounds.

use super::*;

#[test]
fn a_duplicate_takes_nothing_from_the_task_that_is_there() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    bench.report(1, failure());
    for _ in 0..5 {
        bench.submit(spec(1));
    }
    bench.pass(2_000);
    assert_eq!(bench.holder(1), Some(NodeId(1)), "its retry came");
    for id in 2..8 {
        bench.submit(TaskSpec { id: TaskId(id), ..with_key(1, OnDuplicate::Join) });
    }
    let post = &bench.leader.roster()[&NodeId(1)];
    assert_eq!(
        (post.holds.coming(), post.holds.len()),
        (0, 2),
        "no place is lost to a joined task"
    );
    let joined = Effect::Join { session: SESSION, task: TaskId(3), existing: TaskId(2) };
    assert!(bench.said(&joined));
    bench.submit(with_key(9, OnDuplicate::Reject));
    assert_eq!(bench.leader.roster()[&NodeId(1)].holds.coming(), 0);
}

#[test]
fn an_old_id_is_refused_unless_its_task_is_known() {
    let mut bench = Bench::new(0);
    let id = u128::from(NOON_MS - 23 * HOUR_MS) << 80 | 0x7 << 76 | 0b10 << 62;
    bench.submit(spec(id));
    assert_eq!(bench.state.live().len(), 1);
    bench.pass(2 * HOUR_MS);
    bench.submit(spec(id));
    bench.submit(spec(id + 1));
    let refused =
        |task| Effect::Reject { session: SESSION, task: TaskId(task), refusal: Refusal::IdExpired };
    assert!(!bench.said(&refused(id)));
    assert!(bench.said(&refused(id + 1)));
}

#[test]
fn bounds_are_written_down_once_and_again_when_they_are_others() {
    let mut bench = Bench::new(1);
    let gain = |bench: &mut Bench| {
        bench.term += 1;
        let (term, wall_ms, before) = (bench.term, NOON_MS, bench.state.applied());
        let voters = BTreeSet::new();
        bench.tell(Event::LeadershipGained { term, wall_ms, followed: true, voters });
        bench.state.applied() > before
    };
    assert!(!gain(&mut bench), "the first leader of this cluster did it");
    let mut config = Config::default();
    config.limits.crash_budget += 1;
    bench.leader = Leader::new(NodeId(1), Arc::new(config), 0);
    assert!(gain(&mut bench), "this one has others");
    assert!(!gain(&mut bench));
}

#[test]
fn a_name_nobody_registered_is_refused_once_every_voter_was_heard_or_had_its_time() {
    let mut bench = Bench::new(1);
    bench.term += 1;
    let voters = BTreeSet::from([NodeId(1), NodeId(2)]);
    let (term, wall_ms) = (bench.term, NOON_MS);
    bench.tell(Event::LeadershipGained { term, wall_ms, followed: true, voters });
    let ask = |bench: &mut Bench, id| {
        let function = FunctionRef { name: "late.one".into(), hash: FunctionHash(0) };
        let tasks = vec![Arc::new(TaskSpec { function, ..spec(id) })];
        bench.tell(Event::Submitted { session: SESSION, functions: vec![], tasks });
    };
    let refused = |bench: &Bench, wanted: u128| {
        bench.effects.iter().find_map(|effect| match effect {
            Effect::Reject { task, refusal, .. } if *task == TaskId(wanted) => {
                Some(refusal.clone())
            }
            _ => None,
        })
    };
    ask(&mut bench, 1);
    assert_eq!(refused(&bench, 1), Some(Refusal::Gathering));
    bench.join(NodeId(2));
    ask(&mut bench, 2);
    assert!(matches!(refused(&bench, 2), Some(Refusal::UnknownFunction { .. })));
    // Another, of whose voters one never comes.
    let voters = BTreeSet::from([NodeId(1), NodeId(9)]);
    bench.tell(Event::LeadershipGained { term: term + 1, wall_ms, followed: true, voters });
    ask(&mut bench, 3);
    assert_eq!(refused(&bench, 3), Some(Refusal::Gathering));
    bench.pass(Config::default().limits.worker_lease.as_millis() as u64);
    ask(&mut bench, 4);
    assert!(matches!(refused(&bench, 4), Some(Refusal::UnknownFunction { .. })));
}
