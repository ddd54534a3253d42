//! Protobuf to core types and back, for what a client sends and receives.

use super::table::TaskRequest;
use crate::core::cluster::command::{
    Codec, Failure, Function, FunctionSource, OnDuplicate, Outcome, Payload,
};
use crate::core::ids::TaskId;
use crate::node::proto;
use crate::node::transport::blob_calls::{blob_in, blob_out};
use crate::node::transport::wire_needs::needs_out;
use crate::node::transport::wire_trace::trace_out;
use bytes::Bytes;

pub(super) fn id_bytes(id: TaskId) -> Bytes {
    Bytes::copy_from_slice(&id.to_bytes())
}

pub(super) fn ids_bytes(ids: &[TaskId]) -> Vec<Bytes> {
    ids.iter().copied().map(id_bytes).collect()
}

/// The ids in `list`; malformed ones cannot be ours and are left out.
pub(super) fn parse_ids(list: &[Bytes]) -> Vec<TaskId> {
    list.iter().filter_map(|b| TaskId::from_bytes(b)).collect()
}

pub(super) fn codec_to_proto(codec: Codec) -> proto::Codec {
    match codec {
        Codec::Json => proto::Codec::Json,
        Codec::Pickle => proto::Codec::Pickle,
        Codec::Safe => proto::Codec::Safe,
    }
}

pub(super) fn task_to_proto(id: TaskId, task: &TaskRequest) -> proto::TaskSpec {
    proto::TaskSpec {
        task_id: id_bytes(id),
        function_name: task.name.as_ref().to_owned(),
        function_hash: task.hash.map(|h| Bytes::copy_from_slice(&h.to_bytes())).unwrap_or_default(),
        codec: codec_to_proto(task.codec).into(),
        payload: task.payload.clone(),
        retries: task.retries,
        timeout_ms: task.timeout_ms,
        priority: Some(u32::from(task.priority)),
        backoff_ms: task.backoff_ms,
        blob: task.blob.map(blob_out),
        delay_ms: task.terms.delay_ms,
        queue_timeout_ms: task.terms.queue_timeout_ms,
        deadline_ms: task.terms.deadline_ms,
        key: task.claim.as_ref().map(|claim| claim.key.clone()).unwrap_or_default(),
        on_duplicate: task.claim.as_ref().map_or(0, |claim| match claim.on_duplicate {
            OnDuplicate::Join => proto::OnDuplicate::Join.into(),
            OnDuplicate::Reject => proto::OnDuplicate::Reject.into(),
            OnDuplicate::Replace => proto::OnDuplicate::Replace.into(),
        }),
        needs: task.needs.as_deref().map(needs_out),
        idempotent: task.idempotent,
        in_thread: task.in_thread,
        traceparent: trace_out(task.trace.as_deref()),
    }
}

pub(super) fn function_to_proto(function: &Function) -> proto::Function {
    use proto::function::Source;
    proto::Function {
        name: function.name.clone(),
        hash: Bytes::copy_from_slice(&function.hash.to_bytes()),
        source: Some(match &function.source {
            FunctionSource::Reference(text) => Source::Reference(text.clone()),
            FunctionSource::Pickled(blob) => Source::Pickled(blob.clone()),
        }),
    }
}

/// The cluster could not say yes or no: the same id goes again.
pub(super) fn is_open(refusal: proto::Refusal) -> bool {
    use proto::Refusal as R;
    matches!(refusal, R::NotLeader | R::Gathering | R::Stopping | R::Unspecified)
}

/// The outcome in `message`; `None` if a newer peer sent a kind this version does not know.
pub(super) fn outcome_from_proto(message: proto::Outcome) -> Option<Outcome> {
    use proto::outcome::Result as Kind;
    Some(match message.result? {
        Kind::Value(value) => Outcome::Value(Payload {
            codec: match proto::Codec::try_from(value.codec).ok()? {
                proto::Codec::Json => Codec::Json,
                proto::Codec::Pickle => Codec::Pickle,
                proto::Codec::Safe => Codec::Safe,
                proto::Codec::Unspecified => return None,
            },
            blob: value.blob.as_ref().map(blob_in).transpose().ok()?,
            body: value.body,
        }),
        Kind::Failure(f) => Outcome::Failure(Failure {
            type_name: f.type_name,
            message: f.message,
            traceback: f.traceback,
            pickled: f.pickled,
        }),
        Kind::Cancelled(_) => Outcome::Cancelled,
        Kind::Lost(reason) => Outcome::Lost(reason),
        Kind::TimedOutMs(ms) => Outcome::TimedOut(ms),
        Kind::NeverStartedMs(ms) => Outcome::NeverStarted(ms),
        Kind::PastDeadlineMs(ms) => Outcome::PastDeadline(ms),
    })
}
