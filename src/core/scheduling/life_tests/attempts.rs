//! What becomes of an attempt when its node was restarted, its lease is looked at, or the log does not take it.

use super::*;

#[test]
fn a_node_that_was_started_again_begins_no_attempt_under_an_old_token() {
    let mut bench = Bench::new(1);
    let node = NodeId(1);
    bench.submit(spec(1));
    let old = bench.state.live()[&TaskId(1)].token();
    assert_ne!(old, Token(0));
    bench.effects.clear();
    // The leader's link finds it before it was admitted as what it is now.
    bench.tell(Event::SessionBroken { node, refused: false });
    bench.tell(Event::InventoryArrived { node, incarnation: 1, held: vec![] });
    let sent = |effect: &Effect| matches!(effect, Effect::Assign { .. });
    assert!(!bench.effects.iter().any(sent), "{:?}", bench.effects);
    let again = Member { incarnation: 1, ..bench.state.members()[&node].clone() };
    bench.tell(Event::JoinAsked { member: again, functions: vec![] });
    bench.tell(Event::InventoryArrived { node, incarnation: 1, held: vec![] });
    bench.tell(Event::TimerFired);
    let live = &bench.state.live()[&TaskId(1)];
    assert!(live.token() > old && live.attempt == 2, "{live:?}");
    assert!(bench.effects.iter().any(sent));
}

#[test]
fn a_lease_is_looked_at_once_in_a_while_and_still_ends_on_time() {
    let mut bench = Bench::new(3);
    let lease_ms = Config::default().limits.worker_lease.as_millis() as u64;
    let lost = |bench: &Bench| bench.leader.roster().values().filter(|p| p.lost).count();
    bench.now = bench.now.after(Duration::from_millis(lease_ms - 1));
    bench.leader.on_status(bench.now, &bench.state, NodeId(2), NodeStatus::default());
    bench.tell(Event::TimerFired);
    assert_eq!((lost(&bench), bench.leader.roster().len()), (0, 3));
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 2, "the third was not heard of");
    bench.now = bench.now.after(Duration::from_millis(lease_ms - 2));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 2);
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 1, "nor the second any more");
}

#[test]
fn an_assignment_that_did_not_enter_the_log_is_not_proposed_again_at_once() {
    let (node, task) = (NodeId(1), TaskId(1));
    let mut bench = Bench::new(0);
    bench.submit(spec(1));
    bench.join(node);
    let replaces = bench.state.live()[&task].token();
    let cause = ReleaseCause::HandedBack;
    bench.commit(vec![Command::Release { task, replaces, cause }]);
    let (to, cause) = (node, AssignCause::Placed);
    let failed = Command::Assign { task, to, cause, replaces: Token(0) };
    bench.tell(Event::ProposalFailed { commands: vec![failed] });
    bench.submit(spec(2));
    assert_eq!(bench.holder(2), None);
    let due = bench.leader.next_deadline().expect("it leads");
    assert!(due > bench.now && due <= bench.now.after(Duration::from_millis(20)));
    bench.pass(20);
    assert_eq!(bench.holder(2), Some(node));
}
