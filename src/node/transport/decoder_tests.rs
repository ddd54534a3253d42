//! What was well formed is mangled in thousands of ways: no decoder panics, and each understands its samples.

use super::*;
use crate::core::boundary::{Finished, Progress};
use crate::core::chance::Chance;
use crate::core::cluster::command::{
    AssignCause, Codec, Command, Failure, Function, FunctionSource, Member, Outcome, Payload,
    Report, Rules, TaskSpec, Terms,
};
use crate::core::ids::{NodeId, TaskId, Token};
use crate::core::trace::TraceContext;
use crate::node::consensus::network::{AppendReply, encode};
use crate::node::consensus::types::{LogId, SnapshotMeta, Vote};
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;
use std::sync::Arc;

/// Manglings of each sample.
const TRIALS: usize = 50_000;

fn batch() -> Batch {
    let function = Function::new("f".into(), FunctionSource::Reference("m:f".into()));
    let spec = |id| TaskSpec {
        id: TaskId(id),
        session: SessionId(3),
        function: function.to_ref(),
        codec: Codec::Json,
        blob: None,
        payload: b"[1]".to_vec().into(),
        retries: 1,
        timeout_ms: 50,
        priority: 5,
        backoff_ms: 10,
        terms: Terms { delay_ms: 1, queue_timeout_ms: 2, deadline_ms: 3 },
        claim: None,
        needs: None,
        idempotent: false,
        in_thread: false,
        trace: Some(Box::new(TraceContext { trace: u128::MAX, span: 1, flags: 1 })),
    };
    let member = Member { id: NodeId(7), name: "n".into(), slots: 2, ..Member::default() };
    let (task, node) = (TaskId(1), NodeId(7));
    let value = Payload::inline(Codec::Json, b"1".to_vec().into());
    let commands = vec![
        Command::Register(Arc::new(function.clone())),
        Command::Admit(member),
        Command::Adopt(Rules {
            crash_budget: 3,
            outcomes: 9,
            outcome_bytes: 1 << 20,
            outcome_ttl_ms: 1_000,
            id_memory_ms: 1_000,
            remembered_ids: 9,
        }),
        Command::Submit { spec: Arc::new(spec(1)), to: Some(node) },
        Command::Submit { spec: Arc::new(spec(2)), to: None },
        Command::Assign {
            task: TaskId(2),
            to: node,
            cause: AssignCause::Placed,
            replaces: Token(0),
        },
        Command::Complete {
            task,
            token: Token::new(1, 3),
            node,
            report: Report::Value(value),
            output: "printed".into(),
        },
        Command::Cancel { task: TaskId(2) },
        Command::Acknowledge { session: SessionId(3), tasks: vec![task] },
        Command::Remove { node },
    ];
    Batch { at_ms: 1_000, commands }
}

fn entries() -> Vec<Entry> {
    let id = |index| LogId::new(LeaderId::<u64, u64>::new(3, 9).to_committed(), index);
    vec![Entry::new_blank(id(6)), Entry::new_normal(id(7), batch())]
}

fn raft_samples() -> Vec<(&'static str, Vec<u8>)> {
    let entries = entries();
    let last = Some(entries[1].log_id);
    let append = AppendEntriesRequest::<TypeConfig> {
        vote: Vote::new(3, 9),
        prev_log_id: Some(entries[0].log_id),
        leader_commit: last,
        entries: entries.clone(),
    };
    let answer: Answer = (AppendReply::Matches(last), true);
    let vote = VoteRequest::<TypeConfig> {
        vote: Vote::new(3, 9),
        last_log_id: last,
        leadership_transfer: false,
    };
    let meta = SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() };
    let head = SnapshotHeader { vote: Vote::new(3, 9), meta, size: 9, checksum: 5 };
    vec![
        ("raft append", encode(&append).unwrap().to_vec()),
        ("raft append answer", encode(&answer).unwrap().to_vec()),
        ("raft vote", encode(&vote).unwrap().to_vec()),
        ("raft snapshot head", encode(&head).unwrap().to_vec()),
        ("log entry", encode(&entries[1]).unwrap().to_vec()),
    ]
}

fn member() -> pb::Member {
    pb::Member { id: 7, name: "n".into(), address: "h:1".into(), slots: 2, ..Default::default() }
}

