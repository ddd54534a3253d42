//! Every place where bytes that others wrote become values, by name: for fuzzers, and for the test that mangles what
//! was well formed. Whatever comes, a decoder returns.

use super::{blob_calls, intake, upstream, wire, wire_raft};
use crate::config::Limits;
use crate::core::cluster::command::Batch;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::SessionId;
use crate::node::consensus::network::{Answer, SnapshotHeader, decode};
use crate::node::consensus::types::{Entry, TypeConfig};
use crate::node::execution::frame;
use crate::node::proto as pb;
use crate::node::security::{authority, tokens};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};
use prost::Message;

/// One of them.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// What it reads.
    pub name: &'static str,
    /// Reads it; true if it understood.
    pub read: fn(&[u8]) -> bool,
}

const fn decoder(name: &'static str, read: fn(&[u8]) -> bool) -> Decoder {
    Decoder { name, read }
}

/// All of them.
pub const DECODERS: [Decoder; 23] = [
    decoder("submit", submit),
    decoder("submit answer", message::<pb::SubmitResponse>),
    decoder("outcomes", message::<pb::OutcomesRequest>),
    decoder("outcomes answer", message::<pb::OutcomesResponse>),
    decoder("status answer", message::<pb::StatusResponse>),
    decoder("explanation", message::<pb::ExplainResponse>),
    decoder("faults", message::<pb::InjectFaultsRequest>),
    decoder("assign", assign),
    decoder("assign answer", assign_answer),
    decoder("join", join),
    decoder("poll", poll),
    decoder("heartbeat", heartbeat),
    decoder("blob", blob),
    decoder("raft append", raft::<AppendEntriesRequest<TypeConfig>>),
    decoder("raft append answer", raft::<Answer>),
    decoder("raft vote", raft_vote),
    decoder("raft snapshot head", raft::<SnapshotHeader>),
    decoder("log entry", entry),
    decoder("snapshot", snapshot),
    decoder("enrolment", enrolment),
    decoder("join token", join_token),
    decoder("stored token", tokens::is_stored),
    decoder("runner frame", |bytes| frame::decode(bytes).is_ok()),
];

fn message<T: Message + Default>(bytes: &[u8]) -> bool {
    T::decode(bytes).is_ok()
}

fn raft<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_ok()
}

fn raft_vote(bytes: &[u8]) -> bool {
    // They travel in calls of their own; one decoder, because they look alike.
    let vote = raft::<VoteRequest<TypeConfig>>(bytes);
    let answer = raft::<VoteResponse<TypeConfig>>(bytes);
    let transfer = raft::<TransferLeaderRequest<TypeConfig>>(bytes);
    vote || answer || transfer
}

fn submit(bytes: &[u8]) -> bool {
    let Ok(request) = pb::SubmitRequest::decode(bytes) else { return false };
    let limits = Limits::default();
    let functions = request.functions.into_iter();
    let functions = functions.filter(|f| intake::function_in(f.clone(), &limits, true).is_ok());
    let tasks = request.tasks.into_iter();
    let taken = |spec| intake::spec_in(spec, SessionId::default(), &limits, true).is_ok();
    functions.count() + tasks.filter(|spec| taken(spec.clone())).count() > 0
}

fn assign(bytes: &[u8]) -> bool {
    let Ok(request) = pb::AssignTaskRequest::decode(bytes) else { return false };
    let words = upstream::words(request, &Limits::default());
    !(words.functions.is_empty() && words.members.is_empty() && words.events.is_empty())
}

fn assign_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = pb::AssignTaskResponse::decode(bytes) else { return false };
    let status = answer.status.is_some_and(|status| wire::status_in(status).is_ok());
    let reports = answer.reports.into_iter().filter_map(|report| wire::report_in(report).ok());
    let released = wire::task_ids(&answer.released).is_ok_and(|ids| !ids.is_empty());
    reports.count() > 0 || status || released
}

fn join(bytes: &[u8]) -> bool {
    let Ok(request) = pb::JoinRequest::decode(bytes) else { return false };
    request.me.is_some_and(|member| wire::member_in(member).is_ok())
}

/// The one message that is read from whoever has no certificate.
fn enrolment(bytes: &[u8]) -> bool {
    let Ok(request) = pb::EnrolRequest::decode(bytes) else { return false };
    authority::check_public_key(&request.public_key).is_ok()
}

fn join_token(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| tokens::Token::parse(text).is_ok())
}

fn poll(bytes: &[u8]) -> bool {
    let answer = pb::PollResponse::decode(bytes).map(|answer| wire_raft::poll_answer(&answer));
    let question = pb::PollRequest::decode(bytes).map(|poll| wire_raft::poll_question(&poll));
    answer.is_ok() || question.is_ok_and(|question| question.score.is_finite())
}

fn heartbeat(bytes: &[u8]) -> bool {
    let reply = pb::HeartbeatResponse::decode(bytes).map(|r| wire_raft::heartbeat_reply(&r));
    let beat = pb::HeartbeatRequest::decode(bytes).map(|beat| wire_raft::heartbeat(&beat));
    reply.is_ok() || beat.is_ok()
}

fn blob(bytes: &[u8]) -> bool {
    let piece = pb::PutRequest::decode(bytes).is_ok();
    piece | pb::Blob::decode(bytes).is_ok_and(|blob| blob_calls::blob_in(&blob).is_ok())
}

/// What it says is also applied: no entry, however odd, may stop a voter, for it would stop them all.
fn entry(bytes: &[u8]) -> bool {
    let mut state = ClusterState::default();
    if let Ok(batch) = decode::<Batch>(bytes) {
        state.apply(1, &batch);
        state.apply(2, &batch);
    }
    let Ok(entry) = decode::<Entry>(bytes) else { return false };
    if let openraft::EntryPayload::Normal(batch) = &entry.payload {
        state.apply(3, batch);
    }
    true
}

fn snapshot(mut bytes: &[u8]) -> bool {
    let Ok(mut state) = ClusterState::decode(&mut bytes) else { return false };
    let next = state.applied().saturating_add(1);
    if next > state.applied() {
        state.apply(next, &Batch::default());
    }
    true
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
