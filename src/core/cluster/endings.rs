//! How attempts end and what follows for their task: another attempt, after a while, or its one outcome.

use super::command::{ExpireCause, Outcome, ReleaseCause, Report, TaskSpec};
use super::live::{Holder, Live, spec_bytes};
use super::output;
use super::state::ClusterState;
use super::story::{Step, StepKind};
use crate::core::boundary::{Change, Finished, RequeueReason};
use crate::core::ids::{NodeId, TaskId, Token};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait before a retry, before chance adds to it.
const MAX_BACKOFF_MS: u64 = 30_000;
/// Longest text kept about one death, in characters.
const MAX_DEATH: usize = 200;
/// Deaths kept of one task: the last ones.
const MAX_DEATHS: usize = 16;

impl ClusterState {
    pub(super) fn release(
        &mut self,
        task: TaskId,
        replaces: Token,
        cause: ReleaseCause,
        out: &mut Vec<Change>,
    ) {
        let Some(live) = self.live.get(&task) else { return };
        if live.attempt_of(replaces).is_none() {
            return;
        }
        let reason = match cause {
            ReleaseCause::HandedBack => RequeueReason::HandedBack,
            ReleaseCause::NodeLost { started } => {
                self.counters.reassigned += u64::from(live.copy.is_none());
                // It may have taken its node with it before anybody heard that it had begun.
                self.leave_threads(task);
                if started {
                    self.note_death(task, replaces, "the node died");
                }
                RequeueReason::NodeLost
            }
        };
        self.requeue_or_bury(task, replaces, reason, out);
    }

    pub(super) fn complete(
        &mut self,
        task: TaskId,
        (token, node): (Token, NodeId),
        report: &Report,
        output: &Bytes,
        out: &mut Vec<Change>,
    ) {
        let Some(live) = self.live.get_mut(&task) else {
            let repeated = self.retention.get(task).is_some_and(|done| done.reported == token);
            out.push(self.stale(repeated, task, node, token));
            return;
        };
        if live.attempt_of(token).is_none() {
            let repeated = live.reported == token;
            out.push(self.stale(repeated, task, node, token));
            return;
        }
        live.reported = token;
        let (_, attempt) = whose(live, token);
        let said = output::append(&live.output, attempt, output);
        let bytes = self.live_bytes + said.len() as u64;
        self.live_bytes = bytes.saturating_sub(live.output.len() as u64);
        live.output = said;
        match report {
            Report::Value(payload) => {
                self.decide(task, token);
                self.finish(task, Outcome::Value(payload.clone()), out);
            }
            Report::Failure(failure) => {
                live.failures += 1;
                if live.failures > live.spec.retries {
                    self.decide(task, token);
                    self.finish(task, Outcome::Failure(failure.clone()), out);
                } else {
                    self.requeue(task, token, RequeueReason::Failed, out);
                }
            }
            Report::TimedOut(after_ms) => {
                live.failures += 1;
                if live.failures > live.spec.retries {
                    self.decide(task, token);
                    self.finish(task, Outcome::TimedOut(*after_ms), out);
                } else {
                    self.requeue(task, token, RequeueReason::TimedOut, out);
                }
            }
            Report::Crashed(detail) => {
                self.note_death(task, token, detail);
                self.requeue_or_bury(task, token, RequeueReason::Crashed, out);
            }
        }
    }

    /// That attempt decides; if it is the copy, the one it ran beside is the copy now.
    fn decide(&mut self, task: TaskId, token: Token) {
        let Some(live) = self.live.get_mut(&task) else { return };
        if live.copy.is_some_and(|copy| copy.token == token) {
            std::mem::swap(&mut live.holder, &mut live.copy);
            self.counters.copies_first += 1;
        }
    }

    fn stale(&mut self, repeated: bool, task: TaskId, node: NodeId, token: Token) -> Change {
        if repeated {
            return Change::Repeated { task, node };
        }
        self.counters.late_completions += 1;
        Change::LateCompletion { task, node, token }
    }

    /// A task's time is over, if the clock of the log says so too. Whoever runs it is told by its end.
    pub(super) fn expire(&mut self, task: TaskId, cause: ExpireCause, out: &mut Vec<Change>) {
        let Some(live) = self.live.get(&task) else { return };
        let (terms, now_ms) = (live.spec.terms, self.clock_ms);
        let over = |by: Option<u64>| by.is_some_and(|by| by <= now_ms);
        match cause {
            ExpireCause::NeverStarted if live.holder.is_none() && over(live.start_by_ms()) => {
                self.finish(task, Outcome::NeverStarted(terms.queue_timeout_ms), out);
            }
            ExpireCause::Deadline if over(live.end_by_ms()) => {
                self.finish(task, Outcome::PastDeadline(terms.deadline_ms), out);
            }
            ExpireCause::NeverStarted | ExpireCause::Deadline => {}
        }
    }

    /// A runner or node died under the task.
    fn note_death(&mut self, task: TaskId, token: Token, detail: &str) {
        let Some(live) = self.live.get_mut(&task) else { return };
        live.crashes += 1;
        let (node, attempt) = whose(live, token);
        let name = self.members.get(&node).map_or_else(|| node.to_string(), |m| m.name.clone());
        let detail: String = detail.chars().take(MAX_DEATH).collect();
        let excess = (live.deaths.len() + 1).saturating_sub(MAX_DEATHS);
        live.deaths.drain(..excess);
        live.deaths.push(format!("attempt {attempt} on {name}: {detail}"));
        self.leave_threads(task);
    }

