//! What one connection says and hears: batches out of the table, answers into it.

use super::handle::{Handle, Settled};
use super::table::{MAX_BODY, Stage, Table};
use super::wire;
use crate::core::cluster::command::{Codec, Outcome, Payload};
use crate::core::ids::{BlobRef, FunctionHash, NodeId, SessionId, TaskId};
use crate::error::Error;
use crate::node::batching::is_enough;
use crate::node::proto::{self, Refusal};
use crate::node::transport::wire::progress_in;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Tasks in one message.
const BATCH_TASKS: usize = 256;
/// Bytes in one message, unless a single task is larger.
const BATCH_BYTES: usize = 1 << 20;
/// Ids in one message.
const BATCH_IDS: usize = 4_096;
/// Acknowledgements repeated after a reconnect.
const REPEATED_ACKNOWLEDGEMENTS: usize = 8_192;

/// Handles and their final words, to be settled outside the table's lock.
pub(super) type Settlements = Vec<(Arc<Handle>, Settled)>;

pub(super) fn settle_all(settlements: Settlements) {
    for (handle, settled) in settlements {
        handle.settle(settled);
    }
}

/// A value that is too large for the stream, and who waits for it.
pub(super) struct Fetch {
    pub task: TaskId,
    pub blob: BlobRef,
    pub codec: Codec,
    pub attempts: u32,
    pub node: NodeId,
    pub output: Bytes,
    pub handles: Vec<Arc<Handle>>,
}

/// What an answer to a batch asks the connection to do.
#[derive(Default)]
pub(super) struct Answered {
    pub settlements: Settlements,
    /// Some tasks can go again at once.
    pub requeued: bool,
    /// Some tasks must go again after a while.
    pub deferred: bool,
    /// Some ids must be followed.
    pub follow: bool,
}

impl Table {
    /// The next message of the Submit stream, if anything is queued.
    pub fn take_batch(&mut self, session: &Bytes) -> Option<proto::SubmitRequest> {
        if !is_enough(self.queue.len(), self.unanswered) && self.closed.is_none() {
            return None;
        }
        let mut message = proto::SubmitRequest {
            session_id: session.clone(),
            functions: Vec::new(),
            tasks: Vec::with_capacity(self.queue.len().min(BATCH_TASKS)),
        };
        let mut size = 0;
        while message.tasks.len() < BATCH_TASKS && size < BATCH_BYTES {
            let Some(id) = self.queue.pop_front() else { break };
            let Some(task) = self.queued(id) else { continue };
            let (hash, length) = (task.hash, task.payload.len() + task.name.len() + 64);
            let body = hash.filter(|h| !self.functions_sent.contains(h)).and_then(|h| self.body(h));
            let body_length = body.map_or(0, |f| f.source.size() + f.name.len() + 32);
            let fits = size + length + body_length <= BATCH_BYTES;
            let empty = message.tasks.is_empty() && message.functions.is_empty();
            if !fits && !empty {
                self.queue.push_front(id);
                break;
            }
            if let (Some(body), Some(hash)) = (body, hash) {
                message.functions.push(wire::function_to_proto(body));
                self.functions_sent.insert(hash);
            }
            size += length + body_length;
            if length + body_length > MAX_BODY + BATCH_BYTES {
                // Together they might pass the receiver's limit: the body goes first, alone.
                self.queue.push_front(id);
                break;
            }
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if let Some(task) = &entry.task {
                message.tasks.push(wire::task_to_proto(id, task));
                entry.stage = Stage::Sent;
            }
        }
        self.unanswered += message.tasks.len();
        (!message.tasks.is_empty() || !message.functions.is_empty()).then_some(message)
    }

    fn queued(&self, id: TaskId) -> Option<&super::table::TaskRequest> {
        let entry = self.entries.get(&id)?;
        entry.task.as_deref().filter(|_| entry.stage == Stage::Queued)
    }

