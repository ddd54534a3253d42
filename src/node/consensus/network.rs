//! openraft's network over `Peers`: encodes its messages, passes them on, and tells it to come back soon.

use super::snapshots::SnapshotData;
use super::types::{LogId, Snapshot, SnapshotMeta, TypeConfig, Vote, Voter};
use crate::core::ids::NodeId;
use crate::node::clock::Clock;
use crate::node::transport::peers::{Lane, PeerError, Peers, Target};
use bytes::Bytes;
use futures::{Stream, StreamExt, future};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How soon an unreachable peer is tried again.
const BACKOFF: Duration = Duration::from_millis(20);
/// How long one snapshot may take.
const SNAPSHOT_TTL: Duration = Duration::from_secs(60);

type Reply<T> = Result<T, RPCError<TypeConfig>>;

/// An answer to one append, as it travels.
#[derive(Serialize, Deserialize)]
pub enum AppendReply {
    /// The log matches up to here.
    Matches(Option<LogId>),
    /// The entry before the new ones is another one here.
    Conflict(LogId),
    /// A newer term is known here.
    HigherVote(Vote),
}

/// An answer, and whether this voter's score is not what the leader was last told.
pub type Answer = (AppendReply, bool);

impl AppendReply {
    /// The library's result, ready to travel.
    pub fn new(result: StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(matching) => AppendReply::Matches(matching),
            Err(StreamAppendError::Conflict(id)) => AppendReply::Conflict(id),
            Err(StreamAppendError::HigherVote(vote)) => AppendReply::HigherVote(vote),
        }
    }

    fn into_result(self) -> StreamAppendResult<TypeConfig> {
        match self {
            AppendReply::Matches(matching) => Ok(matching),
            AppendReply::Conflict(id) => Err(StreamAppendError::Conflict(id)),
            AppendReply::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
        }
    }
}

/// What travels before the pieces of a snapshot; all of them must have come for it to be installed.
#[derive(Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// The sender's vote.
    pub vote: Vote,
    /// What the snapshot covers.
    pub meta: SnapshotMeta,
    /// Bytes that follow.
    pub size: u64,
    /// Of those bytes.
    pub checksum: u64,
}

/// A message of the library as bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, postcard::Error> {
    postcard::to_stdvec(message).map(Bytes::from)
}

/// The message in `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(bytes)
}

/// Makes a link to each member.
pub struct Network {
    peers: Arc<dyn Peers>,
    clock: Clock,
    news: Arc<Notify>,
}

impl Network {
    /// A network behind `peers`; `news` rings when a voter has a new score to tell.
    pub fn new(peers: Arc<dyn Peers>, clock: Clock, news: Arc<Notify>) -> Self {
        Network { peers, clock, news }
    }

    fn link(&self, target: u64, node: &Voter, lane: Lane) -> Link {
        let target = Target { node: NodeId(target), address: node.address.clone() };
        let backoff = self.clock.stretch(BACKOFF);
        Link { peers: self.peers.clone(), target, lane, backoff, news: self.news.clone() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Voter) -> Link {
        self.link(target, node, Lane::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Voter) -> Link {
        self.link(target, node, Lane::Heartbeat)
    }
}

/// The way to one member.
pub struct Link {
    peers: Arc<dyn Peers>,
    target: Target,
    lane: Lane,
    backoff: Duration,
    news: Arc<Notify>,
}

// `Unreachable` makes the library wait for the backoff before it tries again; `Network` would not.
fn unreachable<E: std::error::Error + 'static>(error: E) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}

fn read<T: DeserializeOwned>(answer: Result<Bytes, PeerError>) -> Reply<T> {
    decode(&answer.map_err(unreachable)?).map_err(unreachable)
}

impl NetBackoff<TypeConfig> for Link {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(self.backoff)))
    }
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Reply<BoxStream<'s, Reply<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        // An entry that cannot be encoded ends the stream; it was bounded before it was proposed.
        let requests = input
            .map(|request| encode(&request).ok())
            .take_while(|bytes| future::ready(bytes.is_some()))
            .filter_map(future::ready);
        Box::pin(async move {
            let answers = match self.peers.append(&self.target, self.lane, requests.boxed()).await {
                Ok(answers) => answers,
                Err(error) => {
                    // The library waits for its backoff only when it sends a request. A stream that never opened sent
                    // none: without this, a dead peer would be dialled as fast as the processor can.
                    tokio::time::sleep(self.backoff).await;
                    return Err(unreachable(error));
                }
            };
            let news = self.news.clone();
            let results = answers.map(move |answer| {
                let (reply, is_news) = read::<Answer>(answer)?;
                if is_news {
                    news.notify_one();
                }
                Ok(reply.into_result())
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }
}

impl NetVote<TypeConfig> for Link {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Reply<VoteResponse<TypeConfig>> {
        let raft = encode(&request).map_err(unreachable)?;
        read(self.peers.request_vote(&self.target, raft, option.soft_ttl()).await)
    }
}

impl NetSnapshot<TypeConfig> for Link {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: &dyn std::error::Error| {
            StreamingError::Network(NetworkError::from_string(error.to_string()))
        };
        let (size, checksum) = (snapshot.snapshot.size(), snapshot.snapshot.checksum());
        let header = SnapshotHeader { vote, meta: snapshot.meta, size, checksum };
        let header = encode(&header).map_err(|e| failed(&e))?;
        let pieces = snapshot.snapshot.pieces();
        let call = self.peers.install_snapshot(&self.target, header, pieces, SNAPSHOT_TTL);
        let answer = tokio::select! {
            biased;
            closed = pin!(cancel) => return Err(closed.into()),
            answer = call => answer.map_err(|e| failed(&e))?,
        };
        decode(&answer).map_err(|e| failed(&e))
    }
}

impl NetTransferLeader<TypeConfig> for Link {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Reply<TransferLeaderResponse<TypeConfig>> {
        let raft = encode(&request).map_err(unreachable)?;
        read(self.peers.transfer_leader(&self.target, raft, option.soft_ttl()).await)
    }
}
