//! What the log can say. Many commands travel in one entry; `state.rs` is the only place that applies them.

use super::needs::Needs;
use crate::core::ids::{BlobRef, FunctionHash, NodeId, SessionId, TaskId, Token};
use crate::core::load::Position;
use crate::core::trace::TraceContext;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The priority of a task that names none.
pub const DEFAULT_PRIORITY: u8 = 5;

/// One log entry: the commands that were queued when it was proposed, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The proposing leader's clock of the log, in milliseconds since 1970: what retention and terms are counted in.
    pub at_ms: u64,
    /// At most [`Token::MAX_PER_ENTRY`].
    pub commands: Vec<Command>,
}

impl Batch {
    /// Rough size in memory and on the wire.
    pub fn size(&self) -> usize {
        self.commands.iter().map(Command::size).sum::<usize>() + 16
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {}", self.commands.len())
    }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// A client's task, already placed where a slot was free.
    Submit {
        /// The task.
        spec: Arc<TaskSpec>,
        /// Who runs it; `None`: it waits.
        to: Option<NodeId>,
    },
    /// A new attempt of a task that waits or is stolen.
    Assign {
        /// Which task.
        task: TaskId,
        /// Who runs it now.
        to: NodeId,
        /// Why.
        cause: AssignCause,
        /// The attempt this replaces, or runs beside: ignored unless it is still the live one (`Token(0)`: the task was
        /// waiting).
        replaces: Token,
    },
    /// An attempt is taken from its node; the task waits again.
    Release {
        /// Which task.
        task: TaskId,
        /// Which attempt; ignored unless it is still the live one.
        replaces: Token,
        /// Why.
        cause: ReleaseCause,
    },
    /// An attempt ended.
    Complete {
        /// Which task.
        task: TaskId,
        /// Which attempt; any other than the live one is refused and counted.
        token: Token,
        /// Who ran it.
        node: NodeId,
        /// How it ended.
        report: Report,
        /// The last it printed and logged, for people.
        output: Bytes,
    },
    /// A task must not run any more.
    Cancel {
        /// Which task.
        task: TaskId,
    },
    /// A task's time is over, by its terms; ignored unless it is by the clock of the log too.
    Expire {
        /// Which task.
        task: TaskId,
        /// Which of its terms.
        cause: ExpireCause,
    },
    /// The submitter holds the outcomes; they may be forgotten.
    Acknowledge {
        /// Who.
        session: SessionId,
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// A function every node shall know.
    Register(Arc<Function>),
    /// A node belongs to the cluster.
    Admit(Member),
    /// The bounds that hold from here on; said by each new leader.
    Adopt(Rules),
    /// A node is gone; its attempts are taken by `Release`.
    Remove {
        /// Which node.
        node: NodeId,
    },
    /// A node was removed on purpose: as `Remove`, and it may not come back under this id.
    Expel {
        /// Which node.
        node: NodeId,
    },
}

impl Command {
    /// Rough size in memory and on the wire.
    pub fn size(&self) -> usize {
        match self {
            Command::Submit { spec, .. } => super::live::spec_bytes(spec) as usize,
            Command::Complete { report, output, .. } => report.size() + output.len() + 48,
            Command::Acknowledge { tasks, .. } => tasks.len() * 16 + 24,
            Command::Register(function) => function.name.len() + function.source.size() + 32,
            Command::Admit(member) => {
                let labels = member.labels.iter().map(|(name, value)| name.len() + value.len());
                let resources = member.resources.keys().map(|name| name.len() + 8);
                let offers = labels.chain(resources).sum::<usize>();
                let places = member.address.len() + member.client_address.len();
                member.name.len() + places + offers + 64
            }
            Command::Assign { .. }
            | Command::Release { .. }
            | Command::Cancel { .. }
            | Command::Expire { .. }
            | Command::Adopt(_)
            | Command::Remove { .. }
            | Command::Expel { .. } => 48,
        }
    }
}

/// Why a task is assigned. Neither costs any budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssignCause {
    /// It waited for a slot.
    Placed,
    /// A thief takes it from a victim that confirmed it had not started.
    Stolen,
    /// It takes longer than it should: a copy runs beside, and whichever ends first counts.
    Copied,
}

