//! The server side of `peer.proto`: checks the envelope and passes on; decides nothing.

use super::access;
use super::admission;
use super::carried::Carried;
use super::envelope;
use super::gate::HELD;
use super::intake;
use super::lines::GrpcBack;
use super::upstream::{self, Upstream};
use super::wire;
use super::wire_raft;
use crate::core::boundary::Event;
use crate::core::ids::NodeId;
use crate::error::Error;
use crate::node::consensus::Consensus;
use crate::node::driver::Input;
use crate::node::proto as pb;
use crate::node::proto::peer_service_server::PeerService;
use crate::node::shared::{Shared, Whereabouts};
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

    /// Why a candidate was not heard; strangers are counted.
    fn unheard(&self, error: Error) -> Status {
        if !matches!(error, Error::InvalidPeers { .. }) {
            return internal(error);
        }
        self.shared.refusals.strangers.fetch_add(1, Ordering::Relaxed);
        Status::failed_precondition(error.to_string())
    }

    /// Serves a member of this cluster that means this node.
    async fn serve<T>(
        &self,
        envelope: Option<pb::Envelope>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let checked = envelope::check_member(&self.shared, envelope.as_ref());
        self.exchange(envelope, checked, work).await
    }

    /// Serves whoever knows this node's address and does not belong to another cluster.
    async fn welcome<T>(
        &self,
        envelope: Option<pb::Envelope>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let checked = envelope::check_anybody(&self.shared, envelope.as_ref());
        self.exchange(envelope, checked, work).await
    }

    /// Hears, works, and answers, as far as words reach.
    async fn exchange<T>(
        &self,
        envelope: Option<pb::Envelope>,
        checked: Result<(), Status>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let from = sender(envelope.as_ref());
        self.shared.gate.hear(from).await;
        let answer = match checked {
            Ok(()) => work.await,
            Err(refused) => Err(refused),
        };
        if !self.shared.gate.answer(from).await {
            // Whoever asked must not learn even that the answer is lost.
            tokio::time::sleep(HELD).await;
        }
        answer.map(Response::new)
    }

    /// The first message of a stream, from whom it is, and the rest as it arrives here.
    async fn open<T: Send + 'static>(
        &self,
        mut requests: Streaming<T>,
        envelope: impl FnOnce(&T) -> Option<pb::Envelope>,
    ) -> Result<(T, NodeId, Carried<Streaming<T>>), Status> {
        let first = requests.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("empty stream"))?;
        let envelope = envelope(&first);
        let from = sender(envelope.as_ref());
        self.shared.gate.hear(from).await;
        envelope::check_member(&self.shared, envelope.as_ref())?;
        Ok((first, from, self.shared.gate.heard(from, requests)))
    }
}

fn sender(envelope: Option<&pb::Envelope>) -> NodeId {
    NodeId(envelope.map_or(0, |envelope| envelope.from_node))
}

