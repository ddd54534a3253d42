//! Row 33: two clusters with crossed addresses; no call of one does anything in the other, and each is counted.

use crate::cluster::{Cluster, PATIENCE, for_condition, options};
use futures::StreamExt;
use hustings::core::election::boundary::PollQuestion;
use hustings::core::election::lease::Told;
use hustings::core::ids::{ClusterId, NodeId};
use hustings::error::Error;
use hustings::node::proto::peer_service_client::PeerServiceClient;
use hustings::node::proto::{self, StatusResponse};
use hustings::node::shared::PROTOCOL;
use hustings::node::transport::dialling::Dialler;
use hustings::node::transport::grpc_peers::GrpcPeers;
use hustings::node::transport::peers::{Heartbeat, Lane, PeerError, Peers, Target};
use hustings::node::{Entry, Node, NodeOptions};
use std::time::Duration;
use tonic::Code;

const TTL: Duration = Duration::from_secs(5);

async fn status(node: &Node) -> StatusResponse {
    node.status().await.unwrap()
}

/// What no call of a stranger may change.
fn standing(status: &StatusResponse) -> (u64, u64, u64, u32, usize) {
    let StatusResponse { term, last_log_index, leader_node, voters, members, .. } = status;
    (*term, *last_log_index, *leader_node, *voters, members.len())
}

/// Heartbeats share a stream, so that the refusal is the answer to one of them.
async fn beat(peers: &GrpcPeers, target: &Target, beat: bytes::Bytes) -> Option<PeerError> {
    let requests = futures::stream::iter([beat]).boxed();
    match peers.append(target, Lane::Heartbeat, requests).await {
        Ok(mut answers) => answers.next().await?.err(),
        Err(error) => Some(error),
    }
}

