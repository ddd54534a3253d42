//! Protobuf to core types and back, for the task plane. What comes in is checked here, once.

use super::blob_calls::{blob_in, blob_out};
use super::wire_needs::{
    check_position, labels_in, labels_out, needs_in, needs_out, resources_in, resources_out,
};
use super::wire_trace::{trace_in, trace_out};
use crate::core::boundary::{Assignment, Ended, Finished, NodeStatus, Progress, Refusal};
use crate::core::cluster::command::{
    Claim, Codec, Failure, Function, FunctionRef, FunctionSource, Member, OnDuplicate, Outcome,
    Payload, Report, TaskSpec, Terms,
};
use crate::core::cluster::needs;
use crate::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Token};
use crate::core::load::{Load, Position};
use crate::error::Error;
use crate::node::proto as pb;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Longest note about how far an attempt is.
pub const MAX_NOTE: usize = 1_024;
/// Longest name of a function or node.
pub const MAX_NAME: usize = 256;
/// Bytes of an id.
pub fn id_bytes(id: [u8; 16]) -> Bytes {
    Bytes::copy_from_slice(&id)
}

/// A task id out of a message.
pub fn task_id(bytes: &[u8]) -> Result<TaskId, Status> {
    match TaskId::from_bytes(bytes) {
        Some(TaskId(0)) | None => Err(Status::invalid_argument(format!(
            "task_id: {} bytes; it must be 16 bytes (a UUID), not all zero",
            bytes.len()
        ))),
        Some(id) => Ok(id),
    }
}

/// Task ids out of a message.
pub fn task_ids(list: &[Bytes]) -> Result<Vec<TaskId>, Status> {
    list.iter().map(|bytes| task_id(bytes)).collect()
}

/// Task ids into a message.
pub fn task_ids_out(list: &[TaskId]) -> Vec<Bytes> {
    list.iter().map(|id| id_bytes(id.to_bytes())).collect()
}

/// A session id out of a message.
pub fn session_id(bytes: &[u8]) -> Result<SessionId, Status> {
    match SessionId::from_bytes(bytes) {
        Some(SessionId(0)) | None => Err(Status::invalid_argument(format!(
            "session_id: {} bytes; it must be 16 bytes, chosen at random, not all zero",
            bytes.len()
        ))),
        Some(id) => Ok(id),
    }
}

/// Refuses empty, long or unprintable names.
pub fn check_name(field: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let shown: String = name.escape_default().take(64).collect();
        return Err(format!(
            "{field}: \"{shown}\" must have 1 to {MAX_NAME} bytes and no control characters"
        ));
    }
    Ok(())
}

pub(super) fn codec_in(codec: pb::Codec) -> Option<Codec> {
    match codec {
        pb::Codec::Json => Some(Codec::Json),
        pb::Codec::Pickle => Some(Codec::Pickle),
        pb::Codec::Safe => Some(Codec::Safe),
        pb::Codec::Unspecified => None,
    }
}

pub(super) fn codec_out(codec: Codec) -> i32 {
    match codec {
        Codec::Json => pb::Codec::Json as i32,
        Codec::Pickle => pb::Codec::Pickle as i32,
        Codec::Safe => pb::Codec::Safe as i32,
    }
}

/// A function into a message.
pub fn function_out(function: &Function) -> pb::Function {
    let source = match &function.source {
        FunctionSource::Reference(text) => pb::function::Source::Reference(text.clone()),
        FunctionSource::Pickled(blob) => pb::function::Source::Pickled(blob.clone()),
    };
    pb::Function {
        name: function.name.clone(),
        hash: id_bytes(function.hash.to_bytes()),
        source: Some(source),
    }
}

