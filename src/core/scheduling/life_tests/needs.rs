//! Tasks that not every node may have: resources, labels, reach, nodes that move.

use super::*;

fn needing(id: u128, needs: Needs) -> TaskSpec {
    TaskSpec { needs: Some(Arc::new(needs)), ..spec(id) }
}

fn gpus(amount: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("gpu".to_owned(), amount * 1_000)])
}

fn at(x: f64) -> Member {
    Member { slots: 1, position: Position { x, y: 0.0 }, ..Member::default() }
}

#[test]
fn a_task_nobody_could_run_says_so_at_once_holds_up_no_other_and_runs_when_a_node_comes() {
    let mut bench = Bench::new(2);
    let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    bench.submit(needing(1, Needs { labels, resources: gpus(2), ..Needs::default() }));
    bench.submit(needing(2, Needs { slots: 3, ..Needs::default() }));
    for id in 3..=6 {
        bench.submit(spec(id));
        assert!(bench.holder(id).is_some(), "{id} waits behind one that cannot run");
    }
    let words = "no member could run it, however idle: it needs gpu=2 (0 of 2 offer so much, the most \
                 is 0) and label zone=\"eu\" (0 of 2 have it)";
    assert_eq!(bench.why(1), ("infeasible", words.to_owned()));
    assert!(bench.why(2).1.contains("cpu=3 (0 of 2 have so many slots, the most is 1)"));
    let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    bench.join_as(NodeId(3), Member { slots: 4, labels, resources: gpus(2), ..Member::default() });
    assert_eq!((bench.holder(1), bench.holder(2)), (Some(NodeId(3)), Some(NodeId(3))));
}

#[test]
fn resources_are_held_from_assignment_to_outcome() {
    let mut bench = Bench::new(0);
    bench.join_as(NodeId(1), Member { slots: 8, resources: gpus(2), ..Member::default() });
    for id in 1..=3 {
        bench.submit(needing(id, Needs { resources: gpus(1), ..Needs::default() }));
    }
    assert_eq!((bench.holder(2), bench.holder(3)), (Some(NodeId(1)), None));
    assert_eq!(bench.why(3).0, "full");
    bench.report(1, value());
    assert_eq!(bench.holder(3), Some(NodeId(1)));
    bench.elect(NOON_MS);
    bench.submit(needing(4, Needs { resources: gpus(1), ..Needs::default() }));
    assert_eq!(bench.holder(4), None, "the next leader knows what is taken");
    bench.report(2, value());
    assert_eq!(bench.holder(4), Some(NodeId(1)));
}

#[test]
fn a_task_out_of_reach_waits_until_its_node_moves_or_is_relayed() {
    let config = |out_of_reach| Config { assign_reach: 2.0, out_of_reach, ..Config::default() };
    let needs = || Needs { resources: gpus(1), ..Needs::default() };
    let far = || Member { resources: gpus(1), ..at(4.0) };
    let mut bench = Bench::with(config(OutOfReach::Wait), 1);
    bench.join_as(NodeId(2), at(2.0));
    bench.join_as(NodeId(3), far());
    bench.submit(needing(1, needs()));
    let (kind, words) = bench.why(1);
    assert_eq!(kind, "out_of_reach");
    assert!(
        words.contains("1 are out of reach") && words.contains("out_of_reach = wait"),
        "{words}"
    );
    bench.submit(spec(2));
    assert!(bench.holder(2).is_some_and(|node| node != NodeId(3)));
    bench.tell(Event::MoveAsked { node: NodeId(3), position: Position { x: 1.0, y: 1.0 } });
    assert_eq!(bench.holder(1), Some(NodeId(3)));
    let mut bench = Bench::with(config(OutOfReach::Relay), 1);
    bench.join_as(NodeId(3), far());
    bench.submit(needing(1, needs()));
    assert_eq!(bench.why(1).0, "out_of_reach");
    assert!(bench.why(1).1.contains("no chain of members"), "{:?}", bench.why(1));
    bench.join_as(NodeId(2), at(2.0));
    assert_eq!(bench.holder(1), Some(NodeId(3)), "by way of the second");
}

#[test]
fn a_leader_that_moves_reaches_others_and_a_move_outlives_a_new_session() {
    let mut bench = Bench::with(Config { assign_reach: 1.0, ..Config::default() }, 1);
    bench.join_as(NodeId(2), Member { slots: 4, ..at(9.0) });
    bench.submit(spec(1));
    assert_eq!(bench.holder(1), Some(NodeId(1)));
    bench.effects.clear();
    let position = Position { x: 9.0, y: 0.0 };
    bench.tell(Event::MoveAsked { node: NodeId(1), position });
    let opened = |effect: &Effect| matches!(effect, Effect::OpenSession { .. });
    assert!(!bench.effects.iter().any(opened), "nobody is dialled for it");
    for id in 2..=4 {
        bench.submit(spec(id));
        assert_eq!(bench.holder(id), Some(NodeId(2)), "{id}");
    }
    let known = bench.state.members()[&NodeId(1)].clone();
    bench.tell(Event::SessionBroken { node: NodeId(1), refused: false });
    let again = Member { position: Position::default(), ..known };
    bench.tell(Event::JoinAsked { member: again, functions: vec![] });
    assert_eq!(bench.state.members()[&NodeId(1)].position, position, "it still stands there");
}
