//! The whole traffic between the election and the world, on one page: the election loop calls
//! [`Elector`](super::Elector) and performs [`ElectionEffect`]s, top to bottom.

use crate::core::ids::{LogIndex, NodeId, Term};
use crate::core::record::Record;
use std::time::Duration;

/// What the election loop shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum ElectionEffect {
    /// Ask every other voter whether it suspects too, but for the one that is spared: the suspect, whose silence would
    /// be waited for, as long as others may do.
    Poll(PollQuestion, Option<NodeId>),
    /// A quorum suspects: campaign now.
    Campaign,
    /// Hand leadership to a live, caught-up voter.
    TransferLeader {
        /// Whom.
        to: NodeId,
    },
    /// A handover failed and nobody else can take over: lead again, in a newer term.
    Reclaim {
        /// Who should have taken over.
        from: NodeId,
    },
    /// No election of ours has worked for long: let the library hold its own.
    EnableLibraryElections(bool),
    /// Write a row of history.
    Record(Record),
}

/// A candidate's question to the voters (our pre-vote).
#[derive(Clone, Debug, PartialEq)]
pub struct PollQuestion {
    /// Who asks.
    pub candidate: NodeId,
    /// The leader it suspects.
    pub suspect: NodeId,
    /// The candidate's term.
    pub term: Term,
    /// The last entry of its log: (term, index).
    pub last_log: (Term, LogIndex),
    /// Its score in the agreed table.
    pub score: f64,
    /// Its rank, 0 = best.
    pub rank: u32,
    /// Preference must no longer be heard.
    pub insistent: bool,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PollAnswer {
    /// I suspect too and could vote for you.
    Agree,
    /// Not now.
    Refuse {
        /// Why.
        reason: PollRefusal,
        /// When to ask again.
        retry_after: Duration,
    },
}

/// Why a voter does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollRefusal {
    /// I hear the leader.
    LeaderAlive,
    /// Your log is older than mine.
    StaleLog,
    /// I know a clearly better live candidate; bounded patience.
    BetterCandidate,
    /// I lead.
    ILead,
    /// I have just granted a real vote.
    JustVoted,
}