#[tonic::async_trait]
impl PeerService for Peer {
    async fn request_vote(
        &self,
        request: Request<pb::RequestVoteRequest>,
    ) -> Result<Response<pb::RequestVoteResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let raft = self.consensus()?.on_request_vote(request.raft).await;
            let raft = raft.map_err(|error| self.unheard(error))?;
            Ok(pb::RequestVoteResponse { raft })
        };
        self.serve(request.envelope, work).await
    }

    async fn poll(
        &self,
        request: Request<pb::PollRequest>,
    ) -> Result<Response<pb::PollResponse>, Status> {
        let request = request.into_inner();
        let question = wire_raft::poll_question(&request);
        let work = async {
            let answer = self.consensus()?.on_poll(&question);
            let (term, answer) = answer.map_err(|error| self.unheard(error))?;
            Ok(wire_raft::poll_response(term, answer))
        };
        self.serve(request.envelope, work).await
    }

    type AppendStream = Answers<pb::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (first, from, requests) =
            self.open(request.into_inner(), |first| first.envelope.clone()).await?;
        let lane = if first.heartbeat { Lane::Heartbeat } else { Lane::Replication };
        let rest = requests.map(|request| request.map(|request| request.raft).map_err(broken));
        let first = futures::stream::once(async move { Ok(first.raft) });
        let answers = self.consensus()?.on_append(lane, Box::pin(first.chain(rest)));
        let answers = answers.map(|a| a.map(|raft| pb::AppendResponse { raft }).map_err(internal));
        Ok(Response::new(Box::pin(self.shared.gate.spoken(from, answers))))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let (first, _, requests) =
            self.open(request.into_inner(), |first| first.envelope.clone()).await?;
        let data = requests.map(|request| request.map(|request| request.data).map_err(broken));
        let work = async {
            let snapshot = self.consensus()?.on_install_snapshot(first.raft, Box::pin(data));
            Ok(pb::InstallSnapshotResponse { raft: snapshot.await.map_err(internal)? })
        };
        self.serve(first.envelope, work).await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let raft = self.consensus()?.on_transfer_leader(request.raft).await;
            Ok(pb::TransferLeaderResponse { raft: raft.map_err(internal)? })
        };
        self.serve(request.envelope, work).await
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let heartbeat = wire_raft::heartbeat(&request);
        let work =
            async { Ok(wire_raft::heartbeat_response(&self.consensus()?.on_heartbeat(heartbeat))) };
        self.serve(request.envelope, work).await
    }

    type TetherStream = Answers<pb::TetherResponse>;

    async fn tether(
        &self,
        request: Request<pb::TetherRequest>,
    ) -> Result<Response<Self::TetherStream>, Status> {
        let envelope = request.into_inner().envelope;
        self.shared.gate.hear(sender(envelope.as_ref())).await;
        envelope::check_member(&self.shared, envelope.as_ref())?;
        // It says nothing, so there is no answer to lose.
        Ok(Response::new(self.consensus()?.on_tether()))
    }

    async fn meet(
        &self,
        request: Request<pb::MeetRequest>,
    ) -> Result<Response<pb::MeetResponse>, Status> {
        let mut request = request.into_inner();
        let envelope = request.envelope.take();
        self.welcome(envelope, async { self.on_meet(request) }).await
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let mut request = request.into_inner();
        let envelope = request.envelope.take();
        self.welcome(envelope, self.on_join(request)).await
    }

    type AssignTaskStream = Answers<pb::AssignTaskResponse>;

    async fn assign_task(
        &self,
        request: Request<Streaming<pb::AssignTaskRequest>>,
    ) -> Result<Response<Self::AssignTaskStream>, Status> {
        let (hello, leader, mut requests) =
            self.open(request.into_inner(), |hello| hello.envelope.clone()).await?;
        self.shared.saw_leader(Whereabouts {
            term: hello.term,
            node: leader,
            address: hello.leader_address.clone(),
        });
        let back = Endpoint::from_shared(format!("http://{}", hello.leader_address))
            .map_err(|e| Status::invalid_argument(format!("leader_address: {e}")))?
            .connect_timeout(Duration::from_millis(500));
        let back = self.shared.dialler.lazily(&back);
        let (outbox, answers) = mpsc::unbounded_channel();
        let stream = self.shared.number_stream();
        let back = Arc::new(GrpcBack { channel: back, gate: self.shared.gate.clone() });
        let upstream = Upstream::new(&hello, self.shared.me.id, stream, outbox, back);
        self.shared.tell(Input::UpstreamOpened(upstream));
        note_connected(&self.shared);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let limits = shared.config.limits.clone();
            while let Some(Ok(request)) = requests.next().await {
                shared.tell(Input::FromUpstream(stream, upstream::words(request, &limits)));
            }
            shared.tell(Input::UpstreamClosed(stream));
            note_connected(&shared);
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(answers);
        Ok(Response::new(Box::pin(self.shared.gate.spoken(leader, answers))))
    }

    async fn work_request(
        &self,
        request: Request<pb::WorkRequestRequest>,
    ) -> Result<Response<pb::WorkRequestResponse>, Status> {
        let request = request.into_inner();
        let thief = sender(request.envelope.as_ref());
        let work = async {
            let asked = self.shared.leads();
            if asked {
                let cpu = request.cpu_available;
                let cpu_available = if cpu.is_finite() { cpu.clamp(0.0, 1.0) } else { 0.0 };
                let free_slots = request.free_slots;
                self.shared.tell(Input::Core(Event::WorkAsked {
                    thief,
                    free_slots,
                    cpu_available,
                }));
            }
            Ok(pb::WorkRequestResponse { asked })
        };
        self.serve(request.envelope, work).await
    }
}

