//! What a node's answers say to a client, in core types: for clients that are imagined.

use super::wire;
use crate::core::cluster::command::Outcome;
use crate::core::ids::TaskId;
use crate::node::proto::{OutcomesResponse, Refusal, SubmitResponse};

/// One thing a client is told about a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A majority holds it.
    Accepted(TaskId),
    /// It is refused for good; nothing was stored.
    Refused {
        /// Which.
        task: TaskId,
        /// The id is there with another content.
        conflict: bool,
    },
    /// Nobody knows: the same id may be sent again.
    Open(TaskId),
    /// Its one outcome.
    Outcome(TaskId, Outcome),
    /// The cluster does not hold it.
    Unknown(TaskId),
}

/// What an answer on a Submit stream says.
pub fn of_submit(answer: SubmitResponse) -> Vec<Answer> {
    let accepted = wire::parse_ids(&answer.accepted).into_iter().map(Answer::Accepted);
    let rejected = answer.rejected.into_iter().filter_map(|rejection| {
        let task = TaskId::from_bytes(&rejection.task_id)?;
        let refusal = rejection.refusal();
        Some(match wire::is_open(refusal) {
            true => Answer::Open(task),
            false => Answer::Refused { task, conflict: refusal == Refusal::IdConflict },
        })
    });
    accepted.chain(rejected).collect()
}

/// What a message on an Outcomes stream says.
pub fn of_outcomes(message: OutcomesResponse) -> Vec<Answer> {
    let outcomes = message.outcomes.into_iter().filter_map(|outcome| {
        let task = TaskId::from_bytes(&outcome.task_id)?;
        Some(Answer::Outcome(task, wire::outcome_from_proto(outcome)?))
    });
    let unknown = wire::parse_ids(&message.unknown).into_iter().map(Answer::Unknown);
    outcomes.chain(unknown).collect()
}
