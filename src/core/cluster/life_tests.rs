//! A task's terms, ids and keys as the log decides them, one command at a time.

use super::command::{
    AssignCause, Claim, Command, ExpireCause, OnDuplicate, Outcome, Report, TaskSpec, Terms,
};
use super::output;
use super::state::tests::{A, B, Log, failure, spec, value};
use super::story::StepKind;
use crate::core::boundary::{Change, Refusal};
use crate::core::cluster::command::ReleaseCause;
use crate::core::ids::{TaskId, Token};
use std::sync::Arc;

const FIRST: TaskId = TaskId(1);

fn with_terms(id: u128, terms: Terms) -> Arc<TaskSpec> {
    Arc::new(TaskSpec { terms, ..(*spec(id, 3)).clone() })
}

fn with_key(id: u128, on_duplicate: OnDuplicate) -> Arc<TaskSpec> {
    let claim = Some(Box::new(Claim { key: "k".into(), on_duplicate }));
    Arc::new(TaskSpec { claim, ..(*spec(id, 0)).clone() })
}

/// A UUID of version 7 made at `ms`.
fn dated(ms: u64, tail: u128) -> u128 {
    u128::from(ms) << 80 | 0x7 << 76 | 0b10 << 62 | tail
}

fn expire(cause: ExpireCause) -> Command {
    Command::Expire { task: FIRST, cause }
}

fn place(log: &mut Log) -> Vec<Change> {
    let (cause, replaces) = (AssignCause::Placed, Token(0));
    log.say(Command::Assign { task: FIRST, to: A, cause, replaces })
}

/// The one outcome in `changes`.
fn outcome(changes: &[Change]) -> &Outcome {
    let [Change::Finished { finished, .. }] = changes else { panic!("{changes:?}") };
    &finished.outcome
}

#[test]
fn a_task_that_never_started_expires_by_the_clock_of_the_log_and_not_before() {
    let mut log = Log::new();
    let terms = Terms { delay_ms: 500, queue_timeout_ms: 1_000, deadline_ms: 0 };
    log.submit(&with_terms(1, terms), None);
    assert_eq!(log.state.live()[&FIRST].ready_ms, log.now_ms + 500);
    log.now_ms += 1_499;
    assert_eq!(log.say(expire(ExpireCause::NeverStarted)), []);
    log.now_ms += 1;
    place(&mut log);
    assert_eq!(log.say(expire(ExpireCause::NeverStarted)), [], "a node may be starting it");
    let replaces = log.token(1);
    log.say(Command::Release { task: FIRST, replaces, cause: ReleaseCause::HandedBack });
    // An entry of a leader whose clock is behind takes nothing back.
    log.now_ms -= 1_000;
    let changes = log.say(expire(ExpireCause::NeverStarted));
    assert_eq!(outcome(&changes), &Outcome::NeverStarted(1_000));
    assert_eq!(log.state.counters().expired, 1);
    assert_eq!(log.state.counters().finished(), 1);
}

#[test]
fn a_task_that_ran_once_may_wait_for_its_next_attempt_as_long_as_it_takes() {
    let mut log = Log::new();
    let terms = Terms { queue_timeout_ms: 1_000, ..Terms::default() };
    for how in [failure(), Report::Crashed("signal 9".into())] {
        let mut log = Log::new();
        log.submit(&with_terms(1, terms), Some(A));
        let token = log.token(1);
        log.complete(1, token, A, how);
        log.now_ms += 5_000;
        assert_eq!(log.say(expire(ExpireCause::NeverStarted)), []);
    }
    log.submit(&with_terms(1, terms), Some(A));
    let replaces = log.token(1);
    let cause = ReleaseCause::NodeLost { started: false };
    log.say(Command::Release { task: FIRST, replaces, cause });
    log.now_ms += 5_000;
    let changes = log.say(expire(ExpireCause::NeverStarted));
    assert_eq!(outcome(&changes), &Outcome::NeverStarted(1_000), "it was not known to run");
}

#[test]
fn a_deadline_ends_a_task_wherever_it_is_and_its_late_report_is_refused() {
    let mut log = Log::new();
    let terms = Terms { deadline_ms: 2_000, ..Terms::default() };
    log.submit(&with_terms(1, terms), Some(A));
    let token = log.token(1);
    log.now_ms += 1_999;
    assert_eq!(log.say(expire(ExpireCause::Deadline)), []);
    log.now_ms += 1;
    let changes = log.say(expire(ExpireCause::Deadline));
    assert_eq!(outcome(&changes), &Outcome::PastDeadline(2_000));
    let [Change::Finished { from: Some(A), .. }] = changes[..] else { panic!("{changes:?}") };
    assert_eq!(log.say(expire(ExpireCause::Deadline)), [], "one outcome");
    let late = log.complete(1, token, A, value("4"));
    assert!(matches!(late[..], [Change::LateCompletion { .. }]), "{late:?}");
    assert_eq!(outcome_of(&log), Outcome::PastDeadline(2_000));
}