/// An attempt into a message.
pub fn assignment_out(assignment: &Assignment) -> pb::Assignment {
    let spec = &assignment.spec;
    pb::Assignment {
        task_id: id_bytes(spec.id.to_bytes()),
        token: assignment.token.0,
        attempt: assignment.attempt,
        function_name: spec.function.name.clone(),
        function_hash: id_bytes(spec.function.hash.to_bytes()),
        codec: codec_out(spec.codec),
        payload: spec.payload.clone(),
        timeout_ms: spec.timeout_ms,
        session: id_bytes(spec.session.to_bytes()),
        blob: spec.blob.map(blob_out),
        key: spec.claim.as_ref().map(|claim| claim.key.clone()).unwrap_or_default(),
        end_by_ms: assignment.end_by_ms,
        needs: spec.needs.as_deref().map(needs_out),
        traceparent: trace_out(spec.trace.as_deref()),
        in_thread: spec.in_thread,
    }
}

/// An attempt out of a message. Retry, priority, terms and copies are the leader's affair and do not travel.
pub fn assignment_in(assignment: pb::Assignment) -> Result<Assignment, Status> {
    let codec =
        codec_in(assignment.codec()).ok_or_else(|| Status::invalid_argument("assignment.codec"))?;
    let hash = FunctionHash::from_bytes(&assignment.function_hash)
        .ok_or_else(|| Status::invalid_argument("assignment.function_hash: it must be 16 bytes"))?;
    let spec = TaskSpec {
        id: task_id(&assignment.task_id)?,
        session: session_id(&assignment.session)?,
        function: FunctionRef { name: assignment.function_name, hash },
        codec,
        blob: assignment.blob.as_ref().map(blob_in).transpose()?,
        payload: assignment.payload,
        retries: 0,
        timeout_ms: assignment.timeout_ms,
        priority: 0,
        backoff_ms: 0,
        terms: Terms::default(),
        claim: claim_in(assignment.key, OnDuplicate::Join),
        needs: needs_in(assignment.needs).map_err(Status::invalid_argument)?,
        idempotent: false,
        in_thread: assignment.in_thread,
        trace: trace_in(&assignment.traceparent).map_err(Status::invalid_argument)?,
    };
    Ok(Assignment {
        spec: Arc::new(spec),
        token: Token(assignment.token),
        attempt: assignment.attempt,
        end_by_ms: assignment.end_by_ms,
    })
}

/// A key out of a message; none if it is empty.
pub(super) fn claim_in(key: String, on_duplicate: OnDuplicate) -> Option<Box<Claim>> {
    (!key.is_empty()).then(|| Box::new(Claim { key, on_duplicate }))
}

fn payload_out(payload: &Payload) -> pb::Payload {
    let (codec, body) = (codec_out(payload.codec), payload.body.clone());
    pb::Payload { codec, body, blob: payload.blob.map(blob_out) }
}

fn payload_in(payload: pb::Payload) -> Result<Payload, Status> {
    let codec =
        codec_in(payload.codec()).ok_or_else(|| Status::invalid_argument("payload.codec"))?;
    let blob = payload.blob.as_ref().map(blob_in).transpose()?;
    Ok(Payload { codec, body: payload.body, blob })
}

fn failure_out(failure: &Failure) -> pb::Failure {
    pb::Failure {
        type_name: failure.type_name.clone(),
        message: failure.message.clone(),
        traceback: failure.traceback.clone(),
        pickled: failure.pickled.clone(),
    }
}

fn failure_in(failure: pb::Failure) -> Failure {
    Failure {
        type_name: failure.type_name,
        message: failure.message,
        traceback: failure.traceback,
        pickled: failure.pickled,
    }
}

/// A report into a message.
pub fn report_out(ended: &Ended) -> pb::Report {
    use pb::report::Result as R;
    let result = match &ended.report {
        Report::Value(payload) => R::Value(payload_out(payload)),
        Report::Failure(failure) => R::Failure(failure_out(failure)),
        Report::Crashed(text) => R::Crashed(text.clone()),
        Report::TimedOut(ms) => R::TimedOutMs(*ms),
    };
    pb::Report {
        task_id: id_bytes(ended.task.to_bytes()),
        token: ended.token.0,
        duration_us: ended.took.as_micros() as u64,
        result: Some(result),
        output: ended.output.clone(),
    }
}

