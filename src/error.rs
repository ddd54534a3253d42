//! Everything that can go wrong, in one enum; `python/errors.rs` maps it, exhaustively, to the exception tree.

use std::time::Duration;

/// A refusal or failure a caller can act on. The text names the field, the value, the bound and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A knob or argument is out of bounds or unknown.
    #[error("{field}: {problem}")]
    Config {
        /// The knob or argument.
        field: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// An address that cannot be used.
    #[error(
        "address {value:?}: {problem}; write it as host:port, e.g. 127.0.0.1:7400 or [::1]:7400"
    )]
    InvalidAddress {
        /// What was given.
        value: String,
        /// Why it is refused.
        problem: String,
    },
    /// Listening beyond loopback without TLS.
    #[error(
        "listen={address}: refusing to listen beyond loopback without TLS; give this node a certificate (tls=DIR, \
         --tls DIR, made with: hustings certs), or use 127.0.0.1:PORT"
    )]
    InsecureBind {
        /// The address asked for.
        address: String,
    },
    /// A certificate, key or authority that cannot be used.
    #[error("tls: {problem}")]
    TlsConfig {
        /// Which file, what is wrong with it, and what would be right.
        problem: String,
    },
    /// No credentials, bad ones, or ones that do not suffice.
    #[error("not admitted: {problem}")]
    Auth {
        /// Why, and what to do.
        problem: String,
    },
    /// The port is taken or the address is not ours.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The address asked for.
        address: String,
        /// The operating system's word.
        reason: String,
    },
    /// No leader could be reached in time.
    #[error("no quorum: {detail}")]
    NoQuorum {
        /// Who was asked and what they said.
        detail: String,
    },
    /// The queue is full; nothing was accepted.
    #[error("queue full: {detail}; retry in {retry_after:?}")]
    QueueFull {
        /// Which bound was met.
        detail: String,
        /// A hint from the leader.
        retry_after: Duration,
    },
    /// The answer did not come in time; the request may still succeed.
    #[error("timed out after {waited:?} waiting for {what}")]
    WaitTimeout {
        /// What was awaited.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The same id with another payload.
    #[error("task {task} already exists with another function or payload; choose another id")]
    TaskIdConflict {
        /// The id.
        task: String,
    },
    /// A malformed task id.
    #[error("task_id: {problem}")]
    InvalidTaskId {
        /// What is wrong.
        problem: String,
    },
    /// An id as old as one that may have been forgotten.
    #[error(
        "task {task} is older than what the cluster remembers (limits.id_memory_s, limits.remembered_ids): whether it \
         ran cannot be said any more; submit it under a new id if it shall run (again)"
    )]
    TaskIdExpired {
        /// The id.
        task: String,
    },
    /// Another unfinished task holds the key.
    #[error("{problem}; wait for that task, or use on_duplicate=\"join\" or \"replace\"")]
    DuplicateTask {
        /// The task that holds it.
        existing: String,
        /// Which key.
        problem: String,
    },
    /// No function by that name.
    #[error("no function {name:?} is registered{hint}")]
    TaskNotRegistered {
        /// The name asked for.
        name: String,
        /// Close names and how to register.
        hint: String,
    },
    /// No task by that id.
    #[error("no task {task}: never accepted, or older than the retention window")]
    TaskNotFound {
        /// The id.
        task: String,
    },
    /// A payload or result over its limit.
    #[error("{what} is {size} bytes, the limit is {limit} ({knob})")]
    PayloadTooLarge {
        /// Which payload.
        what: String,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
        /// The knob that sets the limit.
        knob: &'static str,
    },
    /// The items of a generator task cannot be read.
    #[error("stream: {problem}")]
    Stream {
        /// Why.
        problem: String,
    },
    /// A codec one side does not allow.
    #[error("codec {codec} is refused: {remedy}")]
    CodecRefused {
        /// The codec's name.
        codec: String,
        /// How to allow it.
        remedy: String,
    },
    /// Another protocol version.
    #[error("protocol version {theirs} of {peer}, this is {ours}; run the same version everywhere")]
    VersionMismatch {
        /// Who.
        peer: String,
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A node of another cluster.
    #[error(
        "{address} belongs to cluster {got}, this is {want}; check the addresses in --join, and whose data_dir this is"
    )]
    WrongCluster {
        /// Who was called.
        address: String,
        /// Its cluster.
        got: String,
        /// Ours.
        want: String,
    },
    /// Another node than expected.
    #[error("{address} is node {got}, not {want}: the address was taken over by another node")]
    WrongNode {
        /// Who was called.
        address: String,
        /// Who answered.
        got: String,
        /// Who was meant.
        want: String,
    },
    /// A name or id that is in use.
    #[error("node name {name:?} is in use by the node at {address}; choose another --name")]
    NodeNameInUse {
        /// The name.
        name: String,
        /// Its holder.
        address: String,
    },
    /// Founders disagree, or a peer list is malformed.
    #[error("join: {problem}")]
    InvalidPeers {
        /// What is wrong.
        problem: String,
    },
    /// A change of the members that would leave no majority, or no voter.
    #[error("unsafe change of members: {problem}")]
    UnsafeMembershipChange {
        /// What would be left, and what to do instead.
        problem: String,
    },
    /// Another change of the members is not finished.
    #[error("another change of members is under way ({detail}); try again when it is done")]
    MembershipChangeInProgress {
        /// Which.
        detail: String,
    },
    /// This node was removed from its cluster.
    #[error(
        "node {node} was removed from its cluster; start it again, so that it joins under a new id"
    )]
    Removed {
        /// Which node.
        node: String,
    },
    /// A fault call to a node that takes none.
    #[error(
        "node {node} takes no fault calls; start it with allow_faults=True (hustings node --allow-faults), never where \
         its work matters"
    )]
    FaultInjectionDisabled {
        /// Which node.
        node: String,
    },
    /// Used after stop.
    #[error("{what} is stopped; start a new one")]
    Stopped {
        /// What was used.
        what: String,
    },
    /// Used before start.
    #[error("{what} is not started yet; call start() first")]
    NotStarted {
        /// What was used.
        what: String,
    },
    /// Used in a child made by fork().
    #[error(
        "this {what} was started before fork(); the child has none of its threads. Use the 'spawn' or 'forkserver' \
         start method, or start a new one in the child"
    )]
    Forked {
        /// What was used.
        what: String,
    },
    /// A runner could not be started or broke its protocol.
    #[error("runner: {problem}")]
    Runner {
        /// What happened.
        problem: String,
    },
    /// The disk failed or cannot be used; a node that was running stops.
    #[error("storage {path}: {problem}")]
    Storage {
        /// Where.
        path: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// What lies on disk is not what was written there; nothing of it is used.
    #[error(
        "{file} is corrupt at {place}: {problem}. If the other voters hold the data, remove the data directory and \
         start the node again: it joins under a new id"
    )]
    CorruptLog {
        /// The file.
        file: String,
        /// The entry, offset or part.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// Another process has the data directory.
    #[error(
        "data directory {path} is in use by process {pid}; stop that node first, or give another data_dir"
    )]
    DataDirLocked {
        /// The folder.
        path: String,
        /// Its owner; 0 if it did not say.
        pid: u32,
    },
    /// Two live nodes with one id; see [`Error::node_id_in_use`].
    #[error("{problem}")]
    NodeIdInUse {
        /// Which, where, and what to do.
        problem: String,
    },
    /// A node that was started again since; see [`Error::incarnation_mismatch`].
    #[error("{problem}")]
    IncarnationMismatch {
        /// Which starts, and what to do.
        problem: String,
    },
    /// The consensus library stopped.
    #[error("consensus stopped: {problem}")]
    Consensus {
        /// Its word.
        problem: String,
    },
}

impl Error {
    /// A node with the id of the one at `address`.
    pub fn node_id_in_use(id: impl std::fmt::Display, address: &str) -> Self {
        let problem = format!(
            "node {id} is alive at {address}: this data directory is a copy of its, or it moved and the old process \
             still runs; give each node a data_dir of its own"
        );
        Error::NodeIdInUse { problem }
    }

    /// The cluster knows start `known` of a node that says this is its start `given`.
    pub fn incarnation_mismatch(id: impl std::fmt::Display, known: u64, given: u64) -> Self {
        let problem = format!(
            "the cluster knows start {known} of node {id}, and this is another process with its start {given}: its \
             data directory is an old copy. Remove it and start the node again: \
             it joins under a new id"
        );
        Error::IncarnationMismatch { problem }
    }

    /// A configuration error for `field`.
    pub fn config(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Config { field: field.into(), problem: problem.into() }
    }
}

/// `Result` with our [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