fn outcome_of(log: &Log) -> Outcome {
    log.state.outcome(FIRST).unwrap().outcome.clone()
}

#[test]
fn tasks_that_fail_together_come_back_apart_and_every_node_computes_the_same() {
    let waits = |log: &mut Log| -> Vec<u64> {
        (1..=50)
            .map(|id| {
                log.submit(&spec(id, 9), Some(A));
                let token = log.token(id);
                log.complete(id, token, A, failure());
                log.state.live()[&TaskId(id)].ready_ms - log.now_ms
            })
            .collect()
    };
    let (once, again) = (waits(&mut Log::new()), waits(&mut Log::new()));
    assert_eq!(once, again);
    assert!(once.iter().all(|wait| (75..=125).contains(wait)), "{once:?}");
    let mut apart = once.clone();
    apart.sort_unstable();
    apart.dedup();
    assert!(apart.len() > 20, "{once:?}");
}

#[test]
fn a_joined_submission_is_the_other_task_however_often_it_comes() {
    let mut log = Log::new();
    log.submit(&with_key(1, OnDuplicate::Join), Some(A));
    for _ in 0..2 {
        for _ in 0..2 {
            let changes = log.submit(&with_key(2, OnDuplicate::Join), Some(B));
            let [Change::Joined { task: TaskId(2), existing: FIRST, .. }] = changes[..] else {
                panic!("{changes:?}")
            };
        }
        assert_eq!(log.state.counters().accepted, 1);
        if let Some(token) = log.state.live().get(&FIRST).map(|live| live.token()) {
            log.complete(1, token, A, value("4"));
        }
    }
    // The key is free again; another id is another task.
    let changes = log.submit(&with_key(3, OnDuplicate::Join), None);
    assert!(matches!(changes[..], [Change::Submitted { .. }]), "{changes:?}");
    assert_eq!(log.state.holder_of("k"), Some(TaskId(3)));
    // Long after the outcome is forgotten, the joined id is still no new task.
    log.now_ms += 60_001;
    log.say(Command::Cancel { task: TaskId(9) });
    assert!(log.state.outcome(FIRST).is_none());
    let changes = log.submit(&with_key(2, OnDuplicate::Join), None);
    assert!(matches!(changes[..], [Change::Joined { .. }]), "{changes:?}");
    let other =
        Arc::new(TaskSpec { payload: "[7]".into(), ..(*with_key(2, OnDuplicate::Join)).clone() });
    let changes = log.submit(&other, None);
    assert!(matches!(changes[..], [Change::Refused { refusal: Refusal::Conflict, .. }]));
}

#[test]
fn a_key_of_another_function_is_not_joined_and_reject_names_the_holder() {
    let mut log = Log::new();
    log.submit(&with_key(1, OnDuplicate::Join), Some(A));
    let mut stranger = (*with_key(2, OnDuplicate::Join)).clone();
    stranger.function.name = "g".into();
    for refused in [Arc::new(stranger), with_key(2, OnDuplicate::Reject)] {
        let changes = log.submit(&refused, None);
        let [Change::Refused { refusal: Refusal::Duplicate { existing, .. }, .. }] = &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!(*existing, FIRST);
    }
    assert_eq!(log.state.live().len(), 1);
    assert!(!log.state.knows(TaskId(2)));
}

#[test]
fn replace_takes_the_key_and_the_place_in_one_command() {
    let mut log = Log::new();
    log.submit(&with_key(1, OnDuplicate::Join), Some(A));
    let changes = log.submit(&with_key(2, OnDuplicate::Replace), Some(B));
    let [
        Change::Finished { finished, from: Some(A), .. },
        Change::Submitted { .. },
        Change::Assigned { to: B, .. },
    ] = &changes[..]
    else {
        panic!("{changes:?}")
    };
    assert_eq!((finished.task, &finished.outcome), (FIRST, &Outcome::Cancelled));
    assert_eq!(log.state.holder_of("k"), Some(TaskId(2)));
    let last = log.state.retention().get(FIRST).unwrap().story.steps.last().copied();
    assert_eq!(last.map(|step| step.kind), Some(StepKind::Replaced));
    // The same submission again changes nothing; the place it was to have is free.
    let changes = log.submit(&with_key(2, OnDuplicate::Replace), Some(A));
    let [Change::Joined { .. }, Change::AssignmentVoid { to: A, .. }] = changes[..] else {
        panic!("{changes:?}")
    };
    let token = log.token(2);
    log.complete(2, token, B, value("4"));
    assert_eq!(log.state.holder_of("k"), None);
}

