//! Nodes with data directories are killed and come back: the same ids, the same cluster, every task that was accepted.

use super::Scratch;
use super::fake_disk::{FakeDisk, Fault};
use crate::cluster::{Cluster, PATIENCE, for_condition, options, request};
use hustings::core::cluster::command::FunctionSource;
use hustings::error::Error;
use hustings::node::client::{Client, Phase};
use hustings::node::storage::disk::Disk;
use hustings::node::{Entry, Node, NodeOptions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A node that runs nothing, so that what is submitted waits for ever.
pub fn on(disk: Arc<dyn Disk>, name: &str, listen: &str) -> NodeOptions {
    let mut made = options(name, 0.5);
    made.listen = listen.to_owned();
    made.disk = Some(disk);
    made.runner_argv = vec!["/bin/sleep".to_owned(), "1000".to_owned()];
    made
}

pub const ANYWHERE: &str = "127.0.0.1:0";

pub async fn start(disks: &[FakeDisk], places: &[String]) -> Cluster {
    let mut nodes = Vec::new();
    for (i, (disk, place)) in disks.iter().zip(places).enumerate() {
        nodes.push(bind(|| on(Arc::new(disk.clone()), &format!("n{}", i + 1), place)).await);
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

/// A node that was just aborted may be closing its port and its disk still.
pub async fn bind(made: impl Fn() -> NodeOptions) -> Arc<Node> {
    let bound = for_condition("port and disk", async || match Node::bind(made()).await {
        Err(Error::Bind { .. } | Error::DataDirLocked { .. }) => None,
        bound => Some(bound),
    });
    bound.await.unwrap()
}

fn anywhere() -> Vec<String> {
    vec![ANYWHERE.to_owned(); 3]
}

pub async fn accept(client: &Client, count: usize) {
    let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    for _ in 0..count {
        let handle = client.submit(request("m:f", Some(hash)), None).unwrap();
        let accepted = async || (handle.phase() == Phase::Accepted).then_some(());
        for_condition("acceptance", accepted).await;
    }
}

pub async fn accepted_everywhere(cluster: &Cluster, count: u64) {
    for node in &cluster.nodes {
        for_condition("every accepted task", async || {
            let counters = node.status().await.ok()?.counters?;
            (counters.accepted == count).then_some(())
        })
        .await;
    }
}

fn ids(cluster: &Cluster) -> BTreeSet<u64> {
    cluster.nodes.iter().map(|node| node.id().0).collect()
}

async fn cluster_id(cluster: &Cluster) -> bytes::Bytes {
    cluster.nodes[0].status().await.unwrap().cluster_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_voters_die_at_once_and_the_cluster_goes_on_also_at_other_addresses() {
    let disks = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
    let mut cluster = start(&disks, &anywhere()).await;
    let (identities, id) = (ids(&cluster), cluster_id(&cluster).await);
    let mut accepted = 0;
    let mut term = 0;
    for round in 0..4 {
        let client = cluster.client().await;
        accept(&client, 20).await;
        accepted += 20;
        let status = cluster.leader().await.status().await.unwrap();
        assert!(status.term >= term, "terms never go back");
        term = status.term;
        let places = match round % 2 {
            0 => cluster.nodes.iter().map(|node| node.address().to_owned()).collect(),
            _ => anywhere(),
        };
        // While they die tasks are on their way that nobody has accepted.
        let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
        let handles: Vec<_> =
            (0..50).map(|_| client.submit(request("m:f", Some(hash)), None).unwrap()).collect();
        for node in &cluster.nodes {
            node.abort();
        }
        drop(handles);
        client.close().await;
        cluster = start(&disks, &places).await;
        assert_eq!(ids(&cluster), identities, "a node that comes back with its data keeps its id");
        assert_eq!(cluster_id(&cluster).await, id);
        let status = cluster.leader().await.status().await.unwrap();
        assert_eq!(status.voters, 3);
        // Some of the fifty may have been in the log; a client would have asked for them again.
        let now = status.counters.unwrap().accepted;
        assert!((accepted..=accepted + 50).contains(&now), "{now} of at least {accepted}");
        accepted = now;
        accepted_everywhere(&cluster, accepted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_and_a_node_that_joined_resume_as_well() {
    let (first, second) = (FakeDisk::default(), FakeDisk::default());
    let found = |disk: &FakeDisk, name: &str| on(Arc::new(disk.clone()), name, ANYWHERE);
    for round in 1..=3 {
        let one = bind(|| found(&first, "one")).await;
        assert_eq!(one.is_founded(), round > 1);
        one.enter(Entry::default()).unwrap();
        one.wait_ready(PATIENCE).await.unwrap();
        let two = bind(|| found(&second, "two")).await;
        let join = vec![one.address().to_owned()];
        two.enter(Entry { join, ..Entry::default() }).unwrap();
        two.wait_ready(PATIENCE).await.unwrap();
        let cluster = Cluster { nodes: vec![one, two] };
        accept(&cluster.client().await, 5).await;
        accepted_everywhere(&Cluster { nodes: cluster.nodes[..1].to_vec() }, 5 * round).await;
        let status = cluster.nodes[0].status().await.unwrap();
        assert_eq!((status.members.len(), status.voters), (2, 1), "no node is known twice");
        for node in cluster.nodes.iter().rev() {
            node.stop(std::time::Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_data_directory_is_refused_while_the_node_lives_and_an_old_one_for_ever() {
    let disks = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
    let cluster = start(&disks, &anywhere()).await;
    accept(&cluster.client().await, 3).await;
    let copy = disks[0].copy();
    let entry = || Entry { join: cluster.addresses(), ..Entry::default() };
    let twin = Node::bind(on(Arc::new(copy.copy()), "n1", ANYWHERE)).await.unwrap();
    twin.enter(entry()).unwrap();
    let error = twin.wait_ready(PATIENCE).await.unwrap_err();
    let refused = matches!(error, Error::NodeIdInUse { .. } | Error::IncarnationMismatch { .. });
    assert!(refused, "{error}");
    for_condition("the twin to end", async || twin.is_stopped().then_some(())).await;
    // The node itself is started again; then its old copy is started in its place.
    let place = cluster.nodes[0].address().to_owned();
    cluster.nodes[0].abort();
    let again = bind(|| on(Arc::new(disks[0].clone()), "n1", &place)).await;
    again.enter(entry()).unwrap();
    again.wait_ready(PATIENCE).await.unwrap();
    again.abort();
    let stale = copy.copy();
    for start in 1..=3 {
        let old = bind(|| on(Arc::new(stale.clone()), "n1", &place)).await;
        old.enter(entry()).unwrap();
        // The leader dials it, so it may be ready for a moment, but it is not let to stay; not at a later start either.
        for_condition("the old copy to be refused", async || old.failure().map(|_| ())).await;
        let refused = matches!(old.failure(), Some(Error::IncarnationMismatch { .. }));
        assert!(refused, "start {start}: {:?}", old.failure());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_directory_under_an_old_name_is_a_new_node_and_another_clusters_is_refused() {
    let disks = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
    let cluster = start(&disks, &anywhere()).await;
    accept(&cluster.client().await, 3).await;
    let founders: Vec<String> = cluster.addresses();
    let (place, old) = (cluster.nodes[2].address().to_owned(), cluster.nodes[2].id());
    cluster.nodes[2].abort();
    let fresh = bind(|| on(Arc::new(FakeDisk::default()), "n3", &place)).await;
    fresh.enter(Entry { founders, ..Entry::default() }).unwrap();
    fresh.wait_ready(PATIENCE).await.unwrap();
    assert_ne!(fresh.id(), old);
    for_condition("the seat and the whole state", async || {
        let status = fresh.status().await.ok()?;
        (status.counters?.accepted == 3 && status.voters == 3).then_some(())
    })
    .await;
    let other = FakeDisk::default();
    let stranger = Node::bind(on(Arc::new(other.clone()), "x", ANYWHERE)).await.unwrap();
    stranger.enter(Entry::default()).unwrap();
    stranger.wait_ready(PATIENCE).await.unwrap();
    stranger.stop(std::time::Duration::from_millis(1)).await;
    let lost = bind(|| on(Arc::new(other.clone()), "y", ANYWHERE)).await;
    let join = cluster.nodes[..2].iter().map(|node| node.address().to_owned()).collect();
    lost.enter(Entry { join, ..Entry::default() }).unwrap();
    // It may lead its own cluster before it hears so; it never becomes a member of the other.
    if let Err(error) = lost.wait_ready(PATIENCE).await {
        assert!(error.to_string().contains("belongs to cluster"), "{error}");
    }
    let members = cluster.nodes[0].status().await.unwrap().members;
    assert_eq!(members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_fails_ends_with_that_error_and_the_others_go_on() {
    for fault in [Fault::FailedSync(0), Fault::FailedWrite(0), Fault::Full(0)] {
        let disks = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
        let mut cluster = start(&disks, &anywhere()).await;
        let client = cluster.client().await;
        accept(&client, 5).await;
        let leader = cluster.leader().await;
        let failing = cluster.nodes.iter().position(|n| n.id() == leader.id()).unwrap();
        disks[failing].set_fault(Some(fault));
        accept(&client, 5).await;
        for_condition("the node to end", async || leader.is_stopped().then_some(())).await;
        assert!(matches!(leader.failure(), Some(Error::Storage { .. })), "{:?}", leader.failure());
        let told = leader.status().await.unwrap_err().to_string();
        assert!(told.starts_with("storage fake/"), "{told}");
        assert_eq!(disks[failing].written_after_failure(), 0);
        cluster.nodes.remove(failing);
        accept(&client, 5).await;
        accepted_everywhere(&cluster, 15).await;
        // Room was made, or the disk was replaced by one with its content: it comes back.
        disks[failing].set_fault(None);
        let back = Node::bind(on(Arc::new(disks[failing].copy()), "back", ANYWHERE)).await.unwrap();
        back.enter(Entry { join: cluster.addresses(), ..Entry::default() }).unwrap();
        back.wait_ready(PATIENCE).await.unwrap();
        assert_eq!(back.id(), leader.id());
        accepted_everywhere(&Cluster { nodes: vec![back] }, 15).await;
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_folder_serves_a_node_again_and_again() {
    let scratch = Scratch::new();
    let mut id = None;
    for round in 1..=4 {
        let node = bind(|| on(scratch.disk("data"), "n", ANYWHERE)).await;
        node.enter(Entry::default()).unwrap();
        node.wait_ready(PATIENCE).await.unwrap();
        assert_eq!(*id.get_or_insert(node.id()), node.id());
        let cluster = Cluster { nodes: vec![node.clone()] };
        accept(&cluster.client().await, 5).await;
        accepted_everywhere(&cluster, 5 * round).await;
        match round % 2 {
            0 => node.abort(),
            _ => drop(node.stop(std::time::Duration::from_millis(1)).await),
        }
    }
}
