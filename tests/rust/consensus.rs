//! Real elections over loopback TCP: every node has a runtime of its own, so that dropping it is a kill and
//! blocking it is a freeze.

use hustings::config::Config;
use hustings::core::boundary::Change;
use hustings::core::cluster::command::{Batch, Command, FunctionRef, Member, TaskSpec};
use hustings::core::election::RaftRole;
use hustings::core::ids::{FunctionHash, LogIndex, NodeId, SessionId, TaskId, Term};
use hustings::core::load::Load;
use hustings::core::record::{Record, RecordKind};
use hustings::error::Error;
use hustings::node::clock::Clock;
use hustings::node::consensus::{Consensus, ConsensusOptions, Stores};
use hustings::node::proto;
use hustings::node::proto::peer_service_server::{PeerService, PeerServiceServer};
use hustings::node::transport::dialling::Dialler;
use hustings::node::transport::grpc_peers::GrpcPeers;
use hustings::node::transport::peers::Lane;
use hustings::node::transport::wire_raft;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

/// No step of a test takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const MESSAGE_BYTES: usize = 8 << 20;

type Stream<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

struct Service(Arc<Consensus>);

fn status(error: Error) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn request_vote(
        &self,
        request: Request<proto::RequestVoteRequest>,
    ) -> Result<Response<proto::RequestVoteResponse>, Status> {
        let raft = self.0.on_request_vote(request.into_inner().raft).await.map_err(status)?;
        Ok(Response::new(proto::RequestVoteResponse { raft }))
    }

    async fn poll(
        &self,
        request: Request<proto::PollRequest>,
    ) -> Result<Response<proto::PollResponse>, Status> {
        let answer = self.0.on_poll(&wire_raft::poll_question(request.get_ref()));
        let (term, answer) = answer.map_err(status)?;
        Ok(Response::new(wire_raft::poll_response(term, answer)))
    }

    type AppendStream = Stream<proto::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("empty"))?;
        let lane = if first.heartbeat { Lane::Heartbeat } else { Lane::Replication };
        let requests =
            futures::stream::iter([Ok(first)]).chain(requests).map(|message| match message {
                Ok(message) => Ok(message.raft),
                Err(status) => Err(Error::Consensus { problem: status.to_string() }),
            });
        let answers = self.0.on_append(lane, Box::pin(requests));
        let answers = answers.map(|raft| match raft {
            Ok(raft) => Ok(proto::AppendResponse { raft }),
            Err(error) => Err(status(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::InstallSnapshotRequest>>,
    ) -> Result<Response<proto::InstallSnapshotResponse>, Status> {
        let mut stream = request.into_inner();
        let head = stream.message().await?.ok_or_else(|| Status::invalid_argument("empty"))?;
        let pieces = stream.map(|piece| match piece {
            Ok(piece) => Ok(piece.data),
            Err(status) => Err(Error::Consensus { problem: status.to_string() }),
        });
        let raft = self.0.on_install_snapshot(head.raft, Box::pin(pieces)).await.map_err(status)?;
        Ok(Response::new(proto::InstallSnapshotResponse { raft }))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        let raft = self.0.on_transfer_leader(request.into_inner().raft).await.map_err(status)?;
        Ok(Response::new(proto::TransferLeaderResponse { raft }))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let reply = self.0.on_heartbeat(wire_raft::heartbeat(request.get_ref()));
        Ok(Response::new(wire_raft::heartbeat_response(&reply)))
    }

    type TetherStream = Stream<proto::TetherResponse>;

    async fn tether(
        &self,
        _request: Request<proto::TetherRequest>,
    ) -> Result<Response<Self::TetherStream>, Status> {
        Ok(Response::new(self.0.on_tether()))
    }

    async fn meet(
        &self,
        _: Request<proto::MeetRequest>,
    ) -> Result<Response<proto::MeetResponse>, Status> {
        Err(Status::unimplemented("meet"))
    }

    async fn join(
        &self,
        _: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        Err(Status::unimplemented("join"))
    }

    type AssignTaskStream = Stream<proto::AssignTaskResponse>;

    async fn assign_task(
        &self,
        _: Request<Streaming<proto::AssignTaskRequest>>,
    ) -> Result<Response<Self::AssignTaskStream>, Status> {
        Err(Status::unimplemented("assign_task"))
    }

    async fn work_request(
        &self,
        _: Request<proto::WorkRequestRequest>,
    ) -> Result<Response<proto::WorkRequestResponse>, Status> {
        Err(Status::unimplemented("work_request"))
    }
}

struct TestNode {
    member: Member,
    score: f64,
    consensus: Arc<Consensus>,
    runtime: Option<Runtime>,
    applied: Mutex<UnboundedReceiver<(LogIndex, Vec<Change>)>>,
}

/// A task that waits for ever: a mark in the log.
fn task(id: u128) -> TaskSpec {
    TaskSpec::new(
        TaskId(id),
        SessionId(1),
        FunctionRef { name: "mark".into(), hash: FunctionHash(1) },
    )
}

/// Whoever became leader, by term: what no test may see twice.
type Leaders = Arc<Mutex<BTreeMap<Term, BTreeSet<NodeId>>>>;

struct Group {
    nodes: BTreeMap<NodeId, TestNode>,
    leaders: Leaders,
    records: Records,
    wait: Runtime,
    written: u128,
    _machine: MutexGuard<'static, ()>,
}

fn start_node(
    profile: &str,
    id: u64,
    score: f64,
    leaders: &Leaders,
    records: &Records,
) -> TestNode {
    let config = Arc::new(Config::profile(profile).unwrap());
    let me = NodeId(id);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, applied) = unbounded_channel();
    let (leaders, records) = (leaders.clone(), records.clone());
    let (consensus, address) = runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let consensus = Consensus::start(ConsensusOptions {
            me,
            address: address.clone(),
            config,
            clock: Clock::start(),
            peers: Arc::new(GrpcPeers::new(me, MESSAGE_BYTES, Dialler::default())),
            stores: Stores::default(),
            records: Arc::new(move |record: Record| {
                if record.kind == RecordKind::BecameLeader {
                    leaders.lock().unwrap().entry(record.term).or_default().insert(me);
                }
                records.lock().unwrap().push((me, Clock::wall_us(), record));
            }),
            applied: sender,
        })
        .await
        .unwrap();
        let service = PeerServiceServer::new(Service(consensus.clone()))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        (consensus, address)
    });
    consensus.set_score(score, Load::default());
    let member =
        Member { id: me, name: format!("n{id}"), address, voter: true, ..Member::default() };
    TestNode { member, score, consensus, runtime: Some(runtime), applied: Mutex::new(applied) }
}