#[test]
fn an_id_is_remembered_for_as_long_as_it_is_accepted() {
    let mut log = Log::new();
    log.now_ms = 100_000_000;
    let run = |log: &mut Log, id: u128| {
        log.submit(&spec(id, 0), Some(A));
        let token = log.token(id);
        log.complete(id, token, A, value("x"));
    };
    let first = dated(log.now_ms - 1, 0);
    run(&mut log, first);
    // Its outcome goes with its time; the id stays.
    log.now_ms += 60_002;
    log.say(Command::Cancel { task: TaskId(9) });
    assert!(log.state.outcome(TaskId(first)).is_none());
    assert!(matches!(log.submit(&spec(first, 0), None)[..], [Change::Joined { .. }]));
    // Its memory goes too: from then on nobody of its age is believed.
    log.now_ms += 3_600_000;
    log.say(Command::Cancel { task: TaskId(9) });
    assert_eq!(log.state.retention().remembered(), 0);
    for id in [first, dated(100_000_000 - 1, 5), dated(0, 5)] {
        let changes = log.submit(&spec(id, 0), None);
        assert!(matches!(changes[..], [Change::Refused { refusal: Refusal::IdExpired, .. }]));
    }
    let changes = log.submit(&spec(dated(100_000_000, 0), 0), None);
    assert!(matches!(changes[..], [Change::Submitted { .. }]), "{changes:?}");
}

#[test]
fn where_too_many_ids_are_to_be_remembered_the_oldest_are_refused_not_run_again() {
    let mut log = Log::new();
    log.now_ms = 100_000_000;
    for n in 0..300_u64 {
        let id = dated(log.now_ms + n, 0);
        log.submit(&spec(id, 0), Some(A));
        let token = log.token(id);
        log.complete(id, token, A, value("x"));
    }
    // 100 outcomes and 100 ids are kept, by the rules of the test.
    log.say(Command::Cancel { task: TaskId(9) });
    assert_eq!(log.state.retention().remembered(), 100);
    let mut met = (0, 0);
    for n in 0..300_u64 {
        match &log.submit(&spec(dated(log.now_ms + n, 0), 0), None)[..] {
            [Change::Joined { .. }] => met.0 += 1,
            [Change::Refused { refusal: Refusal::IdExpired, .. }] => met.1 += 1,
            other => panic!("{n} ran again: {other:?}"),
        }
    }
    assert_eq!(met, (200, 100));
}

#[test]
fn a_quarantined_task_says_where_each_attempt_died_and_keeps_its_retries() {
    let mut log = Log::new();
    log.submit(&spec(1, 1), Some(A));
    let token = log.token(1);
    log.complete(1, token, A, failure());
    for left in [2, 1, 0] {
        place(&mut log);
        let token = log.token(1);
        let changes = log.complete(1, token, A, Report::Crashed("killed by signal 11".into()));
        assert_eq!(matches!(changes[..], [Change::Requeued { .. }]), left > 0, "{changes:?}");
    }
    let Outcome::Lost(text) = outcome_of(&log) else { panic!() };
    assert!(text.contains("died 3 times, its crash budget (limits.crash_budget)"), "{text}");
    for attempt in [2, 3, 4] {
        assert!(text.contains(&format!("attempt {attempt} on ")), "{text}");
    }
    assert!(text.contains("signal 11"), "{text}");
    assert_eq!(log.state.counters().lost, 1);
}

#[test]
fn what_each_attempt_said_is_kept_with_the_outcome_and_counted_until_then() {
    let mut log = Log::new();
    log.submit(&spec(1, 2), None);
    let empty = log.state.live_bytes();
    for (attempt, (report, said)) in
        [(failure(), "one\n"), (failure(), "two\n"), (value("7"), "three\n")]
            .into_iter()
            .enumerate()
    {
        place(&mut log);
        let (token, output) = (log.token(1), said.into());
        let complete = Command::Complete { task: FIRST, token, node: A, report, output };
        let changes = log.say(complete.clone());
        if attempt < 2 {
            assert!(log.state.live_bytes() > empty);
            assert!(matches!(log.say(complete)[..], [Change::Repeated { .. }]), "said once");
            log.now_ms += 60_000;
            continue;
        }
        let [Change::Finished { finished, .. }] = &changes[..] else { panic!("{changes:?}") };
        let said = [(1, &b"one\n"[..]), (2, b"two\n"), (3, b"three\n")];
        assert_eq!(output::split(&finished.output), said);
    }
    assert_eq!(log.state.live_bytes(), 0);
}
