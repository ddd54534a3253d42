//! Founding the group, giving and taking seats in it, handing leadership over. What is safe the core decides.

use super::types::TypeConfig;
use super::{Consensus, Voter, stopped, voters_of};
use crate::core::cluster::command::Member;
use crate::core::election::RaftRole;
use crate::core::election::membership::{Group, MAX_VOTERS, Plan, Refusal, Seat};
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a handover may take before the caller is told that it failed.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a new voter may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// A new voter that answers nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(2);
const SILENCE_LOOKS: u32 = 10;
/// How long a new group may take to be committed; past that nobody knows whether it will be.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

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
                let why = if to.is_some() { "asked for" } else { "drain" };
                elector.start_handover(now, node, why);
            }
            known
        };
        let Some(target) = target else {
            return no("no other live, caught-up voter can take over");
        };
        self.wake.notify_one();
        let moved = async {
            // The next term with a leader ends it, whoever that is.
            while self.view().term == view.term || self.view().leader.is_none() {
                if !news.wait().await {
                    return;
                }
            }
        };
        if tokio::time::timeout(self.clock.stretch(HANDOVER_TIMEOUT), moved).await.is_err() {
            return Err(Error::WaitTimeout {
                what: format!("{target} to take over"),
                waited: HANDOVER_TIMEOUT,
            });
        }
        match self.view().leader {
            Some(leader) if leader != self.me => Ok(leader),
            Some(_) => {
                no("nobody took over, so this node leads on; look whether the other voters live")
            }
            None => no("the new leader is not known yet"),
        }
    }

    /// Notes in the log that voter `moved` listens elsewhere now. Only on the leader, one change at a time.
    pub async fn move_voter(&self, moved: Member) -> Result<()> {
        let _guard = self.begin_change().await?;
        let voter = Voter { address: moved.address, name: moved.name };
        let change = ChangeMembers::SetNodes(BTreeMap::from([(moved.id.0, voter)]));
        let change = self.raft.change_membership(change, true);
        match tokio::time::timeout(self.clock.stretch(CHANGE_TIMEOUT), change).await {
            Ok(done) => done.map_err(changed)?,
            Err(_) => {
                let what = format!("the new address of {} to be committed", moved.id);
                return Err(Error::WaitTimeout { what, waited: CHANGE_TIMEOUT });
            }
        };
        self.wake.notify_one();
        Ok(())
    }

    /// Gives `new` a voter's seat, that of its predecessor if it had one. Only on the leader, one change at a time;
    /// returns once the new group is committed, with what is odd about it.
    pub async fn seat(&self, new: Member) -> Result<Option<String>> {
        let _guard = self.begin_change().await?;
        let seat = Seat { name: new.name.clone(), address: new.address.clone() };
        let Some(plan) = self.group().plan_seat(new.id, &seat).map_err(refused)? else {
            return Ok(None);
        };
        let voter = Voter { address: new.address, name: new.name };
        let catch_up = self.catch_up(new.id, voter);
        let late = |waited| {
            let what = format!("voter {} to catch up", new.id);
            Error::WaitTimeout { what, waited }
        };
        let caught_up = tokio::select! {
            biased;
            added = catch_up => match added {
                Ok(()) => self.change(plan.voters).await,
                Err(error) => Err(error),
            },
            () = self.falls_silent(new.id) => Err(late(SILENCE)),
            () = self.clock.sleep(CATCH_UP_TIMEOUT) => Err(late(CATCH_UP_TIMEOUT)),
        };
        if caught_up.is_err() && !self.voters().contains_key(&new.id) {
            // It goes on without a vote, and need not be sent the log.
            let leave = ChangeMembers::RemoveNodes(BTreeSet::from([new.id.0]));
            let left = self.raft.change_membership(leave, true);
            let _ = tokio::time::timeout(self.clock.stretch(CHANGE_TIMEOUT), left).await;
        }
        caught_up.map(|()| plan.warning)
    }

    /// Takes the voter's seat of `node`, if it has one. Only on the leader, which must hand over before it goes itself.
    pub async fn unseat(&self, node: NodeId) -> Result<Option<String>> {
        let _guard = self.begin_change().await?;
        let Some(plan) = self.group().plan_unseat(node).map_err(refused)? else { return Ok(None) };
        if plan.hand_over {
            let detail = "the leader must hand over before it goes".to_owned();
            return Err(Error::NoQuorum { detail });
        }
        self.change(plan.voters).await?;
        Ok(plan.warning)
    }

    /// What removing `node` would mean, without doing it.
    pub fn plan_unseat(&self, node: NodeId) -> Result<Option<Plan>> {
        self.group().plan_unseat(node).map_err(refused)
    }

    /// Whether `new` could have a voter's seat: `Err` only for what will not pass by waiting.
    pub fn check_seat(&self, new: &Member) -> Result<()> {
        let seat = Seat { name: new.name.clone(), address: new.address.clone() };
        match self.group().plan_seat(new.id, &seat) {
            Err(refusal @ Refusal::TooMany { .. }) => Err(refused(refusal)),
            _ => Ok(()),
        }
    }

    /// Returns once `node` has answered nothing for [`SILENCE`]: whoever waits for it holds all other changes up.
    async fn falls_silent(&self, node: NodeId) {
        let silence = self.clock.stretch(SILENCE);
        let mut unheard = Duration::ZERO;
        while unheard < silence {
            let look = silence / SILENCE_LOOKS;
            tokio::time::sleep(look).await;
            let metrics = self.raft.data_metrics();
            let answered = metrics.value().heartbeat.as_ref().and_then(|all| *all.get(&node.0)?);
            unheard = match answered {
                Some(at) if at.elapsed() < silence => Duration::ZERO,
                _ => unheard + look,
            };
        }
    }

    fn group(&self) -> Group {
        let now = self.clock.now();
        let seat = |voter: Voter| Seat { name: voter.name, address: voter.address };
        Group {
            leader: self.me,
            voters: self.voters().into_iter().map(|(id, voter)| (id, seat(voter))).collect(),
            reachable: self.elector().answering(now),
        }
    }

    /// One change at a time, and only while a quorum still answers: a leader that was cut off plans for a group that
    /// may have moved on without it.
    async fn begin_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let Ok(guard) = self.changing.try_lock() else { return Err(in_progress()) };
        self.confirm().await?;
        Ok(guard)
    }

    /// Sends `new` the log until it holds the very entry that made it a learner. The library would count a node that it
    /// never reached as caught up while the log is short.
    async fn catch_up(&self, new: NodeId, voter: Voter) -> Result<()> {
        let added = self.raft.add_learner(new.0, voter, false).await.map_err(changed)?;
        let mut news = self.raft.data_metrics();
        loop {
            let held = {
                let metrics = news.value();
                let Some(replication) = &metrics.replication else {
                    let detail = "this node does not lead (any more)".to_owned();
                    return Err(Error::NoQuorum { detail });
                };
                replication.get(&new.0).cloned().flatten()
            };
            if held.is_some_and(|held| held.index() >= added.log_id.index()) {
                return Ok(());
            }
            if !news.wait().await {
                return Err(Error::Stopped { what: "consensus".into() });
            }
        }
    }

    async fn change(&self, voters: BTreeSet<NodeId>) -> Result<()> {
        let voters = voters.into_iter().map(|voter| voter.0).collect();
        let change = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false);
        match tokio::time::timeout(self.clock.stretch(CHANGE_TIMEOUT), change).await {
            Ok(done) => {
                done.map_err(changed)?;
            }
            Err(_) => {
                let what = "the new group of voters to be committed".to_owned();
                return Err(Error::WaitTimeout { what, waited: CHANGE_TIMEOUT });
            }
        }
        self.wake.notify_one();
        Ok(())
    }
}

fn in_progress() -> Error {
    let detail = "a voter is being seated or removed".to_owned();
    Error::MembershipChangeInProgress { detail }
}

/// The core's refusal as what a caller can act on.
fn refused(refusal: Refusal) -> Error {
    let problem = refusal.to_string();
    match refusal {
        Refusal::LastVoter { .. } | Refusal::NoMajorityAfter { .. } => {
            Error::UnsafeMembershipChange { problem }
        }
        Refusal::NoMajorityNow { .. } => Error::NoQuorum { detail: problem },
        Refusal::TooMany { .. } => Error::config("voter", problem),
    }
}

/// The library's refusal as what a caller can act on.
fn changed(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    use ChangeMembershipError::InProgress;
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(InProgress(_))) => {
            in_progress()
        }
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            Error::NoQuorum { detail: "this node does not lead (any more)".into() }
        }
        other => stopped(other),
    }
}