    /// From now on the task runs in processes only: what ends its process, or found no thread, ends no other node.
    fn leave_threads(&mut self, task: TaskId) {
        if let Some(live) = self.live.get_mut(&task).filter(|live| live.spec.in_thread) {
            live.spec = Arc::new(TaskSpec { in_thread: false, ..(*live.spec).clone() });
        }
    }

    /// Another attempt, unless the task has used up its crash budget: then it is quarantined.
    fn requeue_or_bury(
        &mut self,
        task: TaskId,
        token: Token,
        reason: RequeueReason,
        out: &mut Vec<Change>,
    ) {
        let Some(live) = self.live.get(&task) else { return };
        let budget = self.rules.map_or(u32::MAX, |rules| rules.crash_budget);
        if live.crashes < budget {
            return self.requeue(task, token, reason, out);
        }
        let text = format!(
            "quarantined: its runner or node died {} times, its crash budget (limits.crash_budget): {}",
            live.crashes,
            live.deaths.join("; ")
        );
        self.note(task, token, reason);
        self.decide(task, token);
        self.finish(task, Outcome::Lost(text), out);
    }

    /// Another attempt is owed, unless there is one: then it is the only one.
    fn requeue(
        &mut self,
        task: TaskId,
        token: Token,
        reason: RequeueReason,
        out: &mut Vec<Change>,
    ) {
        self.note(task, token, reason);
        let now_ms = self.clock_ms;
        let Some(live) = self.live.get_mut(&task) else { return };
        if let Some(Holder { node: from, token, attempt }) = live.drop_one(token) {
            let spec = live.spec.clone();
            return out.push(Change::Narrowed { spec, from, token, attempt, reason });
        }
        let Some(holder) = live.holder.take() else { return };
        let delay_ms = match reason {
            RequeueReason::Failed | RequeueReason::TimedOut => {
                self.counters.retries += 1;
                backoff_ms(live)
            }
            RequeueReason::Crashed => {
                self.counters.retries += 1;
                0
            }
            RequeueReason::HandedBack | RequeueReason::NodeLost => 0,
        };
        live.ready_ms = now_ms.saturating_add(delay_ms);
        out.push(Change::Requeued {
            spec: live.spec.clone(),
            from: holder.node,
            token: holder.token,
            attempt: holder.attempt,
            delay: Duration::from_millis(delay_ms),
            reason,
        });
    }

    fn note(&mut self, task: TaskId, token: Token, reason: RequeueReason) {
        let Some(live) = self.live.get_mut(&task) else { return };
        let kind = match reason {
            RequeueReason::Failed => StepKind::Failed,
            RequeueReason::TimedOut => StepKind::TimedOut,
            RequeueReason::Crashed => StepKind::Crashed,
            RequeueReason::HandedBack => StepKind::HandedBack,
            RequeueReason::NodeLost => StepKind::NodeLost,
        };
        let (node, attempt) = whose(live, token);
        live.story.note(Step { at_ms: self.clock_ms, node, attempt, kind });
    }

    /// The task's one outcome.
    pub(super) fn finish(&mut self, task: TaskId, outcome: Outcome, out: &mut Vec<Change>) {
        let Some(mut live) = self.live.remove(&task) else { return };
        let bytes = spec_bytes(&live.spec) + live.output.len() as u64;
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if let Some(claim) = &live.spec.claim {
            self.keys.remove(&claim.key);
        }
        match &outcome {
            Outcome::Value(_) => self.counters.succeeded += 1,
            Outcome::Failure(_) | Outcome::TimedOut(_) => self.counters.failed += 1,
            Outcome::Cancelled => self.counters.cancelled += 1,
            Outcome::NeverStarted(_) | Outcome::PastDeadline(_) => self.counters.expired += 1,
            Outcome::Lost(_) => self.counters.lost += 1,
        }
        if let Outcome::Value(payload) = &outcome {
            self.blobs.hold(payload.blob);
        }
        self.blobs.release(self.applied(), live.spec.blob);
        let (session, token, loser) = (live.spec.session, live.token(), live.copy);
        let from = live.holder.map(|holder| holder.node);
        let node = from.unwrap_or_default();
        let (attempts, output) = (live.attempt, std::mem::take(&mut live.output));
        let finished = Arc::new(Finished { task, outcome, attempts, node, output });
        self.retention.keep(finished.clone(), live, self.clock_ms);
        out.push(Change::Finished { finished, session, from, token, loser });
    }
}

/// Where an attempt is, and which one it is.
fn whose(live: &Live, token: Token) -> (NodeId, u32) {
    live.attempt_of(token).map_or((NodeId::default(), live.attempt), |h| (h.node, h.attempt))
}

/// The wait before the next attempt: doubling, bounded, and a quarter more or less by chance, so that tasks that failed
/// together do not come back together. Chance is a hash: every node must come to the same wait.
fn backoff_ms(live: &Live) -> u64 {
    let doublings = live.failures.saturating_sub(1).min(16);
    let whole = live.spec.backoff_ms.saturating_mul(1 << doublings).min(MAX_BACKOFF_MS);
    let seed = u64::from(live.failures);
    let chance = xxhash_rust::xxh3::xxh3_64_with_seed(&live.spec.id.to_bytes(), seed) % 1_024;
    whole * 3 / 4 + whole * chance / 2_048
}
