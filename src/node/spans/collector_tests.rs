//! A log that applies at once, and which spans a leader's collector makes of what it says.

use super::*;
use crate::core::boundary::Change;
use crate::core::cluster::command::{
    Batch, Codec, Command, Failure, FunctionRef, Member, Payload, ReleaseCause, Rules,
};
use crate::core::ids::{FunctionHash, SessionId};
use std::time::Duration;
use tokio::sync::mpsc;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const CALLER: TraceContext = TraceContext { trace: 7, span: 9, flags: 1 };
/// Made at 950 ms, by its own words.
const TASK: TaskId = TaskId(950 << 80 | 7 << 76 | 0b10 << 62 | 5);

/// A log that applies at once, and a leader's collector beside it.
struct Bench {
    state: ClusterState,
    collector: Collector,
    queued: mpsc::Receiver<Span>,
    now_ms: u64,
}

impl Bench {
    fn new() -> Self {
        let (queue, queued) = SpanQueue::new(64);
        let (state, collector) = (ClusterState::default(), Collector::new(queue));
        let mut bench = Bench { state, collector, queued, now_ms: 1_000 };
        bench.say(Command::Adopt(Rules {
            crash_budget: 3,
            outcomes: 100,
            outcome_bytes: 1 << 20,
            outcome_ttl_ms: 60_000,
            id_memory_ms: 3_600_000,
            remembered_ids: 100,
        }));
        for (id, name) in [(A, "a"), (B, "b")] {
            let member = Member { id, name: name.into(), slots: 1, ..Member::default() };
            bench.say(Command::Admit(member));
        }
        bench
    }

    fn at(&mut self, now_ms: u64) -> &mut Self {
        self.now_ms = now_ms;
        self
    }

    fn see(&mut self, event: &Event) -> Vec<Span> {
        self.collector.see(true, self.now_ms, &self.state, event);
        std::iter::from_fn(|| self.queued.try_recv().ok()).collect()
    }

    fn say(&mut self, command: Command) -> Vec<Span> {
        let index = self.state.applied() + 1;
        let batch = Batch { at_ms: self.now_ms, commands: vec![command] };
        let changes: Vec<Change> = self.state.apply(index, &batch);
        self.see(&Event::Applied { index, changes })
    }

    fn submit(&mut self, spec: TaskSpec, to: Option<NodeId>) -> Vec<Span> {
        self.say(Command::Submit { spec: Arc::new(spec), to })
    }

    fn assign(&mut self, to: NodeId, cause: AssignCause) -> Vec<Span> {
        let replaces = self.state.live()[&TASK].token();
        self.say(Command::Assign { task: TASK, to, cause, replaces })
    }

    /// The node's word, and then the log's.
    fn end(&mut self, node: NodeId, token: Token, report: Report, took: Duration) -> Vec<Span> {
        let ended = Ended { task: TASK, token, report: report.clone(), output: "".into(), took };
        let mut spans = self.see(&Event::Reported { node, reports: vec![ended] });
        let output = "".into();
        spans.extend(self.say(Command::Complete { task: TASK, token, node, report, output }));
        spans
    }

    fn token(&self) -> Token {
        self.state.live()[&TASK].token()
    }
}

fn spec(trace: Option<TraceContext>) -> TaskSpec {
    let function = FunctionRef { name: "f".into(), hash: FunctionHash(1) };
    let new = TaskSpec::new(TASK, SessionId(9), function);
    TaskSpec { payload: "[1]".into(), retries: 2, trace: trace.map(Box::new), ..new }
}

fn value() -> Report {
    Report::Value(Payload::inline(Codec::Json, "1".into()))
}

fn failure() -> Report {
    Report::Failure(Failure {
        type_name: "app.Sold".into(),
        message: "a secret".into(),
        traceback: String::new(),
        pickled: Default::default(),
    })
}

