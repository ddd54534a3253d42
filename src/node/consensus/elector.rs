//! The election loop: wakes the core's elector in time and performs what it decides.

use super::Consensus;
use super::types::{TypeConfig, Vote};
use crate::core::Moment;
use crate::core::election::RaftRole;
use crate::core::election::boundary::{ElectionEffect, PollQuestion};
use crate::core::election::lease::Told;
use crate::core::election::ranking::RankEntry;
use crate::core::ids::{NodeId, Term};
use crate::node::transport::peers::{Dialled, Heartbeat, Target};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use openraft::errors::Fatal;
use openraft::raft::VoteRequest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a table's answer may take.
const HEARTBEAT_TTL: Duration = Duration::from_millis(200);
/// A broken tether is tied again after this, doubling up to the second figure.
const RETIE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// A dying process may still accept for a moment, so its port is dialled more than once.
const DIALS: u32 = 5;
const DIAL_EVERY: Duration = Duration::from_millis(1);
const DIAL_TTL: Duration = Duration::from_millis(20);
/// A leader looks this often whether it may dispatch yet.
const UNREADY_TICK: Duration = Duration::from_millis(5);

/// What runs beside the loop: at most one heartbeat, one tether and one doubt per peer.
#[derive(Default)]
pub(super) struct InFlight {
    heartbeats: Mutex<BTreeSet<NodeId>>,
    tethers: Mutex<BTreeMap<Target, JoinHandle<()>>>,
    doubted: Mutex<BTreeSet<NodeId>>,
}

impl InFlight {
    pub(super) fn abort_tethers(&self) {
        for (_, tether) in std::mem::take(&mut *lock(&self.tethers)) {
            tether.abort();
        }
    }
}

