//! A task that has no outcome yet, and the counts of those that have.

use super::command::TaskSpec;
use crate::core::ids::{NodeId, Token};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A task without an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// What to do.
    pub spec: Arc<TaskSpec>,
    /// Who does it; `None`: it waits.
    pub holder: Option<Holder>,
    /// Attempts so far.
    pub attempt: u32,
    /// Times it was stolen.
    pub steals: u32,
    pub(super) failures: u32,
    pub(super) crashes: u32,
    /// The last attempt that was reported, so that a re-sent report is told from a late one.
    pub(super) reported: Token,
    pub(super) fingerprint: u64,
}

/// Who holds a live attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// The attempt's fencing token.
    pub token: Token,
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
    /// Tasks past their crash budget.
    pub lost: u64,
    /// Attempts after a failure of user code, a timeout or a crash.
    pub retries: u64,
    /// Attempts after the death of a node.
    pub reassigned: u64,
    /// Tasks moved to a thief.
    pub steals: u64,
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
}

impl Counters {
    /// Tasks that have an outcome.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.lost
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
    (spec.payload.len() + spec.function.name.len() + 96) as u64
}
