//! The raft plane over gRPC: one lazily connected channel per peer and lane, and a bound on every call. Heartbeats
//! share one long stream per peer: a call each, fifty times a second, would be what an idle cluster spends most on.

use super::beats::Beats;
use super::dialling::{self, Dialler};
use super::lives::{Life, Lives};
use super::peers::{AppendReplies, Dialled, Heartbeat, HeartbeatReply, Lane};
use super::peers::{PeerError, Peers, Reply, Target};
use super::wire_raft;
use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::ids::{ClusterId, NodeId, Term};
use crate::node::proto;
use crate::node::proto::peer_service_client::PeerServiceClient;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, future};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// Flow control: what may be in flight on one stream.
const STREAM_WINDOW: u32 = 4 << 20;
/// Channels kept at most; past that the one with the lowest target is closed and reopened at need.
const MAX_CHANNELS: usize = 256;

/// Moves of one node that are followed.
const MAX_MOVES: usize = 64;

/// Calls other nodes' `PeerService`.
pub struct GrpcPeers {
    me: NodeId,
    message_bytes: usize,
    dialler: Dialler,
    cluster: OnceLock<ClusterId>,
    life: OnceLock<Life>,
    lives: Mutex<Lives>,
    moved: Mutex<BTreeMap<Target, String>>,
    channels: Mutex<BTreeMap<(Target, Lane), Channel>>,
    beats: Mutex<BTreeMap<Target, Arc<Beats>>>,
}

impl GrpcPeers {
    /// The peers as `me` sees them; no message may be larger than `message_bytes`.
    pub fn new(me: NodeId, message_bytes: usize, dialler: Dialler) -> Self {
        GrpcPeers {
            me,
            message_bytes,
            dialler,
            cluster: OnceLock::new(),
            life: OnceLock::new(),
            lives: Mutex::default(),
            moved: Mutex::default(),
            channels: Mutex::default(),
            beats: Mutex::default(),
        }
    }

    /// From now on every envelope names the cluster. The first word counts.
    pub fn set_cluster(&self, cluster: ClusterId) {
        let _ = self.cluster.set(cluster);
    }

    /// From now on every envelope says which life of this node speaks.
    pub fn set_life(&self, life: Life) {
        let _ = self.life.set(life);
    }

