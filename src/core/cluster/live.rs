//! A task that has no outcome yet, and the counts of those that have.

use super::command::TaskSpec;
use super::story::Story;
use crate::core::ids::{NodeId, TaskId, Token};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A task without an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// What to do.
    pub spec: Arc<TaskSpec>,
    /// Who does it; `None`: it waits.
    pub holder: Option<Holder>,
    /// Who does it as well; only beside a holder.
    pub copy: Option<Holder>,
    /// Attempts so far.
    pub attempt: u32,
    /// Times it was stolen.
    pub steals: u32,
    /// What happened to it.
    pub story: Story,
    /// It does not start before, by the clock of the log: it is delayed, or waits for its next attempt.
    pub ready_ms: u64,
    /// How its runners and nodes died the last times, for people.
    pub(super) deaths: Vec<String>,
    /// Submissions that joined it by its key.
    pub(super) joined: Vec<TaskId>,
    pub(super) failures: u32,
    pub(super) crashes: u32,
    /// The last attempt that was reported, so that a re-sent report is told from a late one.
    pub(super) reported: Token,
    /// The last that it and attempts before it printed and logged, on its way into the outcome: see
    /// [`super::output`].
    pub(super) output: Bytes,
    pub(super) fingerprint: u64,
}

/// Who holds a live attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// The attempt's fencing token.
    pub token: Token,
    /// Which attempt, counted from 1.
    pub attempt: u32,
}

/// Counts since the cluster was founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Tasks in the log.
    pub accepted: u64,
    /// Outcomes that are values.
    pub succeeded: u64,
    /// Outcomes that are failures or timeouts.
    pub failed: u64,
    /// Cancelled tasks.
    pub cancelled: u64,
    /// Tasks whose `queue_timeout` or `deadline` passed.
    pub expired: u64,
    /// Tasks past their crash budget.
    pub lost: u64,
    /// Attempts after a failure of user code, a timeout or a crash.
    pub retries: u64,
    /// Attempts after the death of a node.
    pub reassigned: u64,
    /// Tasks moved to a thief.
    pub steals: u64,
    /// Copies that were given to a node beside an attempt that took too long.
    pub copies: u64,
    /// Copies that ended before the attempt they ran beside.
    pub copies_first: u64,
    /// Completions refused because their attempt had been replaced.
    pub late_completions: u64,
    /// Submissions of an id that was already there.
    pub duplicates: u64,
}

impl Live {
    /// The live attempt's token; `Token(0)` while the task waits.
    pub fn token(&self) -> Token {
        self.holder.map_or(Token(0), |holder| holder.token)
    }

    /// The live attempt, or its copy, of that token.
    pub fn attempt_of(&self, token: Token) -> Option<Holder> {
        self.holder.into_iter().chain(self.copy).find(|holder| holder.token == token)
    }

    /// That attempt ends while its twin runs on, which is then the only one. `None`: it has no twin.
    pub(super) fn drop_one(&mut self, token: Token) -> Option<Holder> {
        let (first, copy) = (self.holder?, self.copy?);
        let (ended, stays) = if first.token == token { (first, copy) } else { (copy, first) };
        if ended.token != token {
            return None;
        }
        (self.holder, self.copy) = (Some(stays), None);
        Some(ended)
    }

    /// It is known to have been started: its `queue_timeout` is of no concern any more.
    pub fn has_run(&self) -> bool {
        self.failures + self.crashes > 0
    }

    /// Attempts that failed or timed out, and runners or nodes that died under it.
    pub fn mishaps(&self) -> (u32, u32) {
        (self.failures, self.crashes)
    }

    /// When it must have started for the first time, by the clock of the log.
    pub fn start_by_ms(&self) -> Option<u64> {
        let terms = &self.spec.terms;
        let wait_ms = terms.delay_ms.saturating_add(terms.queue_timeout_ms);
        (terms.queue_timeout_ms > 0 && !self.has_run())
            .then(|| self.story.submitted_ms.saturating_add(wait_ms))
    }

    /// When it must have its outcome, by the clock of the log.
    pub fn end_by_ms(&self) -> Option<u64> {
        let deadline_ms = self.spec.terms.deadline_ms;
        (deadline_ms > 0).then(|| self.story.submitted_ms.saturating_add(deadline_ms))
    }
}

impl Counters {
    /// Tasks that have an outcome.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.expired + self.lost
    }
}

/// What tells the same submission from another one under the same id.
pub fn fingerprint(spec: &TaskSpec) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&spec.function.hash.to_bytes());
    hasher.update(&[spec.codec as u8]);
    hasher.update(&spec.payload);
    if let Some(blob) = spec.blob {
        hasher.update(&blob.id.0);
    }
    hasher.digest()
}

/// What a live task is charged for.
pub fn spec_bytes(spec: &TaskSpec) -> u64 {
    let key = spec.claim.as_ref().map_or(0, |claim| claim.key.len() + 48);
    let needs = spec.needs.as_ref().map_or(0, |needs| needs.size());
    let trace = spec.trace.as_ref().map_or(0, |_| 48);
    (spec.payload.len() + spec.function.name.len() + key + needs + trace + 96) as u64
}
