//! Disk and memory of a voter stay within their bounds however much goes through the log, and whoever was away
//! meanwhile is sent the state in pieces.

use super::fake_disk::FakeDisk;
use super::restarts::{ANYWHERE, accepted_everywhere, bind, on};
use crate::cluster::{Cluster, PATIENCE, for_condition, request};
use hustings::core::cluster::command::FunctionSource;
use hustings::node::client::{Client, Phase, TaskRequest};
use hustings::node::{Entry, NodeOptions};
use std::sync::Arc;

const LOG_BYTES: u64 = 64 << 10;
const PAYLOAD: usize = 4 << 10;

fn small(disk: &FakeDisk, name: &str, listen: &str) -> NodeOptions {
    let mut made = on(Arc::new(disk.clone()), name, listen);
    made.config.set("limits.log_bytes", LOG_BYTES as f64).unwrap();
    made
}

/// Tasks of some size that are accepted and cancelled: they fill the log and leave little in the state.
async fn churn(client: &Client, rounds: usize) -> u64 {
    let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let padding = "x".repeat(PAYLOAD);
    let payload: bytes::Bytes = format!(r#"{{"args":["{padding}"],"kwargs":{{}}}}"#).into();
    for _ in 0..rounds {
        let submit = |_| {
            let asked = TaskRequest { payload: payload.clone(), ..request("m:f", Some(hash)) };
            client.submit(asked, None).unwrap()
        };
        let handles: Vec<_> = (0..16).map(submit).collect();
        for handle in &handles {
            let accepted = async || (handle.phase() == Phase::Accepted).then_some(());
            for_condition("acceptance", accepted).await;
        }
        let ids: Vec<_> = handles.iter().map(|handle| handle.id()).collect();
        client.cancel(&ids, true, PATIENCE).await.unwrap();
    }
    16 * rounds as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_cut_by_bytes_and_a_voter_that_was_away_gets_the_state_in_pieces() {
    let disks = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
    let mut nodes = Vec::new();
    for (i, disk) in disks.iter().enumerate() {
        nodes.push(bind(|| small(disk, &format!("n{}", i + 1), ANYWHERE)).await);
    }
    let founders: Vec<String> = nodes.iter().map(|n| n.address().to_owned()).collect();
    for node in &nodes {
        node.enter(Entry { founders: founders.clone(), ..Entry::default() }).unwrap();
    }
    for node in &nodes {
        node.wait_ready(PATIENCE).await.unwrap();
    }
    let mut cluster = Cluster { nodes };
    let leader = cluster.leader().await;
    let away = cluster.nodes.iter().position(|node| node.id() != leader.id()).unwrap();
    let lost = cluster.nodes.remove(away);
    lost.abort();
    let client = cluster.client().await;
    // Ten megabytes go through a log of sixty-four kilobytes.
    let mut accepted = churn(&client, 160).await;
    accepted_everywhere(&cluster, accepted).await;
    for (_, disk) in disks.iter().enumerate().filter(|(i, _)| *i != away) {
        // The file grows where cutting is late, and shrinks with what is written later.
        for _ in 0..200 {
            if disk.bytes() < 64 * LOG_BYTES {
                break;
            }
            accepted += churn(&client, 1).await;
        }
        let (held, through) = (disk.bytes(), accepted * PAYLOAD as u64);
        println!("{held} bytes on disk after {through} through the log");
        assert!(held < 64 * LOG_BYTES, "{held} bytes on disk after {through} through the log");
    }
    let back = bind(|| small(&disks[away], lost.name(), ANYWHERE)).await;
    back.enter(Entry { founders: Vec::new(), join: cluster.addresses(), voter: true }).unwrap();
    back.wait_ready(PATIENCE).await.unwrap();
    assert_eq!(back.id(), lost.id());
    cluster.nodes.push(back);
    accepted_everywhere(&cluster, accepted).await;
    let names = disks[away].file_names();
    assert!(names.iter().any(|name| name.starts_with("snapshot-")), "{names:?}");
    client.close().await;
    // What was received as a snapshot is durable: it comes back with it alone. Of what came after it as log a node by
    // itself cannot know whether it was committed; the others tell.
    let again = cluster.nodes.pop().unwrap();
    again.abort();
    let again = bind(|| small(&disks[away], lost.name(), ANYWHERE)).await;
    let alone = again.status().await.unwrap().counters.unwrap().accepted;
    assert!((1..=accepted).contains(&alone), "{alone} of {accepted}");
    again.enter(Entry { founders: Vec::new(), join: cluster.addresses(), voter: true }).unwrap();
    cluster.nodes.push(again);
    accepted_everywhere(&cluster, accepted).await;
}
