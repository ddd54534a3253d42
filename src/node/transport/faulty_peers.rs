//! The raft plane through the gate: requests come late, are lost, or wait; a partition is silence and never evidence.

use super::gate::{Gate, RECHECK};
use super::peers::{AppendReplies, Dialled, Heartbeat, HeartbeatReply, Lane};
use super::peers::{PeerError, Peers, Reply, Target};
use crate::core::election::boundary::{PollAnswer, PollQuestion};
use crate::core::ids::Term;
use crate::node::faults::Passage;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the first word of a stream may wait until the stream counts as not opened, as a dial would.
const OPEN: Duration = Duration::from_millis(200);

/// Other peers behind a gate.
pub struct FaultyPeers<P> {
    inner: Arc<P>,
    gate: Gate,
}

impl<P: Peers> FaultyPeers<P> {
    /// `inner`, as far as `gate` lets it through.
    pub fn new(inner: Arc<P>, gate: Gate) -> Self {
        FaultyPeers { inner, gate }
    }

    /// A request and its answer within `ttl`. What is under way arrives, also when its sender no longer waits for it.
    fn ask<T: Send + 'static>(
        &self,
        to: &Target,
        ttl: Duration,
        call: impl FnOnce(&P, &Target) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        let delay = match self.gate.passage(to.node) {
            Passage::After(delay) if delay.is_zero() => return call(&self.inner, to),
            Passage::After(delay) => delay,
            Passage::Lost => return silence(to, ttl),
        };
        let Some(permit) = self.gate.late_permit() else { return silence(to, ttl) };
        let (inner, to) = (self.inner.clone(), to.clone());
        let late = silence(&to, ttl);
        async move {
            let (told, answer) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let answer = call(&inner, &to).await;
                drop(permit);
                // Nobody may be waiting any more.
                let _ = told.send(answer);
            });
            tokio::select! {
                biased;
                Ok(answer) = answer => answer,
                silence = late => silence,
            }
        }
        .boxed()
    }
}

fn silence<T: Send + 'static>(to: &Target, ttl: Duration) -> Reply<T> {
    let address = to.address.clone();
    async move {
        tokio::time::sleep(ttl).await;
        Err(PeerError::Unreachable { address, reason: format!("no answer within {ttl:?}") })
    }
    .boxed()
}

impl<P: Peers> Peers for FaultyPeers<P> {
    fn request_vote(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        self.ask(to, ttl, move |inner, to| inner.request_vote(to, raft, ttl))
    }

    fn poll(
        &self,
        to: &Target,
        question: PollQuestion,
        ttl: Duration,
    ) -> Reply<(Term, PollAnswer)> {
        self.ask(to, ttl, move |inner, to| inner.poll(to, question, ttl))
    }

    fn append(
        &self,
        to: &Target,
        lane: Lane,
        requests: BoxStream<'static, Bytes>,
    ) -> Reply<AppendReplies> {
        if self.gate.is_quiet() {
            // Faults may be set while it is open.
            let requests = self.gate.spoken(to.node, requests).boxed();
            return self.inner.append(to, lane, requests);
        }
        match lane {
            // One message, whose sender waits no longer than one interval: it goes on without it.
            Lane::Heartbeat => {
                self.ask(to, OPEN, move |inner, to| inner.append(to, lane, requests))
            }
            Lane::Replication => {
                let (inner, gate, to) = (self.inner.clone(), self.gate.clone(), to.clone());
                let shut = silence(&to, OPEN);
                async move {
                    if gate.is_mute(to.node) {
                        return shut.await;
                    }
                    let requests = gate.spoken(to.node, requests).boxed();
                    inner.append(&to, lane, requests).await
                }
                .boxed()
            }
        }
    }

    fn install_snapshot(
        &self,
        to: &Target,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
        ttl: Duration,
    ) -> Reply<Bytes> {
        self.ask(to, ttl, move |inner, to| inner.install_snapshot(to, header, pieces, ttl))
    }

    fn transfer_leader(&self, to: &Target, raft: Bytes, ttl: Duration) -> Reply<Bytes> {
        self.ask(to, ttl, move |inner, to| inner.transfer_leader(to, raft, ttl))
    }

    fn heartbeat(&self, to: &Target, heartbeat: Heartbeat, ttl: Duration) -> Reply<HeartbeatReply> {
        self.ask(to, ttl, move |inner, to| inner.heartbeat(to, heartbeat, ttl))
    }

    /// One that is tied stays tied through any partition; one that is not waits for its end.
    fn tether(&self, to: &Target) -> Reply<()> {
        if self.gate.is_quiet() {
            return self.inner.tether(to);
        }
        let (inner, gate, to) = (self.inner.clone(), self.gate.clone(), to.clone());
        async move {
            while gate.is_cut(to.node) {
                tokio::time::sleep(RECHECK).await;
            }
            inner.tether(&to).await
        }
        .boxed()
    }

    fn dial(&self, to: &Target, ttl: Duration) -> BoxFuture<'static, Dialled> {
        if self.gate.is_quiet() {
            return self.inner.dial(to, ttl);
        }
        let (passage, cut) = (self.gate.passage(to.node), self.gate.is_cut(to.node));
        let (inner, to) = (self.inner.clone(), to.clone());
        async move {
            match passage {
                Passage::After(delay) if !cut && delay < ttl => {
                    tokio::time::sleep(delay).await;
                    inner.dial(&to, ttl - delay).await
                }
                _ => {
                    tokio::time::sleep(ttl).await;
                    Dialled::Silent
                }
            }
        }
        .boxed()
    }
}
