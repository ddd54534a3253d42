//! What is said of a task: why it is where it is, how far it is.

use super::*;

#[test]
fn why_says_who_is_full_who_runs_and_how_it_ended() {
    let mut bench = Bench::new(2);
    for id in 1..=5 {
        bench.submit(spec(id));
    }
    bench.pass(3_200);
    assert_eq!(
        bench.why(5),
        ("full", "all 2 nodes in reach are full: queue 1, oldest 3.2 s, 0 ahead of it".to_owned())
    );
    let node = bench.holder(1).unwrap();
    assert_eq!(bench.why(1).0, "assigned");
    bench.run(node, 1);
    let words = format!("it runs on n{}, attempt 1, given there 3.2 s ago", node.0);
    assert_eq!(bench.why(1), ("running", words));
    bench.report(1, value());
    assert_eq!(
        bench.why(1),
        ("finished", format!("succeeded on n{} 0.0 s ago, after 1 attempt", node.0))
    );
    assert_eq!(bench.why(77).0, "unknown");
    let told = explain(&bench.leader, &bench.state, bench.now, TaskId(1));
    let kinds: Vec<&str> = told.history.iter().map(|step| step.kind).collect();
    assert_eq!(kinds, ["accepted", "assigned", "succeeded"]);
    assert_eq!(told.history[2].at_ms, NOON_MS + 3_200);
}

#[test]
fn progress_of_the_live_attempt_is_told_to_who_submitted_and_who_follows() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    let follower = SessionId(9);
    bench.tell(Event::Followed { session: follower, tasks: vec![TaskId(1)] });
    let how = |done| Progress { done, total: 4.0, note: "half".into() };
    let live = bench.state.live()[&TaskId(1)].token();
    let progress = vec![
        (TaskId(1), live, how(2.0)),
        (TaskId(1), Token(live.0 + 1), how(3.0)),
        (TaskId(7), live, how(4.0)),
    ];
    bench.effects.clear();
    let status = NodeStatus { progress, ..NodeStatus::default() };
    bench.tell(Event::StatusArrived { node: NodeId(1), status });
    let told = |session| Effect::TellProgress { session, task: TaskId(1), progress: how(2.0) };
    bench.effects.retain(|effect| matches!(effect, Effect::TellProgress { .. }));
    assert_eq!(bench.effects, [told(follower), told(SESSION)]);
}
