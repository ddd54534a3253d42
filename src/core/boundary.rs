//! The whole traffic between the core of tasks and the world, on one page.
//!
//! A node runs two loops. The *election* loop has a page of its own, `core::election::boundary`. The *task* loop feeds
//! [`Event`]s to `core::scheduling::Leader` (while this node leads) and `core::worker::Worker` (always) and performs
//! [`Effect`]s. They are two because a heartbeat must never wait behind a batch of tasks.
//!
//! **Order contract.** Effects are performed top to bottom. A proposal is only a wish until the log has committed it:
//! whatever depends on it waits for the [`Change`] that `ClusterState::apply` returns.

use super::cluster::command::{Command, Function, Member, Outcome, Report, TaskSpec};
use super::cluster::live::Holder;
use super::ids::{LogIndex, NodeId, SessionId, TaskId, Term, Token};
use super::load::{Load, Position};
use super::record::Record;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the task loop is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// This node leads `term` and has applied the log up to its own first entry.
    LeadershipGained {
        /// The term it leads.
        term: Term,
        /// The wall clock, in milliseconds since 1970.
        wall_ms: u64,
        /// It heard a leader since it started, and so knows how much time passed since the last entry.
        followed: bool,
        /// Who votes.
        voters: BTreeSet<NodeId>,
    },
    /// This node no longer leads.
    LeadershipLost,
    /// Entries were committed and applied; the consequences, in log order.
    Applied {
        /// The last applied entry.
        index: LogIndex,
        /// What changed.
        changes: Vec<Change>,
    },
    /// A proposal of this node did not enter the log, or nobody knows: the submitters must ask again.
    ProposalFailed {
        /// What was proposed.
        commands: Vec<Command>,
    },
    /// A client's batch.
    Submitted {
        /// Who.
        session: SessionId,
        /// Functions it brings along.
        functions: Vec<Arc<Function>>,
        /// Its tasks, already checked against this node's limits.
        tasks: Vec<Arc<TaskSpec>>,
    },
    /// A client follows tasks again (after a reconnect, or another client's task).
    Followed {
        /// Who.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// What [`Effect::ConfirmRead`] asked for: a quorum says that this node led when it was asked, and what was
    /// committed by then is applied here.
    ReadConfirmed {
        /// Who follows.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// A client holds outcomes.
    Acknowledged {
        /// Who.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// A client went away; its tasks go on.
    SessionClosed {
        /// Who.
        session: SessionId,
    },
    /// A client no longer wants tasks.
    CancelAsked {
        /// Which.
        tasks: Vec<TaskId>,
        /// Also those that run.
        kill: bool,
    },
    /// A node asks to be a member; its functions come with it.
    JoinAsked {
        /// Who.
        member: Member,
        /// What it can run by name.
        functions: Vec<Arc<Function>>,
    },
    /// An operator wants `node` to be a member no more.
    RemovalAsked {
        /// Who.
        node: NodeId,
    },
    /// An operator says where `node` stands from now on.
    MoveAsked {
        /// Who.
        node: NodeId,
        /// Where.
        position: Position,
    },
    /// The leader's session with `node` is open and this is all it holds.
    InventoryArrived {
        /// Whose.
        node: NodeId,
        /// How often it was started with its data.
        incarnation: u64,
        /// Every assignment it holds: queued, running, or finished and not settled.
        held: Vec<(TaskId, Token)>,
    },
    /// `node` answered: how it is, what runs there.
    StatusArrived {
        /// Whose.
        node: NodeId,
        /// Its report.
        status: NodeStatus,
    },
    /// Attempts ended on `node`.
    Reported {
        /// Where.
        node: NodeId,
        /// Which, and how.
        reports: Vec<Ended>,
    },
    /// `node` gave these up, not started.
    Released {
        /// Where.
        node: NodeId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// `node` could not give these up: started, finished or unknown.
    Kept {
        /// Where.
        node: NodeId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// The session with `node` broke; `refused`: its port answers no more, so its process is gone.
    SessionBroken {
        /// Where.
        node: NodeId,
        /// Evidence that the process is gone, not merely slow.
        refused: bool,
    },
    /// An idle node asks for work.
    WorkAsked {
        /// Who.
        thief: NodeId,
        /// How many places it has.
        free_slots: u32,
        /// Its CPU, its own tasks not counted.
        cpu_available: f64,
    },
    /// A deadline of the core passed.
    TimerFired,

    /// (this node as a worker) the leader of `term` opened a session.
    LeaderConnected {
        /// Its term.
        term: Term,
        /// Who.
        leader: NodeId,
    },
    /// (worker) assignments from the leader of `term`.
    TasksAssigned {
        /// Its term; lower ones are refused.
        term: Term,
        /// The attempts.
        assignments: Vec<Assignment>,
    },
    /// (worker) the leader of `term` wants unstarted tasks back.
    TasksRevoked {
        /// Its term.
        term: Term,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// (worker) cancelled while running: kill.
    TasksKilled {
        /// Its term.
        term: Term,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// (worker) these reports are committed; forget them.
    ReportsSettled {
        /// Its term.
        term: Term,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// (worker) an attempt ended in a runner of this node.
    AttemptEnded {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
        /// How.
        report: Report,
        /// The last it printed and logged.
        output: Bytes,
        /// How long it ran.
        duration: Duration,
    },
    /// (worker) this node shall take no more work and hand back what it has not started.
    DrainStarted,
}

/// What the task loop shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put commands into the log. Commands of one step share an entry.
    Propose(Vec<Command>),
    /// Tell a client that tasks are accepted: a majority holds them.
    Accept {
        /// Who.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Tell a client that its task joined another one, by its key: the other one's outcome is its own.
    Join {
        /// Who.
        session: SessionId,
        /// Which task.
        task: TaskId,
        /// The one that is there.
        existing: TaskId,
    },
    /// Tell a client that a task is refused; nothing was stored.
    Reject {
        /// Who.
        session: SessionId,
        /// Which.
        task: TaskId,
        /// Why.
        refusal: Refusal,
    },
    /// Tell a client outcomes.
    Deliver {
        /// Who.
        session: SessionId,
        /// Which.
        outcomes: Vec<Arc<Finished>>,
    },
    /// Tell a client how far a task is. It may be lost: the next word says more.
    TellProgress {
        /// Who.
        session: SessionId,
        /// Which.
        task: TaskId,
        /// How far.
        progress: Progress,
    },
    /// Have a quorum confirm that this node leads, before a client is told that nobody knows its tasks: a leader that
    /// was replaced and has not heard of it knows less than the cluster.
    ConfirmRead {
        /// Who follows.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Tell a client that followed ids are not held.
    DenyKnowledge {
        /// Who.
        session: SessionId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Open (or replace) the leader's session with a member.
    OpenSession {
        /// Whom.
        member: Member,
    },
    /// Close the leader's session with a node.
    CloseSession {
        /// Whom.
        node: NodeId,
    },
    /// Send attempts to a node.
    Assign {
        /// Whom.
        node: NodeId,
        /// What.
        assignments: Vec<Assignment>,
    },
    /// Ask unstarted tasks back.
    Revoke {
        /// From whom.
        node: NodeId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Have running tasks killed.
    Kill {
        /// Where.
        node: NodeId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Tell a node that its reports are committed.
    Settle {
        /// Whom.
        node: NodeId,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Write a row of history.
    Record(Record),

    /// (worker) start an attempt in a runner; a free slot is guaranteed.
    Run(Assignment),
    /// (worker) kill the runner of a task.
    KillRunner {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
    },
    /// (worker) answer the leader: what this node holds.
    SendInventory {
        /// The session's term.
        term: Term,
        /// Everything held; `true`: running.
        held: Vec<(TaskId, Token, bool)>,
    },
    /// (worker) report ended attempts to the leader.
    SendReports {
        /// Which, and how.
        reports: Vec<Ended>,
    },
    /// (worker) confirm or refuse a revocation.
    SendRelease {
        /// Given up.
        released: Vec<TaskId>,
        /// Not given up.
        kept: Vec<TaskId>,
    },
    /// (worker) take these back from the runners, as far as they have not started, and answer as `SendRelease` does:
    /// what is taken back was given up, the rest was not.
    TakeBack {
        /// Attempts that wait at the runners.
        staged: Vec<(TaskId, Token)>,
        /// Given up already.
        released: Vec<TaskId>,
        /// Not given up, whatever comes of the others.
        kept: Vec<TaskId>,
    },
    /// (worker) ask the leader for work.
    AskForWork {
        /// How many places are free.
        free_slots: u32,
    },
    /// (worker) a message of an older term was refused.
    RefuseStaleLeader {
        /// The term it came with.
        term: Term,
    },
}

/// What `ClusterState::apply` did.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A task is in the log for the first time.
    Submitted {
        /// The task.
        spec: Arc<TaskSpec>,
    },
    /// A task that is already there was submitted again, or another one holds its key: it joins.
    Joined {
        /// Who asked.
        session: SessionId,
        /// Which task.
        task: TaskId,
        /// The task that is there: the same, or the holder of the key.
        existing: TaskId,
        /// What the submission was charged for.
        bytes: u64,
    },
    /// A submission changed nothing.
    Refused {
        /// Who asked.
        session: SessionId,
        /// Which task.
        task: TaskId,
        /// What the submission was charged for.
        bytes: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A new attempt is live.
    Assigned {
        /// The task.
        spec: Arc<TaskSpec>,
        /// Who runs it.
        to: NodeId,
        /// Who had it before, if anybody.
        from: Option<NodeId>,
        /// Its fencing token.
        token: Token,
        /// Counted from 1.
        attempt: u32,
        /// Why.
        cause: super::cluster::command::AssignCause,
    },
    /// The attempt failed or lost its node, and another one is owed.
    Requeued {
        /// The task.
        spec: Arc<TaskSpec>,
        /// Who ran it.
        from: NodeId,
        /// The attempt that ended.
        token: Token,
        /// The attempt that ended, counted from 1.
        attempt: u32,
        /// How long to wait before the next one.
        delay: Duration,
        /// Why.
        reason: RequeueReason,
    },
    /// The task has its one outcome.
    Finished {
        /// The task and its outcome.
        finished: Arc<Finished>,
        /// Who submitted it.
        session: SessionId,
        /// Who held its live attempt, if anybody.
        from: Option<NodeId>,
        /// The live attempt, `Token(0)` if it waited.
        token: Token,
        /// The other one of two that ran at once: its end does not count any more.
        loser: Option<Holder>,
    },
    /// One of two attempts that ran at once ended without an outcome; the other one runs on.
    Narrowed {
        /// The task.
        spec: Arc<TaskSpec>,
        /// Who ran the one that ended.
        from: NodeId,
        /// The attempt that ended.
        token: Token,
        /// The same, counted from 1.
        attempt: u32,
        /// Why.
        reason: RequeueReason,
    },
    /// A report for an attempt that is no longer live: counted, otherwise ignored.
    LateCompletion {
        /// Which task.
        task: TaskId,
        /// Whose report.
        node: NodeId,
        /// The stale attempt.
        token: Token,
    },
    /// The same report again (a re-send after a failover): nothing to do but settle it.
    Repeated {
        /// Which task.
        task: TaskId,
        /// Whose report.
        node: NodeId,
    },
    /// An assignment that came too late (the task ended or moved in between): ignored.
    AssignmentVoid {
        /// Which task.
        task: TaskId,
        /// Whom it was meant for.
        to: NodeId,
    },
    /// A function is known everywhere.
    Registered {
        /// The function.
        function: Arc<Function>,
    },
    /// A node is a member (again).
    Admitted {
        /// Who.
        member: Member,
    },
    /// A node is no member any more.
    Removed {
        /// Who it was.
        member: Member,
    },
}

/// Why a task waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequeueReason {
    /// User code raised and a retry is left.
    Failed,
    /// It timed out and a retry is left.
    TimedOut,
    /// Its runner died.
    Crashed,
    /// Its node handed it back unstarted.
    HandedBack,
    /// Its node died.
    NodeLost,
}

/// A task with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finished {
    /// Which task.
    pub task: TaskId,
    /// The one final word.
    pub outcome: Outcome,
    /// Attempts it took.
    pub attempts: u32,
    /// Who ran the last one.
    pub node: NodeId,
    /// The last that it and those before printed and logged: see [`super::cluster::output`].
    pub output: Bytes,
}

impl Finished {
    /// Rough size.
    pub fn size(&self) -> usize {
        self.outcome.size() + self.output.len()
    }
}

/// One attempt as it is sent to a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Its fencing token.
    pub token: Token,
    /// Counted from 1.
    pub attempt: u32,
    /// When the task must have its outcome, in milliseconds since 1970, for the callback to know; 0: some time.
    pub end_by_ms: u64,
}

/// An attempt that ended on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub token: Token,
    /// How.
    pub report: Report,
    /// The last it printed and logged.
    pub output: Bytes,
    /// How long it ran; zero: it did not.
    pub took: Duration,
}

/// How a node is, several times a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStatus {
    /// Its smoothed score.
    pub score: f64,
    /// Its last sample.
    pub load: Load,
    /// Assignments waiting there.
    pub queued: u32,
    /// Tasks running there.
    pub running: Vec<TaskId>,
    /// It takes no more work.
    pub draining: bool,
    /// How far attempts are that said so since the last report.
    pub progress: Vec<(TaskId, Token, Progress)>,
}

/// How far an attempt is, by its own words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// So much is done ...
    pub done: f64,
    /// ... of so much; 0: it does not know.
    pub total: f64,
    /// A few words.
    pub note: String,
}

/// Why a submission is refused before anything is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Another node leads; ask there.
    NotLeader,
    /// A bound is met.
    QueueFull {
        /// Which.
        detail: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Same id, other content.
    Conflict,
    /// The id is older than what can be remembered.
    IdExpired,
    /// Another unfinished task holds the key.
    Duplicate {
        /// Which.
        existing: TaskId,
        /// In words.
        detail: String,
    },
    /// Nobody registered that name.
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// Close names.
        hint: String,
    },
    /// Nobody registered that name so far, and not every voter has brought its functions: the same id may be sent
    /// again.
    Gathering,
    /// The proposal did not enter the log, or nobody knows: the same id may be sent again.
    Unknown,
}
