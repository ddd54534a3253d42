//! The in-memory twin of the gRPC plane: messages take virtual time, are lost, held or cut as the switchboard says.
//!
//! A lost call is silence until its time is over. A cut stream is silent until the keep-alive ends it, and a lost
//! message on a stream comes late, as TCP sends it again. A dead process ends its streams at once, where the wire is
//! whole; a frozen one keeps them open.

use super::bugs;
use super::invariants::Fact;
use super::places::Place;
use super::world::{Life, World};
use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::ids::{NodeId, Term};
use crate::error::Error;
use crate::node::consensus::Consensus;
use crate::node::consensus::network::{Answer, AppendReply, decode};
use crate::node::consensus::types::{TypeConfig, position};
use crate::node::faults::Passage;
use crate::node::transport::peers::{
    AppendReplies, Dialled, Heartbeat, HeartbeatReply, Lane, PeerError, Peers, Reply, Target,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

/// When a silent connection is given up.
pub(super) const KEEP_ALIVE: Duration = Duration::from_millis(2_000);
/// When TCP sends a lost segment again.
pub(super) const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Messages of one stream that may be on the wire.
pub(super) const IN_FLIGHT: usize = 256;

/// Kinds of messages in the trace.
const VOTE: u8 = 1;
const POLL: u8 = 2;
const APPEND: u8 = 3;
const APPENDED: u8 = 4;
const SNAPSHOT: u8 = 5;
const TRANSFER: u8 = 6;
const TABLE: u8 = 7;

/// One node's end of all wires.
#[derive(Clone)]
pub struct Wire {
    pub(super) world: Arc<World>,
    pub(super) me: NodeId,
    life: Arc<Life>,
}

pub(super) enum Sent {
    Arrived,
    /// Lost on a wire that is whole otherwise.
    Lost,
    Cut,
    /// The sender or the receiver is no more.
    Dead,
}

impl Wire {
    /// The wires of `me` while `life` lasts.
    pub fn new(world: Arc<World>, me: NodeId, life: Arc<Life>) -> Self {
        Wire { world, me, life }
    }

    /// The wires of another node.
    pub(super) fn reversed(&self, other: &Place) -> Wire {
        Wire::new(self.world.clone(), other.member.id, other.life.clone())
    }

    /// Carries one message from `me` to `to`, or back.
    pub(super) async fn carry(&self, to: &Life, from: NodeId, towards: NodeId) -> Sent {
        let world = &self.world;
        if world.board.fault(from, towards).cut {
            return Sent::Cut;
        }
        let Passage::After(extra) = world.board.passage(from, towards) else { return Sent::Lost };
        world.clock.sleep(world.draw_latency() + extra).await;
        if !self.life.awake().await || !to.awake().await {
            return Sent::Dead;
        }
        if world.board.fault(from, towards).cut { Sent::Cut } else { Sent::Arrived }
    }

    fn receiver(&self, to: &Target) -> Result<(Arc<Consensus>, Arc<Life>), PeerError> {
        match self.world.post(name_in(&to.address)) {
            Some(post) if post.life.has_ended() => Err(unreachable(to, "connection refused")),
            Some(post) if post.id == to.node => Ok((post.consensus, post.life)),
            _ => Err(PeerError::Refused {
                address: to.address.clone(),
                reason: format!("it is another node, not {}", to.node),
            }),
        }
    }

    /// One question, one answer, within `ttl`.
    fn call<T, F>(
        &self,
        to: &Target,
        ttl: Duration,
        (kind, body): (u8, Bytes),
        ask: impl FnOnce(Arc<Consensus>) -> F + Send + 'static,
    ) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (wire, to) = (self.clone(), to.clone());
        let within = wire.world.clock.stretch(ttl);
        let late = unreachable(&to, "no answer in time");
        let asking = async move {
            let (_, life) = wire.receiver(&to)?;
            match wire.carry(&life, wire.me, to.node).await {
                Sent::Arrived => {}
                Sent::Dead => return Err(unreachable(&to, "connection reset")),
                Sent::Lost | Sent::Cut => return pending().await,
            }
            let (consensus, _) = wire.receiver(&to)?;
            wire.world.trace(kind, wire.me, to.node, &body);
            let answer = ask(consensus).await.map_err(|e| refused(&to, &e))?;
            match wire.carry(&life, to.node, wire.me).await {
                Sent::Arrived => Ok(answer),
                Sent::Dead => Err(unreachable(&to, "connection reset")),
                Sent::Lost | Sent::Cut => pending().await,
            }
        };
        async move { tokio::time::timeout(within, asking).await.unwrap_or(Err(late)) }.boxed()
    }

    /// A message on a stream: it arrives in order, perhaps late, or the stream ends.
    pub(super) async fn pass(&self, to: &Life, from: NodeId, towards: NodeId) -> Result<(), Error> {
        let broken = |problem: &str| Error::Consensus { problem: problem.to_owned() };
        loop {
            match self.carry(to, from, towards).await {
                Sent::Arrived => return Ok(()),
                Sent::Dead => return Err(broken("connection reset")),
                Sent::Lost => self.world.clock.sleep(RETRANSMISSION).await,
                Sent::Cut => {
                    self.world.clock.sleep(KEEP_ALIVE).await;
                    if self.world.board.fault(from, towards).cut {
                        return Err(broken("keep-alive timed out"));
                    }
                }
            }
        }
    }
}

