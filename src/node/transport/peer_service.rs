//! The server side of `peer.proto`: checks the envelope and passes on; decides nothing.

use super::envelope;
use super::intake;
use super::upstream::{self, Upstream};
use super::wire;
use super::wire_raft;
use crate::core::boundary::Event;
use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use crate::node::consensus::Consensus;
use crate::node::driver::Input;
use crate::node::proto as pb;
use crate::node::proto::peer_service_server::PeerService;
use crate::node::shared::{PROTOCOL, Shared, Whereabouts};
use crate::node::transport::peers::Lane;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers other nodes.
pub struct Peer {
    shared: Arc<Shared>,
}

impl Peer {
    /// A service for that node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Peer { shared }
    }

    fn consensus(&self) -> Result<&Arc<Consensus>, Status> {
        self.shared
            .consensus
            .as_ref()
            .ok_or_else(|| Status::failed_precondition("this node is a worker, it does not vote"))
    }

    fn check(&self, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
        envelope::check(&self.shared, envelope)
    }
}

#[tonic::async_trait]
impl PeerService for Peer {
    async fn request_vote(
        &self,
        request: Request<pb::RequestVoteRequest>,
    ) -> Result<Response<pb::RequestVoteResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let raft = self.consensus()?.on_request_vote(request.raft).await.map_err(internal)?;
        Ok(Response::new(pb::RequestVoteResponse { raft }))
    }

    async fn poll(
        &self,
        request: Request<pb::PollRequest>,
    ) -> Result<Response<pb::PollResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let question = wire_raft::poll_question(&request);
        let (term, answer) = self.consensus()?.on_poll(&question);
        Ok(Response::new(wire_raft::poll_response(term, answer)))
    }

    type AppendStream = Answers<pb::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let mut requests = request.into_inner();
        let first =
            requests.message().await?.ok_or_else(|| Status::invalid_argument("empty stream"))?;
        self.check(first.envelope.as_ref())?;
        let lane = if first.heartbeat { Lane::Heartbeat } else { Lane::Replication };
        let rest = requests.map(|request| request.map(|request| request.raft).map_err(broken));
        let first = futures::stream::once(async move { Ok(first.raft) });
        let answers = self.consensus()?.on_append(lane, Box::pin(first.chain(rest)));
        let answers = answers.map(|a| a.map(|raft| pb::AppendResponse { raft }).map_err(internal));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let mut requests = request.into_inner();
        let first =
            requests.message().await?.ok_or_else(|| Status::invalid_argument("empty stream"))?;
        self.check(first.envelope.as_ref())?;
        let data = requests.map(|request| request.map(|request| request.data).map_err(broken));
        let snapshot = self.consensus()?.on_install_snapshot(first.raft, Box::pin(data));
        let raft = snapshot.await.map_err(internal)?;
        Ok(Response::new(pb::InstallSnapshotResponse { raft }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let raft = self.consensus()?.on_transfer_leader(request.raft).await.map_err(internal)?;
        Ok(Response::new(pb::TransferLeaderResponse { raft }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let reply = self.consensus()?.on_heartbeat(wire_raft::heartbeat(&request));
        Ok(Response::new(wire_raft::heartbeat_response(&reply)))
    }

    type TetherStream = Answers<pb::TetherResponse>;

    async fn tether(
        &self,
        request: Request<pb::TetherRequest>,
    ) -> Result<Response<Self::TetherStream>, Status> {
        self.check(request.into_inner().envelope.as_ref())?;
        Ok(Response::new(self.consensus()?.on_tether()))
    }

    async fn meet(
        &self,
        request: Request<pb::MeetRequest>,
    ) -> Result<Response<pb::MeetResponse>, Status> {
        let request = request.into_inner();
        check_protocol(request.protocol)?;
        envelope::check_life(&self.shared, request.envelope.as_ref())?;
        let them = wire::member_in(request.me.unwrap_or_default())?;
        let mut standing = self.shared.standing();
        if standing.cluster.is_none() {
            if !standing.founders.is_empty() && standing.founders != request.founders {
                return Err(Status::failed_precondition(format!(
                    "founders differ: {} was given [{}], {} was given [{}]; give every founder the same --join list",
                    self.shared.me.address,
                    standing.founders.join(", "),
                    them.address,
                    request.founders.join(", "),
                )));
            }
            if standing.founders.contains(&them.address) {
                standing.met.insert(them.address.clone(), them);
            }
        }
        let cluster = standing.cluster;
        Ok(Response::new(pb::MeetResponse {
            cluster_id: cluster.map_or_else(Default::default, |id| wire::id_bytes(id.to_bytes())),
            me: Some(wire::member_out(&self.shared.member())),
            founders: standing.founders.clone(),
            met: standing.met.values().map(wire::member_out).collect(),
        }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let request = request.into_inner();
        check_protocol(request.protocol)?;
        self.check(request.envelope.as_ref())?;
        let member = wire::member_in(request.me.unwrap_or_default())?;
        let cluster = self.shared.standing().cluster;
        let mut response = pb::JoinResponse {
            cluster_id: cluster.map_or_else(Default::default, |id| wire::id_bytes(id.to_bytes())),
            ..Default::default()
        };
        if !self.shared.leads() {
            let leader = self.shared.leader().filter(|leader| leader.node != self.shared.me.id);
            response.leader_address = leader.map(|leader| leader.address).unwrap_or_default();
            return Ok(Response::new(response));
        }
        let limits = &self.shared.config.limits;
        let functions = request
            .functions
            .into_iter()
            .map(|function| intake::function_in(function, limits, self.shared.allow_pickle));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        self.check_newcomer(&member).await?;
        self.shared.tell(Input::Core(Event::JoinAsked { member: member.clone(), functions }));
        if member.voter {
            crate::node::membership::seat_voter(self.shared.clone(), member);
        }
        response.admitted = true;
        Ok(Response::new(response))
    }

    type AssignTaskStream = Answers<pb::AssignTaskResponse>;

    async fn assign_task(
        &self,
        request: Request<Streaming<pb::AssignTaskRequest>>,
    ) -> Result<Response<Self::AssignTaskStream>, Status> {
        let mut requests = request.into_inner();
        let hello =
            requests.message().await?.ok_or_else(|| Status::invalid_argument("empty stream"))?;
        self.check(hello.envelope.as_ref())?;
        let envelope = hello.envelope.clone().unwrap_or_default();
        if self.shared.standing().cluster.is_none()
            && let Some(cluster) = ClusterId::from_bytes(&envelope.cluster_id)
        {
            self.shared.belong(cluster);
        }
        self.shared.saw_leader(Whereabouts {
            term: hello.term,
            node: NodeId(envelope.from_node),
            address: hello.leader_address.clone(),
        });
        let back = Endpoint::from_shared(format!("http://{}", hello.leader_address))
            .map_err(|e| Status::invalid_argument(format!("leader_address: {e}")))?
            .connect_timeout(Duration::from_millis(500))
            .tcp_nodelay(true)
            .connect_lazy();
        let (outbox, answers) = mpsc::unbounded_channel();
        let stream = self.shared.number_stream();
        let upstream = Upstream::new(&hello, self.shared.me.id, stream, outbox, back);
        self.shared.tell(Input::UpstreamOpened(upstream));
        note_connected(&self.shared);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let limits = shared.config.limits.clone();
            while let Ok(Some(request)) = requests.message().await {
                shared.tell(Input::FromUpstream(stream, upstream::words(request, &limits)));
            }
            shared.tell(Input::UpstreamClosed(stream));
            note_connected(&shared);
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(answers);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn work_request(
        &self,
        request: Request<pb::WorkRequestRequest>,
    ) -> Result<Response<pb::WorkRequestResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let asked = self.shared.leads();
        if asked {
            let thief = NodeId(request.envelope.as_ref().map_or(0, |e| e.from_node));
            let cpu = request.cpu_available;
            let cpu_available = if cpu.is_finite() { cpu.clamp(0.0, 1.0) } else { 0.0 };
            let free_slots = request.free_slots;
            self.shared.tell(Input::Core(Event::WorkAsked { thief, free_slots, cpu_available }));
        }
        Ok(Response::new(pb::WorkRequestResponse { asked }))
    }
}

impl Peer {
    /// Lets the leader's core say whether it would have this newcomer.
    async fn check_newcomer(
        &self,
        member: &crate::core::cluster::command::Member,
    ) -> Result<(), Status> {
        let newcomer = member.clone();
        let refused = self
            .shared
            .ask(move |task_loop| task_loop.leader.refuse_newcomer(&newcomer))
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let Some(error) = refused else { return Ok(()) };
        let text = error.to_string();
        Err(match error {
            Error::NodeIdInUse { .. } => Status::already_exists(text),
            Error::IncarnationMismatch { .. } => Status::aborted(text),
            _ => Status::failed_precondition(text),
        })
    }
}

/// Connected means: some stream is open. Only the task loop knows, in the order in which they came and went.
fn note_connected(shared: &Arc<Shared>) {
    let inner = shared.clone();
    shared.look(move |task_loop| {
        inner.connected.store(task_loop.upstream.is_some(), Ordering::Release);
    });
}

fn internal(error: Error) -> Status {
    Status::internal(error.to_string())
}

fn broken(status: Status) -> Error {
    Error::Consensus { problem: status.to_string() }
}

fn check_protocol(theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL {
        return Ok(());
    }
    let peer = "the caller".to_owned();
    let error = Error::VersionMismatch { peer, theirs, ours: PROTOCOL };
    Err(Status::failed_precondition(error.to_string()))
}
