//! Which submissions become tasks, which join one that is there, and which are refused: by their ids and their keys.

use super::command::{Claim, OnDuplicate, Outcome, TaskSpec};
use super::live::{Live, fingerprint, spec_bytes};
use super::state::ClusterState;
use super::story::{Step, StepKind, Story};
use crate::core::boundary::{Change, Refusal};
use crate::core::cluster::command::AssignCause;
use crate::core::ids::{NodeId, TaskId, Token};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Submissions that may join one task by its key.
pub const MAX_JOINED: usize = 10_000;
/// When a submission that found no room among those may come again.
const JOIN_LATER: Duration = Duration::from_secs(1);

/// What a submission meets.
enum Met {
    Nothing,
    /// The task it is, or joins.
    Task(TaskId),
    Refused(Refusal),
}

impl ClusterState {
    pub(super) fn submit(
        &mut self,
        token: Token,
        spec: &Arc<TaskSpec>,
        to: Option<NodeId>,
        out: &mut Vec<Change>,
    ) {
        let (task, session, bytes) = (spec.id, spec.session, spec_bytes(spec));
        let fingerprint = fingerprint(spec);
        let mut met = self.meet_id(task, fingerprint);
        if let (Met::Nothing, Some(claim)) = (&met, &spec.claim) {
            met = self.meet_key(spec, claim, fingerprint, out);
        }
        match met {
            Met::Nothing => {}
            Met::Task(existing) => {
                self.counters.duplicates += 1;
                out.push(Change::Joined { session, task, existing, bytes });
                // One that joins another task is withdrawn with its place by the leader.
                return self.give_back(task, to.filter(|_| existing == task), out);
            }
            Met::Refused(refusal) => {
                out.push(Change::Refused { session, task, bytes, refusal });
                return self.give_back(task, to, out);
            }
        }
        self.counters.accepted += 1;
        self.live_bytes += bytes;
        self.blobs.hold(spec.blob);
        if let Some(claim) = &spec.claim {
            self.keys.insert(claim.key.clone(), task);
        }
        let live = Live {
            spec: spec.clone(),
            holder: None,
            copy: None,
            attempt: 0,
            steals: 0,
            story: Story::begin(self.clock_ms),
            ready_ms: self.clock_ms.saturating_add(spec.terms.delay_ms),
            deaths: Vec::new(),
            joined: Vec::new(),
            failures: 0,
            crashes: 0,
            reported: Token(0),
            output: Bytes::new(),
            fingerprint,
        };
        self.live.insert(task, live);
        out.push(Change::Submitted { spec: spec.clone() });
        if let Some(to) = to.filter(|node| self.members.contains_key(node)) {
            self.assign(token, task, to, AssignCause::Placed, Token(0), out);
        }
    }

    /// The place a submission was to have is free again, if its task is there already.
    fn give_back(&self, task: TaskId, to: Option<NodeId>, out: &mut Vec<Change>) {
        let void = to.filter(|_| self.knows(task)).map(|to| Change::AssignmentVoid { task, to });
        out.extend(void);
    }

    /// The same id is the same task, and must have the same content; one that may be forgotten is refused.
    fn meet_id(&mut self, task: TaskId, fingerprint: u64) -> Met {
        let alias = self.retention.alias(task);
        let known = self
            .live
            .get(&task)
            .map(|live| live.fingerprint)
            .or_else(|| alias.map(|alias| alias.fingerprint))
            .or_else(|| self.retention.fingerprint(task));
        match known {
            Some(known) if known == fingerprint => Met::Task(alias.map_or(task, |alias| alias.of)),
            Some(_) => {
                self.counters.duplicates += 1;
                Met::Refused(Refusal::Conflict)
            }
            None if self.retention.may_be_forgotten(task) => Met::Refused(Refusal::IdExpired),
            None => Met::Nothing,
        }
    }

    /// At most one unfinished task holds a key.
    fn meet_key(
        &mut self,
        spec: &TaskSpec,
        claim: &Claim,
        fingerprint: u64,
        out: &mut Vec<Change>,
    ) -> Met {
        let Some(&holder) = self.keys.get(&claim.key) else { return Met::Nothing };
        let Some(live) = self.live.get_mut(&holder) else { return Met::Nothing };
        let same_function = live.spec.function.name == spec.function.name;
        match claim.on_duplicate {
            OnDuplicate::Join if !same_function => Met::Refused(Refusal::Duplicate {
                existing: holder,
                detail: format!(
                    "key {:?} is held by a task of another function, {:?}, which cannot be joined",
                    claim.key, live.spec.function.name
                ),
            }),
            OnDuplicate::Join if live.joined.len() >= MAX_JOINED => {
                Met::Refused(Refusal::QueueFull {
                    detail: format!(
                        "{MAX_JOINED} submissions joined the task of key {:?}",
                        claim.key
                    ),
                    retry_after: JOIN_LATER,
                })
            }
            OnDuplicate::Join => {
                live.joined.push(spec.id);
                self.retention.join(spec.id, holder, fingerprint);
                Met::Task(holder)
            }
            OnDuplicate::Reject => Met::Refused(Refusal::Duplicate {
                existing: holder,
                detail: format!("key {:?} is held by task {holder}", claim.key),
            }),
            OnDuplicate::Replace => {
                let (node, attempt) =
                    (live.holder.map(|h| h.node).unwrap_or_default(), live.attempt);
                let (at_ms, kind) = (self.clock_ms, StepKind::Replaced);
                live.story.note(Step { at_ms, node, attempt, kind });
                self.finish(holder, Outcome::Cancelled, out);
                Met::Nothing
            }
        }
    }
}