/// Where a simulated node listens.
pub fn address_of(name: &str) -> String {
    format!("sim:{name}")
}

pub(super) fn name_in(address: &str) -> &str {
    address.strip_prefix("sim:").unwrap_or(address)
}

fn unreachable(to: &Target, reason: &str) -> PeerError {
    PeerError::Unreachable { address: to.address.clone(), reason: reason.to_owned() }
}

fn refused(to: &Target, error: &Error) -> PeerError {
    PeerError::Refused { address: to.address.clone(), reason: error.to_string() }
}

impl Peers for Wire {
    fn request_vote(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        let (world, voter, body) = (self.world.clone(), to.node, raft.clone());
        if let Ok(request) = decode::<VoteRequest<TypeConfig>>(&raft) {
            let term = request.vote.leader_id().term;
            self.world.note(Fact::Voted { voter: self.me, term, candidate: self.me, logs: None });
        }
        let asked = raft.clone();
        let answer = self.call(to, ttl, (VOTE, body), move |consensus| async move {
            let request: VoteRequest<TypeConfig> = decode(&raft)
                .map_err(|e| Error::Consensus { problem: format!("malformed: {e}") })?;
            let candidate = NodeId(*request.vote.leader_id().node_id());
            let term = request.vote.leader_id().term;
            let logs = (position(request.last_log_id.as_ref()), consensus.view().last_log);
            if let Some(answer) = bugs::grant_wrongly(&world, voter, candidate, &request, logs) {
                world.note(Fact::Voted { voter, term, candidate, logs: Some(logs) });
                return Ok(answer);
            }
            let answer = consensus.on_request_vote(raft).await?;
            let granted = decode::<VoteResponse<TypeConfig>>(&answer).is_ok_and(|r| r.vote_granted);
            if granted {
                world.note(Fact::Voted { voter, term, candidate, logs: Some(logs) });
            }
            Ok(answer)
        });
        bugs::count_the_silent(self.world.bug, asked, answer)
    }

    fn poll(
        &self,
        to: &Target,
        question: PollQuestion,
        ttl: Duration,
    ) -> Reply<(Term, PollAnswer)> {
        let body = Bytes::from(format!("{question:?}"));
        let bug = self.world.bug;
        self.call(to, ttl, (POLL, body), move |consensus| async move {
            let (term, answer) = consensus.on_poll(&question)?;
            Ok((term, bugs::agree_wrongly(bug, answer)))
        })
    }

    fn append(
        &self,
        to: &Target,
        lane: Lane,
        requests: BoxStream<'static, Bytes>,
    ) -> Reply<AppendReplies> {
        let (wire, to) = (self.clone(), to.clone());
        async move {
            let (consensus, life) = wire.receiver(&to)?;
            let answers = consensus.on_append(lane, wire.inbound(&to, &life, requests));
            Ok(wire.outbound(&to, &life, answers))
        }
        .boxed()
    }

