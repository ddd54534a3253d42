//! The task plane's door: how a leader opens its AssignTask streams, and how a node reaches the leader it serves. gRPC
//! stands behind it, or the wires of a simulation, which carry the messages unread.

use super::dialling::{self, Dialler};
use super::gate::Gate;
use crate::core::cluster::command::Member;
use crate::core::ids::NodeId;
use crate::node::proto as pb;
use crate::node::proto::peer_service_client::PeerServiceClient;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long a dial may take.
const CONNECT: Duration = Duration::from_millis(500);
/// HTTP/2 window of one stream.
const WINDOW: u32 = 2 << 20;
/// How long a request for work may take; the next one is not far.
const ASK: Duration = Duration::from_secs(1);

/// What a leader says on the stream.
pub type Said = pb::AssignTaskRequest;
/// What a node answers there.
pub type Heard = pb::AssignTaskResponse;
/// All of it, in order.
pub type Speech = tokio_stream::wrappers::UnboundedReceiverStream<Said>;
/// A node's answers, and how its stream ended.
pub type Answers = BoxStream<'static, Result<Heard, End>>;

/// How a stream ends, or why it did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The leader wants the link no more.
    Closed,
    /// Nobody listens there.
    Refused,
    /// Another node, or one of another cluster, listens there.
    Gone,
    /// Anything else: dial again.
    Broken,
}

/// The way to the members.
pub trait Lines: Send + Sync {
    /// Opens the stream to a member; `said` begins with the hello.
    fn open(&self, to: &Member, said: Speech) -> BoxFuture<'static, Result<Answers, End>>;
}

/// A request for work.
#[derive(Clone, Debug)]
pub struct WorkAsked {
    /// Who is idle.
    pub thief: NodeId,
    /// Who is asked.
    pub leader: NodeId,
    /// Their cluster.
    pub cluster_id: Bytes,
    /// How many places are free.
    pub free_slots: u32,
    /// The idle node's CPU.
    pub cpu_available: f64,
}

/// The way back to the leader whose stream is open.
pub trait Back: Send + Sync {
    /// Asks, once, without waiting for an answer.
    fn ask_for_work(&self, asked: WorkAsked);
}

/// Lines over gRPC.
pub struct GrpcLines {
    gate: Gate,
    message_bytes: usize,
    dialler: Dialler,
}

impl GrpcLines {
    /// Lines whose words pass `gate`, in messages of at most `message_bytes`.
    pub fn new(gate: Gate, message_bytes: usize, dialler: Dialler) -> Self {
        GrpcLines { gate, message_bytes, dialler }
    }
}

impl Lines for GrpcLines {
    fn open(&self, to: &Member, said: Speech) -> BoxFuture<'static, Result<Answers, End>> {
        let (gate, bytes) = (self.gate.clone(), self.message_bytes);
        let dialler = self.dialler.clone();
        let (node, address) = (to.id, to.address.clone());
        async move {
            if gate.is_cut(node) {
                tokio::time::sleep(CONNECT).await;
                return Err(End::Broken);
            }
            let channel = dial(&dialler, &address).await?;
            let mut client = PeerServiceClient::new(channel)
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(bytes);
            let opened = client.assign_task(gate.spoken(node, said)).await;
            let answers = opened.map_err(|status| end_of(&status))?.into_inner();
            Ok(answers.map(|answer| answer.map_err(|status| end_of(&status))).boxed())
        }
        .boxed()
    }
}

/// The way back over gRPC.
pub struct GrpcBack {
    /// To the leader.
    pub channel: Channel,
    /// What this node's words suffer.
    pub gate: Gate,
}

impl Back for GrpcBack {
    fn ask_for_work(&self, asked: WorkAsked) {
        let request = pb::WorkRequestRequest {
            envelope: Some(pb::Envelope {
                cluster_id: asked.cluster_id,
                from_node: asked.thief.0,
                to_node: asked.leader.0,
                ..Default::default()
            }),
            free_slots: asked.free_slots,
            cpu_available: asked.cpu_available,
        };
        let (mut client, gate) = (PeerServiceClient::new(self.channel.clone()), self.gate.clone());
        tokio::spawn(async move {
            if gate.speak(asked.leader).await {
                let _ = tokio::time::timeout(ASK, client.work_request(request)).await;
            }
        });
    }
}

/// What a message is known by.
pub fn digest(message: &impl prost::Message) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&message.encode_to_vec())
}

/// How the stream ended that broke with `status`.
pub fn end_of(status: &Status) -> End {
    if status.code() == Code::FailedPrecondition { End::Gone } else { End::Broken }
}

/// A connection, or whether it was refused: then no process listens at that address.
async fn dial(dialler: &Dialler, address: &str) -> Result<Channel, End> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = dialling::tune(endpoint.map_err(|_| End::Refused)?, CONNECT, WINDOW);
    dialler.connect_nodes(&endpoint, CONNECT).await.map_err(|error| match was_refused(&error) {
        true => End::Refused,
        false => End::Broken,
    })
}

fn was_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}
