//! What is kept of finished tasks, and for how long: outcomes until acknowledged or expired, ids longer.
//!
//! An id that says when it was made (UUIDv7) is remembered until it is `id_memory_ms` old, or there are too many; the
//! oldest goes first. Whoever is as old as one that was forgotten is refused, so that the same submission is never
//! another task however late it comes again. Other ids are remembered for `id_memory_ms` after their outcome is gone,
//! as far as there is room.

use super::blobs::Blobs;
use super::command::{Outcome, Rules, TaskSpec};
use super::live::Live;
use super::remembered::Remembered;
use crate::core::boundary::Finished;
use crate::core::ids::{LogIndex, SessionId, TaskId, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::story::Story;

/// Acknowledged outcomes kept a little longer, for others who join by id.
const ACKNOWLEDGED_KEPT: usize = 10_000;
/// How much one entry may forget, so that no entry takes long.
const FORGET_PER_ENTRY: usize = 4_096;

/// Finished tasks, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// Shared with clones of the state, from which snapshots are made.
    done: BTreeMap<TaskId, Arc<Done>>,
    bytes: u64,
    by_age: VecDeque<(u64, TaskId)>,
    acknowledged: VecDeque<TaskId>,
    /// Ids that say when they were made, hence oldest first; with their fingerprints.
    dated: Remembered,
    /// The others.
    undated: Remembered,
    undated_by_age: VecDeque<(u64, TaskId)>,
    /// No id made up to here is accepted: one of them was forgotten.
    forgotten_ms: u64,
    /// Submissions that joined another task by its key.
    aliases: BTreeMap<TaskId, Alias>,
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
    /// The attempt that was live at the end; 0: it waited.
    pub token: Token,
    /// Which one that was, counted from 1; the last one, if it waited.
    pub attempt: u32,
    /// The last attempt whose report was taken: the same report again is no news.
    pub reported: Token,
    /// When it had its outcome, by the clock of the log.
    pub finished_ms: u64,
    /// What happened before.
    pub story: Story,
    joined: Vec<TaskId>,
    fingerprint: u64,
    acknowledged: bool,
}

/// A submission that joined another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alias {
    /// The task it stands for.
    pub(super) of: TaskId,
    pub(super) fingerprint: u64,
}

impl Retention {
    /// The finished task, while its outcome is held.
    pub fn get(&self, task: TaskId) -> Option<&Done> {
        self.done.get(&task).map(|done| &**done)
    }

    /// All finished tasks held, by id.
    pub fn done(&self) -> &BTreeMap<TaskId, Arc<Done>> {
        &self.done
    }

    /// Bytes of the outcomes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ids that are remembered without their outcome.
    pub fn remembered(&self) -> usize {
        self.dated.len() + self.undated.len()
    }

    /// The fingerprint of a finished task whose id is still remembered.
    pub fn fingerprint(&self, task: TaskId) -> Option<u64> {
        let remembered = || self.dated.get(task).or_else(|| self.undated.get(task));
        self.done.get(&task).map(|done| done.fingerprint).or_else(remembered)
    }

    /// What a submission that joined another one stands for.
    pub(super) fn alias(&self, task: TaskId) -> Option<Alias> {
        self.aliases.get(&task).copied()
    }

    pub(super) fn join(&mut self, task: TaskId, of: TaskId, fingerprint: u64) {
        self.aliases.insert(task, Alias { of, fingerprint });
    }

    /// An id that is as old as one that was forgotten: nobody can say whether its task ran.
    pub(super) fn may_be_forgotten(&self, task: TaskId) -> bool {
        task.time_ms().is_some_and(|made_ms| made_ms <= self.forgotten_ms)
    }

    /// Keeps an outcome.
    pub(super) fn keep(&mut self, finished: Arc<Finished>, live: Live, at_ms: u64) {
        self.bytes += finished.size() as u64;
        self.by_age.push_back((at_ms, finished.task));
        let spec: &TaskSpec = &live.spec;
        let done = Done {
            function: spec.function.name.clone(),
            session: spec.session,
            token: live.token(),
            attempt: live.holder.map_or(live.attempt, |holder| holder.attempt),
            reported: live.reported,
            finished_ms: at_ms,
            story: live.story,
            joined: live.joined,
            fingerprint: live.fingerprint,
            acknowledged: false,
            finished,
        };
        self.done.insert(done.finished.task, Arc::new(done));
    }

    /// The submitter holds the outcome: it goes as soon as others need the room.
    pub(super) fn acknowledge(&mut self, task: TaskId, session: SessionId) {
        if let Some(done) = self.done.get_mut(&task)
            && done.session == session
            && !done.acknowledged
        {
            Arc::make_mut(done).acknowledged = true;
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
        self.forget_ids(now_ms, rules, budget);
    }

    fn forget_outcome(
        &mut self,
        task: TaskId,
        (index, now_ms): (LogIndex, u64),
        blobs: &mut Blobs,
    ) {
        let Some(done) = self.done.remove(&task) else { return };
        if let Outcome::Value(payload) = &done.finished.outcome {
            blobs.release(index, payload.blob);
        }
        self.bytes = self.bytes.saturating_sub(done.finished.size() as u64);
        self.remember(task, done.fingerprint, now_ms);
        for &task in &done.joined {
            if let Some(alias) = self.aliases.remove(&task) {
                self.remember(task, alias.fingerprint, now_ms);
            }
        }
    }

    fn remember(&mut self, task: TaskId, fingerprint: u64, now_ms: u64) {
        if task.time_ms().is_some() {
            self.dated.insert(task, fingerprint);
        } else {
            self.undated.insert(task, fingerprint);
            self.undated_by_age.push_back((now_ms, task));
        }
    }

    fn forget_ids(&mut self, now_ms: u64, rules: &Rules, mut budget: usize) {
        while budget > 0 {
            budget -= 1;
            let crowded = self.remembered() as u64 > rules.remembered_ids;
            let past = |at_ms: u64| at_ms.saturating_add(rules.id_memory_ms) < now_ms;
            let first = self.dated.first();
            let made_ms = first.and_then(|task| task.time_ms());
            let dated = self.dated.len() >= self.undated.len();
            let made_ms = made_ms.filter(|at| past(*at) || (crowded && dated));
            if let (Some(task), Some(made_ms)) = (first, made_ms) {
                self.dated.remove(task);
                self.forgotten_ms = self.forgotten_ms.max(made_ms);
                continue;
            }
            match self.undated_by_age.front() {
                Some(&(at_ms, task)) if past(at_ms) || (crowded && !dated) => {
                    self.undated_by_age.pop_front();
                    self.undated.remove(task);
                }
                _ => return,
            }
        }
    }
}
