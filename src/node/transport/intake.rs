//! What a client sends, checked against this node's limits before the leader is asked.

use super::blob_calls::blob_in;
use super::wire::{MAX_NAME, check_name, claim_in, codec_in, task_id};
use super::wire_needs::needs_in;
use super::wire_trace::trace_in;
use crate::config::Limits;
use crate::core::boundary::Event;
use crate::core::cluster::command::{
    Claim, Codec, DEFAULT_PRIORITY, Function, FunctionRef, FunctionSource, OnDuplicate, TaskSpec,
    Terms,
};
use crate::core::ids::{BlobRef, FunctionHash, SessionId, TaskId};
use crate::node::clock::Clock;
use crate::node::proto as pb;
use crate::node::shared::Shared;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::Status;

/// Most retries a task may ask for.
const MAX_RETRIES: u32 = 1_000_000;
/// Longest wait before a first retry, in milliseconds.
const MAX_BACKOFF_MS: u64 = 30_000;
/// Longest timeout, in milliseconds: thirty days.
const MAX_TIMEOUT_MS: u64 = 30 * 24 * 3600 * 1000;
/// How far in the future an id may have been made, in milliseconds: one day.
const MAX_AHEAD_MS: u64 = 24 * 3600 * 1000;

/// A refusal found before the leader was asked: its kind and words.
pub type Invalid = (pb::Refusal, String);

/// What is well-formed goes to the leader's core; what is not is refused here, each task by itself.
pub fn sort(
    shared: &Shared,
    session: SessionId,
    request: pb::SubmitRequest,
) -> (Event, Vec<pb::Rejection>) {
    if shared.refusing.load(Ordering::Acquire) {
        let rejected = request.tasks.into_iter().map(|task| stopping(shared, task.task_id));
        let event = Event::Submitted { session, functions: Vec::new(), tasks: Vec::new() };
        return (event, rejected.collect());
    }
    let limits = &shared.config.limits;
    let mut rejected = Vec::new();
    let mut functions = Vec::new();
    let mut refused_functions = BTreeMap::new();
    for function in request.functions {
        let name = function.name.clone();
        match function_in(function, limits, shared.allow_pickle) {
            Ok(function) => functions.push(function),
            Err(status) => {
                let codec = status.code() == tonic::Code::FailedPrecondition;
                let kind = if codec { pb::Refusal::Codec } else { pb::Refusal::Invalid };
                refused_functions.insert(name, (kind, status.message().to_owned()));
            }
        }
    }
    let mut tasks = Vec::with_capacity(request.tasks.len());
    for spec in request.tasks {
        let task_id = spec.task_id.clone();
        let refused = refused_functions.get(&spec.function_name).cloned();
        let checked = match refused {
            Some(refused) => Err(refused),
            None => spec_in(spec, session, limits, shared.allow_pickle),
        };
        match checked {
            Ok(spec) => tasks.push(Arc::new(spec)),
            Err((refusal, message)) => {
                let refusal = refusal as i32;
                rejected.push(pb::Rejection { task_id, refusal, message, ..Default::default() });
            }
        }
    }
    (Event::Submitted { session, functions, tasks }, rejected)
}

fn blob_of(spec: &pb::TaskSpec, limits: &Limits) -> Result<Option<BlobRef>, Invalid> {
    let blob = spec.blob.as_ref().map(blob_in).transpose();
    let blob = blob.map_err(|status| (pb::Refusal::Invalid, status.message().to_owned()))?;
    let limit = limits.blob_bytes;
    if let Some(BlobRef { size, .. }) = blob.filter(|blob| blob.size > limit) {
        let text = format!("arguments are {size} bytes, the limit is {limit} (limits.blob_bytes)");
        return Err((pb::Refusal::PayloadTooLarge, text));
    }
    Ok(blob)
}

fn stopping(shared: &Shared, task_id: bytes::Bytes) -> pb::Rejection {
    let message = format!("node {} is stopping; use another", shared.me.name);
    pb::Rejection { task_id, refusal: pb::Refusal::Stopping as i32, message, ..Default::default() }
}

/// A task out of a client's message, checked against this node's limits.
pub fn spec_in(
    spec: pb::TaskSpec,
    session: SessionId,
    limits: &Limits,
    allow_pickle: bool,
) -> Result<TaskSpec, Invalid> {
    let invalid = |text: String| (pb::Refusal::Invalid, text);
    let id = task_id(&spec.task_id)
        .map_err(|status| status.message().to_owned())
        .and_then(|id| check_time(id, Clock::wall_us() / 1_000).map(|()| id))
        .map_err(|text| (pb::Refusal::InvalidId, text))?;
    let codec = codec_in(spec.codec()).ok_or_else(|| {
        let text =
            format!("codec: {} is unknown; use CODEC_JSON, CODEC_SAFE or CODEC_PICKLE", spec.codec);
        (pb::Refusal::Codec, text)
    })?;
    check_name("function_name", &spec.function_name).map_err(invalid)?;
    let hash = hash_in(&spec.function_hash).map_err(invalid)?;
    if codec == Codec::Pickle && !allow_pickle {
        return Err((pb::Refusal::Codec, pickle_remedy()));
    }
    if spec.payload.len() as u64 > limits.payload_bytes {
        let text = format!(
            "arguments are {} bytes, the limit is {} (limits.payload_bytes)",
            spec.payload.len(),
            limits.payload_bytes
        );
        return Err((pb::Refusal::PayloadTooLarge, text));
    }
    let blob = blob_of(&spec, limits)?;
    check_numbers(&spec).map_err(invalid)?;
    let claim = claim_of(&spec).map_err(invalid)?;
    let needs = needs_in(spec.needs).map_err(invalid)?;
    let terms = Terms {
        delay_ms: spec.delay_ms,
        queue_timeout_ms: spec.queue_timeout_ms,
        deadline_ms: spec.deadline_ms,
    };
    Ok(TaskSpec {
        id,
        session,
        function: FunctionRef { name: spec.function_name, hash },
        codec,
        blob,
        payload: spec.payload,
        retries: spec.retries,
        timeout_ms: spec.timeout_ms,
        priority: spec.priority.unwrap_or(DEFAULT_PRIORITY.into()) as u8,
        backoff_ms: spec.backoff_ms,
        terms,
        claim,
        needs,
        idempotent: spec.idempotent,
        in_thread: spec.in_thread,
        trace: trace_in(&spec.traceparent).map_err(invalid)?,
    })
}