    fn install_snapshot(
        &self,
        to: &Target,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
        ttl: Duration,
    ) -> Reply<Bytes> {
        self.call(to, ttl, (SNAPSHOT, header.clone()), move |consensus| async move {
            consensus.on_install_snapshot(header, pieces.map(Ok).boxed()).await
        })
    }

    fn transfer_leader(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        self.call(to, ttl, (TRANSFER, raft.clone()), move |consensus| async move {
            consensus.on_transfer_leader(raft).await
        })
    }

    fn heartbeat(&self, to: &Target, heartbeat: Heartbeat, ttl: Duration) -> Reply<HeartbeatReply> {
        let body = Bytes::from(format!("{heartbeat:?}"));
        self.call(to, ttl, (TABLE, body), move |consensus| async move {
            Ok(consensus.on_heartbeat(heartbeat))
        })
    }

    fn tether(&self, to: &Target) -> Reply<()> {
        let (wire, to) = (self.clone(), to.clone());
        async move {
            let (_, life) = wire.receiver(&to)?;
            life.over().await;
            // The last packet of a dead process travels like any other.
            match wire.carry(&Life::default(), to.node, wire.me).await {
                Sent::Arrived => Ok(()),
                Sent::Lost | Sent::Cut | Sent::Dead => pending().await,
            }
        }
        .boxed()
    }

    fn dial(&self, to: &Target, ttl: Duration) -> BoxFuture<'static, Dialled> {
        let (wire, to) = (self.clone(), to.clone());
        let within = self.world.clock.stretch(ttl);
        let dialling = async move {
            // A port answers for a frozen process as well: the kernel does.
            for (from, towards) in [(wire.me, to.node), (to.node, wire.me)] {
                match wire.carry(&Life::default(), from, towards).await {
                    Sent::Arrived => {}
                    Sent::Lost | Sent::Cut | Sent::Dead => return pending().await,
                }
            }
            match wire.world.post(name_in(&to.address)) {
                Some(post) if !post.life.has_ended() => Dialled::Accepted,
                _ => Dialled::Refused,
            }
        };
        async move { tokio::time::timeout(within, dialling).await.unwrap_or(Dialled::Silent) }
            .boxed()
    }
}

impl Wire {
    /// What `to` reads of this node's stream.
    fn inbound(
        &self,
        to: &Target,
        life: &Arc<Life>,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        let (wire, node, life) = (self.clone(), to.node, life.clone());
        let mine = self.life.clone();
        let ended = stream::once(async move { mine.has_ended() }).filter_map(|ended| async move {
            // Where the sender's process ends, its stream breaks; a library that only closes it ends it well.
            ended.then(|| Err(Error::Consensus { problem: "connection reset".to_owned() }))
        });
        requests
            .map(move |bytes| {
                let (wire, life) = (wire.clone(), life.clone());
                async move {
                    wire.pass(&life, wire.me, node).await?;
                    wire.world.trace(APPEND, wire.me, node, &bytes);
                    Ok(bytes)
                }
            })
            .buffered(IN_FLIGHT)
            .chain(ended)
            .boxed()
    }

    /// What this node reads of `to`'s answers.
    fn outbound(
        &self,
        to: &Target,
        life: &Arc<Life>,
        answers: BoxStream<'static, crate::error::Result<Bytes>>,
    ) -> AppendReplies {
        let (wire, to, life) = (self.clone(), to.clone(), life.clone());
        answers
            .map(move |answer| {
                let (wire, to, life) = (wire.clone(), to.clone(), life.clone());
                async move {
                    let sent = wire.pass(&life, to.node, wire.me).await;
                    sent.map_err(|e| unreachable(&to, &e.to_string()))?;
                    let answer = answer.map_err(|e| refused(&to, &e))?;
                    wire.world.trace(APPENDED, to.node, wire.me, &answer);
                    let answered = decode::<Answer>(&answer);
                    if !matches!(answered, Ok((AppendReply::HigherVote(_), _))) {
                        wire.world.note(Fact::Answered { leader: wire.me, voter: to.node });
                    }
                    Ok(answer)
                }
            })
            .buffered(IN_FLIGHT)
            .boxed()
    }
}
