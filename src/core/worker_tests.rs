//! A worker's decisions, one event at a time; no effect is left unexamined.

use super::queue::MAX_PASSED;
use super::*;
use crate::core::cluster::command::{Codec, FunctionRef, Payload, Report, TaskSpec};
use crate::core::ids::{FunctionHash, NodeId, SessionId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

fn assignment(id: u128, token: u64) -> Assignment {
    let spec = TaskSpec::new(
        TaskId(id),
        SessionId(1),
        FunctionRef { name: "f".into(), hash: FunctionHash(1) },
    );
    Assignment { spec: Arc::new(spec), token: Token(token), attempt: 1, end_by_ms: 0 }
}

fn value() -> Report {
    Report::Value(Payload::inline(Codec::Json, Bytes::new()))
}

/// Feeds one event and compares all effects; none may be left unexamined.
fn check(worker: &mut Worker, now_ms: u64, event: Event, expected: &[Effect]) {
    let mut effects = Vec::new();
    worker.on_event(Moment(now_ms * 1_000), event, &mut effects);
    assert_eq!(effects, expected);
}

fn connected(slots: u32) -> Worker {
    let mut worker = Worker::new(slots, Duration::ZERO);
    let hello = Event::LeaderConnected { term: 1, leader: NodeId(9) };
    check(&mut worker, 0, hello, &[Effect::SendInventory { term: 1, held: vec![] }]);
    worker
}

fn assigned(term: Term, assignments: Vec<Assignment>) -> Event {
    Event::TasksAssigned { term, assignments }
}

fn ended(id: u128, token: u64) -> Event {
    let duration = Duration::from_millis(1);
    let (task, token) = (TaskId(id), Token(token));
    Event::AttemptEnded { task, token, report: value(), output: Bytes::new(), duration }
}

fn report(id: u128, token: u64) -> Effect {
    let took = Duration::from_millis(1);
    let (task, token) = (TaskId(id), Token(token));
    let ended = Ended { task, token, report: value(), output: Bytes::new(), took };
    Effect::SendReports { reports: vec![ended] }
}

#[test]
fn work_starts_while_slots_are_free_and_the_rest_waits() {
    let mut worker = connected(1);
    let event = assigned(1, vec![assignment(1, 10), assignment(2, 11)]);
    check(&mut worker, 1, event, &[Effect::Run(assignment(1, 10))]);
    check(&mut worker, 2, ended(1, 10), &[report(1, 10), Effect::Run(assignment(2, 11))]);
    assert_eq!(worker.running(), [TaskId(2)]);
}

#[test]
fn a_lower_term_is_refused_whatever_it_says() {
    let mut worker = connected(1);
    let held = vec![];
    let hello = Event::LeaderConnected { term: 3, leader: NodeId(8) };
    check(&mut worker, 1, hello, &[Effect::SendInventory { term: 3, held }]);
    let refused = [Effect::RefuseStaleLeader { term: 2 }];
    check(&mut worker, 2, assigned(2, vec![assignment(1, 10)]), &refused);
    check(&mut worker, 2, Event::TasksRevoked { term: 2, tasks: vec![TaskId(1)] }, &refused);
}

#[test]
fn the_same_attempt_again_and_an_older_one_change_nothing() {
    let mut worker = connected(1);
    check(&mut worker, 1, assigned(1, vec![assignment(1, 10)]), &[Effect::Run(assignment(1, 10))]);
    check(&mut worker, 2, assigned(1, vec![assignment(1, 10), assignment(1, 9)]), &[]);
    check(&mut worker, 3, ended(1, 10), &[report(1, 10)]);
    check(&mut worker, 4, assigned(1, vec![assignment(1, 10)]), &[]);
}

#[test]
fn only_what_has_not_started_is_given_up() {
    let mut worker = connected(1);
    let event = assigned(1, vec![assignment(1, 10), assignment(2, 11)]);
    check(&mut worker, 1, event, &[Effect::Run(assignment(1, 10))]);
    let tasks = vec![TaskId(1), TaskId(2), TaskId(3)];
    let answer =
        Effect::SendRelease { released: vec![TaskId(2)], kept: vec![TaskId(1), TaskId(3)] };
    check(&mut worker, 2, Event::TasksRevoked { term: 1, tasks }, &[answer]);
    check(&mut worker, 3, ended(1, 10), &[report(1, 10)]);
}

#[test]
fn reports_are_repeated_to_a_new_leader_until_they_are_settled() {
    let mut worker = connected(1);
    check(&mut worker, 1, assigned(1, vec![assignment(1, 10)]), &[Effect::Run(assignment(1, 10))]);
    worker.on_disconnected();
    check(&mut worker, 2, ended(1, 10), &[]);
    let hello = Event::LeaderConnected { term: 2, leader: NodeId(8) };
    let held = vec![(TaskId(1), Token(10), false)];
    check(&mut worker, 3, hello, &[Effect::SendInventory { term: 2, held }, report(1, 10)]);
    check(&mut worker, 4, Event::ReportsSettled { term: 2, tasks: vec![TaskId(1)] }, &[]);
    assert!(worker.is_idle());
}

#[test]
fn an_idle_node_asks_for_work_ever_more_rarely() {
    let mut worker = connected(2);
    let mut asked = Vec::new();
    let mut effects = Vec::new();
    for _ in 0..12 {
        let at = worker.next_deadline().unwrap();
        worker.on_event(at, Event::TimerFired, &mut effects);
        asked.push(at.0 / 1_000);
    }
    assert!(effects.iter().all(|e| *e == Effect::AskForWork { free_slots: 2 }), "{effects:?}");
    let gaps: Vec<u64> = asked.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(gaps, [8, 16, 32, 64, 128, 250, 250, 250, 250, 250, 250]);
}

#[test]
fn a_draining_node_hands_back_what_waits_and_what_still_comes() {
    let mut worker = connected(1);
    let event = assigned(1, vec![assignment(1, 10), assignment(2, 11)]);
    check(&mut worker, 1, event, &[Effect::Run(assignment(1, 10))]);
    let back = |id| Effect::SendRelease { released: vec![TaskId(id)], kept: vec![] };
    check(&mut worker, 2, Event::DrainStarted, &[back(2)]);
    check(&mut worker, 3, assigned(1, vec![assignment(3, 12)]), &[back(3)]);
    check(&mut worker, 4, ended(1, 10), &[report(1, 10)]);
    check(&mut worker, 5, Event::ReportsSettled { term: 1, tasks: vec![TaskId(1)] }, &[]);
    assert!(worker.is_idle());
}

#[test]
fn a_killed_attempt_is_nobodys_business() {
    let mut worker = connected(1);
    check(&mut worker, 1, assigned(1, vec![assignment(1, 10)]), &[Effect::Run(assignment(1, 10))]);
    let kill = Effect::KillRunner { task: TaskId(1), token: Token(10) };
    check(&mut worker, 2, Event::TasksKilled { term: 1, tasks: vec![TaskId(1)] }, &[kill]);
    check(&mut worker, 3, ended(1, 10), &[]);
    assert!(worker.is_idle());
}

fn needing(id: u128, slots: u32, gpu: u64) -> Assignment {
    let resources = (gpu > 0).then(|| ("gpu".to_owned(), gpu));
    let needs =
        Needs { slots, labels: BTreeMap::new(), resources: resources.into_iter().collect() };
    let plain = assignment(id, id as u64);
    let spec = TaskSpec { needs: Some(Arc::new(needs)), ..(*plain.spec).clone() };
    Assignment { spec: Arc::new(spec), ..plain }
}

/// A connected worker with three slots and two GPUs.
fn equipped() -> Worker {
    let resources = BTreeMap::from([("gpu".to_owned(), 2)]);
    connected(3).offering(Member { resources, ..Member::default() })
}

fn started(worker: &mut Worker, event: Event) -> Vec<u128> {
    let mut effects = Vec::new();
    worker.on_event(Moment(0), event, &mut effects);
    let run = |effect: &Effect| match effect {
        Effect::Run(assignment) => Some(assignment.spec.id.0),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

#[test]
fn no_more_starts_than_slots_and_resources_are_there_for() {
    let mut worker = equipped();
    let all = vec![needing(1, 2, 0), needing(2, 2, 0), needing(3, 1, 0), needing(4, 1, 0)];
    assert_eq!(started(&mut worker, assigned(1, all)), [1, 3]);
    assert_eq!(started(&mut worker, ended(3, 3)), [4], "one slot is free, the second needs two");
    assert_eq!(started(&mut worker, ended(1, 1)), [2]);
    let mut worker = equipped();
    let all = vec![needing(1, 1, 2), needing(2, 1, 1), assignment(3, 3)];
    assert_eq!(started(&mut worker, assigned(1, all)), [1, 3]);
    assert_eq!(started(&mut worker, ended(1, 1)), [2]);
}

#[test]
fn the_first_in_the_queue_is_passed_so_often_and_then_waited_for() {
    let mut worker = equipped();
    assert_eq!(started(&mut worker, assigned(1, vec![needing(1, 1, 2)])), [1]);
    let mut all = vec![needing(2, 1, 2)];
    all.extend((3..100).map(|id| assignment(id, id as u64)));
    let mut begun = started(&mut worker, assigned(1, all));
    let mut next = 0;
    while let Some(id) = begun.get(next).copied() {
        next += 1;
        begun.extend(started(&mut worker, ended(id, id as u64)));
    }
    assert_eq!(begun, (3..3 + u128::from(MAX_PASSED)).collect::<Vec<_>>());
    assert_eq!(started(&mut worker, ended(1, 1))[0], 2);
}

#[test]
fn what_an_idle_node_was_sent_it_starts_whatever_it_takes() {
    let mut worker = equipped();
    assert_eq!(started(&mut worker, assigned(1, vec![needing(1, 9, 9)])), [1]);
    assert_eq!(started(&mut worker, assigned(1, vec![assignment(2, 2)])), [] as [u128; 0]);
    assert_eq!(started(&mut worker, ended(1, 1)), [2]);
}

/// A connected worker with one slot that stages two attempts, and has four: one runs, two are staged, one waits.
fn staged() -> Worker {
    let mut worker = connected(1).staging(2);
    let all = (1..=4).map(|id| assignment(id, id as u64)).collect();
    assert_eq!(started(&mut worker, assigned(1, all)), [1, 2, 3]);
    assert_eq!((worker.running(), worker.queued()), (vec![TaskId(1)], 3));
    worker
}

#[test]
fn the_runners_are_handed_more_than_they_can_run_and_go_on_by_themselves() {
    let mut worker = staged();
    let run = Effect::Run(assignment(4, 4));
    check(&mut worker, 1, ended(1, 1), &[report(1, 1), run]);
    assert_eq!((worker.running(), worker.queued()), (vec![TaskId(2)], 2));
    // The word that the second ended comes after the word that the third did: both were quick.
    check(&mut worker, 2, ended(3, 3), &[report(3, 3)]);
    check(&mut worker, 3, ended(2, 2), &[report(2, 2)]);
    assert_eq!((worker.running(), worker.queued()), (vec![TaskId(4)], 0));
}

#[test]
fn what_is_staged_is_taken_back_unless_it_began() {
    let mut worker = staged();
    let tasks = vec![TaskId(1), TaskId(2), TaskId(3), TaskId(4)];
    let back = Effect::TakeBack {
        staged: vec![(TaskId(2), Token(2)), (TaskId(3), Token(3))],
        released: vec![TaskId(4)],
        kept: vec![TaskId(1)],
    };
    check(&mut worker, 1, Event::TasksRevoked { term: 1, tasks }, &[back]);
    worker.on_taken_back(TaskId(3), Token(3));
    check(&mut worker, 2, ended(1, 1), &[report(1, 1)]);
    assert_eq!((worker.running(), worker.queued()), (vec![TaskId(2)], 0));
}

#[test]
fn a_draining_node_takes_back_what_is_staged() {
    let mut worker = staged();
    let back = Effect::TakeBack {
        staged: vec![(TaskId(2), Token(2)), (TaskId(3), Token(3))],
        released: vec![TaskId(4)],
        kept: vec![],
    };
    check(&mut worker, 1, Event::DrainStarted, &[back]);
    worker.on_taken_back(TaskId(2), Token(2));
    worker.on_taken_back(TaskId(3), Token(3));
    check(&mut worker, 2, ended(1, 1), &[report(1, 1)]);
    check(&mut worker, 3, Event::ReportsSettled { term: 1, tasks: vec![TaskId(1)] }, &[]);
    assert!(worker.is_idle());
}

#[test]
fn a_staged_attempt_that_is_killed_is_nobodys_business() {
    let mut worker = staged();
    let kill = Effect::KillRunner { task: TaskId(2), token: Token(2) };
    check(&mut worker, 1, Event::TasksKilled { term: 1, tasks: vec![TaskId(2)] }, &[kill]);
    let run = Effect::Run(assignment(4, 4));
    check(&mut worker, 2, ended(2, 2), &[run]);
    assert_eq!((worker.running(), worker.queued()), (vec![TaskId(1)], 2));
}

#[test]
fn what_takes_more_than_a_slot_is_not_staged() {
    let mut worker = equipped().staging(8);
    let all = vec![assignment(1, 1), assignment(2, 2), assignment(3, 3)];
    assert_eq!(started(&mut worker, assigned(1, all)), [1, 2, 3]);
    let more = vec![assignment(4, 4), needing(5, 2, 0), assignment(6, 6)];
    assert_eq!(started(&mut worker, assigned(1, more)), [4]);
    assert_eq!(started(&mut worker, ended(1, 1)), [] as [u128; 0]);
    assert_eq!(started(&mut worker, ended(2, 2)), [6]);
    assert_eq!(started(&mut worker, ended(3, 3)), [] as [u128; 0]);
    assert_eq!(started(&mut worker, ended(4, 4)), [5]);
}
