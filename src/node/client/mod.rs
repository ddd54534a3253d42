//! The client: talks to a cluster as one thing; follows the leader, reconnects, resubmits and resubscribes by itself.
//!
//! ```text
//!   submit ─▶ table ─batch─▶ Submit stream ─▶ node ─▶ accepted: a majority holds it
//!               ▲                                         │
//!   handle ◀────┴── settle a batch ◀── Outcomes stream ◀──┘        acknowledge ─▶
//! ```
//! A break loses nothing: what has no answer goes again with the same ids, what is accepted is followed by id.

pub mod address;
pub mod answers;
mod blobs;
mod completion;
mod connection;
mod control;
mod exchange;
mod found;
mod handle;
mod identity;
mod peers;
mod reader;
mod refused;
mod table;
mod watch;
mod wire;
pub mod words;

pub use blobs::{INLINE, MAX_BLOB};
pub use completion::CompletionQueue;
pub use control::MAX_LISTED;
pub use handle::{Handle, MAX_WATCHERS, Phase, Settled};
pub(crate) use peers::describe;
pub use reader::{Item, READ_AHEAD, READ_AHEAD_BYTES, Reader};
pub use table::{
    MAX_BODY, MAX_FUNCTIONS, MAX_KEY, MAX_NAME, MAX_PENDING, MAX_QUEUED_BYTES, Submitted,
    TaskRequest,
};
pub use watch::MAX_RECORDS;

/// What a cluster answers, as it arrives.
pub mod messages {
    pub use crate::node::proto::{
        Counters, ExplainResponse, InjectFaultsRequest, LinkFault, Load, Member, MemberStatus,
        Record, Refusals, Role, StatusResponse, Steals, TaskEvent, TaskInfo, TaskState, fact,
    };
}
pub use crate::node::proto::Refusal;

use crate::core::cluster::command::FunctionSource;
use crate::core::ids::{FunctionHash, SessionId, TaskId};
use crate::error::{Error, Result};
use crate::node::proto::{Record, StatusResponse};
use crate::node::security::{Role, Tls};
use crate::node::transport::dialling::Dialler;
use identity::Identity;
use peers::{Grpc, Peers};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// How long a closing client waits for its own task.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Stay with the first address that answers instead of moving to the leader.
    pub pinned: bool,
    /// How long to look for a node that answers.
    pub timeout: Duration,
    /// Collect the records of all members.
    pub watch: bool,
    /// The folder with this client's certificate: all its connections are inside TLS; `None`: in the clear.
    pub tls: Option<PathBuf>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        ClientOptions { pinned: false, timeout, watch: true, tls: None }
    }
}

/// What the client's tasks and its callers share.
struct Shared {
    options: ClientOptions,
    session: SessionId,
    peers: Peers,
    identity: Mutex<Identity>,
    table: Mutex<Table>,
    /// Threads that wait for room in the table.
    room: Condvar,
    /// Room for results that are being fetched.
    fetching: Semaphore,
    tasks_ready: Notify,
    ids_ready: Notify,
    deferred: Notify,
    /// Closed when the client closes: its waiters wake at once and for good.
    closing: Semaphore,
    connected: Mutex<Option<String>>,
    /// Why there is no connection, for people.
    trouble: Mutex<String>,
    /// While nobody is known to lead: how the quorum stands, for people.
    leaderless: Mutex<Option<String>>,
    /// Messages received.
    heard: AtomicU64,
    records: Mutex<watch::Records>,
}

impl Shared {
    /// Remembers how the quorum stands if a node that was asked knows nobody who leads.
    fn note_leader(&self, status: &StatusResponse) {
        let nobody = !found::leads(status) && status.leader_node == 0;
        *lock(&self.leaderless) = nobody.then(|| found::quorum_of(std::iter::once(status)));
    }

    fn nobody_answers(&self, addresses: &[String]) -> Error {
        if let Some(refused) = self.peers.refusal() {
            return refused;
        }
        let (trouble, timeout) = (lock(&self.trouble).clone(), self.options.timeout);
        let asked = addresses.join(", ");
        let detail = format!("no node answered within {timeout:?} at {asked}; {trouble}");
        Error::NoQuorum { detail }
    }
}

/// Whether a client can use the certificate in `folder`.
pub fn check_folder(folder: &Path) -> Result<()> {
    dialler(Some(folder)).map(drop)
}

/// How this client's connections are opened; its certificate must be one for clients.
fn dialler(folder: Option<&Path>) -> Result<Dialler> {
    let Some(folder) = folder else { return Ok(Dialler::default()) };
    let tls = Tls::open(folder)?;
    let me = tls.current().me.clone();
    if me.role == Role::Peer {
        let problem = format!(
            "{} holds the certificate of node {:?}; a script needs one of: hustings certs client|admin",
            folder.display(),
            me.name
        );
        return Err(Error::Auth { problem });
    }
    Ok(Dialler::new(Some(tls)))
}

