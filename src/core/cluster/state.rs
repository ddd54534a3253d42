//! What every voter agrees on. [`ClusterState::apply`] is the only writer: a pure function of the log.

use super::command::{
    AssignCause, Batch, Command, Function, Member, Outcome, ReleaseCause, Report, Rules, TaskSpec,
};
use super::live::{Counters, Holder, Live, fingerprint, spec_bytes};
use super::retention::Retention;
use crate::core::boundary::{Change, Finished, RequeueReason};
use crate::core::ids::{FunctionHash, LogIndex, NodeId, TaskId, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Longest text or payload in a snapshot; `limits.message_bytes` bounds what a message can bring in.
const LONGEST_ITEM: usize = 64 << 20;
/// Removed ids that are remembered; by the time one is forgotten its node has long heard of it.
const MAX_EXPELLED: usize = 1_000;
/// Longest wait before a retry.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    applied: LogIndex,
    live: BTreeMap<TaskId, Live>,
    live_bytes: u64,
    retention: Retention,
    functions: BTreeMap<FunctionHash, Arc<Function>>,
    newest: BTreeMap<String, FunctionHash>,
    members: BTreeMap<NodeId, Member>,
    counters: Counters,
    rules: Option<Rules>,
    /// Ids that may not come back, oldest first.
    expelled: VecDeque<NodeId>,
}

impl ClusterState {
    /// The last entry applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Tasks without an outcome, by id.
    pub fn live(&self) -> &BTreeMap<TaskId, Live> {
        &self.live
    }

    /// Bytes of the tasks without an outcome.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Finished tasks that are still held.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The outcome of `task`, while it is held.
    pub fn outcome(&self, task: TaskId) -> Option<&Arc<Finished>> {
        self.retention.get(task).map(|done| &done.finished)
    }

    /// All functions.
    pub fn functions(&self) -> &BTreeMap<FunctionHash, Arc<Function>> {
        &self.functions
    }

    /// The newest function of that name.
    pub fn newest(&self, name: &str) -> Option<FunctionHash> {
        self.newest.get(name).copied()
    }

