//! The clients' streams: what the leader tells them leaves here, bounded, a slow reader hurting nobody else.
//!
//! Answers to submissions are bounded by the submissions a node reads; a client that does not take them is cut off.
//! Outcomes wait here for a client that is slow, as pointers to what the replicated state holds anyway; whatever that
//! forgets meanwhile is forgotten here too, and the client is told so.

use super::succession::moved;
use super::wire;
use crate::core::boundary::{Finished, Progress, Refusal};
use crate::core::ids::{SessionId, TaskId};
use crate::node::driver::Input;
use crate::node::proto as pb;
use crate::node::shared::Whereabouts;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Answers that may wait for one client; beyond, its stream is cut and it reconnects.
pub const OUTBOX: usize = 1_024;
/// Messages of outcomes that may wait for one client; beyond, outcomes wait as such.
pub const OUTCOMES_OUTBOX: usize = 16;
/// Outcomes that may wait for one client; beyond, its stream is cut and it asks again.
const MAX_WAITING: usize = 1_000_000;
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
    finished: VecDeque<Arc<Finished>>,
    /// The last word of each task.
    progress: BTreeMap<TaskId, Progress>,
    /// Somebody waits until the client has taken a message.
    awaited: bool,
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
        let session = self.open.entry(id).or_default();
        (session.outcomes, session.awaited) = (Some((stream, outbox)), false);
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

    /// Leadership moved: every client shall look for the new leader, first at `to`, if somebody is about to lead.
    pub fn cut_all(&mut self, to: Option<&Whereabouts>) {
        for (_, session) in std::mem::take(&mut self.open) {
            if let Some((_, outbox)) = session.submit {
                let _ = outbox.try_send(Err(moved(to)));
            }
            if let Some((_, outbox)) = session.outcomes {
                let _ = outbox.try_send(Err(moved(to)));
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

    /// How far a task is. With too many of them waiting it is not told: the next word says more.
    pub fn tell_progress(&mut self, id: SessionId, task: TaskId, progress: Progress) {
        if let Some(session) = self.open.get_mut(&id)
            && (session.progress.len() < PER_MESSAGE || session.progress.contains_key(&task))
        {
            session.progress.insert(task, progress);
        }
    }

    /// Followed ids that the cluster does not hold.
    pub fn deny(&mut self, id: SessionId, tasks: Vec<TaskId>) {
        if let Some(session) = self.open.get_mut(&id) {
            session.unknown.extend(tasks);
        }
    }

    /// A client took a message from that stream of outcomes.
    pub fn on_drained(&mut self, id: SessionId, stream: u64) {
        if let Some(session) = self.open.get_mut(&id)
            && session.outcomes.as_ref().is_some_and(|(s, _)| *s == stream)
        {
            session.awaited = false;
        }
    }

    /// Sends what was collected, in messages of bounded size; `inputs` hears when a slow client has room again.
    pub fn flush(&mut self, inputs: &mpsc::UnboundedSender<Input>) {
        self.open.retain(|id, session| {
            session.flush_submit();
            session.flush_outcomes();
            session.await_room(*id, inputs);
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
            self.progress.clear();
            return;
        }
        let gone = self.outcomes.as_ref().is_some_and(|(_, outbox)| outbox.is_closed());
        if gone || self.finished.len() > MAX_WAITING {
            self.outcomes = None;
            return;
        }
        let has_room = |session: &Session| {
            session.outcomes.as_ref().is_some_and(|(_, outbox)| outbox.capacity() > 0)
        };
        while has_room(self) && self.has_news() {
            let response = self.next_outcomes();
            if let Some((_, outbox)) = &self.outcomes
                && outbox.try_send(Ok(response)).is_err()
            {
                self.outcomes = None;
            }
        }
        self.let_go();
    }

    fn has_news(&self) -> bool {
        !(self.finished.is_empty() && self.unknown.is_empty() && self.progress.is_empty())
    }

    fn next_outcomes(&mut self) -> pb::OutcomesResponse {
        let rest = self.unknown.split_off(self.unknown.len().min(PER_MESSAGE));
        let unknown = std::mem::replace(&mut self.unknown, rest);
        let (mut outcomes, mut bytes) = (Vec::new(), 0);
        while outcomes.len() < PER_MESSAGE && bytes <= MESSAGE_BYTES {
            let Some(finished) = self.finished.pop_front() else { break };
            bytes += finished.size();
            outcomes.push(wire::outcome_out(&finished));
        }
        let told = std::mem::take(&mut self.progress).into_iter();
        let progress = told.map(|(task, how)| wire::client_progress_out(task, how)).collect();
        pb::OutcomesResponse { outcomes, unknown: wire::task_ids_out(&unknown), progress }
    }

    /// What nobody else holds any more is not held for a slow client either.
    fn let_go(&mut self) {
        let unknown = &mut self.unknown;
        self.finished.retain(|finished| {
            let held = Arc::strong_count(finished) > 1;
            if !held {
                unknown.push(finished.task);
            }
            held
        });
    }

    fn await_room(&mut self, id: SessionId, inputs: &mpsc::UnboundedSender<Input>) {
        let Some((stream, outbox)) = &self.outcomes else { return };
        if self.awaited || (self.finished.is_empty() && self.unknown.is_empty()) {
            return;
        }
        self.awaited = true;
        let (stream, outbox, inputs) = (*stream, outbox.clone(), inputs.clone());
        tokio::spawn(async move {
            // An error is news too: the client is gone.
            drop(outbox.reserve().await);
            let _ = inputs.send(Input::OutcomesDrained(id, stream));
        });
    }
}
