//! Whole nodes over real loopback TCP, without Python: founding, joining, accepting, failing over, leaving.

use hustings::config::Config;
use hustings::core::cluster::command::{Codec, FunctionSource, Terms};
use hustings::core::ids::FunctionHash;
use hustings::core::load::{Load, Position};
use hustings::error::{Error, Result};
use hustings::node::client::{Client, ClientOptions, Handle, Phase, TaskRequest};
use hustings::node::proto::StatusResponse;
use hustings::node::sampler::LoadSource;
use hustings::node::shared::PROTOCOL;
use hustings::node::{Entry, Node, NodeOptions};
use std::sync::Arc;
use std::time::Duration;

/// No step of a test takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node that measures nothing.
pub fn options(name: &str, cpu: f64) -> NodeOptions {
    let load =
        Load { cpu_available: cpu, memory_available: 1.0, synthetic: true, ..Load::default() };
    NodeOptions {
        name: name.to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        advertise: None,
        clients: None,
        tls: None,
        enrolment: None,
        position: Position::default(),
        labels: Default::default(),
        resources: Default::default(),
        slots: 1,
        allow_pickle: false,
        threads: None,
        allow_faults: true,
        load: Some(LoadSource::constant(load).unwrap()),
        config: Config::profile("ci").unwrap(),
        may_vote: true,
        disk: None,
        // A runner that ends at once: every attempt is a crash, which exercises the whole way there and back.
        runner_argv: vec!["/bin/false".to_owned()],
        runner_env: Vec::new(),
        endpoints: Default::default(),
        otlp: None,
    }
}

/// Nodes of one cluster.
pub struct Cluster {
    /// All that were started.
    pub nodes: Vec<Arc<Node>>,
}

impl Cluster {
    /// `voters` founders, all ready.
    pub async fn start(voters: usize) -> Self {
        Cluster::found(voters, options).await
    }

    pub async fn found(voters: usize, options: impl Fn(&str, f64) -> NodeOptions) -> Self {
        let mut nodes = Vec::new();
        for i in 0..voters {
            let cpu = 0.1 + 0.2 * i as f64;
            nodes.push(Node::bind(options(&format!("n{}", i + 1), cpu)).await.unwrap());
        }
        let founders: Vec<String> = nodes.iter().map(|n| n.address().to_owned()).collect();
        for node in &nodes {
            node.enter(Entry { founders: founders.clone(), ..Entry::default() }).unwrap();
        }
        for node in &nodes {
            node.wait_ready(PATIENCE).await.unwrap();
        }
        Cluster { nodes }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().filter(|n| !n.is_stopped()).map(|n| n.address().to_owned()).collect()
    }

    /// A client of all of them.
    pub async fn client(&self) -> Client {
        Client::connect(&self.addresses(), ClientOptions::default()).await.unwrap()
    }

    /// Whoever leads with its quorum.
    pub async fn leader(&self) -> Arc<Node> {
        for_condition("a leader with its quorum's lease", async || {
            for node in self.nodes.iter().filter(|n| !n.is_stopped()) {
                if node.status().await.is_ok_and(|status| status.leader_ready) {
                    return Some(node.clone());
                }
            }
            None
        })
        .await
    }
}