/// Why an attempt is taken from its node and the task waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseCause {
    /// Its node handed it back unstarted (drain, or a steal whose thief is gone); costs no budget.
    HandedBack,
    /// Its node died.
    NodeLost {
        /// Whether it had been reported as running there: then the crash budget pays.
        started: bool,
    },
}

/// Which of a task's terms is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireCause {
    /// Its `queue_timeout`: it waits still, and never ran.
    NeverStarted,
    /// Its `deadline`, wherever it is.
    Deadline,
}

/// The bounds `apply` works with. They are in the log, so that every node forgets the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Runner or node deaths one task may cause.
    pub crash_budget: u32,
    /// Outcomes kept unacknowledged.
    pub outcomes: u64,
    /// Their bytes.
    pub outcome_bytes: u64,
    /// How long an unacknowledged outcome is kept.
    pub outcome_ttl_ms: u64,
    /// How old an id may be to be accepted; at least so long it is remembered.
    pub id_memory_ms: u64,
    /// Ids remembered at most; whoever is older than a forgotten one is refused.
    pub remembered_ids: u64,
}

/// A task as its client gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its id.
    pub id: TaskId,
    /// Who is told the outcome.
    pub session: SessionId,
    /// What to run.
    pub function: FunctionRef,
    /// The encoding of `payload`.
    pub codec: Codec,
    /// Arguments; the leader never decodes them.
    pub payload: Bytes,
    /// The arguments, where they are too large for the log; `payload` is empty then.
    pub blob: Option<BlobRef>,
    /// Further attempts after a failure of user code.
    pub retries: u32,
    /// Wall time one attempt may take, in milliseconds; 0: none.
    pub timeout_ms: u64,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// Wait before the first retry in milliseconds, doubling, at most 30 s, and a quarter more or less.
    pub backoff_ms: u64,
    /// When it may run.
    pub terms: Terms,
    /// What it shall be alone with.
    pub claim: Option<Box<Claim>>,
    /// What a node must have to run it; `None`: a slot.
    pub needs: Option<Arc<Needs>>,
    /// It may run twice at once: one that takes too long gets a copy elsewhere.
    pub idempotent: bool,
    /// It may run in a thread of its node's own process; where the node does not have that, it runs like any other.
    pub in_thread: bool,
    /// The trace it belongs to. Boxed, as most tasks belong to none.
    pub trace: Option<Box<TraceContext>>,
}

impl TaskSpec {
    /// A task without arguments that is tried once and asks for nothing.
    pub fn new(id: TaskId, session: SessionId, function: FunctionRef) -> Self {
        TaskSpec {
            id,
            session,
            function,
            codec: Codec::Json,
            payload: Bytes::new(),
            blob: None,
            retries: 0,
            timeout_ms: 0,
            priority: DEFAULT_PRIORITY,
            backoff_ms: 0,
            terms: Terms::default(),
            claim: None,
            needs: None,
            idempotent: false,
            in_thread: false,
            trace: None,
        }
    }
}

/// When a task may run, counted in milliseconds from its acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// It does not start before.
    pub delay_ms: u64,
    /// How long it waits for its first start, after `delay_ms`; 0: for ever.
    pub queue_timeout_ms: u64,
    /// When it must have its outcome; 0: some time.
    pub deadline_ms: u64,
}

/// A key that at most one unfinished task holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The key.
    pub key: String,
    /// What happens if another task holds it.
    pub on_duplicate: OnDuplicate,
}

/// What becomes of a task whose key is held by another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDuplicate {
    /// It is not run; whoever submitted it is told the other one's outcome.
    #[default]
    Join,
    /// It is refused.
    Reject,
    /// The other one is cancelled.
    Replace,
}

/// A function by name and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRef {
    /// The registered name.
    pub name: String,
    /// Bound at submit.
    pub hash: FunctionHash,
}

/// A function every node can load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The registered name.
    pub name: String,
    /// The hash of kind, name and body.
    pub hash: FunctionHash,
    /// Where it comes from.
    pub source: FunctionSource,
}

/// Where a function comes from (design D5b).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionSource {
    /// `module:qualname`.
    Reference(String),
    /// A cloudpickled callable.
    Pickled(Bytes),
}

impl FunctionSource {
    /// Bytes it holds.
    pub fn size(&self) -> usize {
        match self {
            FunctionSource::Reference(text) => text.len(),
            FunctionSource::Pickled(blob) => blob.len(),
        }
    }
}

