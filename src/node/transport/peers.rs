//! What a voter may ask of another: the door behind which gRPC or a simulated network stands.

use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::election::lease::Told;
use crate::core::election::ranking::RankEntry;
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::core::load::Load;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::time::Duration;

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Who should answer there.
    pub node: NodeId,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody answered there, or not in time.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Who was called.
        address: String,
        /// What happened.
        reason: String,
    },
    /// It answered, and said no.
    #[error("{address} refused: {reason}")]
    Refused {
        /// Who was called.
        address: String,
        /// Its words.
        reason: String,
    },
}

/// What came of dialling a peer's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    /// The port accepts: the process is there, perhaps frozen.
    Accepted,
    /// ECONNREFUSED: no process has that port.
    Refused,
    /// Neither, in time: a partition or a dead host; no evidence.
    Silent,
}

/// Which traffic a stream of appends carries, so that bulk need not delay heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats: small and urgent.
    Heartbeat,
    /// Entries.
    Replication,
}

/// The leader's table, on its way to a voter.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// The table, best first.
    pub table: Vec<RankEntry>,
    /// How it stands with its quorum.
    pub told: Told,
}

/// How a voter is.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatReply {
    /// The highest term it knows.
    pub term: Term,
    /// Its smoothed score.
    pub score: f64,
    /// Its last sample.
    pub load: Load,
    /// The end of its log: (term, index).
    pub last_log: (Term, LogIndex),
}

/// A call's result, to be awaited.
pub type Reply<T> = BoxFuture<'static, Result<T, PeerError>>;

/// Answers to a stream of appends, in their order.
pub type AppendReplies = BoxStream<'static, Result<Bytes, PeerError>>;

/// The raft plane of the other voters. Every call is bounded in time by `ttl` or by its stream.
pub trait Peers: Send + Sync + 'static {
    /// RequestVote, encoded by the consensus library.
    fn request_vote(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes>;
    /// Asks whether it suspects too; its term comes with the answer.
    fn poll(&self, to: &Target, question: PollQuestion, ttl: Duration)
    -> Reply<(Term, PollAnswer)>;
    /// AppendEntries, pipelined: replies come in the order of the requests.
    fn append(
        &self,
        to: &Target,
        lane: Lane,
        requests: BoxStream<'static, Bytes>,
    ) -> Reply<AppendReplies>;
    /// A snapshot: its header, then the encoded state in pieces, taken as they can be sent.
    fn install_snapshot(
        &self,
        to: &Target,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
        ttl: Duration,
    ) -> Reply<Bytes>;
    /// TransferLeader, encoded by the consensus library.
    fn transfer_leader(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes>;
    /// The table out, its score back.
    fn heartbeat(&self, to: &Target, heartbeat: Heartbeat, ttl: Duration) -> Reply<HeartbeatReply>;
    /// Holds a stream that never sends; returns `Ok` when it ends, `Err` if it never began.
    fn tether(&self, to: &Target) -> Reply<()>;
    /// Opens a connection and closes it again, within `ttl`.
    fn dial(&self, to: &Target, ttl: Duration) -> BoxFuture<'static, Dialled>;
}
