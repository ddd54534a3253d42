//! Row 16: connections that are reset, and ones that swallow everything without a word; when that is noticed, and that
//! neither counts as evidence that the process is gone.

use crate::cluster::{Cluster, for_condition};
use futures::StreamExt;
use hustings::core::election::boundary::PollQuestion;
use hustings::core::ids::{ClusterId, NodeId};
use hustings::node::transport::dialling::Dialler;
use hustings::node::transport::grpc_peers::GrpcPeers;
use hustings::node::transport::peers::{Dialled, Lane, PeerError, Peers, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Passes bytes on, both ways, until told to swallow them or to reset its connections.
struct Relay {
    address: String,
    swallows: Arc<AtomicBool>,
    resets: Arc<Notify>,
}

impl Relay {
    async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (swallows, resets) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (target, hole, reset) = (target.to_owned(), swallows.clone(), resets.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                tokio::spawn(carry(near, far, hole.clone(), reset.clone()));
            }
        });
        Relay { address, swallows, resets }
    }
}

async fn carry(near: TcpStream, far: TcpStream, hole: Arc<AtomicBool>, reset: Arc<Notify>) {
    // Closed with unread bytes or without lingering, a socket says RST.
    near.set_zero_linger().unwrap();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        biased;
        () = reset.notified() => {}
        () = pump(near_in, far_out, hole.clone()) => {}
        () = pump(far_in, near_out, hole) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    hole: Arc<AtomicBool>,
) {
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !hole.load(SeqCst) && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// A voter, the way to it through a relay, and another voter's end of the raft plane.
async fn behind_a_relay() -> (Cluster, Relay, Target, Arc<GrpcPeers>) {
    let cluster = Cluster::start(1).await;
    let node = cluster.leader().await;
    let relay = Relay::to(node.address()).await;
    let target = Target { node: node.id(), address: relay.address.clone() };
    let peers = Arc::new(GrpcPeers::new(NodeId(77), 8 << 20, Dialler::default()));
    let id = node.status().await.unwrap().cluster_id;
    peers.set_cluster(ClusterId::from_bytes(&id).unwrap());
    (cluster, relay, target, peers)
}

fn question() -> PollQuestion {
    PollQuestion {
        candidate: NodeId(77),
        suspect: NodeId(1),
        term: 1,
        last_log: (9, 9_999),
        score: 0.5,
        rank: 0,
        insistent: false,
    }
}

/// Ties a tether, breaks the way, and says how long the tether took to notice.
async fn time_of_notice(break_it: impl Fn(&Relay)) -> Duration {
    for _ in 0..20 {
        if let Some(noticed) = try_time_of_notice(&break_it).await {
            return noticed;
        }
    }
    panic!("no tether ever held")
}

/// `None`: the way broke before both lanes of the tether were tied, which nothing on this side shows.
async fn try_time_of_notice(break_it: impl Fn(&Relay)) -> Option<Duration> {
    let (_cluster, relay, target, peers) = behind_a_relay().await;
    let ttl = Duration::from_secs(2);
    let answer = peers.poll(&target, question(), ttl).await;
    assert!(answer.is_ok(), "{answer:?}");
    let tether = tokio::spawn(peers.tether(&target));
    // A stream of appends that waits for its answer, as replication does.
    let appends = peers.append(&target, Lane::Replication, futures::stream::pending().boxed());
    let appends = tokio::spawn(appends);
    for_condition("the tether to hold", async || {
        let answered = peers.poll(&target, question(), ttl).await.is_ok();
        (answered && !tether.is_finished()).then_some(())
    })
    .await;
    let clock = hustings::node::clock::Clock::start();
    let began = clock.now();
    break_it(&relay);
    // The end of a tether is a hint; what the port says counts, and it does not refuse.
    tether.await.unwrap().ok()?;
    let noticed = clock.now().since(began);
    assert_eq!(peers.dial(&target, Duration::from_millis(500)).await, Dialled::Accepted);
    let appended = appends.await.unwrap();
    assert!(appended.is_err(), "a stream that cannot be answered ends");
    Some(noticed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_noticed_by_keep_alive_and_is_no_evidence() {
    let noticed = time_of_notice(|relay| relay.swallows.store(true, SeqCst)).await;
    println!("figure: a black hole without RST was noticed after {noticed:?}");
    let (_cluster, relay, target, peers) = behind_a_relay().await;
    relay.swallows.store(true, SeqCst);
    let answer = peers.poll(&target, question(), Duration::from_millis(50)).await;
    assert!(matches!(answer, Err(PeerError::Unreachable { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_noticed_at_once_and_is_no_evidence() {
    let noticed = time_of_notice(|relay| relay.resets.notify_waiters()).await;
    println!("figure: a reset in mid-stream was noticed after {noticed:?}");
}
