//! Where a majority of the voters is lost for ever, one that is left can be made the only one, offline and by name.

use super::Scratch;
use super::fake_disk::FakeDisk;
use super::restarts::{ANYWHERE, accept, accepted_everywhere, bind, on, start};
use crate::cluster::{Cluster, PATIENCE, for_condition};
use hustings::core::ids::ClusterId;
use hustings::error::Error;
use hustings::node::storage::alone::{examine, force};
use hustings::node::storage::disk::Disk;
use hustings::node::{Entry, Node};
use std::sync::Arc;

/// Node `name` on `disk`, ready, or why it is not.
async fn run(disk: &Arc<dyn Disk>, name: &str, entry: Entry) -> Result<Arc<Node>, Error> {
    let node = bind(|| on(disk.clone(), name, ANYWHERE)).await;
    node.enter(entry).unwrap();
    let ready = node.wait_ready(PATIENCE).await;
    ready.inspect_err(|_| node.abort()).map(|()| node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_voter_left_goes_on_with_every_task_and_an_old_one_cannot_come_back() {
    let fakes = [FakeDisk::default(), FakeDisk::default(), FakeDisk::default()];
    let disks = fakes.clone().map(|disk| Arc::new(disk) as Arc<dyn Disk>);
    let cluster = start(&fakes, &vec![ANYWHERE.to_owned(); 3]).await;
    accept(&cluster.client().await, 20).await;
    accepted_everywhere(&cluster, 20).await;
    let locked = examine(&disks[0]).unwrap_err();
    assert!(matches!(locked, Error::DataDirLocked { .. }), "{locked}");
    cluster.nodes.iter().for_each(|node| node.abort());
    let before = for_condition("the lock", async || examine(&disks[0]).ok()).await;
    assert_eq!(before.voters.len(), 3);
    let other = force(&disks[0], ClusterId(7)).unwrap_err().to_string();
    assert!(other.contains("cluster: ") && other.contains(&before.cluster.to_string()), "{other}");
    assert_eq!(examine(&disks[0]).unwrap(), before, "it was only looked at so far");

    let after = force(&disks[0], before.cluster).unwrap();
    assert_eq!(after.voters.keys().collect::<Vec<_>>(), [&before.node]);
    assert!(
        after.term > before.term
            && after.last == before.last + 1
            && after.cluster != before.cluster
    );
    assert!(force(&disks[0], before.cluster).is_err(), "what has happened does not happen again");

    let node = run(&disks[0], "n1", Entry::default()).await.unwrap();
    let mut cluster = Cluster { nodes: vec![node.clone()] };
    accepted_everywhere(&cluster, 20).await;
    accept(&cluster.client().await, 5).await;
    let status = node.status().await.unwrap();
    assert_eq!((status.voters, status.voters_reachable), (1, 1));
    assert_eq!(ClusterId::from_bytes(&status.cluster_id), Some(after.cluster));

    let join = Entry { join: vec![node.address().to_owned()], voter: true, ..Entry::default() };
    // It hears why from the only voter, and also knocks where voters were before; either may be the last it says.
    assert!(run(&disks[1], "n2", join.clone()).await.is_err());
    let theirs = for_condition("the lock", async || examine(&disks[1]).ok()).await;
    assert_eq!(theirs.cluster, before.cluster);
    assert_eq!(node.status().await.unwrap().voters, 1);
    let fresh = Arc::new(FakeDisk::default()) as Arc<dyn Disk>;
    let fresh = run(&fresh, "n4", join).await.unwrap();
    cluster.nodes.push(fresh);
    accepted_everywhere(&cluster, 25).await;
}

#[test]
fn a_folder_that_is_no_voters_is_refused_and_not_made() {
    let scratch = Scratch::new();
    let none = scratch.disk("none") as Arc<dyn Disk>;
    let refused = examine(&none).unwrap_err().to_string();
    assert!(refused.contains("it is no data directory"), "{refused}");
    assert!(!scratch.path("none").exists());
}