const MS: Duration = Duration::from_millis(1);

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    match span.attributes.iter().find(|(known, _)| *known == key) {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

/// Kind, times in milliseconds, outcome or cause, and the error.
fn told(spans: &[Span]) -> Vec<(SpanKind, u64, u64, &str, &str)> {
    let row = |span| {
        let Span { kind, start_us, end_us, error, .. }: &Span = span;
        let word = match text(span, "hustings.outcome") {
            "" => text(span, "hustings.cause"),
            outcome => outcome,
        };
        (*kind, start_us / 1_000, end_us / 1_000, word, error.as_deref().unwrap_or_default())
    };
    spans.iter().map(row).collect()
}

use SpanKind::{Assign, Run, Submit, Task};

#[test]
fn a_task_has_a_span_with_a_child_for_each_step() {
    let mut bench = Bench::new();
    let mut spans = bench.submit(spec(Some(CALLER)), Some(A));
    let token = bench.token();
    spans.extend(bench.at(1_300).end(A, token, value(), 200 * MS));
    let expected = [
        (Submit, 950, 1_000, "", ""),
        (Assign, 1_000, 1_000, "placed", ""),
        (Run, 1_100, 1_300, "succeeded", ""),
        (Task, 950, 1_300, "succeeded", ""),
    ];
    assert_eq!(told(&spans), expected);
    let whole = &spans[3];
    assert_eq!((whole.at.trace, whole.parent, whole.at.flags), (7, 9, 1));
    for child in &spans[..3] {
        assert_eq!((child.at.trace, child.parent), (7, whole.at.span));
        assert_ne!(child.at.span, whole.at.span);
    }
    assert_eq!(text(&spans[2], "hustings.node"), "a");
    assert_eq!(text(&spans[2], "messaging.operation.type"), "process");
    assert_eq!(text(whole, "messaging.message.id"), TASK.to_string());
    assert_eq!(spans[2].at, place_of(&CALLER, TASK, Run, token));
}

#[test]
fn who_is_not_traced_has_none() {
    let mut bench = Bench::new();
    for trace in [None, Some(TraceContext { flags: 2, ..CALLER })] {
        let mut spans = bench.submit(spec(trace), Some(A));
        let token = bench.token();
        spans.extend(bench.end(A, token, value(), MS));
        assert_eq!(spans, []);
        bench = Bench::new();
    }
}

#[test]
fn each_attempt_is_told_once_and_no_words_of_an_exception() {
    let mut bench = Bench::new();
    bench.submit(spec(Some(CALLER)), Some(A));
    let first = bench.token();
    let mut spans = bench.at(1_100).end(A, first, failure(), 50 * MS);
    assert_eq!(told(&spans), [(Run, 1_050, 1_100, "failed", "failed: app.Sold")]);
    let again = Ended { task: TASK, token: first, report: failure(), output: "".into(), took: MS };
    assert_eq!(bench.see(&Event::Reported { node: A, reports: vec![again] }), []);
    spans.extend(bench.at(1_400).assign(B, AssignCause::Placed));
    assert_eq!(told(&spans[1..]), [(Assign, 1_100, 1_400, "placed", "")]);
    let token = bench.token();
    // It took nothing: it did not run.
    let crash = Report::Crashed("no such function".into());
    spans.extend(bench.at(1_450).end(B, token, crash, Duration::ZERO));
    assert_eq!(spans.len(), 2);
    bench.at(1_500).assign(A, AssignCause::Placed);
    let token = bench.token();
    spans.extend(bench.at(1_600).end(A, token, Report::TimedOut(80), 80 * MS));
    bench.at(1_700).assign(A, AssignCause::Placed);
    let token = bench.token();
    spans.extend(bench.at(1_800).end(A, token, failure(), MS));
    let expected = [
        (Run, 1_520, 1_600, "timed_out", "timed_out"),
        (Run, 1_799, 1_800, "failed", "failed: app.Sold"),
        (Task, 950, 1_800, "failed", "failed: app.Sold"),
    ];
    assert_eq!(told(&spans[2..]), expected);
    assert!(!format!("{spans:?}").contains("secret"));
}

#[test]
fn a_steal_is_a_wait_at_the_victim_and_a_lost_node_a_guess() {
    let mut bench = Bench::new();
    bench.submit(spec(Some(CALLER)), Some(A));
    let spans = bench.at(1_200).assign(B, AssignCause::Stolen);
    assert_eq!(told(&spans), [(Assign, 1_000, 1_200, "stolen", "")]);
    assert_eq!(text(&spans[0], "hustings.node"), "b");
    let lost = |bench: &mut Bench, cause| {
        let replaces = bench.token();
        bench.say(Command::Release { task: TASK, replaces, cause })
    };
    let spans = lost(bench.at(1_500), ReleaseCause::NodeLost { started: true });
    assert_eq!(told(&spans), [(Run, 1_200, 1_500, "node_lost", "node_lost")]);
    assert_eq!(text(&spans[0], "hustings.approximate"), "since its assignment");
    bench.at(1_600).assign(A, AssignCause::Placed);
    assert_eq!(lost(bench.at(1_700), ReleaseCause::HandedBack), [], "it never began");
    let spans = bench.at(1_800).say(Command::Cancel { task: TASK });
    assert_eq!(told(&spans), [(Task, 950, 1_800, "cancelled", "")]);
}

#[test]
fn the_copy_that_loses_has_a_span_too() {
    let mut bench = Bench::new();
    bench.submit(TaskSpec { idempotent: true, ..spec(Some(CALLER)) }, Some(A));
    let first = bench.token();
    let spans = bench.at(1_200).assign(B, AssignCause::Copied);
    assert_eq!(told(&spans), [(Assign, 1_200, 1_200, "copied", "")]);
    let copy = bench.state.live()[&TASK].copy.unwrap().token;
    let spans = bench.at(1_400).end(B, copy, value(), 150 * MS);
    let expected = [
        (Run, 1_250, 1_400, "succeeded", ""),
        (Run, 1_000, 1_400, "superseded", ""),
        (Task, 950, 1_400, "succeeded", ""),
    ];
    assert_eq!(told(&spans), expected);
    assert_eq!(spans[1].at, place_of(&CALLER, TASK, Run, first));
}

#[test]
fn the_next_leader_goes_on_in_the_same_tree() {
    let mut bench = Bench::new();
    let before = bench.submit(spec(Some(CALLER)), Some(A));
    let (queue, queued) = SpanQueue::new(64);
    (bench.collector, bench.queued) = (Collector::new(queue), queued);
    let voters = [A, B].into();
    let gained = Event::LeadershipGained { term: 2, wall_ms: 1_100, followed: true, voters };
    assert_eq!(bench.see(&gained), []);
    let token = bench.token();
    // The other leader heard the report; the log is all there is.
    let (output, report) = ("".into(), failure());
    let command = Command::Complete { task: TASK, token, node: A, report, output };
    let spans = bench.at(1_200).say(command);
    assert_eq!(told(&spans), [(Run, 1_000, 1_200, "failed", "failed")]);
    assert_eq!(spans[0].parent, before[0].parent);
    bench.see(&Event::LeadershipLost);
    assert_eq!(bench.at(1_300).say(Command::Cancel { task: TASK }), [], "others tell that");
}

#[test]
fn only_so_many_tasks_are_followed() {
    let mut bench = Bench::new();
    let spec = Arc::new(spec(Some(CALLER)));
    for id in 1..=MAX_OPEN as u128 {
        let one = Arc::new(TaskSpec { id: TaskId(id), ..(*spec).clone() });
        assert!(bench.collector.follow(&one, 1).is_some());
    }
    assert!(bench.collector.follow(&spec, 1).is_none());
    assert_eq!(bench.collector.queue.counts().dropped, 1);
}