/// Looks until there is something to see.
pub async fn for_condition<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, seen).await {
        Ok(seen) => seen,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

async fn outcome(handle: Arc<Handle>) -> Result<hustings::node::client::Settled> {
    let waiting = handle.clone();
    let settled = tokio::task::spawn_blocking(move || waiting.wait(PATIENCE)).await.unwrap();
    assert!(settled, "no outcome in time: {:?}", handle.phase());
    Ok(handle.settled().cloned().unwrap())
}

pub fn request(name: &str, hash: Option<FunctionHash>) -> TaskRequest {
    TaskRequest {
        name: name.into(),
        hash,
        codec: Codec::Json,
        blob: None,
        payload: bytes::Bytes::from_static(br#"{"args":[],"kwargs":{}}"#),
        retries: 0,
        timeout_ms: 0,
        backoff_ms: 0,
        priority: 5,
        terms: Terms::default(),
        claim: None,
        needs: None,
        idempotent: false,
        in_thread: false,
        trace: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_meet_elect_the_best_and_know_each_other() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for_condition("all nodes to agree", async || {
        let mut statuses: Vec<StatusResponse> = Vec::new();
        for node in &cluster.nodes {
            statuses.push(node.status().await.unwrap());
        }
        let agreed = statuses.iter().all(|s| {
            s.leader_node == leader.id().0
                && s.members.len() == 3
                && s.cluster_id == statuses[0].cluster_id
        });
        agreed.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_task_survives_the_leader_and_has_one_outcome() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let first = client.submit(request("m:f", Some(hash)), None).unwrap();
    // Three runner deaths are the crash budget.
    let settled = outcome(first).await.unwrap();
    assert!(format!("{settled:?}").contains("crash_budget"), "{settled:?}");
    let leader = cluster.leader().await;
    let handles: Vec<_> =
        (0..4).map(|_| client.submit(request("m:f", Some(hash)), None).unwrap()).collect();
    leader.abort();
    for handle in handles {
        let settled = outcome(handle).await.unwrap();
        assert!(format!("{settled:?}").contains("crash_budget"), "{settled:?}");
    }
    let status = cluster.leader().await.status().await.unwrap();
    let counters = status.counters.unwrap();
    assert_eq!((counters.accepted, counters.lost), (5, 5));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_node_joins_as_a_worker_and_an_unknown_function_is_refused_with_a_hint() {
    let cluster = Cluster::start(1).await;
    let worker = Node::bind(NodeOptions { may_vote: false, ..options("w1", 0.5) }).await.unwrap();
    worker.enter(Entry { join: cluster.addresses(), ..Entry::default() }).unwrap();
    worker.wait_ready(PATIENCE).await.unwrap();
    // Asked at the worker, answered by the leader.
    let through = ClientOptions { pinned: true, ..ClientOptions::default() };
    let client = Client::connect(&[worker.address().to_owned()], through).await.unwrap();
    let hash =
        client.function("app:resize", FunctionSource::Reference("app:resize".to_owned())).unwrap();
    outcome(client.submit(request("app:resize", Some(hash)), None).unwrap()).await.unwrap();
    let refused = outcome(client.submit(request("app:resise", None), None).unwrap()).await.unwrap();
    let text = format!("{refused:?}");
    assert!(text.contains("app:resize"), "{text}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_comes_back_takes_its_old_seat_under_a_new_id() {
    let mut cluster = Cluster::start(3).await;
    let lost = cluster.nodes.remove(2);
    let (address, old_id) = (lost.address().to_owned(), lost.id());
    let founders: Vec<String> = cluster.addresses().into_iter().chain([address.clone()]).collect();
    lost.abort();
    cluster.leader().await;
    let again = for_condition("the port to be free", async || {
        Node::bind(NodeOptions { listen: address.clone(), ..options("n3", 0.5) }).await.ok()
    })
    .await;
    again.enter(Entry { founders, ..Entry::default() }).unwrap();
    again.wait_ready(PATIENCE).await.unwrap();
    assert_ne!(again.id(), old_id);
    let leader = cluster.leader().await;
    for_condition("three reachable voters again", async || {
        let status = leader.status().await.ok()?;
        (status.voters == 3 && status.voters_reachable == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_leader_hands_over_first() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.status().await.unwrap().term;
    assert!(leader.stop(PATIENCE).await, "nothing was cut off");
    let next = cluster.leader().await;
    assert_ne!(next.id(), leader.id());
    assert!(next.status().await.unwrap().term > term);
    assert!(matches!(leader.status().await, Err(Error::Stopped { .. })));
}

/// Founders that the log reached before they had met all others knew no cluster by themselves: they take the word of
/// whoever writes into their log, or they would refuse each other once that one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_elect_another_leader_however_early_the_first_is_gone() {
    for _ in 0..3 {
        let mut nodes = Vec::new();
        for name in ["n1", "n2", "n3"] {
            nodes.push(Node::bind(options(name, 0.5)).await.unwrap());
        }
        // The least address founds.
        nodes.sort_by_key(|node| std::cmp::Reverse(node.address().to_owned()));
        let founders: Vec<String> = nodes.iter().map(|n| n.address().to_owned()).collect();
        let enter = |node: &Arc<Node>| {
            node.enter(Entry { founders: founders.clone(), ..Entry::default() }).unwrap();
        };
        nodes[..2].iter().for_each(enter);
        // They look around ever more rarely, and nothing tells how rarely: then the log reaches them first.
        tokio::time::sleep(Duration::from_millis(700)).await;
        enter(&nodes[2]);
        let cluster = Cluster { nodes };
        let first = cluster.leader().await;
        first.abort();
        let next = cluster.leader().await;
        assert_ne!(next.id(), first.id());
        cluster.nodes.iter().for_each(|node| node.abort());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_beginnings_have_their_own_errors() {
    let open =
        Node::bind(NodeOptions { listen: "0.0.0.0:0".to_owned(), ..options("a", 0.5) }).await;
    assert!(matches!(open, Err(Error::InsecureBind { .. })));
    let nowhere = NodeOptions { advertise: Some("10.0.0.1".to_owned()), ..options("a", 0.5) };
    assert!(matches!(Node::bind(nowhere).await, Err(Error::InvalidAddress { .. })));
    let everywhere = NodeOptions { advertise: Some("0.0.0.0:1".to_owned()), ..options("a", 0.5) };
    assert!(matches!(Node::bind(everywhere).await, Err(Error::InvalidAddress { .. })));
    let scheme = NodeOptions { listen: "http://127.0.0.1:1".to_owned(), ..options("a", 0.5) };
    assert!(matches!(Node::bind(scheme).await, Err(Error::InvalidAddress { .. })));
    let first = Node::bind(options("a", 0.5)).await.unwrap();
    let taken = NodeOptions { listen: first.address().to_owned(), ..options("b", 0.5) };
    assert!(matches!(Node::bind(taken).await, Err(Error::Bind { .. })));
    let without_me = Entry { founders: vec!["127.0.0.1:1".to_owned()], ..Entry::default() };
    assert!(matches!(first.enter(without_me), Err(Error::InvalidPeers { .. })));
    first.enter(Entry::default()).unwrap();
    first.wait_ready(PATIENCE).await.unwrap();
    // Another node by the same name.
    let twin = Node::bind(options("a", 0.5)).await.unwrap();
    let join = vec![first.address().to_owned()];
    twin.enter(Entry { join, ..Entry::default() }).unwrap();
    let refused = twin.wait_ready(PATIENCE).await;
    assert!(refused.as_ref().is_err_and(|e| e.to_string().contains("in use")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_crossed_by_a_wrong_address_do_not_mix() {
    let (one, two) = (Cluster::start(1).await, Cluster::start(1).await);
    let member = Node::bind(options("m", 0.5)).await.unwrap();
    member.enter(Entry { join: one.addresses(), ..Entry::default() }).unwrap();
    member.wait_ready(PATIENCE).await.unwrap();
    // The member of one asks the other to admit it: refused, and it stays where it is.
    let stray = hustings::node::proto::JoinRequest {
        envelope: Some(hustings::node::proto::Envelope {
            cluster_id: member.status().await.unwrap().cluster_id,
            from_node: member.id().0,
            to_node: 0,
            ..Default::default()
        }),
        ..Default::default()
    };
    let url = format!("http://{}", two.addresses()[0]);
    let mut peer =
        hustings::node::proto::peer_service_client::PeerServiceClient::connect(url).await.unwrap();
    let stray = hustings::node::proto::JoinRequest { protocol: PROTOCOL, ..stray };
    let refused = peer.join(stray).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("cluster"), "{}", refused.message());
    assert_eq!(two.nodes[0].status().await.unwrap().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_that_submits_a_finished_id_gets_its_outcome() {
    let cluster = Cluster::start(1).await;
    let first = cluster.client().await;
    let hash = first.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let handle = first.submit(request("m:f", Some(hash)), None).unwrap();
    let id = handle.id();
    outcome(handle).await.unwrap();
    let second = cluster.client().await;
    let hash = second.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let same = outcome(second.submit(request("m:f", Some(hash)), Some(id)).unwrap()).await.unwrap();
    assert!(format!("{same:?}").contains("crash_budget"), "{same:?}");
    let other = TaskRequest {
        payload: bytes::Bytes::from_static(br#"{"args":[1],"kwargs":{}}"#),
        ..request("m:f", Some(hash))
    };
    let third = cluster.client().await;
    third.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let conflict = outcome(third.submit(other, Some(id)).unwrap()).await.unwrap();
    assert!(format!("{conflict:?}").contains("IdConflict"), "{conflict:?}");
    let status = cluster.leader().await.status().await.unwrap();
    assert_eq!(status.counters.unwrap().accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_comes_back_after_the_log_was_cut_gets_a_snapshot() {
    let made = |name: &str, cpu: f64| {
        let mut options = options(name, cpu);
        options.config.set("limits.log_entries", 100.0).unwrap();
        // It never becomes a runner, so that nothing but the submissions fills the log.
        options.runner_argv = vec!["/bin/sleep".to_owned(), "1000".to_owned()];
        options
    };
    let mut cluster = Cluster::found(3, made).await;
    let client = cluster.client().await;
    let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    for _ in 0..250 {
        let handle = client.submit(request("m:f", Some(hash)), None).unwrap();
        for_condition("acceptance", async || (handle.phase() == Phase::Accepted).then_some(()))
            .await;
    }
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().position(|n| n.id() != leader.id()).unwrap();
    let lost = cluster.nodes.remove(follower);
    let (address, name) = (lost.address().to_owned(), lost.name().to_owned());
    let founders: Vec<String> = cluster.addresses().into_iter().chain([address.clone()]).collect();
    lost.abort();
    let again = for_condition("the port to be free", async || {
        Node::bind(NodeOptions { listen: address.clone(), ..made(&name, 0.5) }).await.ok()
    })
    .await;
    again.enter(Entry { founders, ..Entry::default() }).unwrap();
    for_condition("the whole state under a new id", async || {
        let status = again.status().await.ok()?;
        (status.counters?.accepted == 250 && status.voters == 3).then_some(())
    })
    .await;
    client.close().await;
}