/// A report out of a message.
pub fn report_in(report: pb::Report) -> Result<Ended, Status> {
    use pb::report::Result as R;
    let result = match report.result {
        Some(R::Value(payload)) => Report::Value(payload_in(payload)?),
        Some(R::Failure(failure)) => Report::Failure(failure_in(failure)),
        Some(R::Crashed(text)) => Report::Crashed(text),
        Some(R::TimedOutMs(ms)) => Report::TimedOut(ms),
        None => return Err(Status::invalid_argument("report.result: missing")),
    };
    Ok(Ended {
        task: task_id(&report.task_id)?,
        token: Token(report.token),
        report: result,
        output: report.output,
        took: Duration::from_micros(report.duration_us),
    })
}

/// An outcome into a message.
pub fn outcome_out(finished: &Finished) -> pb::Outcome {
    use pb::outcome::Result as R;
    let result = match &finished.outcome {
        Outcome::Value(payload) => R::Value(payload_out(payload)),
        Outcome::Failure(failure) => R::Failure(failure_out(failure)),
        Outcome::Cancelled => R::Cancelled(true),
        Outcome::Lost(text) => R::Lost(text.clone()),
        Outcome::TimedOut(ms) => R::TimedOutMs(*ms),
        Outcome::NeverStarted(ms) => R::NeverStartedMs(*ms),
        Outcome::PastDeadline(ms) => R::PastDeadlineMs(*ms),
    };
    pb::Outcome {
        task_id: id_bytes(finished.task.to_bytes()),
        attempts: finished.attempts,
        node: finished.node.0,
        result: Some(result),
        output: finished.output.clone(),
    }
}

/// Why a task is refused, into a message.
pub fn rejection_out(task: TaskId, refusal: &Refusal) -> pb::Rejection {
    let (mut retry_after_ms, mut existing) = (0, Bytes::new());
    let (refusal, message) = match refusal {
        Refusal::NotLeader => {
            (pb::Refusal::NotLeader, "this node does not lead; ask the leader".to_owned())
        }
        Refusal::Unknown => (
            pb::Refusal::NotLeader,
            "leadership moved; send the same id again, it is safe".to_owned(),
        ),
        Refusal::Gathering => (
            pb::Refusal::Gathering,
            "the cluster begins and not every voter brought its functions; send the same id again"
                .to_owned(),
        ),
        Refusal::QueueFull { detail, retry_after } => {
            retry_after_ms = retry_after.as_millis() as u32;
            (pb::Refusal::QueueFull, detail.clone())
        }
        Refusal::Conflict => {
            (pb::Refusal::IdConflict, "the id exists with another function or payload".to_owned())
        }
        Refusal::IdExpired => {
            let error = Error::TaskIdExpired { task: task.to_string() };
            (pb::Refusal::IdExpired, error.to_string())
        }
        Refusal::Duplicate { existing: holder, detail } => {
            existing = id_bytes(holder.to_bytes());
            (pb::Refusal::DuplicateKey, detail.clone())
        }
        Refusal::UnknownFunction { name, hint } => {
            let hint = if hint.is_empty() {
                "; start the nodes with --tasks MODULE, or register it with Node.register"
            } else {
                hint
            };
            let error = Error::TaskNotRegistered { name: name.clone(), hint: hint.to_owned() };
            (pb::Refusal::UnknownFunction, error.to_string())
        }
    };
    pb::Rejection {
        task_id: id_bytes(task.to_bytes()),
        refusal: refusal as i32,
        message,
        retry_after_ms,
        existing,
    }
}

/// A member into a message.
pub fn member_out(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
        slots: member.slots,
        x: member.position.x,
        y: member.position.y,
        voter: member.voter,
        pid: member.pid,
        incarnation: member.incarnation,
        labels: labels_out(&member.labels),
        resources: resources_out(&member.resources),
        client_address: member.client_address.clone(),
    }
}