/// A connection to a cluster. All methods may be called from any thread.
pub struct Client {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Connects: returns once a node answers.
    pub async fn connect(addresses: &[String], options: ClientOptions) -> Result<Client> {
        let seeds = address::check_all(addresses)?;
        let mut identity = Identity::new()?;
        let shared = Arc::new(Shared {
            session: identity.session_id(),
            peers: Peers::new(seeds, dialler(options.tls.as_deref())?),
            identity: Mutex::new(identity),
            table: Mutex::default(),
            room: Condvar::new(),
            fetching: Semaphore::new(blobs::FETCHED_AT_ONCE),
            tasks_ready: Notify::new(),
            ids_ready: Notify::new(),
            deferred: Notify::new(),
            closing: Semaphore::new(0),
            connected: Mutex::default(),
            trouble: Mutex::default(),
            leaderless: Mutex::default(),
            heard: AtomicU64::new(0),
            records: Mutex::default(),
            options,
        });
        let found = tokio::select! {
            biased;
            error = shared.peers.refused_by_all() => return Err(error),
            found = tokio::time::timeout(shared.options.timeout, shared.find_node(None)) => found,
        };
        let found = found.map_err(|_| shared.nobody_answers(addresses))?;
        *lock(&shared.connected) = Some(found.address.clone());
        lock(&shared.table).heed_limit(found.payload_bytes);
        if shared.options.watch {
            tokio::spawn(watch::watch_members(shared.clone()));
        }
        let task = tokio::spawn(connection::run(shared.clone(), found));
        Ok(Client { shared, task: Mutex::new(Some(task)) })
    }

    /// The hash under which tasks may name this function; its body travels with the first task that needs it.
    pub fn function(&self, name: &str, source: FunctionSource) -> Result<FunctionHash> {
        lock(&self.shared.table).function(name, source)
    }

    /// Queues a task without blocking. A refusal by the cluster settles the handle.
    pub fn try_submit(&self, task: TaskRequest, id: Option<TaskId>) -> Result<Submitted> {
        table::check_task(&task)?;
        if id == Some(TaskId(0)) {
            return Err(Error::InvalidTaskId { problem: "0 is not an id".into() });
        }
        let mut table = lock(&self.shared.table);
        let idle = table.queue.is_empty();
        let submitted = table.submit(task, id, &mut lock(&self.shared.identity))?;
        let queued = idle && !table.queue.is_empty();
        drop(table);
        if queued {
            self.shared.tasks_ready.notify_one();
        }
        Ok(submitted)
    }

    /// Queues a task; blocks this thread while the client's own bounds are met.
    pub fn submit(&self, mut task: TaskRequest, id: Option<TaskId>) -> Result<Arc<Handle>> {
        loop {
            match self.try_submit(task, id)? {
                Submitted::Queued(handle) => return Ok(handle),
                Submitted::Full(back) => task = back,
            }
            self.wait_room(Duration::from_secs(1));
        }
    }

    /// Blocks this thread for at most `at_most` until there is room for another task.
    pub fn wait_room(&self, at_most: Duration) -> bool {
        let mut table = lock(&self.shared.table);
        table.waiting += 1;
        let full = |table: &mut Table| !table.has_room() && table.closed.is_none();
        let (mut table, _) = self
            .shared
            .room
            .wait_timeout_while(table, at_most, full)
            .unwrap_or_else(PoisonError::into_inner);
        table.waiting -= 1;
        table.has_room()
    }

    /// A handle on a task submitted earlier, by anybody.
    pub fn future(&self, id: TaskId) -> Result<Arc<Handle>> {
        let (handle, ask) = lock(&self.shared.table).follow(id)?;
        if ask {
            self.shared.ids_ready.notify_one();
        }
        Ok(handle)
    }

    /// Handles without an outcome.
    pub fn pending(&self) -> usize {
        lock(&self.shared.table).entries.len()
    }

    /// The node this client speaks to now.
    pub fn connected_to(&self) -> Option<String> {
        lock(&self.shared.connected).clone()
    }

    /// Why there is no connection, in words; empty when there was no trouble yet.
    pub fn trouble(&self) -> String {
        lock(&self.shared.trouble).clone()
    }

    /// How the quorum stands while nobody leads; `None` as far as somebody does.
    pub fn leaderless(&self) -> Option<String> {
        lock(&self.shared.leaderless).clone()
    }

    /// Every address this client knows.
    pub fn addresses(&self) -> Vec<String> {
        self.shared.peers.candidates()
    }

    /// At most `limit` records of all nodes as received so far from position `after`, and the next position.
    pub fn records(&self, after: u64, limit: usize) -> (u64, Vec<Record>) {
        lock(&self.shared.records).after(after, limit)
    }

    /// Writes what is queued, for a bounded time, and ends; what has no outcome then fails as stopped.
    pub async fn close(&self) {
        self.begin_close();
        let task = lock(&self.task).take();
        if let Some(mut task) = task
            && tokio::time::timeout(CLOSE_TIMEOUT, &mut task).await.is_err()
        {
            task.abort();
        }
    }

    fn begin_close(&self) {
        let mut table = lock(&self.shared.table);
        table.closed.get_or_insert(Error::Stopped { what: "client".into() });
        table.wake_waiting(&self.shared.room);
        drop(table);
        self.shared.closing.close();
    }

    fn check_open(&self) -> Result<()> {
        match &lock(&self.shared.table).closed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.begin_close();
    }
}

/// Locks; a thread that panicked while it held the lock left whole values behind (every change here is one step).
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
