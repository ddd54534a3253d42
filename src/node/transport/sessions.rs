//! The clients' streams: what the leader tells them leaves here, bounded, a slow reader hurting nobody else.

use super::wire;
use crate::core::boundary::{Finished, Refusal};
use crate::core::ids::{SessionId, TaskId};
use crate::node::proto as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Messages that may wait for one client; beyond, its stream is cut and it reconnects.
pub const OUTBOX: usize = 1_024;
/// Outcomes in one message.
const PER_MESSAGE: usize = 1_024;
/// Outcomes held for a client whose Outcomes stream is not open yet.
const HELD_BACK: usize = 10_000;
/// Bytes of outcomes in one message.
const MESSAGE_BYTES: usize = 512 << 10;

/// The sending half of a response stream.
pub type Outbox<T> = mpsc::Sender<Result<T, Status>>;
/// The sending half of a Submit stream's answers.
pub type SubmitOutbox = Outbox<pb::SubmitResponse>;
/// The sending half of an Outcomes stream's answers.
pub type OutcomesOutbox = Outbox<pb::OutcomesResponse>;

/// All clients this node serves.
#[derive(Default)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
}

#[derive(Default)]
struct Session {
    submit: Option<(u64, SubmitOutbox)>,
    /// Tasks sent on the Submit stream and not answered yet.
    owed: usize,
    /// The client sends no more; its stream ends with the last answer.
    half_closed: bool,
    outcomes: Option<(u64, OutcomesOutbox)>,
    accepted: Vec<TaskId>,
    joined: Vec<pb::Joined>,
    rejected: Vec<pb::Rejection>,
    finished: Vec<Arc<Finished>>,
    unknown: Vec<TaskId>,
}

impl Sessions {
    /// A client opened its Submit stream; `stream` tells streams apart.
    pub fn open_submit(&mut self, id: SessionId, stream: u64, outbox: SubmitOutbox) {
        let session = self.open.entry(id).or_default();
        session.submit = Some((stream, outbox));
        (session.owed, session.half_closed) = (0, false);
    }

    /// A client sent `count` tasks, each of which is answered once.
    pub fn owe(&mut self, id: SessionId, count: usize) {
        if let Some(session) = self.open.get_mut(&id) {
            session.owed += count;
        }
    }

    /// A client sends no more tasks and waits for the answers.
    pub fn half_close(&mut self, id: SessionId, stream: u64) {
        let session = self.open.get_mut(&id);
        if let Some(session) =
            session.filter(|s| s.submit.as_ref().is_some_and(|(s, _)| *s == stream))
        {
            session.half_closed = true;
        }
    }

    /// A client opened its Outcomes stream.
    pub fn open_outcomes(
        &mut self,
        id: SessionId,
        stream: u64,
        outbox: Outbox<pb::OutcomesResponse>,
    ) {
        self.open.entry(id).or_default().outcomes = Some((stream, outbox));
    }

    /// A stream ended; true if it was the client's last.
    pub fn close(&mut self, id: SessionId, stream: u64) -> bool {
        let Some(session) = self.open.get_mut(&id) else { return false };
        if session.submit.as_ref().is_some_and(|(s, _)| *s == stream) {
            session.submit = None;
        }
        if session.outcomes.as_ref().is_some_and(|(s, _)| *s == stream) {
            session.outcomes = None;
        }
        let last = session.submit.is_none() && session.outcomes.is_none();
        if last {
            self.open.remove(&id);
        }
        last
    }

    /// Leadership moved: every client shall look for the new leader.
    pub fn cut_all(&mut self) {
        for (_, session) in std::mem::take(&mut self.open) {
            let moved = || Status::unavailable("leadership moved; reconnect");
            if let Some((_, outbox)) = session.submit {
                let _ = outbox.try_send(Err(moved()));
            }
            if let Some((_, outbox)) = session.outcomes {
                let _ = outbox.try_send(Err(moved()));
            }
        }
    }