    /// The lives of other nodes.
    pub fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls to `target`, a node at its place by the log, go `there` from now on.
    pub fn redirect(&self, target: Target, there: String) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have come back to where it was before: from there no call goes on.
        moved.remove(&Target { node: target.node, address: there.clone() });
        if moved.len() < MAX_CHANNELS || moved.contains_key(&target) {
            moved.insert(target, there);
        }
    }

    /// Where `target` really is; it may have moved more than once.
    fn place(&self, target: &Target) -> Target {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = target.clone();
        for _ in 0..MAX_MOVES {
            match moved.get(&place) {
                Some(there) => place.address.clone_from(there),
                None => break,
            }
        }
        place
    }

    /// Closes the connections to all but the `kept` nodes.
    pub fn retain(&self, kept: impl Fn(NodeId) -> bool) {
        self.lock().retain(|(target, _), _| kept(target.node));
        self.lock_beats().retain(|target, _| kept(target.node));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Target, Lane), Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_beats(&self) -> MutexGuard<'_, BTreeMap<Target, Arc<Beats>>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn envelope(&self, to: &Target) -> proto::Envelope {
        let life = self.life.get().copied().unwrap_or_default();
        let meant = self.lives().of(to.node);
        proto::Envelope {
            incarnation: life.incarnation,
            life: life.number,
            to_incarnation: meant.incarnation,
            to_life: meant.number,
            ..wire_raft::envelope(self.cluster.get().copied(), self.me, to.node)
        }
    }

    fn client(&self, to: &Target, lane: Lane) -> Result<PeerServiceClient<Channel>, PeerError> {
        let to = &self.place(to);
        let mut channels = self.lock();
        let key = (to.clone(), lane);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                if channels.len() >= MAX_CHANNELS {
                    channels.pop_first();
                }
                let channel = self.connect(&to.address).map_err(|e| unreachable(to, &e))?;
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(PeerServiceClient::new(channel)
            .max_decoding_message_size(self.message_bytes)
            .max_encoding_message_size(self.message_bytes))
    }

    /// A lazily connected channel to `address`, tuned for small urgent messages.
    fn connect(&self, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|e| e.to_string())?;
        let endpoint = dialling::tune(endpoint, CONNECT_TIMEOUT, STREAM_WINDOW);
        Ok(self.dialler.between_nodes(&endpoint, CONNECT_TIMEOUT))
    }

    /// Heartbeats to one peer share one stream, however often the library opens one.
    fn beat(&self, to: &Target, requests: BoxStream<'static, Bytes>) -> Reply<AppendReplies> {
        let beats = {
            let mut all = self.lock_beats();
            if all.len() >= MAX_CHANNELS && !all.contains_key(to) {
                all.pop_first();
            }
            all.entry(to.clone()).or_insert_with(|| Arc::new(Beats::new(to.clone()))).clone()
        };
        let call = AppendCall::new(self, to, Lane::Heartbeat);
        let replies = requests.then(move |raft| {
            let (beats, call) = (beats.clone(), call.clone());
            async move { beats.ask(raft, |requests| call.open(requests)).await }
        });
        future::ready(Ok(replies.boxed())).boxed()
    }

    /// One question, one answer, within `ttl`.
    fn unary<M, A, T, F>(
        &self,
        to: &Target,
        message: M,
        ttl: Duration,
        call: impl FnOnce(PeerServiceClient<Channel>, Request<M>) -> F + Send + 'static,
        read: impl FnOnce(A) -> T + Send + 'static,
    ) -> Reply<T>
    where
        M: Send + 'static,
        A: Send + 'static,
        T: Send + 'static,
        F: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'static,
    {
        let (to, client) = (to.clone(), self.client(to, Lane::Heartbeat));
        async move {
            let mut request = Request::new(message);
            request.set_timeout(ttl);
            match tokio::time::timeout(ttl, call(client?, request)).await {
                Ok(Ok(answer)) => Ok(read(answer.into_inner())),
                Ok(Err(status)) => Err(failure(&to, &status)),
                Err(_) => Err(unreachable(&to, &format!("no answer within {ttl:?}"))),
            }
        }
        .boxed()
    }
}

pub(super) fn unreachable(to: &Target, reason: &str) -> PeerError {
    PeerError::Unreachable { address: to.address.clone(), reason: reason.to_owned() }
}

fn failure(to: &Target, status: &Status) -> PeerError {
    let (address, reason) = (to.address.clone(), status.message().to_owned());
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::Internal => {
            PeerError::Refused { address, reason }
        }
        _ => PeerError::Unreachable { address, reason },
    }
}

/// All that one Append stream needs to be opened.
#[derive(Clone)]
struct AppendCall {
    to: Target,
    lane: Lane,
    client: Result<PeerServiceClient<Channel>, PeerError>,
    envelope: proto::Envelope,
}

impl AppendCall {
    fn new(peers: &GrpcPeers, to: &Target, lane: Lane) -> Self {
        let (client, envelope) = (peers.client(to, lane), peers.envelope(to));
        AppendCall { to: to.clone(), lane, client, envelope }
    }

    fn open(self, requests: BoxStream<'static, Bytes>) -> Reply<AppendReplies> {
        let AppendCall { to, lane, client, envelope } = self;
        let (mut envelope, mut heartbeat) = (Some(envelope), lane == Lane::Heartbeat);
        let requests = requests.map(move |raft| {
            let heartbeat = std::mem::take(&mut heartbeat);
            proto::AppendRequest { envelope: envelope.take(), raft, heartbeat }
        });
        let requests = Requests(requests.boxed());
        async move {
            let answers = client?.append(requests).await.map_err(|s| failure(&to, &s))?;
            let replies = answers.into_inner().map(move |answer| match answer {
                Ok(answer) => Ok(answer.raft),
                Err(status) => Err(failure(&to, &status)),
            });
            Ok(replies.boxed())
        }
        .boxed()
    }
}