/// Who wrote which row, and when (microseconds of wall time).
type Records = Arc<Mutex<Vec<(NodeId, u64, Record)>>>;

/// One group at a time: on a machine with few cores the groups would starve each other.
static MACHINE: Mutex<()> = Mutex::new(());

impl Group {
    fn found(scores: &[f64]) -> Self {
        Group::found_as("ci", scores)
    }

    fn found_as(profile: &str, scores: &[f64]) -> Self {
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let (leaders, records) = (Leaders::default(), Records::default());
        let nodes = scores.iter().enumerate().map(|(i, score)| {
            let id = i as u64 + 1;
            (NodeId(id), start_node(profile, id, *score, &leaders, &records))
        });
        let nodes: BTreeMap<_, _> = nodes.collect();
        let wait = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let group = Group { nodes, leaders, records, wait, written: 0, _machine: machine };
        let members: BTreeMap<_, _> =
            group.nodes.iter().map(|(id, n)| (*id, n.member.clone())).collect();
        for node in group.nodes.values() {
            let found = node.consensus.found(members.clone());
            node.runtime.as_ref().unwrap().block_on(found).unwrap();
        }
        group
    }

    /// Waits until `condition` gives a value.
    fn until<T>(&self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let polled = async {
            loop {
                if let Some(value) = condition(self) {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let result = self.wait.block_on(async { tokio::time::timeout(PATIENCE, polled).await });
        result.unwrap_or_else(|_| {
            let views: Vec<_> = self.live().map(|(id, n)| (id, n.consensus.view())).collect();
            panic!("{what} did not happen\n{views:#?}\n{}", self.story())
        })
    }

    /// What the nodes wrote down, for a failure's text.
    fn story(&self) -> String {
        let mut story = String::new();
        for (node, at, r) in self.records.lock().unwrap().iter() {
            if r.kind != RecordKind::Scored {
                let (kind, by) = (r.kind.as_str(), node.0);
                let about = format!("t{} n{} rank {} {}", r.term, r.subject.0, r.rank, r.detail);
                story += &format!("{:>8} n{by} {kind} {about}\n", at % 100_000_000);
            }
        }
        story
    }

    fn live(&self) -> impl Iterator<Item = (NodeId, &TestNode)> {
        self.nodes.iter().filter(|(_, n)| n.runtime.is_some()).map(|(id, n)| (*id, n))
    }

    /// The one live node that leads and may dispatch.
    fn leader(&self) -> Option<(NodeId, Term)> {
        let mut ready = self.live().filter_map(|(id, n)| {
            let view = n.consensus.view();
            view.ready.then_some((id, view.term))
        });
        ready.next()
    }

    /// All live nodes follow the leader, hold its table with everybody alive caught up in it, and its whole log: a
    /// voter that lacks the last entry may rightly not be elected, however good its score.
    fn settle(&self) -> NodeId {
        self.until("agreement on leader and table", |group| {
            let (leader, term) = group.leader()?;
            let end = group.nodes[&leader].consensus.view().last_log;
            let agrees = |node: &TestNode| {
                let view = node.consensus.view();
                let table = node.consensus.table();
                (view.term, view.leader, view.last_log) == (term, Some(leader), end)
                    && group.live().all(|(id, other)| {
                        let row = table.iter().find(|row| row.node == id);
                        row.is_some_and(|r| r.caught_up && (r.score - other.score).abs() < 1e-9)
                    })
            };
            group.live().all(|(_, node)| agrees(node)).then_some(leader)
        })
    }

    /// Writes through `leader`; returns once a quorum holds it.
    fn write(&mut self, leader: NodeId) -> LogIndex {
        self.written += 1;
        let node = &self.nodes[&leader];
        let command = Command::Submit { spec: Arc::new(task(self.written)), to: None };
        let batch = Batch { at_ms: 1, commands: vec![command] };
        let term = node.consensus.view().term;
        let write = async { node.consensus.propose(term, batch).await.await };
        node.runtime
            .as_ref()
            .unwrap()
            .block_on(write)
            .unwrap_or_else(|lost| panic!("{lost}\n{}", self.story()))
    }

    fn kill(&mut self, id: NodeId) {
        let runtime = self.nodes.get_mut(&id).unwrap().runtime.take().unwrap();
        runtime.shutdown_background();
    }

    /// Stops everything that runs on `id` until the sender is dropped.
    fn freeze(&self, id: NodeId) -> Sender<()> {
        let (thaw, frozen) = channel::<()>();
        let (ready, is_ready) = channel();
        self.nodes[&id].runtime.as_ref().unwrap().spawn(async move {
            ready.send(()).unwrap();
            let _ = frozen.recv();
        });
        is_ready.recv().unwrap();
        thaw
    }

    fn best_but(&self, lost: &[NodeId]) -> NodeId {
        let others = self.live().filter(|(id, _)| !lost.contains(id));
        others.max_by(|a, b| a.1.score.total_cmp(&b.1.score)).unwrap().0
    }

    /// Every acknowledged write is in the state of every live node, once and in order.
    fn check_writes(&self) {
        for (id, node) in self.live() {
            let expected: Vec<u128> = (1..=self.written).collect();
            self.until(&format!("{id} to hold all {} writes", self.written), |_| {
                let state = node.consensus.state();
                let state = state.lock();
                let held: Vec<u128> = state.live().keys().map(|task| task.0).collect();
                assert!(held.len() <= expected.len(), "{held:?}");
                (held == expected).then_some(())
            });
        }
    }

    fn check_leaders(&self) {
        for (term, leaders) in self.leaders.lock().unwrap().iter() {
            assert_eq!(leaders.len(), 1, "term {term} had leaders {leaders:?}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(runtime) = node.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

fn check_failovers(scores: &[f64]) {
    let mut group = Group::found(scores);
    for _ in 0..(scores.len() - 1) / 2 {
        let leader = group.settle();
        for _ in 0..10 {
            group.write(leader);
        }
        assert_eq!(group.settle(), leader);
        let expected = group.best_but(&[leader]);
        group.kill(leader);
        let (winner, _) = group.until("a new leader", Group::leader);
        assert_eq!(winner, expected, "the best-scored live node wins\n{}", group.story());
        group.write(winner);
        group.check_writes();
    }
    group.check_leaders();
}

#[test]
fn three_nodes_elect_the_best_after_a_kill_and_lose_nothing() {
    check_failovers(&[0.5, 0.7, 0.6]);
}

#[test]
fn five_nodes_elect_the_best_after_two_kills_and_lose_nothing() {
    check_failovers(&[0.5, 0.9, 0.6, 0.8, 0.7]);
}

#[test]
fn plain_raft_elects_by_the_librarys_timers_alone() {
    let mut group = Group::found_as("raft", &[0.1, 0.9, 0.5]);
    let leader = group.settle();
    group.write(leader);
    assert_eq!(group.settle(), leader);
    group.kill(leader);
    let (winner, _) = group.until("a new leader", Group::leader);
    group.write(winner);
    group.check_writes();
    group.check_leaders();
    let ours = [RecordKind::Suspected, RecordKind::Polled, RecordKind::Campaigned];
    let records = group.records.lock().unwrap();
    assert!(records.iter().all(|(_, _, record)| !ours.contains(&record.kind)));
}

#[test]
fn a_frozen_leader_is_replaced_by_the_best_and_follows_when_it_thaws() {
    let mut group = Group::found(&[0.5, 0.7, 0.6]);
    let old = group.settle();
    group.write(old);
    assert_eq!(group.settle(), old);
    let expected = group.best_but(&[old]);
    let thaw = group.freeze(old);
    let (winner, term) = group.until("a new leader", |g| {
        let live = g.live().filter(|(id, _)| *id != old);
        let mut ready = live.filter(|(_, n)| n.consensus.view().ready);
        ready.next().map(|(id, n)| (id, n.consensus.view().term))
    });
    assert_eq!(winner, expected);
    group.write(winner);
    drop(thaw);
    group.until("the thawed leader to follow", |g| {
        let view = g.nodes[&old].consensus.view();
        (view.role == RaftRole::Follower && view.leader == Some(winner)).then_some(())
    });
    assert_eq!(group.nodes[&winner].consensus.view().term, term, "thawing costs no election");
    group.check_writes();
    group.check_leaders();
}

#[test]
fn a_handover_goes_to_the_best_and_a_stale_proposal_is_refused() {
    let mut group = Group::found(&[0.5, 0.9, 0.7]);
    let old = group.settle();
    let index = group.write(old);
    assert_eq!(group.settle(), old);
    let old_term = group.nodes[&old].consensus.view().term;
    let expected = group.best_but(&[old]);
    let node = &group.nodes[&old];
    let moved = node.runtime.as_ref().unwrap().block_on(node.consensus.transfer_leader(None));
    assert_eq!(moved.unwrap(), expected);
    let (winner, _) = group.until("the new leader to be ready", Group::leader);
    assert_eq!(winner, expected);
    for id in [old, winner] {
        let node = &group.nodes[&id];
        let refused = async { node.consensus.propose(old_term, Batch::default()).await.await };
        let refused = node.runtime.as_ref().unwrap().block_on(refused);
        assert!(refused.is_err(), "{id} took a proposal of an old term");
    }
    assert!(group.write(winner) > index);
    group.check_writes();
    group.check_leaders();
}

/// A handover to `to`, which cannot take over; returns who leads then.
fn hand_over_in_vain(group: &mut Group, from: NodeId, to: NodeId) -> (NodeId, Term) {
    let term = group.nodes[&from].consensus.view().term;
    let consensus = group.nodes[&from].consensus.clone();
    let asked = group.nodes[&from]
        .runtime
        .as_ref()
        .unwrap()
        .spawn(async move { consensus.transfer_leader(Some(to)).await });
    let next = group.until("a leader of a newer term", |g| {
        let ready = g.live().filter(|(id, _)| *id != to).find(|(_, n)| n.consensus.view().ready);
        ready.map(|(id, n)| (id, n.consensus.view().term)).filter(|(_, newer)| *newer > term)
    });
    let told = group.wait.block_on(asked).unwrap();
    assert_eq!(told.is_ok(), next.0 != from, "{told:?}");
    let records = group.records.lock().unwrap();
    let at = |kind, term| {
        let rows = records.iter().rev();
        rows.filter(|(_, _, r)| r.kind == kind && r.term == term).map(|(_, at, _)| *at).min()
    };
    let begun = at(RecordKind::HandoverStarted, term).unwrap();
    let ended = at(RecordKind::BecameLeader, next.1).unwrap();
    println!("{from} could not hand over to {to}; {} us without a leader", ended - begun);
    next
}

#[test]
fn a_handover_to_a_frozen_or_dead_voter_is_repaired_by_the_next_best_and_loses_nothing() {
    for dead in [false, true] {
        let mut group = Group::found(&[0.5, 0.9, 0.7, 0.6, 0.8]);
        let old = group.settle();
        group.write(old);
        assert_eq!(group.settle(), old);
        let target = group.best_but(&[old]);
        let expected = group.best_but(&[old, target]);
        let thaw = (!dead).then(|| group.freeze(target));
        if dead {
            group.kill(target);
        }
        let (winner, term) = hand_over_in_vain(&mut group, old, target);
        assert_eq!(winner, expected, "{}", group.story());
        group.write(winner);
        drop(thaw);
        group.until("all to follow", |g| {
            let follows = |n: &TestNode| n.consensus.view().leader == Some(winner);
            g.live().all(|(_, n)| follows(n)).then_some(())
        });
        assert_eq!(group.nodes[&winner].consensus.view().term, term, "thawing costs no election");
        group.check_writes();
        group.check_leaders();
    }
}

#[test]
fn a_leader_that_finds_no_other_leads_again_in_a_newer_term() {
    let mut group = Group::found(&[0.5, 0.9, 0.7]);
    let old = group.settle();
    let (first, second) = {
        let first = group.best_but(&[old]);
        (first, group.best_but(&[old, first]))
    };
    // So that the old leader knows `first` as one that does not take over.
    let thaw = group.freeze(first);
    assert_eq!(hand_over_in_vain(&mut group, old, first).0, second);
    drop(thaw);
    assert_eq!(group.settle(), second);
    let node = &group.nodes[&second];
    let back = node.runtime.as_ref().unwrap().block_on(node.consensus.transfer_leader(Some(old)));
    assert_eq!(back.unwrap(), old);
    assert_eq!(group.settle(), old);
    group.write(old);
    assert_eq!(group.settle(), old);
    let thaw = group.freeze(second);
    assert_eq!(hand_over_in_vain(&mut group, old, second).0, old, "{}", group.story());
    group.write(old);
    drop(thaw);
    assert_eq!(group.settle(), old);
    group.check_writes();
    group.check_leaders();
}

#[test]
fn proposals_enter_the_log_in_the_order_they_were_made_and_are_told_in_it() {
    let group = Group::found(&[0.5]);
    let leader = group.settle();
    let node = &group.nodes[&leader];
    let term = node.consensus.view().term;
    let runtime = node.runtime.as_ref().unwrap();
    let indexes: Vec<LogIndex> = runtime.block_on(async {
        let mut proposals = Vec::new();
        for n in 0..500 {
            let commands = vec![Command::Cancel { task: TaskId(n) }];
            proposals.push(node.consensus.propose(term, Batch { at_ms: 1, commands }).await);
        }
        let mut indexes = Vec::new();
        for proposal in proposals {
            indexes.push(proposal.await.unwrap());
        }
        indexes
    });
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    let mut applied = node.applied.lock().unwrap();
    let mut told = Vec::new();
    while let Ok((index, _)) = applied.try_recv() {
        told.push(index);
    }
    assert!(told.ends_with(&indexes));
    let many = vec![Command::Cancel { task: TaskId(1) }; (1 << 16) + 1];
    let refused = runtime.block_on(async {
        node.consensus.propose(term, Batch { at_ms: 1, commands: many }).await.await
    });
    assert!(refused.unwrap_err().reason.contains("65536"));
}

#[test]
fn a_lost_voter_is_replaced_and_the_new_one_counts() {
    let mut group = Group::found(&[0.7, 0.5, 0.6]);
    let leader = group.settle();
    group.write(leader);
    let lost = *group.nodes.keys().find(|id| **id != leader).unwrap();
    group.kill(lost);
    let new = start_node("ci", 9, 0.8, &group.leaders, &group.records);
    let id = new.member.id;
    let member = Member { name: group.nodes[&lost].member.name.clone(), ..new.member.clone() };
    group.nodes.insert(id, new);
    let node = &group.nodes[&leader];
    let odd = node.runtime.as_ref().unwrap().block_on(node.consensus.seat(member)).unwrap();
    assert_eq!(odd, None, "three voters are odd");
    assert_eq!(group.settle(), leader);
    assert!(!node.consensus.voters().contains_key(&lost));
    group.check_writes();
    assert_eq!(group.settle(), leader);
    group.kill(leader);
    let (winner, _) = group.until("a new leader", Group::leader);
    assert_eq!(winner, id, "the new voter is the best\n{}", group.story());
    group.check_leaders();
}

#[test]
fn a_founders_list_that_cannot_be_right_is_refused_with_the_reason() {
    let node = start_node("ci", 1, 0.5, &Leaders::default(), &Records::default());
    let runtime = node.runtime.as_ref().unwrap();
    let refused = |members: Vec<Member>| {
        let members = members.into_iter().map(|m| (m.id, m)).collect();
        runtime.block_on(node.consensus.found(members)).unwrap_err().to_string()
    };
    assert!(refused(vec![]).contains("between 1 and 7"));
    let other = Member { id: NodeId(2), ..node.member.clone() };
    assert!(refused(vec![other]).contains("not among the founders"));
    let elsewhere = Member { address: "127.0.0.1:1".into(), ..node.member.clone() };
    assert!(refused(vec![elsewhere]).contains("127.0.0.1:1"));
    node.runtime.unwrap().shutdown_background();
}