    /// Tasks were accepted.
    pub fn accept(&mut self, id: SessionId, tasks: Vec<TaskId>) {
        if let Some(session) = self.open.get_mut(&id) {
            session.owed = session.owed.saturating_sub(tasks.len());
            session.accepted.extend(tasks);
        }
    }

    /// A task joined another one.
    pub fn join(&mut self, id: SessionId, task: TaskId, existing: TaskId) {
        if let Some(session) = self.open.get_mut(&id) {
            session.owed = session.owed.saturating_sub(1);
            session.joined.push(pb::Joined {
                task_id: wire::id_bytes(task.to_bytes()),
                existing: wire::id_bytes(existing.to_bytes()),
            });
        }
    }

    /// A task was refused.
    pub fn reject(&mut self, id: SessionId, task: TaskId, refusal: &Refusal) {
        if let Some(session) = self.open.get_mut(&id) {
            session.owed = session.owed.saturating_sub(1);
            session.rejected.push(wire::rejection_out(task, refusal));
        }
    }

    /// Tasks have their outcome.
    pub fn deliver(&mut self, id: SessionId, finished: Vec<Arc<Finished>>) {
        if let Some(session) = self.open.get_mut(&id) {
            session.finished.extend(finished);
        }
    }

    /// Followed ids that the cluster does not hold.
    pub fn deny(&mut self, id: SessionId, tasks: Vec<TaskId>) {
        if let Some(session) = self.open.get_mut(&id) {
            session.unknown.extend(tasks);
        }
    }

    /// Sends what was collected, in messages of bounded size.
    pub fn flush(&mut self) {
        self.open.retain(|_, session| {
            session.flush_submit();
            session.flush_outcomes();
            session.submit.is_some() || session.outcomes.is_some()
        });
    }
}

impl Session {
    fn flush_submit(&mut self) {
        if self.accepted.is_empty() && self.rejected.is_empty() && self.joined.is_empty() {
            return self.end_submit();
        }
        let response = pb::SubmitResponse {
            accepted: wire::task_ids_out(&std::mem::take(&mut self.accepted)),
            rejected: std::mem::take(&mut self.rejected),
            joined: std::mem::take(&mut self.joined),
        };
        if let Some((_, outbox)) = &self.submit
            && outbox.try_send(Ok(response)).is_err()
        {
            self.submit = None;
        }
        self.end_submit();
    }

    /// Dropping the outbox ends the stream, once everything in it is sent.
    fn end_submit(&mut self) {
        if self.half_closed && self.owed == 0 {
            self.submit = None;
        }
    }

    fn flush_outcomes(&mut self) {
        if self.outcomes.is_none() {
            // The stream may be on its way; what does not fit is followed again by whoever wants it.
            let excess = self.finished.len().saturating_sub(HELD_BACK);
            self.finished.drain(..excess);
            self.unknown.clear();
            return;
        }
        if self.finished.is_empty() && self.unknown.is_empty() {
            return;
        }
        let unknown = wire::task_ids_out(&std::mem::take(&mut self.unknown));
        let mut responses = vec![pb::OutcomesResponse { outcomes: Vec::new(), unknown }];
        let mut bytes = 0;
        for finished in std::mem::take(&mut self.finished) {
            let full = responses.last().is_some_and(|r| r.outcomes.len() >= PER_MESSAGE);
            if full || bytes > MESSAGE_BYTES {
                responses.push(pb::OutcomesResponse::default());
                bytes = 0;
            }
            bytes += finished.outcome.size();
            if let Some(response) = responses.last_mut() {
                response.outcomes.push(wire::outcome_out(&finished));
            }
        }
        for response in responses {
            let Some((_, outbox)) = &self.outcomes else { return };
            if outbox.try_send(Ok(response)).is_err() {
                // Too slow, or gone: it will reconnect and follow what it misses.
                self.outcomes = None;
            }
        }
    }
}
