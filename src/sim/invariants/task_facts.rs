//! What becomes a fact in the life of tasks: said by clients, by logs as nodes apply them, and by runners.

use crate::core::ids::{LogIndex, NodeId, TaskId, Token};
use std::sync::Arc;

/// Something that is so about a task, whatever any node believes.
#[derive(Clone, Debug)]
pub enum TaskFact {
    /// A client was told that a majority holds its submission.
    Accepted {
        /// Which task.
        task: TaskId,
        /// What the client had submitted.
        content: u64,
    },
    /// A client was told that the id is there with another content.
    Conflicted {
        /// Which task.
        task: TaskId,
        /// What the client had submitted.
        content: u64,
    },
    /// A client asked that the task be cancelled.
    CancelAsked {
        /// Which task.
        task: TaskId,
    },
    /// A client that waits for the outcome of an accepted task was told that the cluster does not hold it.
    Denied {
        /// Which task.
        task: TaskId,
    },
    /// A client was told the outcome.
    Told {
        /// Which task.
        task: TaskId,
        /// In one word.
        outcome: Arc<str>,
    },
    /// A node applied an entry that brings the task into being.
    Entered {
        /// Who applied it.
        node: NodeId,
        /// Where in the log.
        index: LogIndex,
        /// Which task.
        task: TaskId,
        /// What was submitted.
        content: u64,
    },
    /// A node applied an entry that makes an attempt the live one, or one of two.
    Assigned {
        /// Where in the log.
        index: LogIndex,
        /// Which task.
        task: TaskId,
        /// The attempt.
        token: Token,
        /// It runs beside the one that is live.
        copy: bool,
    },
    /// A node applied an entry that leaves one of two live attempts.
    Narrowed {
        /// Where in the log.
        index: LogIndex,
        /// Which task.
        task: TaskId,
        /// The attempt that ended.
        token: Token,
    },
    /// A node applied an entry that gives the task its outcome.
    Finished {
        /// Who applied it.
        node: NodeId,
        /// Where in the log.
        index: LogIndex,
        /// Which task.
        task: TaskId,
        /// In one word.
        outcome: Arc<str>,
    },
    /// An attempt began.
    Began {
        /// Where.
        node: NodeId,
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
    },
    /// An attempt ended, and its node heard of it.
    Ended {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
        /// Whether it is the last the task needs.
        done: bool,
    },
    /// Of the accepted tasks whose outcome nobody was told yet, these are not in the state of `node`.
    Missing {
        /// Whose state.
        node: NodeId,
        /// How far it has come.
        index: LogIndex,
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// How much waits where.
    Waiting {
        /// Where.
        node: NodeId,
        /// Tasks without an outcome, in its state.
        live: u64,
        /// Their bytes.
        bytes: u64,
        /// Assignments that have not begun there.
        queued: u64,
        /// Outcomes held.
        outcomes: u64,
    },
    /// A fault was made or mended, or a node started: what an attempt does meanwhile is excused.
    Faulted,
}
