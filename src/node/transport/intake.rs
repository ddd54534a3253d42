//! What a client sends, checked against this node's limits before the leader is asked.

use super::wire::{MAX_NAME, check_name, codec_in, task_id};
use crate::config::Limits;
use crate::core::boundary::Event;
use crate::core::cluster::command::{Codec, Function, FunctionRef, FunctionSource, TaskSpec};
use crate::core::ids::{FunctionHash, SessionId};
use crate::node::proto as pb;
use crate::node::shared::Shared;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::Status;

/// The priority of a task that names none.
const DEFAULT_PRIORITY: u32 = 5;
/// Most retries a task may ask for.
const MAX_RETRIES: u32 = 1_000_000;
/// Longest wait before a first retry, in milliseconds.
const MAX_BACKOFF_MS: u64 = 30_000;
/// Longest timeout, in milliseconds: thirty days.
const MAX_TIMEOUT_MS: u64 = 30 * 24 * 3600 * 1000;

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
                rejected.push(pb::Rejection { task_id, refusal, message, retry_after_ms: 0 });
            }
        }
    }
    (Event::Submitted { session, functions, tasks }, rejected)
}

fn stopping(shared: &Shared, task_id: bytes::Bytes) -> pb::Rejection {
    let message = format!("node {} is stopping; use another", shared.me.name);
    pb::Rejection { task_id, refusal: pb::Refusal::Stopping as i32, message, retry_after_ms: 0 }
}

/// A task out of a client's message, checked against this node's limits.
pub fn spec_in(
    spec: pb::TaskSpec,
    session: SessionId,
    limits: &Limits,
    allow_pickle: bool,
) -> Result<TaskSpec, Invalid> {
    let invalid = |text: String| (pb::Refusal::Invalid, text);
    let id = task_id(&spec.task_id).map_err(|status| invalid(status.message().to_owned()))?;
    let codec = codec_in(spec.codec()).ok_or_else(|| {
        let text = "codec: unset or unknown; use CODEC_JSON or CODEC_PICKLE".to_owned();
        (pb::Refusal::Codec, text)
    })?;
    check_name("function_name", &spec.function_name).map_err(invalid)?;
    let hash = match spec.function_hash.len() {
        0 => FunctionHash(0),
        _ => FunctionHash::from_bytes(&spec.function_hash)
            .ok_or_else(|| invalid("function_hash: it must be empty or 16 bytes".to_owned()))?,
    };
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
    check_numbers(&spec).map_err(invalid)?;
    Ok(TaskSpec {
        id,
        session,
        function: FunctionRef { name: spec.function_name, hash },
        codec,
        payload: spec.payload,
        retries: spec.retries,
        timeout_ms: spec.timeout_ms,
        priority: spec.priority.unwrap_or(DEFAULT_PRIORITY) as u8,
        backoff_ms: spec.backoff_ms,
    })
}

fn check_numbers(spec: &pb::TaskSpec) -> Result<(), String> {
    let priority = spec.priority.unwrap_or(DEFAULT_PRIORITY);
    if priority > 9 {
        return Err(format!("priority: {priority} is out of bounds; it must lie in [0, 9]"));
    }
    if spec.timeout_ms > MAX_TIMEOUT_MS {
        return Err(format!(
            "timeout_ms: {} exceeds {MAX_TIMEOUT_MS}, thirty days",
            spec.timeout_ms
        ));
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
     (--allow-pickle) and connect with allow_pickle=True, or send data as CODEC_JSON"
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
