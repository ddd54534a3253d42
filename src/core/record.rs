//! What a notebook may plot: one flat row per thing that happened.

use super::ids::{NodeId, TaskId, Term};

/// The kind of a [`Record`]; its text is the `kind` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// This node started.
    NodeStarted,
    /// This node is stopping.
    NodeStopped,
    /// This node stopped hearing the leader (`subject`); `value`: seconds of silence; `detail`: silence or evidence.
    Suspected,
    /// The suspicion was wrong: the leader spoke again.
    FalseSuspicion,
    /// This node asked the voters (`rank`, `score`).
    Polled,
    /// A poll did not find a majority; `detail` says why.
    PollLost,
    /// This node campaigns for `term` with `rank` and `score`.
    Campaigned,
    /// This voter granted its vote in `term` to `subject`.
    Voted,
    /// This node leads in `term`.
    BecameLeader,
    /// This node no longer leads.
    SteppedDown,
    /// This node follows `subject` in `term`.
    Followed,
    /// The leader hands over to `subject`; `detail`: why.
    HandoverStarted,
    /// The leader's view, some four times a second per node, sooner if the order changed: `subject`, `score`, `rank`.
    Scored,
    /// A score that `subject` told, or that was told of it, cannot be: it counts as `score`; `value`: how often so far,
    /// written at the first time, the second, the fourth and so on; `detail`: what was told.
    ScoreCorrected,
    /// Tasks per node, four times a second, written by the leader: `subject`, `value` = queued + running.
    Loaded,
    /// This node's storage cannot be trusted (`detail`); it ends.
    StorageFailed,
    /// `subject` was admitted.
    MemberJoined,
    /// `subject` is gone; `value`: seconds since it was last heard.
    MemberLost,
    /// `subject` stands elsewhere now: `detail`.
    MemberMoved,
    /// `task` moved from victim `detail` to thief `subject`.
    Stolen,
    /// `task` takes too long on `detail`: a copy runs on `subject` beside it.
    Copied,
    /// `task` will run again; `detail`: why.
    Retried,
    /// `task` was taken from lost node `subject`.
    Reassigned,
    /// A completion of `task` by `subject` came after its attempt was replaced and was refused.
    LateCompletion,
    /// A fault was made or mended on purpose; `detail` says which: `killed`, `frozen`, `resumed`, `restarted` of
    /// `subject`; `partitioned: a b | c d`, `healed`; `cut`, `delayed`, `lossy` from the writer to `subject`; `clock`.
    Fault,
}

impl RecordKind {
    /// The text of the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordKind::NodeStarted => "node_started",
            RecordKind::NodeStopped => "node_stopped",
            RecordKind::Suspected => "suspected",
            RecordKind::FalseSuspicion => "false_suspicion",
            RecordKind::Polled => "polled",
            RecordKind::PollLost => "poll_lost",
            RecordKind::Campaigned => "campaigned",
            RecordKind::Voted => "voted",
            RecordKind::BecameLeader => "became_leader",
            RecordKind::SteppedDown => "stepped_down",
            RecordKind::Followed => "followed",
            RecordKind::HandoverStarted => "handover_started",
            RecordKind::Scored => "scored",
            RecordKind::ScoreCorrected => "score_corrected",
            RecordKind::Loaded => "loaded",
            RecordKind::StorageFailed => "storage_failed",
            RecordKind::MemberJoined => "member_joined",
            RecordKind::MemberLost => "member_lost",
            RecordKind::MemberMoved => "member_moved",
            RecordKind::Stolen => "stolen",
            RecordKind::Copied => "copied",
            RecordKind::Retried => "retried",
            RecordKind::Reassigned => "reassigned",
            RecordKind::LateCompletion => "late_completion",
            RecordKind::Fault => "fault",
        }
    }
}

/// One row. Who wrote it, when and in which order is stamped by the node's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What happened.
    pub kind: RecordKind,
    /// In which term, 0 where it does not matter.
    pub term: Term,
    /// The node it is about.
    pub subject: NodeId,
    /// A score in [0, 1].
    pub score: f64,
    /// A rank, 0 = best.
    pub rank: u32,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// A number whose meaning the kind gives.
    pub value: f64,
    /// A few words for people.
    pub detail: String,
}

impl Record {
    /// A row of `kind` with everything else empty.
    pub fn new(kind: RecordKind) -> Self {
        Record {
            kind,
            term: 0,
            subject: NodeId(0),
            score: 0.0,
            rank: 0,
            task: None,
            attempt: 0,
            value: 0.0,
            detail: String::new(),
        }
    }

    /// With a term.
    pub fn term(mut self, term: Term) -> Self {
        self.term = term;
        self
    }

    /// With a subject.
    pub fn subject(mut self, node: NodeId) -> Self {
        self.subject = node;
        self
    }

    /// With a score.
    pub fn score(mut self, score: f64) -> Self {
        self.score = score;
        self
    }

    /// With a rank.
    pub fn rank(mut self, rank: u32) -> Self {
        self.rank = rank;
        self
    }

    /// With a task and its attempt.
    pub fn task(mut self, task: TaskId, attempt: u32) -> Self {
        self.task = Some(task);
        self.attempt = attempt;
        self
    }

    /// With a value.
    pub fn value(mut self, value: f64) -> Self {
        self.value = value;
        self
    }

    /// With a few words.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}
