//! What this node knows about the group right now, and the news of it.

use super::types::{TypeConfig, position};
use super::{Consensus, Voter, watch};
use crate::core::Moment;
use crate::core::election::lease::may_dispatch;
use crate::core::election::{RaftRole, RaftView};
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::error::{Error, Result};
use crate::node::shared::Whereabouts;
use openraft::metrics::RaftDataMetrics;
use openraft::{Instant, ReadPolicy, ServerState};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// How long a quorum may take to confirm that this node leads.
const CONFIRM: Duration = Duration::from_millis(400);

/// One moment of the group, as seen from here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The highest term known.
    pub term: Term,
    /// What this node is in it.
    pub role: RaftRole,
    /// Who leads it, if known.
    pub leader: Option<NodeId>,
    /// Whom this node voted for in it, if anybody; a candidate and a leader voted for themselves.
    pub voted_for: Option<NodeId>,
    /// Where the leader listens; empty if unknown.
    pub leader_address: String,
    /// This node leads, has applied its own first entry, and a quorum answered within the lease: it may dispatch.
    pub ready: bool,
    /// The voters.
    pub voters: BTreeMap<NodeId, Voter>,
    /// The end of this node's log: (term, index).
    pub last_log: (Term, LogIndex),
    /// The last entry applied here: (term, index).
    pub applied: (Term, LogIndex),
}

impl View {
    /// Who may be about to lead: whom this node voted for, and not itself.
    pub fn successor(&self) -> Option<Whereabouts> {
        let node = self.voted_for.filter(|_| self.role == RaftRole::Follower)?;
        let address = self.voters.get(&node)?.address.clone();
        Some(Whereabouts { term: self.term, node, address })
    }

    /// Whether a listener would want to know: all but the ends of the log.
    fn differs(&self, other: &View) -> bool {
        (self.term, self.role, self.leader, self.ready)
            != (other.term, other.role, other.leader, other.ready)
            || self.voters != other.voters
    }
}

/// Changes whenever voters said what they hold.
pub type Acks = watch::Receiver<RaftDataMetrics<TypeConfig>>;

impl Consensus {
    /// The group as seen from here, now.
    pub fn view(&self) -> View {
        let raft = self.raft_view();
        let voters = self.voters();
        let applied = self.applied();
        let leads = raft.role == RaftRole::Leader;
        View {
            ready: leads
                && applied.0 == raft.term
                && self.holds_lease()
                && !self.stopping.load(SeqCst),
            leader_address: raft
                .leader
                .and_then(|leader| voters.get(&leader))
                .map_or_else(String::new, |voter| voter.address.clone()),
            term: raft.term,
            role: raft.role,
            voted_for: self.voted_for(raft.term),
            leader: raft.leader,
            last_log: raft.last_log,
            voters,
            applied,
        }
    }

    /// News of changed views, first come, first served. The ends of the log are no news.
    pub fn subscribe(&self) -> watch::Receiver<View> {
        self.views.receiver()
    }

    /// All members of the group: voters, and learners on their way to be voters.
    pub fn members(&self) -> BTreeMap<NodeId, Voter> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.value();
        let nodes = metrics.membership_config.nodes();
        nodes.map(|(id, voter)| (NodeId(*id), voter.clone())).collect()
    }

    /// The voters.
    pub fn voters(&self) -> BTreeMap<NodeId, Voter> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.value();
        let membership = metrics.membership_config.membership();
        let voter = |id| Some((NodeId(id), membership.get_node(&id)?.clone()));
        membership.voter_ids().filter_map(voter).collect()
    }

    /// The leader this node hears and may call so; itself only while it may dispatch.
    pub fn heard_leader(&self) -> Option<NodeId> {
        let now = self.clock.now();
        self.elector().heard_leader(now)
    }

    /// This node leads and a quorum answered it within the lease, as of this very moment.
    pub fn may_dispatch(&self) -> bool {
        self.raft.server_metrics().value().state == ServerState::Leader
            && self.holds_lease()
            && !self.stopping.load(SeqCst)
    }

    /// Confirms with a quorum, after this call began, that this node leads, and waits until what was committed by then
    /// is applied here: ReadIndex. Nothing here is read on the strength of a lease.
    pub async fn confirm(&self) -> Result<()> {
        let read = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let problem = match tokio::time::timeout(self.clock.stretch(CONFIRM), read).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no quorum answered within {CONFIRM:?}"),
        };
        Err(Error::NoQuorum { detail: format!("{}; {problem}", self.quorum_text()) })
    }

    /// `2 of 5 voters reachable, need 3`.
    pub fn quorum_text(&self) -> String {
        let (voters, reachable) = (self.voters().len(), self.reachable_voters());
        format!("{reachable} of {voters} voters reachable, need {}", voters / 2 + 1)
    }

    /// How many voters are within this node's reach, itself included.
    pub fn reachable_voters(&self) -> usize {
        let now = self.clock.now();
        self.elector().live_voters(now)
    }

    /// What the election needs to know of Raft.
    pub(super) fn raft_view(&self) -> RaftView {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.value();
        let term = metrics.vote.leader_id().term;
        let membership = metrics.membership_config.membership();
        let mut voters: Vec<NodeId> = membership.voter_ids().map(NodeId).collect();
        voters.sort_unstable();
        voters.dedup();
        let role = match metrics.state {
            ServerState::Leader => RaftRole::Leader,
            ServerState::Candidate => RaftRole::Candidate,
            ServerState::Learner => RaftRole::Learner,
            ServerState::Follower | ServerState::Shutdown => RaftRole::Follower,
        };
        // In term 0 the library calls whoever founded the group its leader; nobody was elected.
        let leader = metrics.current_leader.filter(|_| term > 0).map(NodeId);
        let last_log = position(self.raft.data_metrics().value().last_log.as_ref());
        RaftView { term, role, leader, voters, last_log }
    }

    /// Tells listeners if there is news.
    pub(super) fn publish_view(&self) {
        let view = self.view();
        self.views.modify(|old| {
            let news = old.differs(&view);
            *old = view;
            news
        });
    }

    fn voted_for(&self, term: Term) -> Option<NodeId> {
        let metrics = self.raft.server_metrics();
        let leader_id = *metrics.value().vote.leader_id();
        (leader_id.term == term).then_some(NodeId(leader_id.voted_for))
    }

    fn holds_lease(&self) -> bool {
        let voters = {
            let metrics = self.raft.server_metrics();
            metrics.value().membership_config.membership().voter_ids().count()
        };
        let now = self.clock.now();
        let acked = self.raft.data_metrics().value().last_quorum_acked;
        let acked = acked.map(|at| now.before(self.clock.measure(at.elapsed())));
        may_dispatch(now, acked, self.config.election.lease, voters)
    }

    /// What voters said they hold: after each change the quorum's lease may be there.
    pub fn acks(&self) -> Acks {
        self.raft.data_metrics()
    }

    /// When the lease ends if no voter answers any more; `None` where there is none.
    pub(super) fn lease_end(&self) -> Option<Moment> {
        let acked = self.raft.data_metrics().value().last_quorum_acked?;
        let at = self.clock.now().before(self.clock.measure(acked.elapsed()));
        Some(at.after(self.config.election.lease))
    }
}