/// A named stream, where the compiler cannot prove that a boxed one may cross an await.
struct Requests<T>(BoxStream<'static, T>);

impl<T> Stream for Requests<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl Peers for GrpcPeers {
    fn request_vote(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        let message = proto::RequestVoteRequest { envelope: Some(self.envelope(to)), raft };
        let call = |mut client: PeerServiceClient<Channel>, request| async move {
            client.request_vote(request).await
        };
        self.unary(to, message, ttl, call, |answer: proto::RequestVoteResponse| answer.raft)
    }

    fn poll(
        &self,
        to: &Target,
        question: PollQuestion,
        ttl: Duration,
    ) -> Reply<(Term, PollAnswer)> {
        let message = wire_raft::poll_request(self.envelope(to), &question);
        let call = |mut client: PeerServiceClient<Channel>, request| async move {
            client.poll(request).await
        };
        self.unary(to, message, ttl, call, |answer| wire_raft::poll_answer(&answer))
    }

    fn append(
        &self,
        to: &Target,
        lane: Lane,
        requests: BoxStream<'static, Bytes>,
    ) -> Reply<AppendReplies> {
        if lane == Lane::Heartbeat {
            return self.beat(to, requests);
        }
        AppendCall::new(self, to, lane).open(requests)
    }

    fn install_snapshot(
        &self,
        to: &Target,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
        ttl: Duration,
    ) -> Reply<Bytes> {
        let head = proto::InstallSnapshotRequest {
            envelope: Some(self.envelope(to)),
            raft: header,
            data: Bytes::new(),
        };
        let pieces =
            pieces.map(|data| proto::InstallSnapshotRequest { data, ..Default::default() });
        let stream = Requests(futures::stream::once(future::ready(head)).chain(pieces).boxed());
        let (to, client) = (to.clone(), self.client(to, Lane::Replication));
        async move {
            let mut client = client?;
            match tokio::time::timeout(ttl, client.install_snapshot(stream)).await {
                Ok(Ok(answer)) => Ok(answer.into_inner().raft),
                Ok(Err(status)) => Err(failure(&to, &status)),
                Err(_) => Err(unreachable(&to, &format!("snapshot not taken within {ttl:?}"))),
            }
        }
        .boxed()
    }

    fn transfer_leader(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        let message = proto::TransferLeaderRequest { envelope: Some(self.envelope(to)), raft };
        let call = |mut client: PeerServiceClient<Channel>, request| async move {
            client.transfer_leader(request).await
        };
        self.unary(to, message, ttl, call, |answer: proto::TransferLeaderResponse| answer.raft)
    }

    fn heartbeat(&self, to: &Target, heartbeat: Heartbeat, ttl: Duration) -> Reply<HeartbeatReply> {
        let message = wire_raft::heartbeat_request(self.envelope(to), &heartbeat);
        let call = |mut client: PeerServiceClient<Channel>, request| async move {
            client.heartbeat(request).await
        };
        self.unary(to, message, ttl, call, |answer| wire_raft::heartbeat_reply(&answer))
    }

    /// Ties both lanes, so that a voter that becomes leader finds its replication channel open.
    fn tether(&self, to: &Target) -> Reply<()> {
        let tie = |lane| {
            let request = proto::TetherRequest { envelope: Some(self.envelope(to)) };
            let (to, client) = (to.clone(), self.client(to, lane));
            async move {
                let answer = client?.tether(request).await.map_err(|s| failure(&to, &s))?;
                let mut stream = answer.into_inner();
                // It never sends; whatever ends it, an error too, is the end.
                while let Ok(Some(_)) = stream.message().await {}
                Ok(())
            }
            .boxed()
        };
        let (heartbeat, replication) = (tie(Lane::Heartbeat), tie(Lane::Replication));
        async move { future::select(heartbeat, replication).await.factor_first().0 }.boxed()
    }

    fn dial(&self, to: &Target, ttl: Duration) -> BoxFuture<'static, Dialled> {
        let address = self.place(to).address;
        async move {
            match tokio::time::timeout(ttl, tokio::net::TcpStream::connect(&address)).await {
                Ok(Ok(_)) => Dialled::Accepted,
                Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => Dialled::Refused,
                Ok(Err(_)) | Err(_) => Dialled::Silent,
            }
        }
        .boxed()
    }
}
