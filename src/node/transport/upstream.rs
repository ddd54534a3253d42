//! This node's end of the leader's AssignTask stream: answers are collected in a step and leave together.

use super::intake;
use super::lines::{Back, WorkAsked};
use super::wire;
use crate::config::Limits;
use crate::core::boundary::{Assignment, Ended, Event, NodeStatus};
use crate::core::cluster::command::{Function, Member};
use crate::core::ids::{NodeId, TaskId, Term, Token};
use crate::node::batching::is_enough;
use crate::node::proto as pb;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of reports in one message.
const MESSAGE_BYTES: usize = 1 << 20;

/// What one message of the leader says, in the order in which the core must hear it.
pub struct Words {
    /// Functions the assignments need.
    pub functions: Vec<Arc<Function>>,
    /// The members, if they changed.
    pub members: Vec<Member>,
    /// The rest.
    pub events: Vec<Event>,
}

/// Reads a message of the leader. A part that makes no sense is left out: the next inventory brings it again.
pub fn words(request: pb::AssignTaskRequest, limits: &Limits) -> Words {
    let term = request.term;
    let mut events = Vec::new();
    let settled = wire::task_ids(&request.settled).unwrap_or_default();
    if !settled.is_empty() {
        events.push(Event::ReportsSettled { term, tasks: settled });
    }
    let revoked = wire::task_ids(&request.revoked).unwrap_or_default();
    if !revoked.is_empty() {
        events.push(Event::TasksRevoked { term, tasks: revoked });
    }
    let killed = wire::task_ids(&request.killed).unwrap_or_default();
    if !killed.is_empty() {
        events.push(Event::TasksKilled { term, tasks: killed });
    }
    let assignments = request.assignments.into_iter().map(wire::assignment_in);
    let assignments: Vec<Assignment> = assignments.filter_map(Result::ok).collect();
    if !assignments.is_empty() {
        events.push(Event::TasksAssigned { term, assignments });
    }
    // The leader checked functions when they were registered; pickled ones are refused when they should run.
    let functions = request.functions.into_iter().map(|f| intake::function_in(f, limits, true));
    let members = request.members.into_iter().map(wire::member_in);
    Words {
        functions: functions.filter_map(Result::ok).collect(),
        members: members.filter_map(Result::ok).collect(),
        events,
    }
}

/// The stream. What waits in it is bounded by what this node may hold (`limits.node_queue`).
pub struct Upstream {
    /// Tells streams apart.
    pub stream: u64,
    /// The leader's term.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
    /// Where it listens.
    pub address: String,
    /// This node.
    pub me: NodeId,
    /// The cluster's id.
    pub cluster_id: bytes::Bytes,
    outbox: mpsc::UnboundedSender<Result<pb::AssignTaskResponse, Status>>,
    pending: pb::AssignTaskResponse,
    pending_bytes: usize,
    /// Reports that were sent and are not settled.
    unsettled: usize,
    back: Arc<dyn Back>,
}

impl Upstream {
    /// A stream the leader has just opened; `back` leads back to it.
    pub fn new(
        hello: &pb::AssignTaskRequest,
        me: NodeId,
        stream: u64,
        outbox: mpsc::UnboundedSender<Result<pb::AssignTaskResponse, Status>>,
        back: Arc<dyn Back>,
    ) -> Self {
        let envelope = hello.envelope.clone().unwrap_or_default();
        Upstream {
            stream,
            term: hello.term,
            leader: NodeId(envelope.from_node),
            address: hello.leader_address.clone(),
            me,
            cluster_id: envelope.cluster_id,
            outbox,
            pending: pb::AssignTaskResponse::default(),
            pending_bytes: 0,
            unsettled: 0,
            back,
        }
    }

    /// Refuses a leader of an older term.
    pub fn refuse_stale(&self, term: Term) {
        let text = format!("term {} is over, this node follows term {term}", self.term);
        let _ = self.outbox.send(Err(Status::aborted(text)));
    }

    /// Everything this node holds, and how it is.
    pub fn inventory(
        &mut self,
        term: Term,
        incarnation: u64,
        held: &[(TaskId, Token, bool)],
        status: &NodeStatus,
    ) {
        let held = held.iter().map(|(task, token, running)| pb::Held {
            task_id: wire::id_bytes(task.to_bytes()),
            token: token.0,
            running: *running,
        });
        let inventory = Some(pb::Inventory { held: held.collect(), incarnation });
        let status = Some(wire::status_out(status));
        self.send(pb::AssignTaskResponse { term, inventory, status, ..Default::default() });
    }

    /// Ended attempts.
    pub fn report(&mut self, reports: Vec<Ended>) {
        for ended in reports {
            self.pending_bytes += ended.report.size() + ended.output.len() + 64;
            self.pending.reports.push(wire::report_out(&ended));
            if self.pending_bytes > MESSAGE_BYTES {
                self.flush();
            }
        }
    }

    /// Given up and not given up.
    pub fn release(&mut self, released: &[TaskId], kept: &[TaskId]) {
        self.pending.released.extend(wire::task_ids_out(released));
        self.pending.kept.extend(wire::task_ids_out(kept));
    }

    /// How this node is.
    pub fn status(&mut self, status: &NodeStatus) {
        self.pending.status = Some(wire::status_out(status));
    }

    /// So many reports are settled.
    pub fn settled(&mut self, count: usize) {
        self.unsettled = self.unsettled.saturating_sub(count);
    }

    /// Sends what was collected in a step. Reports may wait for others while many are on their way into the log, but
    /// not for longer than until the next status.
    pub fn flush_step(&mut self) {
        let pending = &self.pending;
        let reports_only =
            pending.status.is_none() && pending.released.is_empty() && pending.kept.is_empty();
        if !reports_only || is_enough(pending.reports.len(), self.unsettled) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unsettled += self.pending.reports.len();
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if pending != pb::AssignTaskResponse::default() {
            self.send(pb::AssignTaskResponse { term: self.term, ..pending });
        }
    }

    fn send(&self, response: pb::AssignTaskResponse) {
        // A closed stream is noticed by its reader, which tells the loop.
        let _ = self.outbox.send(Ok(response));
    }

    /// Asks the leader for work; an answer is not needed, the work itself is.
    pub fn ask_for_work(&self, free_slots: u32, cpu_available: f64) {
        self.back.ask_for_work(WorkAsked {
            thief: self.me,
            leader: self.leader,
            cluster_id: self.cluster_id.clone(),
            free_slots,
            cpu_available,
        });
    }
}
