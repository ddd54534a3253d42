//! Makes the voter of a stopped node's directory the only one, where a majority of the voters is lost for ever.
//!
//! Its log gets one more entry, a configuration of this node alone, in a term of its own. Whatever the log holds before
//! it is committed by that, although a majority may never have had it; what the log lacks is gone, although a majority
//! may have confirmed it. So the cluster gets a new id, which voters of before and their copies do not have: should one
//! come back, it is refused, instead of outvoting this node with a history of its own.

use super::disk::Disk;
use super::engine::{Change, Engine};
use super::health::Health;
use super::{Identity, check_joint, failed, identity::IDENTITY, shelf};
use crate::core::ids::{ClusterId, LogIndex, NodeId, Term};
use crate::error::{Error, Result};
use crate::node::consensus::types::{Entry, LogId, Vote, Voter, position};
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

/// What a stopped voter's directory says of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Whose directory it is.
    pub node: NodeId,
    /// The term of the last entry of its log.
    pub term: Term,
    /// The index of that entry.
    pub last: LogIndex,
    /// All voters as its log knows them, itself included.
    pub voters: BTreeMap<NodeId, Voter>,
}

/// Reads what `disk` holds and changes nothing of it.
pub fn examine(disk: &Arc<dyn Disk>) -> Result<Survivor> {
    Stopped::open(disk.as_ref()).map(|stopped| stopped.survivor)
}

/// Makes the node of `disk` the only voter. `named` must be the id of the cluster, so that nobody does it to a
/// directory that was not looked at. Returns what the directory says now.
pub fn force(disk: &Arc<dyn Disk>, named: ClusterId) -> Result<Survivor> {
    let disk = disk.as_ref();
    let Stopped { mut engine, identity, survivor, vote, last, covered, lock } =
        Stopped::open(disk)?;
    if named != survivor.cluster {
        let (path, known) = (disk.path(""), survivor.cluster);
        let problem = format!("{named} is not the cluster of {path}, which is {known}");
        return Err(Error::config("cluster", problem));
    }
    let me = survivor.node;
    let term = position(last.as_ref()).0.max(vote.map_or(0, |vote| vote.leader_id().term)) + 1;
    // First the id: a directory with the new id and the old voters only waits for a majority, and can be forced again.
    let identity = Identity { cluster: Some(next_id(survivor.cluster, me, term)), ..identity };
    identity.write(disk).map_err(|error| failed(disk, IDENTITY, &error))?;
    let mine: BTreeMap<u64, Voter> = survivor
        .voters
        .iter()
        .filter(|(id, _)| **id == me)
        .map(|(id, v)| (id.0, v.clone()))
        .collect();
    let alone = Membership::new(vec![BTreeSet::from([me.0])], mine)
        .map_err(|error| Error::Consensus { problem: error.to_string() })?;
    let at = LogId::new(
        LeaderId::<u64, u64>::new(term, me.0).to_committed(),
        position(last.as_ref()).1 + 1,
    );
    // A snapshot that was taken over just before the end may reach further than the log: then the log begins behind it.
    let gap = covered.map(Change::Purge);
    let entry = Change::Append(vec![Entry::new_membership(at, alone)]);
    engine.commit(gap.iter().chain([&Change::Vote(Vote::new(term, me.0)), &entry]))?;
    drop(engine);
    drop(lock);
    Stopped::open(disk).map(|stopped| stopped.survivor)
}

/// An open directory whose node does not run.
struct Stopped {
    engine: Engine,
    identity: Identity,
    survivor: Survivor,
    vote: Option<Vote>,
    /// The end of what the log and the snapshot hold.
    last: Option<LogId>,
    /// The end of the snapshot, where it lies behind that of the log.
    covered: Option<LogId>,
    lock: Box<dyn Debug + Send + Sync>,
}

impl Stopped {
    fn open(disk: &dyn Disk) -> Result<Stopped> {
        let refuse =
            |problem: &str| Error::Storage { path: disk.path(""), problem: problem.into() };
        // Looked for first, since to lock a folder that is none makes it.
        let Some(identity) = Identity::read(disk)? else {
            return Err(refuse("it is no data directory; give the data_dir of a voter"));
        };
        let lock = disk.lock()?;
        let Some(cluster) = identity.cluster else {
            return Err(refuse(
                "its node never belonged to a cluster; there is nothing to go on with",
            ));
        };
        let (engine, log) = Engine::open(disk, identity.store, &Arc::new(Health::default()))?;
        let snapshot = shelf::newest(disk, identity.store)?.map(|(meta, _)| meta);
        check_joint(disk, &log, snapshot.as_ref())?;
        let told = log.entries.iter().rev().find_map(|entry| match &entry.payload {
            EntryPayload::Membership(membership) => Some(membership),
            _ => None,
        });
        let kept = snapshot.as_ref().map(|meta| meta.last_membership.membership());
        let voters = told.or(kept).map(voters_of).unwrap_or_default();
        if !voters.contains_key(&identity.node) {
            return Err(refuse("its node is no voter; give the data_dir of a voter"));
        }
        let end = log.entries.last().map(|entry| entry.log_id).or(log.purged);
        let covered = snapshot.and_then(|meta| meta.last_log_id).filter(|id| Some(*id) > end);
        let last = end.max(covered);
        let (term, index) = position(last.as_ref());
        let survivor = Survivor { cluster, node: identity.node, term, last: index, voters };
        Ok(Stopped { engine, identity, survivor, vote: log.vote, last, covered, lock })
    }
}

fn voters_of(membership: &Membership<u64, Voter>) -> BTreeMap<NodeId, Voter> {
    let known = |id| Some((NodeId(id), membership.get_node(&id)?.clone()));
    membership.voter_ids().filter_map(known).collect()
}

/// Told by nobody else: neither an older id of this cluster nor what another survivor would get.
fn next_id(cluster: ClusterId, node: NodeId, term: Term) -> ClusterId {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&cluster.to_bytes());
    hasher.update(&node.to_bytes());
    hasher.update(&term.to_be_bytes());
    ClusterId(hasher.digest128())
}
