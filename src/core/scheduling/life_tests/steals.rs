//! Who has too much and who asks: durations that are learnt, steals that are counted, thieves that are served later.

use super::*;

#[test]
fn the_leader_learns_what_tasks_take_and_streams_short_ones() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    bench.pass(10);
    bench.report(1, value());
    for id in 2..=20 {
        bench.submit(spec(id));
    }
    let held = bench.leader.roster()[&NodeId(1)].holds.len();
    assert_eq!(held, 5, "5 ms of tasks of 1 ms");
    // A node that says it takes no time is believed as far as it can be true.
    let took = Duration::from_secs(3_600);
    let holder = bench.state.live()[&TaskId(2)].holder.unwrap();
    let (token, output) = (holder.token, Bytes::new());
    let ended = Ended { task: TaskId(2), token, report: value(), output, took };
    bench.pass(1);
    bench.tell(Event::Reported { node: NodeId(1), reports: vec![ended] });
    assert!(bench.leader.roster()[&NodeId(1)].speed.ratio() > 0.9);
}

#[test]
fn steals_are_counted_by_what_became_of_them() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    for id in 1..=6 {
        bench.submit(spec(id));
    }
    bench.join(NodeId(2));
    let ask = |bench: &mut Bench, cpu_available| {
        bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available });
    };
    let count = |bench: &Bench, why: &str| {
        bench.leader.thefts().refused().find(|(reason, _)| *reason == why).unwrap().1
    };
    ask(&mut bench, 0.1);
    ask(&mut bench, 1.0);
    let asked = bench.effects.iter().find_map(|effect| match effect {
        Effect::Revoke { node: NodeId(1), tasks } => Some(tasks.clone()),
        _ => None,
    });
    assert_eq!(asked, Some(vec![TaskId(6), TaskId(5), TaskId(4)]));
    ask(&mut bench, 1.0);
    assert_eq!((count(&bench, "cpu_floor"), count(&bench, "not_idle")), (1, 1));
    bench.tell(Event::Kept { node: NodeId(1), tasks: vec![TaskId(6)] });
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(5), TaskId(4)] });
    assert_eq!((count(&bench, "started"), bench.leader.thefts().granted()), (1, 2));
    assert_eq!((bench.holder(4), bench.holder(6)), (Some(NodeId(2)), Some(NodeId(1))));
    assert_eq!(bench.leader.thefts().asked(), 3);
    // Stolen and finished meanwhile: the answer to an old revocation changes nothing.
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(4)] });
    assert_eq!(bench.holder(4), Some(NodeId(2)));
}

#[test]
fn a_thief_that_drains_gets_nothing_and_what_was_given_up_waits_for_others() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    for id in 1..=4 {
        bench.submit(spec(id));
    }
    bench.join(NodeId(2));
    bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available: 1.0 });
    let status = NodeStatus { draining: true, ..NodeStatus::default() };
    bench.tell(Event::StatusArrived { node: NodeId(2), status });
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(4)] });
    let refused: BTreeMap<&str, u64> = bench.leader.thefts().refused().collect();
    assert_eq!(refused["thief_gone"], 1);
    assert_eq!(bench.holder(4), Some(NodeId(1)), "it was placed again");
}

/// The leader's node, and a second one it may not give anything, which may steal from the first.
fn thief_out_of_reach() -> Bench {
    let mut config = Config { assign_reach: 1.0, ..Config::default() };
    config.steal.cpu_floor = 0.0;
    let mut bench = Bench::with(config, 1);
    let position = Position { x: 1.5, y: 0.0 };
    bench.join_as(NodeId(2), Member { slots: 1, position, ..Member::default() });
    bench
}

fn ask(bench: &mut Bench) {
    bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available: 1.0 });
}

fn revoked(bench: &Bench) -> Vec<TaskId> {
    let revoked = bench.effects.iter().filter_map(|effect| match effect {
        Effect::Revoke { node: NodeId(1), tasks } => Some(tasks.clone()),
        _ => None,
    });
    revoked.flatten().collect()
}