// Sets of ids: whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Consensus {
    pub(super) async fn run_elector(self: Arc<Self>) {
        let mut server = self.raft.server_metrics();
        loop {
            let now = self.clock.now();
            self.observe_raft();
            let table = self.elector().take_table(now);
            if let Some((term, table)) = table {
                self.broadcast_table(term, &table);
            }
            let effects = self.elector().tick(now);
            for effect in effects {
                self.perform(effect).await;
            }
            self.publish_view();
            self.tie_tethers();
            let due = self.next_tick(now);
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                alive = server.wait() => if !alive {
                    self.stopping.store(true, SeqCst);
                    self.publish_view();
                    return;
                },
                () = self.progress.new_term.notified() => {}
                () = self.news.notified() => self.elector().on_news(),
                () = tokio::time::sleep_until(self.clock.instant(due)) => {}
            }
        }
    }

    /// When the loop must run again, at the latest.
    fn next_tick(&self, now: Moment) -> Moment {
        let due = self.elector().next_tick().unwrap_or(now);
        let leads = self.raft_view().role == RaftRole::Leader;
        if !leads {
            return due;
        }
        let ready = self.views.value().ready;
        let look = match ready {
            true => self.lease_end().filter(|end| *end > now),
            false => Some(now.after(UNREADY_TICK)),
        };
        look.map_or(due, |look| due.min(look))
    }

    /// Beats while this node leads. Not in the election loop, so that no decision delays a heartbeat.
    pub(super) async fn run_heart(self: Arc<Self>) {
        let mut server = self.raft.server_metrics();
        loop {
            let leads = server.value().state == ServerState::Leader;
            if !leads {
                if !server.wait().await {
                    return;
                }
                continue;
            }
            if self.raft.trigger().heartbeat().await.is_err() {
                return;
            }
            self.clock.sleep(self.config.election.heartbeat).await;
        }
    }

    async fn perform(self: &Arc<Self>, effect: ElectionEffect) {
        // An error means that the library has stopped; the loop ends with its metrics.
        let _ = match effect {
            ElectionEffect::Poll(question, spared) => {
                let poll = tokio::spawn(self.clone().poll_voters(question, spared));
                self.keep(poll);
                Ok(())
            }
            ElectionEffect::Campaign => self.raft.trigger().elect(false).await,
            ElectionEffect::TransferLeader { to } => {
                self.raft.trigger().transfer_leader(to.0).await
            }
            ElectionEffect::Reclaim { from } => self.reclaim(from).await,
            ElectionEffect::EnableLibraryElections(on) => {
                self.raft.runtime_config().elect(on);
                self.raft.runtime_config().tick(on);
                Ok(())
            }
            ElectionEffect::Record(record) => {
                (self.records)(record);
                Ok(())
            }
        };
    }

    /// The library lets go of a leadership only for another's newer vote. So this node votes for the one that should
    /// have taken over, which need not know of it, and then stands for election itself: that costs one term more.
    async fn reclaim(&self, from: NodeId) -> Result<(), Fatal<TypeConfig>> {
        let (term, last_log_id) = {
            let metrics = self.raft.server_metrics();
            let last_log = self.raft.data_metrics().value().last_log;
            (metrics.value().vote.leader_id().term + 1, last_log)
        };
        let vote = Vote::new(term, from.0);
        let request = VoteRequest { vote, last_log_id, leadership_transfer: true };
        match self.raft.vote(request).await {
            Ok(_) => self.raft.trigger().elect(false).await,
            // It has stopped.
            Err(_) => Ok(()),
        }
    }

    fn others(&self) -> Vec<Target> {
        let target =
            |(node, voter): (NodeId, super::Voter)| Target { node, address: voter.address };
        self.voters().into_iter().filter(|(node, _)| *node != self.me).map(target).collect()
    }

    /// Asks all voters but the spared one at once, and closes the poll as soon as it is decided.
    async fn poll_voters(self: Arc<Self>, question: PollQuestion, spared: Option<NodeId>) {
        let ttl = self.elector().poll_ttl();
        let mut asked = FuturesUnordered::new();
        for target in self.others().into_iter().filter(|t| Some(t.node) != spared) {
            let answer = self.peers.poll(&target, question.clone(), ttl);
            asked.push(async move { (target.node, answer.await) });
        }
        let mut answers = Vec::new();
        while let Some((node, answer)) = asked.next().await {
            if let Ok((_, answer)) = answer {
                answers.push((node, answer));
            }
            if self.elector().is_poll_decided(&answers) {
                break;
            }
        }
        self.observe_raft();
        let now = self.clock.now();
        self.elector().on_poll_closed(now, &answers);
        self.wake.notify_one();
    }

    fn broadcast_table(self: &Arc<Self>, term: Term, table: &[RankEntry]) {
        let reachable = self.reachable_voters() as u32;
        let told = Told { term, leased: self.may_dispatch(), reachable };
        for target in self.others() {
            if !lock(&self.in_flight.heartbeats).insert(target.node) {
                continue;
            }
            let heartbeat = Heartbeat { term, table: table.to_vec(), told };
            let begun = self.clock.now();
            let answer = self.peers.heartbeat(&target, heartbeat, HEARTBEAT_TTL);
            let this = self.clone();
            let asking = tokio::spawn(async move {
                let answer = answer.await;
                lock(&this.in_flight.heartbeats).remove(&target.node);
                if let Ok(reply) = answer {
                    this.note_round_trip(begun);
                    this.observe_raft();
                    let now = this.clock.now();
                    let (score, log) = (reply.score, reply.last_log);
                    if this.elector().on_peer_score(now, target.node, score, log) {
                        this.wake.notify_one();
                    }
                }
            });
            self.keep(asking);
        }
    }

    /// Holds one tether to every other voter, and to nobody else.
    fn tie_tethers(self: &Arc<Self>) {
        let wanted = self.others();
        let mut tethers = lock(&self.in_flight.tethers);
        if tethers.len() == wanted.len() && wanted.iter().all(|t| tethers.contains_key(t)) {
            return;
        }
        tethers.retain(|target, tether| {
            let keep = wanted.contains(target);
            if !keep {
                tether.abort();
            }
            keep
        });
        for target in wanted {
            let tether = || tokio::spawn(self.clone().hold_tether(target.clone()));
            tethers.entry(target.clone()).or_insert_with(tether);
        }
    }

    async fn hold_tether(self: Arc<Self>, target: Target) {
        let mut wait = RETIE.0;
        loop {
            let held = self.peers.tether(&target).await.is_ok();
            self.doubt(&target).await;
            wait = if held { RETIE.0 } else { (wait * 2).min(RETIE.1) };
            self.clock.sleep(wait).await;
        }
    }

    /// A stream from `node` broke: look into it, beside the caller.
    pub(super) fn doubt_later(self: Arc<Self>, node: NodeId) {
        let Some(target) = self.others().into_iter().find(|t| t.node == node) else { return };
        let this = self.clone();
        let doubting = tokio::spawn(async move { this.doubt(&target).await });
        self.keep(doubting);
    }

    /// A broken stream is a hint only. If it leads to the leader, its port tells whether the process is gone.
    async fn doubt(&self, target: &Target) {
        if self.elector().watched() != Some(target.node)
            || !lock(&self.in_flight.doubted).insert(target.node)
        {
            return;
        }
        for _ in 0..DIALS {
            if self.peers.dial(target, DIAL_TTL).await == Dialled::Refused {
                let now = self.clock.now();
                self.elector().on_connection_evidence(now, target.node);
                self.wake.notify_one();
                break;
            }
            self.clock.sleep(DIAL_EVERY).await;
        }
        lock(&self.in_flight.doubted).remove(&target.node);
    }
}
