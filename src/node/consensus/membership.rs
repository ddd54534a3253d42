//! Founding the group, replacing a voter, handing leadership over.

use super::{Consensus, MAX_VOTERS, Voter, stopped, voters_of};
use crate::core::cluster::command::Member;
use crate::core::election::RaftRole;
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use openraft::ChangeMembers;
use openraft::errors::{InitializeError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a handover may take before the caller is told that it failed.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a new voter may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

impl Consensus {
    /// Founds the group. Every founder may call this with the same `members`; a group that exists stays as it is.
    pub async fn found(&self, members: BTreeMap<NodeId, Member>) -> Result<()> {
        let refuse = |problem: String| Err(Error::InvalidPeers { problem });
        if members.is_empty() || members.len() > MAX_VOTERS {
            let count = members.len();
            return refuse(format!("{count} founders; give between 1 and {MAX_VOTERS} voters"));
        }
        let Some(mine) = members.get(&self.me) else {
            return refuse(format!("this node ({}) is not among the founders", self.me));
        };
        if mine.address != self.address {
            return refuse(format!(
                "the founders know this node as {}, but it listens on {}",
                mine.address, self.address
            ));
        }
        match self.raft.initialize(voters_of(&members)).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(stopped(error)),
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Hands leadership to `to`, or to the best live, caught-up other voter; returns once it has moved.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId> {
        let no = |detail: &str| Err(Error::NoQuorum { detail: detail.into() });
        let mut news = self.subscribe();
        let view = self.view();
        if view.role != RaftRole::Leader {
            return no("this node does not lead, so it cannot hand over; ask the leader");
        }
        let now = self.clock.now();
        let target = {
            let mut elector = self.elector();
            let target = to.or_else(|| elector.plan_handover(now));
            let known = target.filter(|node| *node != self.me && view.voters.contains_key(node));
            if let Some(node) = known {
                elector.start_handover(node, if to.is_some() { "asked for" } else { "drain" });
            }
            known
        };
        let Some(target) = target else {
            return no("no other live, caught-up voter can take over");
        };
        self.wake.notify_one();
        let moved = async {
            while self.view().leader == Some(self.me) || self.view().leader.is_none() {
                if !news.wait().await {
                    return;
                }
            }
        };
        if tokio::time::timeout(HANDOVER_TIMEOUT, moved).await.is_err() {
            return Err(Error::WaitTimeout {
                what: format!("{target} to take over"),
                waited: HANDOVER_TIMEOUT,
            });
        }
        self.view().leader.map_or_else(|| no("the new leader is not known yet"), Ok)
    }

    /// Notes in the log that voter `moved` listens elsewhere now. Only on the leader.
    pub async fn move_voter(&self, moved: Member) -> Result<()> {
        let voter = Voter { address: moved.address, name: moved.name };
        let change = ChangeMembers::SetNodes(BTreeMap::from([(moved.id.0, voter)]));
        self.raft.change_membership(change, true).await.map_err(stopped)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Makes `new` a voter, in the place of `old` if there is one. Only on the leader, one at a time; returns once
    /// the new group is committed.
    pub async fn replace_voter(&self, old: Option<NodeId>, new: Member) -> Result<()> {
        let Ok(_guard) = self.changing.try_lock() else {
            return Err(Error::NoQuorum {
                detail: "another voter is being replaced; try again when that is done".into(),
            });
        };
        let mut voters: BTreeSet<u64> = self.voters().keys().map(|id| id.0).collect();
        if let Some(old) = old {
            voters.remove(&old.0);
        }
        voters.insert(new.id.0);
        if voters.len() > MAX_VOTERS {
            let problem = format!("{} would be voter {} of {MAX_VOTERS}", new.name, voters.len());
            return Err(Error::InvalidPeers { problem: problem + "; replace one instead" });
        }
        let voter = Voter { address: new.address, name: new.name };
        let catch_up = self.raft.add_learner(new.id.0, voter, true);
        match tokio::time::timeout(CATCH_UP_TIMEOUT, catch_up).await {
            Ok(added) => added.map_err(stopped)?,
            Err(_) => {
                let what = format!("voter {} to catch up", new.id);
                return Err(Error::WaitTimeout { what, waited: CATCH_UP_TIMEOUT });
            }
        };
        let change = ChangeMembers::ReplaceAllVoters(voters);
        self.raft.change_membership(change, false).await.map_err(stopped)?;
        self.wake.notify_one();
        Ok(())
    }
}