#[test]
fn a_thief_that_asked_in_vain_is_served_as_soon_as_a_node_in_its_reach_has_work() {
    let mut bench = thief_out_of_reach();
    ask(&mut bench);
    bench.submit(spec(1));
    assert!(revoked(&bench).is_empty(), "one task for one slot");
    bench.run(NodeId(1), 1);
    bench.submit(spec(2));
    assert_eq!(revoked(&bench), [TaskId(2)], "nobody asked again");
    bench.submit(spec(3));
    assert_eq!(revoked(&bench).len(), 1, "it is being served");
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] });
    assert_eq!(bench.holder(2), Some(NodeId(2)));
    assert_eq!(revoked(&bench).len(), 1, "it has work now");
    // A request holds for half a second.
    let mut bench = thief_out_of_reach();
    ask(&mut bench);
    bench.pass(600);
    for id in 1..=3 {
        bench.submit(spec(id));
    }
    assert!(revoked(&bench).is_empty());
}

#[test]
fn a_thief_whose_loot_had_started_gets_something_else_until_nothing_is_left() {
    let mut bench = thief_out_of_reach();
    for id in 1..=4 {
        bench.submit(spec(id));
    }
    bench.run(NodeId(1), 1);
    ask(&mut bench);
    let mut kept = BTreeSet::new();
    for _ in 0..10 {
        let asked: Vec<TaskId> =
            revoked(&bench).into_iter().filter(|task| !kept.contains(task)).collect();
        kept.extend(asked.iter().copied());
        if asked.is_empty() {
            break;
        }
        bench.tell(Event::Kept { node: NodeId(1), tasks: asked });
    }
    assert_eq!(kept, (2..=4).map(TaskId).collect(), "each is asked back once");
    assert_eq!(revoked(&bench).len(), 3);
}

#[test]
fn a_thief_for_whom_nothing_was_worth_it_is_served_when_what_runs_there_takes_too_long() {
    let mut bench = thief_out_of_reach();
    bench.teach();
    bench.submit(spec(1));
    bench.run(NodeId(1), 1);
    bench.submit(spec(2));
    ask(&mut bench);
    assert!(revoked(&bench).is_empty(), "it would be done as soon where it is");
    // Nobody says anything meanwhile.
    for _ in 0..10 {
        bench.now = bench.leader.next_deadline().unwrap().max(bench.now);
        bench.tell(Event::TimerFired);
    }
    assert_eq!(revoked(&bench), [TaskId(2)]);
}

#[test]
fn the_next_in_a_nodes_queue_begins_when_the_one_before_it_has_ended() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    (1..=3).for_each(|id| bench.submit(spec(id)));
    let started = |bench: &Bench, task| {
        let held = bench.leader.roster()[&NodeId(1)].holds.get(TaskId(task)).cloned();
        held.and_then(|held| held.started)
    };
    assert!(started(&bench, 1).is_some() && started(&bench, 2).is_none());
    bench.pass(5);
    bench.report(1, value());
    assert_eq!((started(&bench, 2), started(&bench, 3)), (Some(bench.now), None));
}

#[test]
fn what_a_node_gave_up_is_not_sent_there_again_before_the_log_has_moved_it() {
    let mut bench = thief_out_of_reach();
    for id in 1..=2 {
        bench.submit(spec(id));
    }
    bench.run(NodeId(1), 1);
    ask(&mut bench);
    assert_eq!(revoked(&bench), [TaskId(2)]);
    let held: Vec<_> = bench.held(NodeId(1)).into_iter().filter(|(id, _)| id.0 == 1).collect();
    let mut effects = Vec::new();
    let released = Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] };
    let broken = Event::SessionBroken { node: NodeId(1), refused: false };
    let back = Event::InventoryArrived { node: NodeId(1), incarnation: 0, held };
    for event in [released, broken, back] {
        bench.leader.on_event(bench.now, &bench.state, event, &mut effects);
        bench.leader.flush(bench.now, &bench.state, &mut effects);
    }
    let sent = effects.iter().any(|effect| matches!(effect, Effect::Assign { .. }));
    assert!(!sent, "{effects:?}");
    let commands = effects.into_iter().filter_map(|effect| match effect {
        Effect::Propose(commands) => Some(commands),
        _ => None,
    });
    let commands: Vec<Command> = commands.flatten().collect();
    // Its thief is gone by the time this enters the log: it waits again, and nobody is stuck with it.
    bench.state.apply(
        bench.state.applied() + 1,
        &Batch { at_ms: 0, commands: vec![Command::Remove { node: NodeId(2) }] },
    );
    bench.commit(commands);
    assert_eq!(bench.holder(2), Some(NodeId(1)), "it was placed anew");
    let again = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Assign { node: NodeId(1), assignments } => Some(assignments[0].attempt),
        _ => None,
    });
    assert_eq!(again, Some(2));
}
