//! What a task whose caller is traced took, as spans: collected by whoever leads, sent to a collector by OTLP.
//!
//! ```text
//!   task loop of the leader ─▶ collector ─Span─▶ SpanQueue, bounded ─▶ otlp ══gRPC══▶ a collector of OpenTelemetry
//!   (log and reports pass by)                    (full: dropped, counted)
//!
//!   the caller's span
//!   └─ hustings.task        from when its client made it to its outcome
//!      ├─ hustings.submit   until a majority holds it
//!      ├─ hustings.assign   until a node was chosen, of each attempt
//!      └─ hustings.run      of each attempt, on its node
//! ```
//! A span's id follows from its task and attempt, so that whoever leads next goes on in the same tree, and what two
//! leaders tell of one attempt is one span.

pub mod collector;
#[cfg(feature = "otel")]
mod otlp;

use crate::core::boundary::Assignment;
use crate::core::cluster::command::TaskSpec;
use crate::core::ids::{TaskId, Token};
use crate::core::trace::TraceContext;
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

/// Spans that may wait for their collector; beyond it they are dropped.
pub const MAX_QUEUED: usize = 2_048;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A task, from its making to its outcome.
    Task,
    /// Its way into the log.
    Submit,
    /// Its wait for a node.
    Assign,
    /// One of its attempts.
    Run,
}

impl SpanKind {
    /// The span's name.
    pub fn name(self) -> &'static str {
        match self {
            SpanKind::Task => "hustings.task",
            SpanKind::Submit => "hustings.submit",
            SpanKind::Assign => "hustings.assign",
            SpanKind::Run => "hustings.run",
        }
    }
}

/// One span, finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What of.
    pub kind: SpanKind,
    /// Where: its trace, its own id, the trace's flags.
    pub at: TraceContext,
    /// Whose child.
    pub parent: u64,
    /// Microseconds since 1970.
    pub start_us: u64,
    /// The same.
    pub end_us: u64,
    /// What else is known.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it did not go well.
    pub error: Option<String>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A count or size.
    Number(u64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

/// Where the span of `kind` stands in the trace of `task`; `Token(0)` where it belongs to no attempt.
pub fn place_of(trace: &TraceContext, task: TaskId, kind: SpanKind, token: Token) -> TraceContext {
    let mut hasher = Xxh3::new();
    hasher.update(&trace.trace.to_le_bytes());
    hasher.update(&task.to_bytes());
    hasher.update(&[kind as u8]);
    hasher.update(&token.0.to_le_bytes());
    TraceContext { span: hasher.digest().max(1), ..*trace }
}

/// The attempt as its runner gets it, on a node that exports: what the callback makes belongs to its own span.
pub fn within_run(assignment: Assignment) -> Assignment {
    let Assignment { spec, token, .. } = &assignment;
    let Some(trace) = spec.trace.as_deref().filter(|trace| trace.is_sampled()) else {
        return assignment;
    };
    let run = place_of(trace, spec.id, SpanKind::Run, *token);
    let spec = TaskSpec { trace: Some(Box::new(run)), ..(**spec).clone() };
    Assignment { spec: Arc::new(spec), ..assignment }
}

/// Spans on their way out, and how many there were.
#[derive(Debug)]
pub struct SpanQueue {
    spans: mpsc::Sender<Span>,
    /// Queued, and not sent or given up yet.
    waiting: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    is_full: AtomicBool,
}

/// What became of spans, since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// A collector has them.
    pub sent: u64,
    /// There was no room for them.
    pub dropped: u64,
    /// No collector took them.
    pub failed: u64,
}

impl SpanQueue {
    /// A queue with room for so many.
    pub fn new(room: usize) -> (Arc<Self>, mpsc::Receiver<Span>) {
        let (spans, queued) = mpsc::channel(room);
        let (waiting, sent, dropped, failed) = Default::default();
        let is_full = AtomicBool::new(false);
        (Arc::new(SpanQueue { spans, waiting, sent, dropped, failed, is_full }), queued)
    }

    /// Queues a span, or drops it; never waits.
    pub fn push(&self, span: Span) {
        // First, as it may be sent before this returns.
        self.waiting.fetch_add(1, Ordering::AcqRel);
        match self.spans.try_send(span) {
            Ok(()) => self.is_full.store(false, Ordering::Relaxed),
            Err(_) => {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                self.drop_one();
            }
        }
    }

    /// A span could not be kept.
    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                most = MAX_QUEUED,
                "spans are dropped: their collector takes them too slowly, or not at all"
            );
        }
    }

    /// Whether all that was queued has been sent, or given up.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// What became of them.
    pub fn counts(&self) -> SpanCounts {
        SpanCounts {
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// The way to the collector at `otlp`, by default the one that the environment names; `None`: nobody asked for spans.
#[cfg(feature = "otel")]
pub fn open(otlp: Option<&str>, node: &str) -> Result<Option<Arc<SpanQueue>>> {
    otlp::open(otlp, node)
}

/// Refuses whoever asks for spans: this build has no exporter. What the environment says may be meant for others.
#[cfg(not(feature = "otel"))]
pub fn open(otlp: Option<&str>, _node: &str) -> Result<Option<Arc<SpanQueue>>> {
    let Some(endpoint) = otlp else { return Ok(None) };
    let problem = format!(
        "\"{}\" cannot be served: this build lacks the cargo feature otel; build it with `maturin build --release \
         --features python,otel`, or leave otlp out",
        endpoint.escape_default().take(64).collect::<String>()
    );
    Err(crate::error::Error::config("otlp", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        let at = TraceContext { trace: 1, span: 2, flags: 1 };
        let (attributes, error) = (Vec::new(), None);
        Span { kind: SpanKind::Task, at, parent: 3, start_us: 1, end_us: 2, attributes, error }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (queue, mut queued) = SpanQueue::new(2);
        assert!(queue.is_empty());
        (0..5).for_each(|_| queue.push(span()));
        assert_eq!(queue.counts(), SpanCounts { dropped: 3, ..SpanCounts::default() });
        assert!(!queue.is_empty());
        assert!(queued.try_recv().is_ok());
        queue.push(span());
        drop(queued);
        queue.push(span());
        assert_eq!(queue.counts().dropped, 4);
    }

    #[test]
    fn each_place_in_a_trace_has_an_id_of_its_own_that_everybody_finds() {
        let caller = TraceContext { trace: 7, span: 9, flags: 1 };
        let kinds = [SpanKind::Task, SpanKind::Submit, SpanKind::Assign, SpanKind::Run];
        let mut ids = std::collections::BTreeSet::new();
        for task in [TaskId(1), TaskId(2)] {
            for kind in kinds {
                for token in [Token(1), Token(2)] {
                    let place = place_of(&caller, task, kind, token);
                    assert_eq!((place.trace, place.flags), (7, 1));
                    assert!(place.span != 0 && ids.insert(place.span));
                    // Whoever asks from elsewhere in the trace.
                    let again = TraceContext { span: 1, ..caller };
                    assert_eq!(place_of(&again, task, kind, token), place);
                }
            }
        }
    }

    #[cfg(not(feature = "otel"))]
    #[test]
    fn without_the_feature_nobody_gets_spans_unknowingly() {
        assert!(open(None, "n1").unwrap().is_none());
        let refused = open(Some("http://127.0.0.1:4317"), "n1").unwrap_err().to_string();
        assert!(refused.starts_with("otlp: \"http://127.0.0.1:4317\""), "{refused}");
        assert!(refused.contains("--features python,otel"), "{refused}");
    }
}
