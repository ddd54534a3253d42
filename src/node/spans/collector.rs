//! Which spans the tasks of traced callers have, as the log and the nodes' reports pass by the leader.
//!
//! Times are of the clock of the log, in milliseconds, except how long an attempt ran, which its node measured. Of an
//! attempt that nobody reported (its node died, it lost against its copy, or another node led when it ended) only the
//! assignment is known, so its span includes what it waited on its node; the attribute `hustings.approximate` says so.

use super::{Span, SpanKind, SpanQueue, Value, place_of};
use crate::core::boundary::{Change, Ended, Event, Finished, RequeueReason};
use crate::core::cluster::command::{AssignCause, Outcome, Report, TaskSpec};
use crate::core::cluster::live::{Holder, Live};
use crate::core::cluster::state::ClusterState;
use crate::core::cluster::story::StepKind;
use crate::core::ids::{NodeId, TaskId, Token};
use crate::core::trace::TraceContext;
use crate::node::metrics::tasks::{OUTCOMES, ended};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Traced tasks without an outcome that are followed; beyond it they have no spans.
pub const MAX_OPEN: usize = 65_536;
/// Characters of a function's or an error's name that a span says.
const MAX_WORDS: usize = 256;

/// What the leader knows of traced tasks.
pub struct Collector {
    queue: Arc<SpanQueue>,
    open: BTreeMap<TaskId, Open>,
}

/// A traced task without an outcome.
struct Open {
    spec: Arc<TaskSpec>,
    caller: TraceContext,
    /// When its client made it.
    made_ms: u64,
    /// Since when it waits for a node.
    waits_ms: u64,
    attempts: Vec<Attempt>,
}

/// One of its attempts.
#[derive(Clone, Copy)]
struct Attempt {
    holder: Holder,
    cause: AssignCause,
    since_ms: u64,
    /// It has its span.
    is_told: bool,
}

impl Collector {
    /// One that puts its spans into `queue`.
    pub fn new(queue: Arc<SpanQueue>) -> Self {
        Collector { queue, open: BTreeMap::new() }
    }

    /// Takes what the task loop is told, before its leader is. `leads`: this node does; `log_ms`: the clock of the log.
    pub fn see(&mut self, leads: bool, log_ms: u64, state: &ClusterState, event: &Event) {
        match event {
            Event::LeadershipGained { .. } => self.take_over(state),
            Event::LeadershipLost => self.open.clear(),
            Event::Applied { changes, .. } if leads => {
                changes.iter().for_each(|change| self.on_change(log_ms, state, change));
            }
            Event::Reported { reports, .. } if leads => {
                reports.iter().for_each(|report| self.on_report(log_ms, state, report));
            }
            _ => {}
        }
    }

    /// Goes on where another leader was.
    fn take_over(&mut self, state: &ClusterState) {
        self.open.clear();
        for live in state.live().values().filter(|live| is_traced(&live.spec)) {
            if let Some(open) = self.follow(&live.spec, live.story.submitted_ms) {
                open.waits_ms = live.story.steps.last().map_or(open.waits_ms, |step| step.at_ms);
                open.attempts =
                    live.holder.into_iter().chain(live.copy).map(|h| known(live, h)).collect();
            }
        }
    }

    fn follow(&mut self, spec: &Arc<TaskSpec>, accepted_ms: u64) -> Option<&mut Open> {
        let caller = **spec.trace.as_ref()?;
        if self.open.len() >= MAX_OPEN {
            self.queue.drop_one();
            return None;
        }
        // A clock that is ahead of ours, or an id that does not say.
        let made_ms = spec.id.time_ms().map_or(accepted_ms, |made| made.min(accepted_ms));
        let (spec, waits_ms, attempts) = (spec.clone(), accepted_ms, Vec::new());
        let open = Open { spec, caller, made_ms, waits_ms, attempts };
        Some(self.open.entry(open.spec.id).or_insert(open))
    }