fn hash_in(bytes: &[u8]) -> Result<FunctionHash, String> {
    if bytes.is_empty() {
        return Ok(FunctionHash(0));
    }
    FunctionHash::from_bytes(bytes)
        .ok_or_else(|| "function_hash: it must be empty or 16 bytes".to_owned())
}

/// An id from the future would be remembered for too long, and tells of a clock that is wrong.
fn check_time(id: TaskId, now_ms: u64) -> Result<(), String> {
    let ahead_ms = id.time_ms().unwrap_or(0).saturating_sub(now_ms);
    if ahead_ms <= MAX_AHEAD_MS {
        return Ok(());
    }
    Err(format!(
        "task_id: {id} says it was made {:.1} days from now, at most 1 is accepted; is the clock right?",
        ahead_ms as f64 / 86_400_000.0
    ))
}

fn claim_of(spec: &pb::TaskSpec) -> Result<Option<Box<Claim>>, String> {
    let on_duplicate = match spec.on_duplicate() {
        pb::OnDuplicate::Unspecified | pb::OnDuplicate::Join => OnDuplicate::Join,
        pb::OnDuplicate::Reject => OnDuplicate::Reject,
        pb::OnDuplicate::Replace => OnDuplicate::Replace,
    };
    if !spec.key.is_empty() {
        check_name("key", &spec.key)?;
    }
    Ok(claim_in(spec.key.clone(), on_duplicate))
}

fn check_numbers(spec: &pb::TaskSpec) -> Result<(), String> {
    let priority = spec.priority.unwrap_or(DEFAULT_PRIORITY.into());
    if priority > 9 {
        return Err(format!("priority: {priority} is out of bounds; it must lie in [0, 9]"));
    }
    let times = [
        ("timeout_ms", spec.timeout_ms),
        ("delay_ms", spec.delay_ms),
        ("queue_timeout_ms", spec.queue_timeout_ms),
        ("deadline_ms", spec.deadline_ms),
    ];
    if let Some((name, ms)) = times.into_iter().find(|(_, ms)| *ms > MAX_TIMEOUT_MS) {
        return Err(format!("{name}: {ms} exceeds {MAX_TIMEOUT_MS}, thirty days"));
    }
    if spec.backoff_ms > MAX_BACKOFF_MS {
        return Err(format!("backoff_ms: {} exceeds {MAX_BACKOFF_MS}", spec.backoff_ms));
    }
    if spec.retries > MAX_RETRIES {
        return Err(format!(
            "retries: {} is out of bounds; it must lie in [0, {MAX_RETRIES}]",
            spec.retries
        ));
    }
    Ok(())
}

fn pickle_remedy() -> String {
    "codec pickle is refused by this node: pickle is code; start the nodes with allow_pickle=True \
     (--allow-pickle) and connect with allow_pickle=True, or send data as CODEC_SAFE or CODEC_JSON"
        .to_owned()
}

/// A function out of a message; its hash is computed here, never believed.
pub fn function_in(
    function: pb::Function,
    limits: &Limits,
    allow_pickle: bool,
) -> Result<Arc<Function>, Status> {
    check_name("function.name", &function.name).map_err(Status::invalid_argument)?;
    let source = match function.source {
        Some(pb::function::Source::Reference(text)) => {
            let right = text.split_once(':').is_some_and(|(m, q)| !m.is_empty() && !q.is_empty());
            if !right || text.len() > 4 * MAX_NAME {
                let text = "function.reference: it must read module:qualname";
                return Err(Status::invalid_argument(text));
            }
            FunctionSource::Reference(text)
        }
        Some(pb::function::Source::Pickled(_)) if !allow_pickle => {
            return Err(Status::failed_precondition(pickle_remedy()));
        }
        Some(pb::function::Source::Pickled(blob)) => FunctionSource::Pickled(blob),
        None => return Err(Status::invalid_argument("function.source: missing")),
    };
    if source.size() as u64 > limits.function_bytes {
        return Err(Status::invalid_argument(format!(
            "function {:?} is {} bytes, the limit is {} (limits.function_bytes)",
            function.name,
            source.size(),
            limits.function_bytes
        )));
    }
    Ok(Arc::new(Function::new(function.name, source)))
}