    /// The next message of the Outcomes stream, if there is anything to say.
    pub fn take_ids(&mut self, session: &Bytes) -> Option<proto::OutcomesRequest> {
        if self.follow.is_empty() && self.acknowledge.is_empty() {
            return None;
        }
        let follow = take(&mut self.follow, BATCH_IDS);
        let acknowledge = take(&mut self.acknowledge, BATCH_IDS);
        self.acknowledged.extend(&acknowledge);
        let excess = self.acknowledged.len().saturating_sub(REPEATED_ACKNOWLEDGEMENTS);
        self.acknowledged.drain(..excess);
        Some(proto::OutcomesRequest {
            session_id: session.clone(),
            follow: wire::ids_bytes(&follow),
            acknowledge: wire::ids_bytes(&acknowledge),
        })
    }

    /// What became of tasks that were sent.
    pub fn on_answer(&mut self, answer: proto::SubmitResponse) -> Answered {
        let mut answered = Answered::default();
        let count = answer.accepted.len() + answer.joined.len() + answer.rejected.len();
        self.unanswered = self.unanswered.saturating_sub(count);
        // Those that waited for company may go now.
        answered.requeued = !self.queue.is_empty();
        for id in wire::parse_ids(&answer.accepted) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.stage = Stage::Accepted;
            entry.handle.accept();
            if entry.resent {
                self.follow.push(id);
                answered.follow = true;
            }
            self.release(id);
        }
        for joined in answer.joined {
            let ids = (TaskId::from_bytes(&joined.task_id), TaskId::from_bytes(&joined.existing));
            if let (Some(id), Some(existing)) = ids {
                self.join_key(id, existing);
                answered.follow = true;
            }
        }
        for rejection in answer.rejected {
            self.on_rejection(rejection, &mut answered);
        }
        answered
    }

    fn on_rejection(&mut self, rejection: proto::Rejection, answered: &mut Answered) {
        let Some(id) = TaskId::from_bytes(&rejection.task_id) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage == Stage::Accepted {
            return;
        }
        let hash = entry.task.as_ref().and_then(|task| task.hash);
        let refusal = rejection.refusal();
        // An earlier sending may be on its way into the log still: no word on a full queue is the last one then.
        let full_again = refusal == Refusal::QueueFull && entry.resent;
        match refusal {
            _ if wire::is_open(refusal) || full_again => {
                entry.stage = Stage::Deferred;
                entry.resent = true;
                self.deferred.push(id);
                answered.deferred = true;
                // A body that went with the batch may have been lost with it.
                self.forget_body(hash);
            }
            Refusal::UnknownFunction
                if !entry.body_resent && hash.is_some_and(|h| self.has_body(h)) =>
            {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.body_resent = true;
                    entry.stage = Stage::Queued;
                }
                self.forget_body(hash);
                self.queue.push_back(id);
                answered.requeued = true;
            }
            _ => {
                let settled = Settled::Refused {
                    refusal,
                    message: rejection.message,
                    retry_after: Duration::from_millis(rejection.retry_after_ms.into()),
                    existing: TaskId::from_bytes(&rejection.existing),
                };
                if let Some(entry) = self.remove(id) {
                    answered.settlements.push((entry.handle, settled));
                }
            }
        }
    }

    fn has_body(&self, hash: FunctionHash) -> bool {
        self.body(hash).is_some()
    }

    fn forget_body(&mut self, hash: Option<FunctionHash>) {
        if let Some(hash) = hash {
            self.functions_sent.remove(&hash);
        }
    }

    /// Outcomes arrived. They are acknowledged whether they are news or not: the sender does not know. Those
    /// whose value must be fetched first are returned apart, and acknowledged once it is here.
    pub fn on_outcomes(&mut self, message: proto::OutcomesResponse) -> (Settlements, Vec<Fetch>) {
        let mut settlements = Vec::with_capacity(message.outcomes.len());
        let mut fetches = Vec::new();
        for outcome in message.outcomes {
            let Some(id) = TaskId::from_bytes(&outcome.task_id) else { continue };
            let (attempts, node) = (outcome.attempts, NodeId(outcome.node));
            let output = outcome.output.clone();
            let Some(outcome) = wire::outcome_from_proto(outcome) else { continue };
            let entries = self.remove_all(id);
            if let Outcome::Value(Payload { codec, blob: Some(blob), .. }) = outcome
                && !entries.is_empty()
            {
                let handles = entries.into_iter().map(|entry| entry.handle).collect();
                fetches.push(Fetch { task: id, blob, codec, attempts, node, output, handles });
                continue;
            }
            self.acknowledge.push(id);
            for entry in entries {
                let (outcome, output) = (outcome.clone(), output.clone());
                let settled = Settled::Outcome { outcome, attempts, node, output };
                settlements.push((entry.handle, settled));
            }
        }
        for (id, _, progress) in message.progress.into_iter().filter_map(|p| progress_in(p).ok()) {
            self.note_progress(id, &progress);
        }
        for id in wire::parse_ids(&message.unknown) {
            // Only what is accepted was followed; a task on its way is answered on the other stream.
            if self.entries.get(&id).is_some_and(|entry| entry.stage != Stage::Accepted) {
                continue;
            }
            for entry in self.remove_all(id) {
                let error = Error::TaskNotFound { task: id.to_string() };
                settlements.push((entry.handle, Settled::Failed(error)));
            }
        }
        (settlements, fetches)
    }

    /// Makes ready for a new connection: what has no answer goes again, with the same ids, in the order of submission;
    /// what is accepted is followed.
    pub fn restart(&mut self) {
        self.functions_sent.clear();
        self.deferred.clear();
        self.unanswered = 0;
        let (mut again, mut follow) = (Vec::new(), Vec::new());
        for (id, entry) in &mut self.entries {
            if entry.stage == Stage::Accepted {
                follow.push((entry.order, entry.joined.unwrap_or(*id)));
                continue;
            }
            entry.resent |= entry.stage == Stage::Sent;
            entry.stage = Stage::Queued;
            again.push((entry.order, *id));
        }
        again.sort_unstable();
        follow.sort_unstable();
        self.queue = again.into_iter().map(|(_, id)| id).collect();
        self.follow = follow.into_iter().map(|(_, id)| id).collect();
        let repeated: Vec<TaskId> = self.acknowledged.drain(..).collect();
        self.acknowledge.extend(repeated);
    }

    /// Puts deferred tasks back at the front of the queue; true if there were any.
    pub fn requeue_deferred(&mut self) -> bool {
        let deferred = std::mem::take(&mut self.deferred);
        let any = !deferred.is_empty();
        for id in deferred.into_iter().rev() {
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.stage == Stage::Deferred
            {
                entry.stage = Stage::Queued;
                self.queue.push_front(id);
            }
        }
        any
    }

    /// Cancels what never left this client; returns what the cluster must be asked about.
    pub fn cancel_queued(&mut self, ids: &[TaskId]) -> (Settlements, Vec<TaskId>) {
        let (mut settlements, mut rest) = (Vec::new(), Vec::new());
        for &id in ids {
            let local =
                self.entries.get(&id).is_some_and(|e| e.stage == Stage::Queued && !e.resent);
            match local.then(|| self.remove(id)).flatten() {
                Some(entry) => settlements.push((entry.handle, cancelled())),
                None => rest.push(self.known_as(id)),
            }
        }
        (settlements, rest)
    }

    /// The cluster confirmed that these are cancelled; their outcome needs no second telling.
    pub fn on_cancelled(&mut self, ids: &[TaskId]) -> Settlements {
        let mut settlements = Vec::with_capacity(ids.len());
        for &id in ids {
            for entry in self.remove_all(id) {
                settlements.push((entry.handle, cancelled()));
            }
            self.acknowledge.push(id);
        }
        settlements
    }
}

fn cancelled() -> Settled {
    let (outcome, output) = (Outcome::Cancelled, Bytes::new());
    Settled::Outcome { outcome, attempts: 0, node: NodeId(0), output }
}

fn take(list: &mut Vec<TaskId>, most: usize) -> Vec<TaskId> {
    list.split_off(list.len().saturating_sub(most))
}

pub(super) fn session_bytes(session: SessionId) -> Bytes {
    Bytes::copy_from_slice(&session.to_bytes())
}