    fn on_change(&mut self, log_ms: u64, state: &ClusterState, change: &Change) {
        match change {
            Change::Submitted { spec } if is_traced(spec) => {
                let live = state.live().get(&spec.id);
                let accepted_ms = live.map_or(log_ms, |live| live.story.submitted_ms);
                let queue = self.queue.clone();
                if let Some(open) = self.follow(spec, accepted_ms) {
                    let span = open.span(SpanKind::Submit, Token(0), (open.made_ms, log_ms));
                    queue.push(span);
                }
            }
            Change::Assigned { spec, to, from, token, attempt, cause } if is_traced(spec) => {
                let holder = Holder { node: *to, token: *token, attempt: *attempt };
                self.on_assigned(log_ms, state, spec.id, holder, (*cause, *from));
            }
            Change::Requeued { spec, token, reason, .. } if is_traced(spec) => {
                self.on_ended(log_ms, state, spec.id, *token, *reason);
                if let Some(open) = self.open.get_mut(&spec.id) {
                    open.waits_ms = log_ms;
                }
            }
            Change::Narrowed { spec, token, reason, .. } if is_traced(spec) => {
                self.on_ended(log_ms, state, spec.id, *token, *reason);
            }
            Change::Finished { finished, token, loser, .. } => {
                self.on_finished(log_ms, state, finished, *token, *loser);
            }
            _ => {}
        }
    }

    fn on_assigned(
        &mut self,
        log_ms: u64,
        state: &ClusterState,
        task: TaskId,
        holder: Holder,
        (cause, from): (AssignCause, Option<NodeId>),
    ) {
        let Some(open) = self.open.get_mut(&task) else { return };
        let start_ms = match cause {
            AssignCause::Placed => open.waits_ms,
            // It waited on its victim.
            AssignCause::Stolen => {
                let victim = open.attempts.iter().find(|a| Some(a.holder.node) == from);
                victim.map_or(log_ms, |victim| victim.since_ms)
            }
            AssignCause::Copied => log_ms,
        };
        if cause == AssignCause::Stolen {
            open.attempts.retain(|attempt| Some(attempt.holder.node) != from);
        }
        let mut span = open.span(SpanKind::Assign, holder.token, (start_ms, log_ms));
        let attempt = Attempt { holder, cause, since_ms: log_ms, is_told: false };
        span.attributes.extend(attempt.attributes(state));
        open.attempts.push(attempt);
        self.queue.push(span);
    }

    /// A node says how an attempt went; the log will say so too, but not how long it took.
    fn on_report(&mut self, log_ms: u64, state: &ClusterState, report: &Ended) {
        let Some(open) = self.open.get_mut(&report.task) else { return };
        let found = open.attempts.iter_mut().find(|a| a.holder.token == report.token && !a.is_told);
        let Some(attempt) = found else { return };
        attempt.is_told = true;
        if report.took.is_zero() {
            return; // It did not run.
        }
        let attempt = *attempt;
        let (outcome, kind) = match &report.report {
            Report::Value(_) => ("succeeded", None),
            Report::Failure(failure) => ("failed", Some(failure.type_name.as_str())),
            Report::Crashed(_) => ("crashed", Some("crashed")),
            Report::TimedOut(_) => ("timed_out", Some("timed_out")),
        };
        let mut span = open.span(SpanKind::Run, report.token, (log_ms, log_ms));
        span.start_us = span.end_us.saturating_sub(report.took.as_micros() as u64);
        span.attributes.extend(attempt.attributes(state));
        span.conclude(outcome, kind);
        self.queue.push(span);
    }

    /// An attempt ended without an outcome of its task.
    fn on_ended(
        &mut self,
        log_ms: u64,
        state: &ClusterState,
        task: TaskId,
        token: Token,
        reason: RequeueReason,
    ) {
        let outcome = match reason {
            RequeueReason::Failed => Some("failed"),
            RequeueReason::TimedOut => Some("timed_out"),
            RequeueReason::Crashed => Some("crashed"),
            RequeueReason::NodeLost => Some("node_lost"),
            // It never began.
            RequeueReason::HandedBack => None,
        };
        let Some(open) = self.open.get_mut(&task) else { return };
        if let Some(outcome) = outcome {
            open.tell_unreported(&self.queue, log_ms, state, token, (outcome, Some(outcome)));
        }
        open.attempts.retain(|attempt| attempt.holder.token != token);
    }

    fn on_finished(
        &mut self,
        log_ms: u64,
        state: &ClusterState,
        finished: &Finished,
        token: Token,
        loser: Option<Holder>,
    ) {
        let Some(mut open) = self.open.remove(&finished.task) else { return };
        let outcome = OUTCOMES[ended(&finished.outcome)];
        let kind = match &finished.outcome {
            Outcome::Value(_) | Outcome::Cancelled => None,
            Outcome::Failure(failure) => Some(failure.type_name.as_str()),
            _ => Some(outcome),
        };
        // What was cut off may never have begun; what ended by itself had.
        use Outcome::{Cancelled, NeverStarted, PastDeadline};
        if !matches!(finished.outcome, Cancelled | NeverStarted(_) | PastDeadline(_)) {
            open.tell_unreported(&self.queue, log_ms, state, token, (outcome, kind));
        }
        if let Some(loser) = loser {
            open.tell_unreported(&self.queue, log_ms, state, loser.token, ("superseded", None));
        }
        let mut span = open.span(SpanKind::Task, Token(0), (open.made_ms, log_ms));
        span.attributes.push(("hustings.attempts", u64::from(finished.attempts).into()));
        span.conclude(outcome, kind);
        self.queue.push(span);
    }
}