/// Every call of the raft plane; each must be refused in words.
async fn call_all(peers: &GrpcPeers, target: &Target) -> usize {
    let bytes = bytes::Bytes::from_static(b"nonsense");
    let question = PollQuestion {
        candidate: NodeId(7),
        suspect: NodeId(8),
        term: 1 << 40,
        last_log: (1 << 40, 1 << 40),
        score: 1.0,
        rank: 0,
        insistent: true,
    };
    let told = Told { term: 1 << 40, leased: true, reachable: 3 };
    let heartbeat = Heartbeat { term: 1 << 40, table: Vec::new(), told };
    let pieces = Box::pin(futures::stream::iter([bytes.clone()]));
    let answers = [
        peers.request_vote(target, bytes.clone(), TTL).await.err(),
        peers.poll(target, question, TTL).await.err(),
        beat(peers, target, bytes.clone()).await,
        peers.install_snapshot(target, bytes.clone(), pieces, TTL).await.err(),
        peers.transfer_leader(target, bytes, TTL).await.err(),
        peers.heartbeat(target, heartbeat, TTL).await.err(),
        peers.tether(target).await.err(),
    ];
    for (i, answer) in answers.iter().enumerate() {
        assert!(matches!(answer, Some(PeerError::Refused { .. })), "call {i}: {answer:?}");
    }
    // A tether ties two connections, of which the first to be refused answers.
    answers.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_crosses_from_one_cluster_into_another() {
    let (x, y) = tokio::join!(Cluster::start(1), Cluster::start(1));
    let (mine, theirs) = (x.leader().await, y.leader().await);
    let before = standing(&status(&theirs).await);
    let cluster = |s: &StatusResponse| ClusterId::from_bytes(&s.cluster_id).unwrap();
    let (x_id, y_id) = (cluster(&status(&mine).await), cluster(&status(&theirs).await));
    let address = theirs.address().to_owned();

    // The right node of another cluster; then a node that has gone, at an address that was taken over.
    let foreign = GrpcPeers::new(mine.id(), 8 << 20, Dialler::default());
    foreign.set_cluster(x_id);
    let calls = call_all(&foreign, &Target { node: theirs.id(), address: address.clone() }).await;
    let late = GrpcPeers::new(mine.id(), 8 << 20, Dialler::default());
    late.set_cluster(y_id);
    call_all(&late, &Target { node: NodeId(99), address: address.clone() }).await;
    // Neither cluster nor node: what only a newcomer may leave open.
    let nobody = GrpcPeers::new(mine.id(), 8 << 20, Dialler::default());
    call_all(&nobody, &Target { node: theirs.id(), address: address.clone() }).await;
    call_all(&late, &Target { node: NodeId(0), address: address.clone() }).await;

    // The task plane and the way in.
    let envelope = |cluster: ClusterId, to: u64| proto::Envelope {
        cluster_id: bytes::Bytes::copy_from_slice(&cluster.to_bytes()),
        from_node: mine.id().0,
        to_node: to,
        ..Default::default()
    };
    let mut raw = PeerServiceClient::connect(format!("http://{address}")).await.unwrap();
    for head in [envelope(x_id, theirs.id().0), envelope(y_id, 99)] {
        let hello = proto::AssignTaskRequest {
            envelope: Some(head.clone()),
            term: 1 << 40,
            leader_address: mine.address().to_owned(),
            ..Default::default()
        };
        let opened = raw.assign_task(futures::stream::iter([hello])).await;
        assert_eq!(opened.unwrap_err().code(), Code::FailedPrecondition);
        let ask = proto::WorkRequestRequest { envelope: Some(head), ..Default::default() };
        assert_eq!(raw.work_request(ask).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    let me = status(&mine).await.me;
    let head = Some(envelope(x_id, 0));
    let join = proto::JoinRequest {
        envelope: head.clone(),
        me: me.clone(),
        protocol: PROTOCOL,
        ..Default::default()
    };
    let refused = raw.join(join).await.unwrap_err();
    assert!(refused.message().contains("check the addresses in --join"), "{refused}");
    let meet = proto::MeetRequest { envelope: head, me, protocol: PROTOCOL, ..Default::default() };
    assert_eq!(raw.meet(meet).await.unwrap_err().code(), Code::FailedPrecondition);

    let after = status(&theirs).await;
    assert_eq!(standing(&after), before, "a stranger's call did something");
    let counted = after.refusals.unwrap();
    let calls = calls as u64;
    assert!(counted.wrong_cluster >= 2 * calls + 4, "{counted:?}");
    assert!(counted.wrong_node >= 2 * calls + 2, "{counted:?}");
    println!("figure: crossed calls refused {counted:?}, applied 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_with_crossed_lists_found_nothing_and_say_why() {
    let mut nodes = Vec::new();
    for name in ["x1", "x2", "y1", "y2"] {
        nodes.push(Node::bind(options(name, 0.5)).await.unwrap());
    }
    let list = |of: [usize; 3]| of.map(|i| nodes[i].address().to_owned()).to_vec();
    for (node, founders) in
        [(0, list([0, 1, 2])), (1, list([0, 1, 2])), (2, list([2, 3, 0])), (3, list([2, 3, 0]))]
    {
        nodes[node].enter(Entry { founders, ..Entry::default() }).unwrap();
    }
    let mut refused = 0;
    for node in &nodes {
        // Those whose own list holds meet nobody who disagrees with them; they wait.
        match node.wait_ready(Duration::from_secs(1)).await {
            Err(Error::InvalidPeers { problem }) => {
                assert!(problem.contains("founders differ"), "{problem}");
                refused += 1;
            }
            Err(Error::WaitTimeout { .. }) => {}
            other => panic!("{other:?}"),
        }
        let status = status(node).await;
        assert_eq!((status.voters, status.last_log_index), (0, 0), "somebody founded something");
    }
    assert!(refused >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_another_cluster_took_over_belongs_to_that_cluster() {
    let (mut x, y) = tokio::join!(Cluster::start(3), Cluster::start(1));
    let leader = x.leader().await;
    let place = x.nodes.iter().position(|node| node.id() != leader.id()).unwrap();
    let lost = x.nodes.swap_remove(place);
    let address = lost.address().to_owned();
    lost.abort();
    let squatter = for_condition("the port to be free", async || {
        let made = NodeOptions { listen: address.clone(), ..options("squatter", 0.5) };
        Node::bind(made).await.ok()
    })
    .await;
    let join = vec![y.nodes[0].address().to_owned()];
    squatter.enter(Entry { join, ..Entry::default() }).unwrap();
    squatter.wait_ready(PATIENCE).await.unwrap();
    // The first cluster still calls its dead voter there, and is told each time that it is not.
    for_condition("calls that meant the dead voter", async || {
        let refusals = status(&squatter).await.refusals?;
        (refusals.wrong_node >= 10).then_some(())
    })
    .await;
    let (ours, theirs) = (status(&leader).await, status(&squatter).await);
    assert_ne!(ours.cluster_id, theirs.cluster_id);
    assert!(ours.members.iter().all(|m| m.member.as_ref().unwrap().name != "squatter"));
    assert_eq!(status(&y.nodes[0]).await.cluster_id, theirs.cluster_id);
    assert_eq!(theirs.term, status(&y.nodes[0]).await.term);
    assert_eq!(x.leader().await.id(), leader.id(), "two of three voters are a quorum");
}
