//! The receiving side: what other voters may ask of this one. The gRPC service checks envelopes and calls these.

use super::network::{Answer, AppendReply, SnapshotHeader, decode, encode};
use super::types::{Snapshot, TypeConfig, position};
use super::{Consensus, stopped};
use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::election::membership::is_stranger;
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::error::{Error, Result};
use crate::node::transport::peers::{Heartbeat, HeartbeatReply, Lane};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::vote::RaftLeaderId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

/// Bytes of one snapshot at most.
const MAX_SNAPSHOT_BYTES: u64 = 4 << 30;

fn stranger(node: NodeId) -> Error {
    Error::InvalidPeers { problem: format!("{node} is no voter of this group") }
}

fn malformed(error: postcard::Error) -> Error {
    Error::Consensus { problem: format!("malformed raft message: {error}") }
}

impl Consensus {
    /// RequestVote: Raft's rules alone decide. If this voter itself suspects the leader it need not wait for the
    /// lease to end, which is what the library's flag for handovers says.
    pub async fn on_request_vote(&self, raft: Bytes) -> Result<Bytes> {
        let mut request: VoteRequest<TypeConfig> = decode(&raft).map_err(malformed)?;
        let leader_id = *request.vote.leader_id();
        let its_log = position(request.last_log_id.as_ref());
        if self.is_stranger(NodeId(*leader_id.node_id()), its_log) {
            return Err(stranger(NodeId(*leader_id.node_id())));
        }
        self.observe_raft();
        if self.suspects() {
            request.leadership_transfer = true;
        }
        let response = self.raft.vote(request).await.map_err(stopped)?;
        if response.vote_granted {
            let now = self.clock.now();
            self.elector().on_vote_granted(now, leader_id.term, NodeId(*leader_id.node_id()));
        }
        encode(&response).map_err(malformed)
    }

    /// A stream of appends in, the answers out, in order.
    pub fn on_append(
        self: &Arc<Self>,
        lane: Lane,
        requests: BoxStream<'static, Result<Bytes, Error>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let this = self.clone();
        let sender = AtomicU64::new(0);
        let requests = requests.map(move |message| match message {
            Ok(bytes) => {
                let request = decode::<AppendEntriesRequest<TypeConfig>>(&bytes).ok()?;
                // What is empty on the other lane only carries the commit index: it comes as often as the load.
                let is_heartbeat = lane == Lane::Heartbeat && request.entries.is_empty();
                sender.store(this.note_append(&request, is_heartbeat).0, Relaxed);
                Some(request)
            }
            Err(_) => {
                this.clone().doubt_later(NodeId(sender.load(Relaxed)));
                None
            }
        });
        let requests = requests
            .take_while(|request| futures::future::ready(request.is_some()))
            .filter_map(futures::future::ready);
        let answers = self.raft.stream_append(requests.boxed());
        let this = self.clone();
        answers
            .map(move |answer| match answer {
                Ok(result) => {
                    let is_news = lane == Lane::Heartbeat && this.elector().has_news();
                    let answer: Answer = (AppendReply::new(result), is_news);
                    encode(&answer).map_err(malformed)
                }
                Err(fatal) => Err(stopped(fatal)),
            })
            .boxed()
    }

    fn note_append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
        is_heartbeat: bool,
    ) -> NodeId {
        let leader_id = *request.vote.leader_id();
        let leader = NodeId(*leader_id.node_id());
        let mine = self.raft.server_metrics().value().vote.leader_id().term;
        if leader_id.term >= mine && leader != self.me {
            let now = self.clock.now();
            self.elector().on_append(now, leader, leader_id.term, is_heartbeat);
        }
        leader
    }

    /// A snapshot: the header, then the encoded state in pieces.
    pub async fn on_install_snapshot(
        &self,
        header: Bytes,
        mut pieces: BoxStream<'static, Result<Bytes, Error>>,
    ) -> Result<Bytes> {
        let SnapshotHeader { vote, meta, size, checksum } = decode(&header).map_err(malformed)?;
        if size > MAX_SNAPSHOT_BYTES {
            return Err(Error::PayloadTooLarge {
                what: "snapshot".into(),
                size: size as usize,
                limit: MAX_SNAPSHOT_BYTES as usize,
                knob: "fixed; lower limits.queued_bytes and limits.outcome_bytes",
            });
        }
        let mut receiving = self.stores.snapshots.receive().await.map_err(stopped)?;
        let mut left = size;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let beyond =
                || stopped(format!("a snapshot is longer than the {size} bytes announced"));
            left = left.checked_sub(piece.len() as u64).ok_or_else(beyond)?;
            receiving.take(piece).await.map_err(stopped)?;
        }
        let data = receiving.finish().map_err(stopped)?;
        if left > 0 || data.checksum() != checksum {
            return Err(stopped(format!(
                "a snapshot of {size} bytes did not arrive as it was sent"
            )));
        }
        let snapshot = Snapshot { meta, snapshot: data };
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        encode(&response).map_err(malformed)
    }

    /// The leader hands over, to this node or to another.
    pub async fn on_transfer_leader(&self, raft: Bytes) -> Result<Bytes> {
        let request: TransferLeaderRequest<TypeConfig> = decode(&raft).map_err(malformed)?;
        let response = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        encode(&response).map_err(malformed)
    }

    /// A candidate asks whether this voter suspects too. This voter's term comes with the answer.
    pub fn on_poll(&self, question: &PollQuestion) -> Result<(Term, PollAnswer)> {
        if self.is_stranger(question.candidate, question.last_log) {
            return Err(stranger(question.candidate));
        }
        self.observe_raft();
        let now = self.clock.now();
        let term = self.raft.server_metrics().value().vote.leader_id().term;
        Ok((term, self.elector().on_poll(now, question)))
    }

    /// A removed node must not disturb those that stay.
    fn is_stranger(&self, candidate: NodeId, its_log: (Term, LogIndex)) -> bool {
        let view = self.raft_view();
        is_stranger(candidate, its_log, &view.voters, view.last_log)
    }

    /// The leader's table in, this node's score out.
    pub fn on_heartbeat(&self, heartbeat: Heartbeat) -> HeartbeatReply {
        let view = self.raft_view();
        let mut elector = self.elector();
        if heartbeat.term >= view.term {
            elector.on_table(heartbeat.term, heartbeat.table);
            elector.on_told(heartbeat.told);
        }
        let load = *self.load.lock().unwrap_or_else(PoisonError::into_inner);
        HeartbeatReply {
            term: view.term,
            score: elector.tell_score(),
            load,
            last_log: view.last_log,
        }
    }

    /// A stream that never sends; its end tells the other side that this process is gone.
    pub fn on_tether<T: Send + 'static>(&self) -> BoxStream<'static, T> {
        stream::pending().boxed()
    }

    /// Tells the elector where Raft stands, before it is asked for an opinion.
    pub(super) fn observe_raft(&self) {
        let (now, view) = (self.clock.now(), self.raft_view());
        self.elector().on_raft_changed(now, view);
    }
}
