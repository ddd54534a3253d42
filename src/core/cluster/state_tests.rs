//! The log's rules, one command at a time.

use super::*;
use crate::core::boundary::{Refusal, RequeueReason};
use crate::core::cluster::command::{
    Codec, Failure, FunctionRef, Payload, ReleaseCause, Report, TaskSpec, Terms,
};
use crate::core::ids::SessionId;
use bytes::Bytes;

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);

pub fn spec(id: u128, retries: u32) -> Arc<TaskSpec> {
    Arc::new(TaskSpec {
        id: TaskId(id),
        session: SessionId(9),
        function: FunctionRef { name: "f".into(), hash: FunctionHash(1) },
        codec: Codec::Json,
        blob: None,
        payload: Bytes::from_static(b"[]"),
        retries,
        timeout_ms: 0,
        priority: 5,
        backoff_ms: 100,
        terms: Terms::default(),
        claim: None,
        needs: None,
        idempotent: false,
        in_thread: false,
        trace: None,
    })
}

pub fn value(text: &'static str) -> Report {
    Report::Value(Payload::inline(Codec::Json, Bytes::from_static(text.as_bytes())))
}

pub fn failure() -> Report {
    Report::Failure(Failure {
        type_name: "ValueError".into(),
        message: "no".into(),
        traceback: String::new(),
        pickled: Bytes::new(),
    })
}

/// A log that applies at once.
pub struct Log {
    pub state: ClusterState,
    pub now_ms: u64,
}

impl Log {
    pub fn new() -> Self {
        let mut log = Log { state: ClusterState::default(), now_ms: 1_000 };
        let rules = Rules {
            crash_budget: 3,
            outcomes: 100,
            outcome_bytes: 1 << 20,
            outcome_ttl_ms: 60_000,
            id_memory_ms: 3_600_000,
            remembered_ids: 100,
        };
        log.say(Command::Adopt(rules));
        for id in [A, B] {
            log.say(Command::Admit(Member { id, slots: 1, ..Member::default() }));
        }
        log
    }

    pub fn say(&mut self, command: Command) -> Vec<Change> {
        let batch = Batch { at_ms: self.now_ms, commands: vec![command] };
        self.state.apply(self.state.applied() + 1, &batch)
    }

    pub fn submit(&mut self, spec: &Arc<TaskSpec>, to: Option<NodeId>) -> Vec<Change> {
        self.say(Command::Submit { spec: spec.clone(), to })
    }

    pub fn token(&self, id: u128) -> Token {
        self.state.live()[&TaskId(id)].token()
    }

    pub fn complete(
        &mut self,
        id: u128,
        token: Token,
        node: NodeId,
        report: Report,
    ) -> Vec<Change> {
        let output = Bytes::new();
        self.say(Command::Complete { task: TaskId(id), token, node, report, output })
    }
}

