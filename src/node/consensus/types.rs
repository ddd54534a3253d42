//! openraft's types, filled in: what an entry holds, what a node is called, which runtime it runs on.

use super::runtime::Runtime;
use crate::core::cluster::command::Batch;
use crate::core::ids::{LogIndex, Term};
use openraft::alias;
use serde::{Deserialize, Serialize};

/// A member of the Raft group as its configuration stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Where it listens.
    pub address: String,
    /// Its name, for people.
    pub name: String,
}

/// What applying an entry returns to its proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Where the entry stands in the log.
    pub index: LogIndex,
}

// The standard leader id, one leader per term: fencing tokens rely on it.
openraft::declare_raft_types!(
    /// Our openraft.
    pub TypeConfig:
        D = Batch,
        R = Applied,
        NodeId = u64,
        Node = Voter,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// An entry of the log.
pub type Entry = alias::EntryOf<TypeConfig>;
/// Term, candidate, and whether a quorum granted it.
pub type Vote = alias::VoteOf<TypeConfig>;
/// Term and index of an entry.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// A configuration of the Raft group and the entry that set it.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot: its cover and the encoded state.
pub type Snapshot = alias::SnapshotOf<TypeConfig, super::snapshots::SnapshotData>;
/// The library's handle.
pub type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;

/// (term, index) of `id`, (0, 0) before the first entry.
pub fn position(id: Option<&LogId>) -> (Term, LogIndex) {
    id.map_or((0, 0), |id| (id.committed_leader_id().term, id.index()))
}
