//! Two attempts of a task at once, by the log's rules: the first outcome counts, any other end leaves the other one.

use super::command::{AssignCause, Command, Outcome, ReleaseCause, Report};
use super::state::tests::{A, B, Log, failure, spec, value};
use super::story::StepKind;
use crate::core::boundary::{Change, RequeueReason};
use crate::core::cluster::command::Member;
use crate::core::ids::{NodeId, TaskId, Token};

const C: NodeId = NodeId(3);

fn copy(to: NodeId, replaces: Token) -> Command {
    Command::Assign { task: TaskId(1), to, cause: AssignCause::Copied, replaces }
}

/// A task at A with a copy at B, and both tokens.
fn copied(retries: u32) -> (Log, Token, Token) {
    let mut log = Log::new();
    log.say(Command::Admit(Member { id: C, slots: 1, ..Member::default() }));
    log.submit(&spec(1, retries), Some(A));
    let first = log.token(1);
    let changes = log.say(copy(B, first));
    let [Change::Assigned { to: B, from: None, token, attempt: 2, .. }] = changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(log.token(1), first, "the first is live still");
    (log, first, token)
}

fn outcome(log: &Log) -> Option<Outcome> {
    log.state.outcome(TaskId(1)).map(|finished| finished.outcome.clone())
}

#[test]
fn the_first_outcome_counts_and_names_the_loser() {
    for copy_wins in [false, true] {
        let (mut log, first, second) = copied(0);
        let ((node, token), (other, late)) = match copy_wins {
            true => ((B, second), (A, first)),
            false => ((A, first), (B, second)),
        };
        let changes = log.complete(1, token, node, value("1"));
        let [Change::Finished { finished, from, token: won, loser, .. }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((finished.node, *from, *won, finished.attempts), (node, Some(node), token, 2));
        assert_eq!(loser.map(|loser| (loser.node, loser.token)), Some((other, late)));
        let again = log.complete(1, token, node, value("1"));
        assert!(matches!(again[..], [Change::Repeated { .. }]));
        let changes = log.complete(1, late, other, value("2"));
        assert!(matches!(changes[..], [Change::LateCompletion { .. }]));
        let counters = log.state.counters();
        let counts = (counters.copies, counters.copies_first, counters.succeeded);
        assert_eq!(counts, (1, u64::from(copy_wins), 1));
    }
}

#[test]
fn an_attempt_that_fails_leaves_its_twin_as_the_retry_and_without_retries_decides() {
    for token_of in [0, 1] {
        let (mut log, first, second) = copied(1);
        let tokens = [(A, first), (B, second)];
        let ((node, token), (other, stays)) = (tokens[token_of], tokens[1 - token_of]);
        let changes = log.complete(1, token, node, failure());
        let [Change::Narrowed { from, reason: RequeueReason::Failed, .. }] = changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((from, log.token(1)), (node, stays));
        assert!(matches!(log.complete(1, token, node, failure())[..], [Change::Repeated { .. }]));
        log.complete(1, stays, other, failure());
        assert!(matches!(outcome(&log), Some(Outcome::Failure(_))), "one retry, two failures");
    }
    let (mut log, _, second) = copied(0);
    log.complete(1, second, B, failure());
    assert!(matches!(outcome(&log), Some(Outcome::Failure(_))));
}

#[test]
fn a_node_that_is_lost_or_hands_back_leaves_the_twin_and_crashes_are_counted() {
    let (mut log, first, second) = copied(0);
    let cause = ReleaseCause::NodeLost { started: true };
    log.say(Command::Release { task: TaskId(1), replaces: first, cause });
    assert_eq!((log.token(1), log.state.counters().reassigned), (second, 0));
    let changes = log.say(copy(C, second));
    let [Change::Assigned { to: C, token: third, attempt: 3, .. }] = changes[..] else {
        panic!("{changes:?}")
    };
    let cause = ReleaseCause::HandedBack;
    log.say(Command::Release { task: TaskId(1), replaces: third, cause });
    assert_eq!(log.token(1), second);
    log.say(copy(A, second));
    log.complete(1, second, B, Report::Crashed("bang".into()));
    assert_eq!(outcome(&log), None);
    let last = log.token(1);
    log.complete(1, last, A, Report::Crashed("bang".into()));
    assert!(matches!(outcome(&log), Some(Outcome::Lost(text)) if text.contains("3 times")));
    let story = &log.state.retention().get(TaskId(1)).unwrap().story;
    let copies = story.steps.iter().filter(|step| step.kind == StepKind::Copied).count();
    assert_eq!(copies, 3);
}

#[test]
fn a_copy_is_void_beside_nothing_beside_another_and_where_one_runs() {
    let (mut log, first, second) = copied(0);
    for (to, beside) in [(C, first), (C, second), (A, first), (B, first), (C, Token(0))] {
        let changes = log.say(copy(to, beside));
        assert!(matches!(changes[..], [Change::AssignmentVoid { .. }]), "{to:?}: {changes:?}");
    }
    let cause = AssignCause::Stolen;
    let stolen = Command::Assign { task: TaskId(1), to: B, cause, replaces: first };
    assert!(matches!(log.say(stolen)[..], [Change::AssignmentVoid { .. }]), "it holds the copy");
    log.say(Command::Cancel { task: TaskId(1) });
    let mut log = Log::new();
    log.submit(&spec(1, 0), None);
    assert!(matches!(log.say(copy(B, Token(0)))[..], [Change::AssignmentVoid { .. }]));
}
