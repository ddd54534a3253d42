//! Planted bugs: each breaks one rule the cluster rests on, so that the invariants can prove that they would see it.
//!
//! They live at the edges of the simulated world, in wires, disks and clients; the product has no switch for them.

use super::world::{Post, World};
use crate::core::election::boundary::{PollAnswer, PollRefusal};
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::error::{Error, Result};
use crate::node::consensus::Stores;
use crate::node::consensus::network::{decode, encode};
use crate::node::consensus::types::TypeConfig;
use crate::node::transport::peers::Reply;
use bytes::Bytes;
use futures::FutureExt;
use openraft::raft::{VoteRequest, VoteResponse};

/// One rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A vote is not on disk when its voter dies: the restarted voter votes again.
    VoteNotPersisted,
    /// A voter grants every request of a term.
    TwoVotesInATerm,
    /// A better score is granted a vote although its log is older.
    ScoreBeatsLog,
    /// A voter that does not answer counts as one that agrees.
    SilenceIsConsent,
    /// A node that lost its log comes back under its old id.
    IdReusedAfterLoss,
    /// A leader dispatches because it believes to lead, not because a quorum answers.
    DispatchOnServerState,
    /// The lease is counted on a wall clock that may be set back.
    LeaseOnWallClock,
    /// A write is acknowledged before a majority holds it.
    AckBeforeCommit,
    /// A read is served from what this node has, without asking a quorum.
    StaleRead,
    /// A candidate needs nobody who suspects the leader as well.
    PollIgnored,
    /// A disk says that it has synced, and has not.
    SyncForgets,
    /// The last record of a log is taken for whole although it was torn.
    TornTailAccepted,
    /// A completion counts whatever attempt it is of.
    TokenIgnored,
    /// The same id is the same task, whatever it is given.
    DedupeById,
    /// A thief is sent what it steals without a word in the log.
    StealWithoutLog,
    /// An outcome is forgotten before anybody has acknowledged it.
    OutcomeForgotten,
}

/// Those of elections and of the log, with the names tests and scripts use.
pub const BUGS: &[(&str, Bug)] = &[
    ("vote_not_persisted", Bug::VoteNotPersisted),
    ("two_votes_in_a_term", Bug::TwoVotesInATerm),
    ("score_beats_log", Bug::ScoreBeatsLog),
    ("silence_is_consent", Bug::SilenceIsConsent),
    ("id_reused_after_loss", Bug::IdReusedAfterLoss),
    ("dispatch_on_server_state", Bug::DispatchOnServerState),
    ("lease_on_wall_clock", Bug::LeaseOnWallClock),
    ("ack_before_commit", Bug::AckBeforeCommit),
    ("stale_read", Bug::StaleRead),
    ("poll_ignored", Bug::PollIgnored),
];

/// Those of tasks and disks, which need some.
pub const TASK_BUGS: &[(&str, Bug)] = &[
    ("sync_forgets", Bug::SyncForgets),
    ("torn_tail_accepted", Bug::TornTailAccepted),
    ("token_ignored", Bug::TokenIgnored),
    ("dedupe_by_id", Bug::DedupeById),
    ("steal_without_log", Bug::StealWithoutLog),
    ("outcome_forgotten", Bug::OutcomeForgotten),
];

impl Bug {
    /// The bug called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        let all = || BUGS.iter().chain(TASK_BUGS);
        let found = all().find(|(known, _)| *known == name);
        found.map(|(_, bug)| *bug).ok_or_else(|| {
            let names: Vec<&str> = all().map(|(name, _)| *name).collect();
            let problem = format!("{name:?} is no planted bug; choose one of {}", names.join(", "));
            Error::config("bug", problem)
        })
    }
}

type End = (Term, LogIndex);

/// The voter's answer where a bug makes it grant what Raft's rules would refuse.
pub(super) fn grant_wrongly(
    world: &World,
    voter: NodeId,
    candidate: NodeId,
    request: &VoteRequest<TypeConfig>,
    (theirs, mine): (End, End),
) -> Option<Bytes> {
    let wrong = match world.bug? {
        Bug::TwoVotesInATerm => true,
        Bug::ScoreBeatsLog => theirs < mine && score_of(world, candidate) > score_of(world, voter),
        _ => false,
    };
    wrong.then(|| grant(request)).flatten()
}

fn grant(request: &VoteRequest<TypeConfig>) -> Option<Bytes> {
    encode(&VoteResponse::<TypeConfig>::new(request.vote, None, true)).ok()
}

fn score_of(world: &World, node: NodeId) -> f64 {
    world.holder(node).map_or(0.0, |post| post.consensus.own_score())
}

/// What a voter says to a poll where a bug makes it agreeable.
pub(super) fn agree_wrongly(bug: Option<Bug>, answer: PollAnswer) -> PollAnswer {
    let PollAnswer::Refuse { reason, .. } = answer else { return answer };
    let agrees = match bug {
        Some(Bug::PollIgnored) => reason == PollRefusal::LeaderAlive,
        Some(Bug::ScoreBeatsLog) => reason == PollRefusal::StaleLog,
        Some(Bug::TwoVotesInATerm) => reason != PollRefusal::ILead,
        _ => false,
    };
    if agrees { PollAnswer::Agree } else { answer }
}

/// Counts no answer as a yes, where that is the bug.
pub(super) fn count_the_silent(
    bug: Option<Bug>,
    asked: Bytes,
    answer: Reply<Bytes>,
) -> Reply<Bytes> {
    if bug != Some(Bug::SilenceIsConsent) {
        return answer;
    }
    async move {
        let granted = || grant(&decode::<VoteRequest<TypeConfig>>(&asked).ok()?);
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(error) => granted().ok_or(error),
        }
    }
    .boxed()
}

/// Under which id and with what a dead node starts again, where a bug changes that.
pub(super) fn surviving(bug: Option<Bug>, post: &Post) -> Option<(NodeId, Stores)> {
    match bug? {
        Bug::VoteNotPersisted => {
            post.stores.log.forget_vote();
            Some((post.id, post.stores.clone()))
        }
        Bug::TornTailAccepted => {
            post.stores.log.tear_tail();
            Some((post.id, post.stores.clone()))
        }
        Bug::IdReusedAfterLoss => Some((post.id, Stores::default())),
        _ => None,
    }
}