#[test]
fn a_task_runs_once_and_has_one_outcome() {
    let mut log = Log::new();
    let changes = log.submit(&spec(1, 0), Some(A));
    assert!(matches!(
        changes[..],
        [Change::Submitted { .. }, Change::Assigned { to: A, attempt: 1, .. }]
    ));
    let token = log.token(1);
    let changes = log.complete(1, token, A, value("4"));
    let [Change::Finished { finished, from: Some(A), .. }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert!(matches!(finished.outcome, Outcome::Value(_)));
    assert!(log.state.live().is_empty());
    assert_eq!(log.state.counters().succeeded, 1);
}

#[test]
fn a_task_under_which_a_node_died_runs_in_no_other_nodes_process() {
    let in_thread = |log: &Log| log.state.live()[&TaskId(1)].spec.in_thread;
    for started in [false, true] {
        let mut log = Log::new();
        log.submit(&Arc::new(TaskSpec { in_thread: true, ..(*spec(1, 0)).clone() }), Some(A));
        assert!(in_thread(&log));
        let (replaces, cause) = (log.token(1), ReleaseCause::NodeLost { started });
        log.say(Command::Release { task: TaskId(1), replaces, cause });
        assert!(!in_thread(&log), "whether or not anybody heard that it had begun");
    }
    let mut log = Log::new();
    log.submit(&Arc::new(TaskSpec { in_thread: true, ..(*spec(1, 1)).clone() }), Some(A));
    let replaces = log.token(1);
    log.say(Command::Release { task: TaskId(1), replaces, cause: ReleaseCause::HandedBack });
    assert!(in_thread(&log), "nobody died");
}

#[test]
fn a_replaced_attempt_is_refused_and_counted_and_a_repeated_one_is_not() {
    let mut log = Log::new();
    log.submit(&spec(1, 0), Some(A));
    let old = log.token(1);
    let cause = ReleaseCause::NodeLost { started: true };
    log.say(Command::Release { task: TaskId(1), replaces: old, cause });
    log.say(Command::Assign {
        task: TaskId(1),
        to: B,
        cause: AssignCause::Placed,
        replaces: Token(0),
    });
    let new = log.token(1);
    assert!(new > old, "fencing tokens only grow");
    let changes = log.complete(1, old, A, value("stale"));
    assert!(matches!(changes[..], [Change::LateCompletion { node: A, .. }]));
    let changes = log.complete(1, new, B, value("fresh"));
    assert!(matches!(changes[..], [Change::Finished { .. }]));
    // The same word again is a re-send; the old one is still late.
    assert!(matches!(
        log.complete(1, new, B, value("fresh"))[..],
        [Change::Repeated { node: B, .. }]
    ));
    assert!(matches!(log.complete(1, old, A, value("stale"))[..], [Change::LateCompletion { .. }]));
    assert_eq!(log.state.counters().late_completions, 2);
    let outcome = &log.state.outcome(TaskId(1)).unwrap().outcome;
    assert_eq!(outcome, &Outcome::Value(Payload::inline(Codec::Json, Bytes::from("fresh"))));
}

#[test]
fn the_same_id_joins_and_another_payload_conflicts_before_and_after_the_end() {
    let mut log = Log::new();
    let task = spec(1, 0);
    let other = Arc::new(TaskSpec { payload: Bytes::from_static(b"[1]"), ..(*task).clone() });
    log.submit(&task, Some(A));
    for _ in 0..2 {
        let void = |change: &Change| matches!(change, Change::AssignmentVoid { to: B, .. });
        let changes = log.submit(&task, Some(B));
        assert!(matches!(&changes[..], [Change::Joined { .. }, place] if void(place)));
        let changes = log.submit(&other, Some(B));
        let [Change::Refused { refusal: Refusal::Conflict, .. }, place] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert!(void(place));
        let token = log.state.live().get(&TaskId(1)).map(Live::token);
        if let Some(token) = token {
            log.complete(1, token, A, value("4"));
        }
    }
    assert_eq!(log.state.counters().accepted, 1);
    assert_eq!(log.state.counters().duplicates, 4);
}

#[test]
fn failures_use_up_retries_with_doubling_waits() {
    let mut log = Log::new();
    log.submit(&spec(1, 2), Some(A));
    for expected in [100, 200] {
        let token = log.token(1);
        let changes = log.complete(1, token, A, failure());
        let [Change::Requeued { delay, reason: RequeueReason::Failed, .. }] = changes[..] else {
            panic!("{changes:?}")
        };
        let delay = delay.as_millis() as u64;
        assert!((expected * 3 / 4..=expected * 5 / 4).contains(&delay), "{delay}");
        let (cause, replaces) = (AssignCause::Placed, Token(0));
        log.say(Command::Assign { task: TaskId(1), to: A, cause, replaces });
    }
    let token = log.token(1);
    let changes = log.complete(1, token, A, failure());
    assert!(matches!(&changes[..], [Change::Finished { finished, .. }] if finished.attempts == 3));
}

#[test]
fn crashes_have_a_budget_of_their_own_and_steals_and_hand_backs_are_free() {
    let mut log = Log::new();
    log.submit(&spec(1, 0), Some(A));
    for _ in 0..10 {
        let replaces = log.token(1);
        log.say(Command::Assign { task: TaskId(1), to: B, cause: AssignCause::Stolen, replaces });
        let replaces = log.token(1);
        log.say(Command::Release { task: TaskId(1), replaces, cause: ReleaseCause::HandedBack });
        let (cause, replaces) = (AssignCause::Placed, Token(0));
        log.say(Command::Assign { task: TaskId(1), to: A, cause, replaces });
    }
    for last in [false, false, true] {
        let token = log.token(1);
        let changes = log.complete(1, token, A, Report::Crashed("signal 11".into()));
        match &changes[..] {
            [Change::Requeued { reason: RequeueReason::Crashed, .. }] if !last => {}
            [Change::Finished { finished, .. }] if last => {
                assert!(
                    matches!(&finished.outcome, Outcome::Lost(text) if text.contains("signal 11"))
                );
                return;
            }
            other => panic!("{other:?}"),
        }
        let (cause, replaces) = (AssignCause::Placed, Token(0));
        log.say(Command::Assign { task: TaskId(1), to: A, cause, replaces });
    }
}

#[test]
fn an_assignment_is_void_for_strangers_and_for_replaced_attempts() {
    let mut log = Log::new();
    log.submit(&spec(1, 0), Some(A));
    let stale =
        Command::Assign { task: TaskId(1), to: B, cause: AssignCause::Stolen, replaces: Token(1) };
    assert!(matches!(log.say(stale)[..], [Change::AssignmentVoid { to: B, .. }]));
    let replaces = log.token(1);
    let stranger =
        Command::Assign { task: TaskId(1), to: NodeId(7), cause: AssignCause::Stolen, replaces };
    assert!(matches!(log.say(stranger)[..], [Change::AssignmentVoid { .. }]));
    assert!(matches!(log.submit(&spec(2, 0), Some(NodeId(7)))[..], [Change::Submitted { .. }]));
}

#[test]
fn outcomes_expire_by_age_count_and_bytes_but_ids_are_remembered() {
    let mut log = Log::new();
    for id in 1..=150 {
        log.submit(&spec(id, 0), Some(A));
        let token = log.token(id);
        log.complete(id, token, A, value("x"));
    }
    assert_eq!(log.state.retention().done().len(), 100, "the count bound");
    assert!(log.state.outcome(TaskId(1)).is_none());
    assert!(matches!(log.submit(&spec(1, 0), None)[..], [Change::Joined { .. }]), "remembered");
    log.now_ms += 60_001;
    log.say(Command::Cancel { task: TaskId(999) });
    assert_eq!(log.state.retention().done().len(), 0, "the age bound");
    assert_eq!(log.state.retention().bytes(), 0);
    log.now_ms += 3_600_001;
    log.say(Command::Cancel { task: TaskId(999) });
    assert!(matches!(log.submit(&spec(1, 0), None)[..], [Change::Submitted { .. }]), "forgotten");
}

#[test]
fn a_snapshot_is_the_state() {
    let mut log = Log::new();
    log.submit(&spec(1, 0), Some(A));
    log.submit(&spec(2, 0), None);
    let token = log.token(1);
    log.complete(1, token, A, value("4"));
    let copy = ClusterState::decode(&mut log.state.encode().as_slice()).unwrap();
    assert_eq!(copy, log.state);
    assert!(ClusterState::decode(&mut [0xff; 7].as_slice()).is_err());
}