/// A member as clients are told of it: where they reach it.
pub fn member_for_clients(member: &Member) -> pb::Member {
    let address = member.address_for_clients().to_owned();
    pb::Member { address, client_address: String::new(), ..member_out(member) }
}

/// A member out of a message, checked.
pub fn member_in(member: pb::Member) -> Result<Member, Status> {
    check_name("member.name", &member.name).map_err(Status::invalid_argument)?;
    check_name("member.address", &member.address).map_err(Status::invalid_argument)?;
    if !member.client_address.is_empty() {
        let checked = check_name("member.client_address", &member.client_address);
        checked.map_err(Status::invalid_argument)?;
    }
    if member.id == 0 {
        return Err(Status::invalid_argument("member.id: it must not be 0"));
    }
    let position = Position { x: member.x, y: member.y };
    check_position(position).map_err(Status::invalid_argument)?;
    needs::check_slots(member.slots).map_err(Status::invalid_argument)?;
    let labels = labels_in(member.labels).map_err(Status::invalid_argument)?;
    let resources = resources_in(member.resources).map_err(Status::invalid_argument)?;
    Ok(Member {
        id: NodeId(member.id),
        name: member.name,
        address: member.address,
        client_address: member.client_address,
        slots: member.slots,
        position,
        voter: member.voter,
        pid: member.pid,
        incarnation: member.incarnation,
        labels,
        resources,
    })
}

/// A sample into a message.
pub fn load_out(load: &Load) -> pb::Load {
    pb::Load {
        cpu_available: load.cpu_available,
        memory_available: load.memory_available,
        uptime_s: load.uptime_s,
        synthetic: load.synthetic,
    }
}

/// A sample out of a message; ratios that are no ratios count as 0.
pub fn load_in(load: Option<pb::Load>) -> Load {
    let load = load.unwrap_or_default();
    let ratio = |x: f64| if x.is_finite() { x.clamp(0.0, 1.0) } else { 0.0 };
    Load {
        cpu_available: ratio(load.cpu_available),
        memory_available: ratio(load.memory_available),
        uptime_s: if load.uptime_s.is_finite() { load.uptime_s.max(0.0) } else { 0.0 },
        synthetic: load.synthetic,
        ..Load::default()
    }
}

/// A status into a message.
pub fn status_out(status: &NodeStatus) -> pb::NodeStatus {
    pb::NodeStatus {
        score: status.score,
        load: Some(load_out(&status.load)),
        queued: status.queued,
        running: task_ids_out(&status.running),
        draining: status.draining,
        progress: status.progress.iter().map(progress_out).collect(),
    }
}

/// A status out of a message.
pub fn status_in(status: pb::NodeStatus) -> Result<NodeStatus, Status> {
    Ok(NodeStatus {
        score: if status.score.is_finite() { status.score } else { 0.0 },
        load: load_in(status.load),
        queued: status.queued,
        running: task_ids(&status.running)?,
        draining: status.draining,
        progress: status.progress.into_iter().map(progress_in).collect::<Result<_, Status>>()?,
    })
}

fn progress_out((task, token, progress): &(TaskId, Token, Progress)) -> pb::Progress {
    let Progress { done, total, note } = progress.clone();
    pb::Progress { task_id: id_bytes(task.to_bytes()), token: token.0, done, total, note }
}

/// How far an attempt is; numbers that are none count as 0, and a long note is cut.
pub fn progress_in(told: pb::Progress) -> Result<(TaskId, Token, Progress), Status> {
    let number = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
    let mut note = told.note;
    note.truncate((0..=MAX_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0));
    let progress = Progress { done: number(told.done), total: number(told.total), note };
    Ok((task_id(&told.task_id)?, Token(told.token), progress))
}

/// How far a task is, into a message for its client.
pub fn client_progress_out(task: TaskId, progress: Progress) -> pb::Progress {
    progress_out(&(task, Token(0), progress))
}