    /// Registered names, sorted.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        self.newest.keys().map(String::as_str)
    }

    /// The members.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// `node` was removed on purpose: it may not come back under this id.
    pub fn is_expelled(&self, node: NodeId) -> bool {
        self.expelled.contains(&node)
    }

    /// The counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A snapshot.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain data into memory has no way to fail.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// The state in a snapshot, read piece by piece.
    pub fn decode(encoded: &mut dyn std::io::Read) -> Result<Self, String> {
        let mut item = vec![0; LONGEST_ITEM];
        let (state, _) = postcard::from_io((encoded, &mut item)).map_err(|e| e.to_string())?;
        Ok(state)
    }

    /// Applies one committed entry and says what changed, in order.
    pub fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Change> {
        debug_assert!(index > self.applied, "entries are applied once, in order");
        self.applied = index;
        let mut changes = Vec::with_capacity(batch.commands.len() * 2);
        for (position, command) in batch.commands.iter().enumerate() {
            let token = Token::new(index, position);
            self.apply_one(token, batch.at_ms, command, &mut changes);
        }
        if let Some(rules) = &self.rules {
            self.retention.expire(batch.at_ms, rules);
        }
        changes
    }

    fn apply_one(&mut self, token: Token, at_ms: u64, command: &Command, out: &mut Vec<Change>) {
        match command {
            Command::Submit { spec, to } => self.submit(token, spec, *to, out),
            Command::Assign { task, to, cause, replaces } => {
                self.assign(token, *task, *to, *cause, *replaces, out);
            }
            Command::Release { task, replaces, cause } => {
                self.release(*task, *replaces, *cause, at_ms, out);
            }
            Command::Complete { task, token, node, report } => {
                self.complete(*task, *token, *node, report, at_ms, out);
            }
            Command::Cancel { task } => {
                if self.live.contains_key(task) {
                    self.finish(*task, Outcome::Cancelled, at_ms, out);
                }
            }
            Command::Acknowledge { session, tasks } => {
                for task in tasks {
                    self.retention.acknowledge(*task, *session);
                }
            }
            Command::Register(function) => {
                self.newest.insert(function.name.clone(), function.hash);
                self.functions.insert(function.hash, function.clone());
                out.push(Change::Registered { function: function.clone() });
            }
            Command::Admit(member) if self.is_expelled(member.id) => {}
            Command::Admit(member) => {
                self.members.insert(member.id, member.clone());
                out.push(Change::Admitted { member: member.clone() });
            }
            Command::Adopt(rules) => self.rules = Some(*rules),
            Command::Remove { node } => self.remove(*node, out),
            Command::Expel { node } => {
                if !self.is_expelled(*node) {
                    self.expelled.push_back(*node);
                    self.expelled.drain(..self.expelled.len().saturating_sub(MAX_EXPELLED));
                }
                self.remove(*node, out);
            }
        }
    }

    fn remove(&mut self, node: NodeId, out: &mut Vec<Change>) {
        if let Some(member) = self.members.remove(&node) {
            out.push(Change::Removed { member });
        }
    }

    fn submit(
        &mut self,
        token: Token,
        spec: &Arc<TaskSpec>,
        to: Option<NodeId>,
        out: &mut Vec<Change>,
    ) {
        let (task, session) = (spec.id, spec.session);
        let fingerprint = fingerprint(spec);
        let known = self
            .live
            .get(&task)
            .map(|live| live.fingerprint)
            .or_else(|| self.retention.fingerprint(task));
        if let Some(known) = known {
            self.counters.duplicates += 1;
            let bytes = spec_bytes(spec);
            out.push(if known == fingerprint {
                Change::Joined { session, task, bytes }
            } else {
                Change::Conflicted { session, task, bytes }
            });
            // The place it was to have is free again.
            out.extend(to.map(|to| Change::AssignmentVoid { task, to }));
            return;
        }
        self.counters.accepted += 1;
        self.live_bytes += spec_bytes(spec);
        let live = Live {
            spec: spec.clone(),
            holder: None,
            attempt: 0,
            steals: 0,
            failures: 0,
            crashes: 0,
            reported: Token(0),
            fingerprint,
        };
        self.live.insert(task, live);
        out.push(Change::Submitted { spec: spec.clone() });
        if let Some(to) = to.filter(|node| self.members.contains_key(node)) {
            self.assign(token, task, to, AssignCause::Placed, Token(0), out);
        }
    }

    fn assign(
        &mut self,
        token: Token,
        task: TaskId,
        to: NodeId,
        cause: AssignCause,
        replaces: Token,
        out: &mut Vec<Change>,
    ) {
        let member = self.members.contains_key(&to);
        let live = self.live.get_mut(&task).filter(|live| live.token() == replaces && member);
        let Some(live) = live else {
            out.push(Change::AssignmentVoid { task, to });
            return;
        };
        let from = live.holder.map(|holder| holder.node);
        live.holder = Some(Holder { node: to, token });
        live.attempt += 1;
        if cause == AssignCause::Stolen {
            live.steals += 1;
            self.counters.steals += 1;
        }
        let (spec, attempt) = (live.spec.clone(), live.attempt);
        out.push(Change::Assigned { spec, to, from, token, attempt, cause });
    }

    fn release(
        &mut self,
        task: TaskId,
        replaces: Token,
        cause: ReleaseCause,
        at_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let Some(live) = self.live.get_mut(&task) else { return };
        if live.token() != replaces || replaces == Token(0) {
            return;
        }
        let reason = match cause {
            ReleaseCause::HandedBack => RequeueReason::HandedBack,
            ReleaseCause::NodeLost { started } => {
                self.counters.reassigned += 1;
                if started {
                    live.crashes += 1;
                }
                RequeueReason::NodeLost
            }
        };
        self.requeue_or_bury(task, reason, "its node died", at_ms, out);
    }

    fn complete(
        &mut self,
        task: TaskId,
        token: Token,
        node: NodeId,
        report: &Report,
        at_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let Some(live) = self.live.get_mut(&task) else {
            let repeated = self.retention.get(task).is_some_and(|done| done.token == token);
            out.push(self.stale(repeated, task, node, token));
            return;
        };
        if live.token() != token {
            let repeated = live.reported == token;
            out.push(self.stale(repeated, task, node, token));
            return;
        }
        live.reported = token;
        match report {
            Report::Value(payload) => {
                self.finish(task, Outcome::Value(payload.clone()), at_ms, out);
            }
            Report::Failure(failure) => {
                live.failures += 1;
                if live.failures > live.spec.retries {
                    self.finish(task, Outcome::Failure(failure.clone()), at_ms, out);
                } else {
                    self.requeue(task, RequeueReason::Failed, out);
                }
            }
            Report::TimedOut(after_ms) => {
                live.failures += 1;
                if live.failures > live.spec.retries {
                    self.finish(task, Outcome::TimedOut(*after_ms), at_ms, out);
                } else {
                    self.requeue(task, RequeueReason::TimedOut, out);
                }
            }
            Report::Crashed(detail) => {
                live.crashes += 1;
                self.requeue_or_bury(task, RequeueReason::Crashed, detail, at_ms, out);
            }
        }
    }

    fn stale(&mut self, repeated: bool, task: TaskId, node: NodeId, token: Token) -> Change {
        if repeated {
            return Change::Repeated { task, node };
        }
        self.counters.late_completions += 1;
        Change::LateCompletion { task, node, token }
    }

    /// Another attempt, unless the task has used up its crash budget.
    fn requeue_or_bury(
        &mut self,
        task: TaskId,
        reason: RequeueReason,
        detail: &str,
        at_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let budget = self.rules.map_or(u32::MAX, |rules| rules.crash_budget);
        let crashes = self.live.get(&task).map_or(0, |live| live.crashes);
        if crashes >= budget {
            let text = format!(
                "its runner or node died {crashes} times, the crash budget; last: {detail}"
            );
            self.finish(task, Outcome::Lost(text), at_ms, out);
        } else {
            self.requeue(task, reason, out);
        }
    }

    fn requeue(&mut self, task: TaskId, reason: RequeueReason, out: &mut Vec<Change>) {
        let Some(live) = self.live.get_mut(&task) else { return };
        let Some(holder) = live.holder.take() else { return };
        let delay = match reason {
            RequeueReason::Failed | RequeueReason::TimedOut => {
                self.counters.retries += 1;
                let doublings = live.failures.saturating_sub(1).min(16);
                (Duration::from_millis(live.spec.backoff_ms) * (1 << doublings)).min(MAX_BACKOFF)
            }
            RequeueReason::Crashed => {
                self.counters.retries += 1;
                Duration::ZERO
            }
            RequeueReason::HandedBack | RequeueReason::NodeLost => Duration::ZERO,
        };
        let (spec, attempt) = (live.spec.clone(), live.attempt);
        out.push(Change::Requeued {
            spec,
            from: holder.node,
            token: holder.token,
            attempt,
            delay,
            reason,
        });
    }

    fn finish(&mut self, task: TaskId, outcome: Outcome, at_ms: u64, out: &mut Vec<Change>) {
        let Some(live) = self.live.remove(&task) else { return };
        self.live_bytes = self.live_bytes.saturating_sub(spec_bytes(&live.spec));
        match &outcome {
            Outcome::Value(_) => self.counters.succeeded += 1,
            Outcome::Failure(_) | Outcome::TimedOut(_) => self.counters.failed += 1,
            Outcome::Cancelled => self.counters.cancelled += 1,
            Outcome::Lost(_) => self.counters.lost += 1,
        }
        let token = live.token();
        let from = live.holder.map(|holder| holder.node);
        let node = from.unwrap_or_default();
        let finished = Arc::new(Finished { task, outcome, attempts: live.attempt, node });
        self.retention.keep(finished.clone(), &live.spec, token, live.fingerprint, at_ms);
        out.push(Change::Finished { finished, session: live.spec.session, from, token });
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
