//! Who yields what to an idle node. The leader arbitrates: revoke, confirm not started, log, grant.

use super::roster::Roster;
use crate::config::StealPolicy;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};

/// What to ask back from whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Steal {
    /// Who has too much.
    pub victim: NodeId,
    /// The newest of its assignments, which it would start last.
    pub tasks: Vec<TaskId>,
}

/// The richest victim within the thief's reach, and at most half of what waits there.
pub fn plan_steal(
    roster: &Roster,
    state: &ClusterState,
    thief: NodeId,
    free_slots: u32,
    cpu_available: f64,
    policy: &StealPolicy,
) -> Option<Steal> {
    let thief_post = roster.get(&thief).filter(|post| post.eligible())?;
    // A thief that was just given work, or that is being fetched some, is not idle any more.
    let fetched = roster.values().flat_map(|p| p.revoking.values()).any(|t| *t == Some(thief));
    if free_slots == 0 || cpu_available < policy.cpu_floor || thief_post.burden() > 0 || fetched {
        return None;
    }
    let position = thief_post.member.position;
    let victim = roster
        .values()
        .filter(|post| post.member.id != thief && post.open && !post.lost && post.queued() > 0)
        .filter(|post| post.member.position.distance(&position) <= policy.reach)
        .max_by_key(|post| (post.queued(), post.member.id))?;
    let amount = (victim.queued().div_ceil(2)).min(policy.batch as usize);
    let mut newest: Vec<(Token, TaskId)> = victim
        .assigned
        .iter()
        .filter(|(task, _)| {
            !victim.revoking.contains_key(task) && !victim.status.running.contains(task)
        })
        .filter(|(task, _)| state.live().get(task).is_some_and(|l| l.steals < policy.per_task))
        .map(|(task, token)| (*token, *task))
        .collect();
    newest.sort_unstable();
    let tasks: Vec<TaskId> = newest.iter().rev().take(amount).map(|(_, task)| *task).collect();
    if tasks.is_empty() {
        return None;
    }
    Some(Steal { victim: victim.member.id, tasks })
}