impl Function {
    /// A function whose hash is computed from its content.
    pub fn new(name: String, source: FunctionSource) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let (kind, body): (u8, &[u8]) = match &source {
            FunctionSource::Reference(text) => (1, text.as_bytes()),
            FunctionSource::Pickled(blob) => (2, blob),
        };
        hasher.update(&[kind]);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(body);
        let hash = FunctionHash(hasher.digest128());
        Function { name, hash, source }
    }

    /// How tasks name it.
    pub fn to_ref(&self) -> FunctionRef {
        FunctionRef { name: self.name.clone(), hash: self.hash }
    }
}

/// How a payload is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// `{"args": [...], "kwargs": {...}}`; data only.
    Json,
    /// pickle protocol 5; code, so it must be allowed on both sides.
    Pickle,
    /// msgpack with extension types, so that Python's types survive; data only.
    Safe,
}

/// Encoded bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The encoding.
    pub codec: Codec,
    /// The bytes.
    pub body: Bytes,
    /// The bytes, where they are too many for the log; `body` is empty then.
    pub blob: Option<BlobRef>,
}

impl Payload {
    /// Bytes that travel with it.
    pub fn inline(codec: Codec, body: Bytes) -> Self {
        Payload { codec, body, blob: None }
    }
}

/// An exception as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `module.QualName` of its class.
    pub type_name: String,
    /// `str(exception)`, cut.
    pub message: String,
    /// The remote traceback, cut.
    pub traceback: String,
    /// The pickled exception; empty where it could not be rebuilt.
    pub pickled: Bytes,
}

/// How one attempt ended, as its node reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The callback returned.
    Value(Payload),
    /// The callback raised.
    Failure(Failure),
    /// Its runner died.
    Crashed(String),
    /// It ran longer than its timeout, in milliseconds, and was killed.
    TimedOut(u64),
}

impl Report {
    /// Rough size.
    pub fn size(&self) -> usize {
        match self {
            Report::Value(payload) => payload.body.len(),
            Report::Failure(failure) => {
                failure.type_name.len()
                    + failure.message.len()
                    + failure.traceback.len()
                    + failure.pickled.len()
            }
            Report::Crashed(text) => text.len(),
            Report::TimedOut(_) => 8,
        }
    }
}

/// The one final word on a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It returned.
    Value(Payload),
    /// It raised, with no retry left.
    Failure(Failure),
    /// It was cancelled before it finished.
    Cancelled,
    /// Its runners or nodes died more often than the crash budget allows.
    Lost(String),
    /// It timed out (milliseconds), with no retry left.
    TimedOut(u64),
    /// It waited so many milliseconds for its first start, which it may not.
    NeverStarted(u64),
    /// It had no outcome so many milliseconds after it was accepted, which it must.
    PastDeadline(u64),
}

impl Outcome {
    /// Rough size.
    pub fn size(&self) -> usize {
        match self {
            Outcome::Value(payload) => payload.body.len(),
            Outcome::Failure(failure) => {
                failure.traceback.len() + failure.pickled.len() + failure.message.len()
            }
            Outcome::Lost(text) => text.len(),
            Outcome::Cancelled
            | Outcome::TimedOut(_)
            | Outcome::NeverStarted(_)
            | Outcome::PastDeadline(_) => 8,
        }
    }
}

/// A node as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name, for people; unique.
    pub name: String,
    /// Where the other nodes reach it.
    pub address: String,
    /// Where clients reach it, if that is another listener; empty: at `address`.
    pub client_address: String,
    /// How many callbacks it runs at once.
    pub slots: u32,
    /// Where it stands.
    pub position: Position,
    /// A Raft member, or wants to be one.
    pub voter: bool,
    /// Its process, for people and local tools.
    pub pid: u32,
    /// How often it was started with its data directory; 0 without one.
    pub incarnation: u64,
    /// What it says of itself, for tasks to ask for.
    pub labels: BTreeMap<String, String>,
    /// What it offers besides slots, in thousandths.
    pub resources: BTreeMap<String, u64>,
}

impl Member {
    /// What clients are told of where it is.
    pub fn address_for_clients(&self) -> &str {
        if self.client_address.is_empty() { &self.address } else { &self.client_address }
    }
}