fn message_samples() -> Vec<(&'static str, Vec<u8>)> {
    let id = bytes::Bytes::from_static(&[7; 16]);
    let function = Function::new("f".into(), FunctionSource::Reference("m:f".into()));
    let failure = Failure {
        type_name: "builtins.ValueError".into(),
        message: "no".into(),
        traceback: String::new(),
        pickled: Default::default(),
    };
    let finished = Finished {
        task: TaskId(1),
        outcome: Outcome::Failure(failure),
        attempts: 1,
        node: NodeId(7),
        output: "printed".into(),
    };
    let spec = pb::TaskSpec {
        task_id: TaskId(1).to_bytes().to_vec().into(),
        function_name: "f".into(),
        codec: pb::Codec::Json as i32,
        payload: b"[]".to_vec().into(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        ..Default::default()
    };
    let submit = pb::SubmitRequest {
        session_id: id.clone(),
        functions: vec![wire::function_out(&function)],
        tasks: vec![spec],
    };
    let rejection =
        pb::Rejection { task_id: id.clone(), message: "no".into(), ..Default::default() };
    let submitted = pb::SubmitResponse {
        accepted: vec![id.clone()],
        rejected: vec![rejection],
        ..Default::default()
    };
    let assign = pb::AssignTaskRequest {
        term: 3,
        revoked: vec![id.clone()],
        members: vec![member()],
        ..Default::default()
    };
    let status = pb::NodeStatus { score: 0.5, ..Default::default() };
    let answer = pb::AssignTaskResponse {
        status: Some(status),
        released: vec![id.clone()],
        ..Default::default()
    };
    let join = pb::JoinRequest { me: Some(member()), ..Default::default() };
    let followed = pb::OutcomesRequest { follow: vec![id.clone()], ..Default::default() };
    let outcomes = pb::OutcomesResponse {
        outcomes: vec![wire::outcome_out(&finished)],
        unknown: vec![id],
        progress: vec![wire::client_progress_out(TaskId(1), Progress::default())],
    };
    let fault = pb::LinkFault { delay_s: 0.005, ..Default::default() };
    let faults = pb::InjectFaultsRequest { links: vec![fault], ..Default::default() };
    let poll = pb::PollRequest { suspect_node: 4, score: 0.5, ..Default::default() };
    let beat = pb::HeartbeatRequest { term: 3, ..Default::default() };
    let blob = pb::Blob { id: vec![7; 32].into(), size: 9 };
    let fact = pb::ExplainResponse::default();
    vec![
        ("submit", submit.encode_to_vec()),
        ("submit answer", submitted.encode_to_vec()),
        ("outcomes", followed.encode_to_vec()),
        ("outcomes answer", outcomes.encode_to_vec()),
        ("status answer", pb::StatusResponse::default().encode_to_vec()),
        ("explanation", fact.encode_to_vec()),
        ("faults", faults.encode_to_vec()),
        ("assign", assign.encode_to_vec()),
        ("assign answer", answer.encode_to_vec()),
        ("join", join.encode_to_vec()),
        ("poll", poll.encode_to_vec()),
        ("heartbeat", beat.encode_to_vec()),
        ("blob", blob.encode_to_vec()),
    ]
}

fn enrolment_samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut point = vec![7; 65];
    point[0] = 4;
    let request = pb::EnrolRequest {
        token_id: vec![1; 8].into(),
        secret: vec![2; 32].into(),
        public_key: point.into(),
    };
    let digits = "ab".repeat(32);
    let token = format!("hustings-join-{}-{digits}-{digits}", "01".repeat(8));
    let stored = format!("hash {digits}\nexpires 1800000000\nname d\ndays 365\nhost 10.0.0.4\n");
    vec![
        ("enrolment", request.encode_to_vec()),
        ("join token", token.into_bytes()),
        ("stored token", stored.into_bytes()),
    ]
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut state = ClusterState::default();
    state.apply(1, &batch());
    let mut ready = Vec::new();
    frame::encode(&frame::Frame::Ready { protocol: 1 }, 1 << 20, &mut ready).unwrap();
    let rest = vec![("snapshot", state.encode()), ("runner frame", ready[4..].to_vec())];
    [raft_samples(), message_samples(), enrolment_samples(), rest].concat()
}

/// One of the things that happen to bytes: a bit flips, a length lies, a piece is missing, doubled or replaced.
fn mangle(sample: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len().max(1));
        match chance.below(6) {
            _ if bytes.is_empty() => bytes = chance.draw().to_le_bytes().to_vec(),
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes.truncate(at),
            2 => bytes[at] = 0xff,
            3 => {
                let large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
                bytes.splice(at..at, large[chance.below(9)..].iter().copied());
            }
            4 => {
                let copy = bytes[at..].to_vec();
                bytes.extend(copy);
            }
            _ => {
                drop(bytes.drain(at..(at + 1 + chance.below(8)).min(bytes.len())));
            }
        }
    }
    bytes
}

#[test]
fn no_decoder_panics_whatever_comes() {
    let samples = samples();
    for decoder in DECODERS {
        let mut own = samples.iter().filter(|(name, _)| *name == decoder.name).peekable();
        assert!(own.peek().is_some(), "{} has no sample", decoder.name);
        for (seed, (name, sample)) in own.enumerate() {
            assert!((decoder.read)(sample), "{name} does not understand its sample {seed}");
            let mut chance = Chance::seeded(seed as u64);
            for _ in 0..TRIALS {
                (decoder.read)(&mangle(sample, &mut chance));
            }
        }
        // What is another decoder's, and noise.
        let mut chance = Chance::seeded(99);
        for (_, sample) in &samples {
            (decoder.read)(sample);
            let noise: Vec<u8> = (0..chance.below(200)).map(|_| chance.draw() as u8).collect();
            (decoder.read)(&noise);
        }
    }
}
