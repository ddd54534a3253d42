//! What every voter agrees on. [`ClusterState::apply`] is the only writer: a pure function of the log.

use super::blobs::Blobs;
use super::command::{AssignCause, Batch, Command, Function, Member, Outcome, Rules};
use super::live::{Counters, Holder, Live};
use super::retention::Retention;
use super::story::{Step, StepKind};
use crate::core::boundary::{Change, Finished};
use crate::core::ids::{FunctionHash, LogIndex, NodeId, TaskId, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Longest text or payload in a snapshot; `limits.message_bytes` bounds what a message can bring in.
const LONGEST_ITEM: usize = 64 << 20;
/// Removed ids that are remembered; by the time one is forgotten its node has long heard of it.
const MAX_EXPELLED: usize = 1_000;

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    applied: LogIndex,
    /// The clock of the log: the latest time an entry carried. It never goes back, whoever leads.
    pub(super) clock_ms: u64,
    pub(super) live: BTreeMap<TaskId, Live>,
    pub(super) live_bytes: u64,
    /// Which unfinished task holds a key.
    pub(super) keys: BTreeMap<String, TaskId>,
    pub(super) retention: Retention,
    pub(super) blobs: Blobs,
    functions: BTreeMap<FunctionHash, Arc<Function>>,
    newest: BTreeMap<String, FunctionHash>,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) counters: Counters,
    pub(super) rules: Option<Rules>,
    /// Ids that may not come back, oldest first.
    expelled: VecDeque<NodeId>,
}

impl ClusterState {
    /// The last entry applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The latest time an entry carried, in milliseconds since 1970.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The bounds that hold now, once a leader has written some down.
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// The unfinished task that holds `key`.
    pub fn holder_of(&self, key: &str) -> Option<TaskId> {
        self.keys.get(key).copied()
    }

    /// Whether `task` was submitted before, and is still known.
    pub fn knows(&self, task: TaskId) -> bool {
        self.live.contains_key(&task)
            || self.retention.fingerprint(task).is_some()
            || self.retention.alias(task).is_some()
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

    /// The blobs that tasks and outcomes refer to.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
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
        self.clock_ms = self.clock_ms.max(batch.at_ms);
        let mut changes = Vec::with_capacity(batch.commands.len() * 2);
        for (position, command) in batch.commands.iter().enumerate() {
            let token = Token::new(index, position);
            self.apply_one(token, command, &mut changes);
        }
        if let Some(rules) = &self.rules {
            self.retention.expire((index, self.clock_ms), rules, &mut self.blobs);
        }
        changes
    }

    fn apply_one(&mut self, token: Token, command: &Command, out: &mut Vec<Change>) {
        match command {
            Command::Submit { spec, to } => self.submit(token, spec, *to, out),
            Command::Assign { task, to, cause, replaces } => {
                self.assign(token, *task, *to, *cause, *replaces, out);
            }
            Command::Release { task, replaces, cause } => {
                self.release(*task, *replaces, *cause, out);
            }
            Command::Complete { task, token, node, report, output } => {
                self.complete(*task, (*token, *node), report, output, out);
            }
            Command::Cancel { task } => {
                if self.live.contains_key(task) {
                    self.finish(*task, Outcome::Cancelled, out);
                }
            }
            Command::Expire { task, cause } => self.expire(*task, *cause, out),
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

    pub(super) fn assign(
        &mut self,
        token: Token,
        task: TaskId,
        to: NodeId,
        cause: AssignCause,
        replaces: Token,
        out: &mut Vec<Change>,
    ) {
        let member = self.members.contains_key(&to);
        let is_copy = cause == AssignCause::Copied;
        let live = self.live.get_mut(&task).filter(|live| {
            // A node holds one attempt of a task at most; a task has one copy at most.
            let there = live.holder.iter().chain(&live.copy).any(|holder| holder.node == to);
            let twin = is_copy && (there || live.holder.is_none() || live.copy.is_some());
            let taken = live.copy.is_some_and(|copy| copy.node == to);
            live.token() == replaces && member && !twin && !taken
        });
        let Some(live) = live else {
            out.push(Change::AssignmentVoid { task, to });
            return;
        };
        live.attempt += 1;
        let holder = Some(Holder { node: to, token, attempt: live.attempt });
        let from = match is_copy {
            true => std::mem::replace(&mut live.copy, holder),
            false => std::mem::replace(&mut live.holder, holder),
        };
        let from = from.map(|holder| holder.node);
        let kind = match cause {
            AssignCause::Placed => StepKind::Assigned,
            AssignCause::Stolen => StepKind::Stolen,
            AssignCause::Copied => StepKind::Copied,
        };
        let (at_ms, attempt) = (self.clock_ms, live.attempt);
        live.story.note(Step { at_ms, node: to, attempt, kind });
        match cause {
            AssignCause::Placed => {}
            AssignCause::Stolen => {
                live.steals += 1;
                self.counters.steals += 1;
            }
            AssignCause::Copied => self.counters.copies += 1,
        }
        let spec = live.spec.clone();
        out.push(Change::Assigned { spec, to, from, token, attempt, cause });
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