fn is_traced(spec: &TaskSpec) -> bool {
    spec.trace.as_ref().is_some_and(|trace| trace.is_sampled())
}

/// What the story says of an attempt that another leader assigned.
fn known(live: &Live, holder: Holder) -> Attempt {
    let cause_of = |kind| match kind {
        StepKind::Assigned => Some(AssignCause::Placed),
        StepKind::Stolen => Some(AssignCause::Stolen),
        StepKind::Copied => Some(AssignCause::Copied),
        _ => None,
    };
    let step = live.story.steps.iter().rev().find_map(|step| {
        cause_of(step.kind).filter(|_| step.attempt == holder.attempt).map(|c| (c, step.at_ms))
    });
    let (cause, since_ms) = step.unwrap_or((AssignCause::Placed, live.story.submitted_ms));
    Attempt { holder, cause, since_ms, is_told: false }
}

impl Open {
    fn span(&self, kind: SpanKind, token: Token, (start_ms, end_ms): (u64, u64)) -> Span {
        let place = |kind, token| place_of(&self.caller, self.spec.id, kind, token);
        let parent = match kind {
            SpanKind::Task => self.caller.span,
            _ => place(SpanKind::Task, Token(0)).span,
        };
        let mut span = Span {
            kind,
            at: place(kind, token),
            parent,
            start_us: start_ms.min(end_ms) * 1_000,
            end_us: end_ms * 1_000,
            attributes: vec![
                ("messaging.system", "hustings".into()),
                ("messaging.destination.name", cut(&self.spec.function.name).into()),
                ("messaging.message.id", self.spec.id.to_string().into()),
            ],
            error: None,
        };
        let operation = match kind {
            SpanKind::Submit => ("submit", "send"),
            SpanKind::Run => ("run", "process"),
            SpanKind::Task | SpanKind::Assign => return span,
        };
        let bytes = self.spec.blob.map_or(self.spec.payload.len() as u64, |blob| blob.size);
        span.attributes.extend([
            ("messaging.operation.name", operation.0.into()),
            ("messaging.operation.type", operation.1.into()),
            ("messaging.message.body.size", Value::Number(bytes)),
        ]);
        span
    }

    /// The span of an attempt of which only the assignment is known, if it has none.
    fn tell_unreported(
        &mut self,
        queue: &SpanQueue,
        log_ms: u64,
        state: &ClusterState,
        token: Token,
        (outcome, kind): (&'static str, Option<&str>),
    ) {
        let found = self.attempts.iter_mut().find(|a| a.holder.token == token && !a.is_told);
        let Some(attempt) = found else { return };
        attempt.is_told = true;
        let attempt = *attempt;
        let mut span = self.span(SpanKind::Run, token, (attempt.since_ms, log_ms));
        span.attributes.extend(attempt.attributes(state));
        span.attributes.push(("hustings.approximate", "since its assignment".into()));
        span.conclude(outcome, kind);
        queue.push(span);
    }
}

impl Attempt {
    fn attributes(&self, state: &ClusterState) -> [(&'static str, Value); 3] {
        let Holder { node, attempt, .. } = self.holder;
        let member = state.members().get(&node);
        let name = member.map_or_else(|| node.to_string(), |member| member.name.clone());
        let cause = match self.cause {
            AssignCause::Placed => "placed",
            AssignCause::Stolen => "stolen",
            AssignCause::Copied => "copied",
        };
        [
            ("hustings.node", name.into()),
            ("hustings.attempt", u64::from(attempt).into()),
            ("hustings.cause", cause.into()),
        ]
    }
}

impl Span {
    /// `kind`: of the error, if it was one. What an exception says stays out: it may be anybody's secret.
    fn conclude(&mut self, outcome: &'static str, kind: Option<&str>) {
        self.attributes.push(("hustings.outcome", outcome.into()));
        if let Some(kind) = kind {
            self.attributes.push(("error.type", cut(kind).into()));
            self.error = Some(if kind == outcome {
                kind.into()
            } else {
                format!("{outcome}: {}", cut(kind))
            });
        }
    }
}

fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