impl Peer {
    /// A founder introduces itself.
    fn on_meet(&self, request: pb::MeetRequest) -> Result<pb::MeetResponse, Status> {
        admission::check_protocol(request.protocol)?;
        let them = wire::member_in(request.me.unwrap_or_default())?;
        access::check_name(&them.name)?;
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
        Ok(pb::MeetResponse {
            cluster_id: cluster.map_or_else(Default::default, |id| wire::id_bytes(id.to_bytes())),
            me: Some(wire::member_out(&self.shared.member())),
            founders: standing.founders.clone(),
            met: standing.met.values().map(wire::member_out).collect(),
        })
    }

    /// A node asks to be admitted.
    async fn on_join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, Status> {
        admission::check_protocol(request.protocol)?;
        let member = wire::member_in(request.me.unwrap_or_default())?;
        access::check_name(&member.name)?;
        let cluster = self.shared.standing().cluster;
        let mut response = pb::JoinResponse {
            cluster_id: cluster.map_or_else(Default::default, |id| wire::id_bytes(id.to_bytes())),
            ..Default::default()
        };
        if !self.shared.leads() {
            let leader = self.shared.leader().filter(|leader| leader.node != self.shared.me.id);
            response.leader_address = leader.map(|leader| leader.address).unwrap_or_default();
            return Ok(response);
        }
        let limits = &self.shared.config.limits;
        let functions = request
            .functions
            .into_iter()
            .map(|function| intake::function_in(function, limits, self.shared.allow_pickle));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        match self.check_newcomer(&member).await? {
            None => {}
            Some(Error::Removed { .. }) => {
                response.removed = true;
                return Ok(response);
            }
            Some(refused) => return Err(unwelcome(&refused)),
        }
        self.shared.tell(Input::Core(Event::JoinAsked { member: member.clone(), functions }));
        if member.voter {
            crate::node::membership::seat_voter(self.shared.clone(), member);
        }
        response.admitted = true;
        Ok(response)
    }
    /// Lets the leader's core say whether it would have this newcomer.
    async fn check_newcomer(
        &self,
        member: &crate::core::cluster::command::Member,
    ) -> Result<Option<Error>, Status> {
        if member.voter {
            let seat = self.consensus()?.check_seat(member);
            seat.map_err(|e| Status::failed_precondition(e.to_string()))?;
        }
        let newcomer = member.clone();
        self.shared
            .ask(move |task_loop| {
                let state = task_loop.state.lock();
                task_loop.leader.refuse_newcomer(&state, &newcomer)
            })
            .await
            .map_err(|e| Status::unavailable(e.to_string()))
    }
}

/// Connected means: some stream is open. Only the task loop knows, in the order in which they came and went.
fn note_connected(shared: &Arc<Shared>) {
    let inner = shared.clone();
    shared.look(move |task_loop| {
        inner.connected.store(task_loop.upstream.is_some(), Ordering::Release);
        if task_loop.upstream.is_none() {
            inner.parted.notify_one();
        }
    });
}

/// Why a node may not come, so that it knows whether to ask again.
fn unwelcome(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NodeIdInUse { .. } => Status::already_exists(text),
        Error::IncarnationMismatch { .. } => Status::aborted(text),
        _ => Status::failed_precondition(text),
    }
}

fn internal(error: Error) -> Status {
    Status::internal(error.to_string())
}

fn broken(status: Status) -> Error {
    Error::Consensus { problem: status.to_string() }
}
