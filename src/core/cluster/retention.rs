//! What is kept of finished tasks, and for how long: outcomes until acknowledged or expired, ids longer.

use super::blobs::Blobs;
use super::command::{Outcome, Rules, TaskSpec};
use crate::core::boundary::Finished;
use crate::core::ids::{LogIndex, SessionId, TaskId, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Acknowledged outcomes kept a little longer, for others who join by id.
const ACKNOWLEDGED_KEPT: usize = 10_000;
/// Ids remembered after their outcome is gone.
const REMEMBERED_IDS: usize = 2_000_000;
/// How much one entry may forget, so that no entry takes long.
const FORGET_PER_ENTRY: usize = 4_096;

/// Finished tasks, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    done: BTreeMap<TaskId, Done>,
    bytes: u64,
    by_age: VecDeque<(u64, TaskId)>,
    acknowledged: VecDeque<TaskId>,
    remembered: BTreeMap<TaskId, u64>,
    remembered_by_age: VecDeque<(u64, TaskId)>,
}

/// A finished task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Its outcome.
    pub finished: Arc<Finished>,
    /// The function's name.
    pub function: String,
    /// Who submitted it.
    pub session: SessionId,
    /// The attempt that decided.
    pub token: Token,
    fingerprint: u64,
    acknowledged: bool,
}

impl Retention {
    /// The finished task, while its outcome is held.
    pub fn get(&self, task: TaskId) -> Option<&Done> {
        self.done.get(&task)
    }

    /// All finished tasks held, by id.
    pub fn done(&self) -> &BTreeMap<TaskId, Done> {
        &self.done
    }

    /// Bytes of the outcomes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The fingerprint of a finished task whose id is still remembered.
    pub fn fingerprint(&self, task: TaskId) -> Option<u64> {
        self.done
            .get(&task)
            .map(|done| done.fingerprint)
            .or_else(|| self.remembered.get(&task).copied())
    }

    /// Keeps an outcome.
    pub(super) fn keep(
        &mut self,
        finished: Arc<Finished>,
        spec: &TaskSpec,
        token: Token,
        fingerprint: u64,
        at_ms: u64,
    ) {
        self.bytes += finished.outcome.size() as u64;
        self.by_age.push_back((at_ms, finished.task));
        let done = Done {
            function: spec.function.name.clone(),
            session: spec.session,
            token,
            fingerprint,
            acknowledged: false,
            finished,
        };
        self.done.insert(done.finished.task, done);
    }

    /// The submitter holds the outcome: it goes as soon as others need the room.
    pub(super) fn acknowledge(&mut self, task: TaskId, session: SessionId) {
        if let Some(done) = self.done.get_mut(&task)
            && done.session == session
            && !done.acknowledged
        {
            done.acknowledged = true;
            self.acknowledged.push_back(task);
        }
    }

    /// Forgets what is past its bounds at `now_ms`, the time of the entry at `index`.
    pub(super) fn expire(
        &mut self,
        (index, now_ms): (LogIndex, u64),
        rules: &Rules,
        blobs: &mut Blobs,
    ) {
        let mut budget = FORGET_PER_ENTRY;
        while self.acknowledged.len() > ACKNOWLEDGED_KEPT && budget > 0 {
            if let Some(task) = self.acknowledged.pop_front() {
                self.forget_outcome(task, (index, now_ms), blobs);
            }
            budget -= 1;
        }
        while let Some(&(at_ms, task)) = self.by_age.front() {
            let held = self.done.contains_key(&task);
            let expired = at_ms.saturating_add(rules.outcome_ttl_ms) < now_ms;
            let crowded =
                self.done.len() as u64 > rules.outcomes || self.bytes > rules.outcome_bytes;
            if budget == 0 || (held && !expired && !crowded) {
                break;
            }
            self.by_age.pop_front();
            self.forget_outcome(task, (index, now_ms), blobs);
            budget -= 1;
        }
        while let Some(&(at_ms, task)) = self.remembered_by_age.front() {
            let expired = at_ms.saturating_add(rules.id_memory_ms) < now_ms;
            if budget == 0 || !(expired || self.remembered.len() > REMEMBERED_IDS) {
                break;
            }
            self.remembered_by_age.pop_front();
            self.remembered.remove(&task);
            budget -= 1;
        }
    }

    fn forget_outcome(
        &mut self,
        task: TaskId,
        (index, now_ms): (LogIndex, u64),
        blobs: &mut Blobs,
    ) {
        if let Some(done) = self.done.remove(&task) {
            if let Outcome::Value(payload) = &done.finished.outcome {
                blobs.release(index, payload.blob);
            }
            self.bytes = self.bytes.saturating_sub(done.finished.outcome.size() as u64);
            self.remembered.insert(task, done.fingerprint);
            self.remembered_by_age.push_back((now_ms, task));
        }
    }
}
