//! Every unfinished task of one client: what is queued, sent, accepted; bounded in number and bytes.

use super::handle::{Handle, Settled};
use super::identity::Identity;
use crate::core::boundary::Progress;
use crate::core::cluster::command::{Claim, Codec, Function, FunctionSource, Terms};
use crate::core::cluster::needs::Needs;
use crate::core::ids::{BlobRef, FunctionHash, TaskId};
use crate::core::trace::TraceContext;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Weak};

/// Handles without an outcome one client may hold.
pub const MAX_PENDING: usize = 1_000_000;
/// Bytes of tasks that no majority holds yet; a submit beyond it blocks.
pub const MAX_QUEUED_BYTES: usize = 256 << 20;
/// Arguments or one function's body: the greatest value of `limits.payload_bytes` and `limits.function_bytes`.
pub const MAX_BODY: usize = 2 << 20;
/// Functions one client may register.
pub const MAX_FUNCTIONS: usize = 10_000;
/// Length of a function's name.
pub const MAX_NAME: usize = 1_024;
/// Length of a key.
pub const MAX_KEY: usize = 256;
/// Finished tasks whose handle is found again by its id, while somebody still holds it.
const MAX_FINISHED: usize = 16_384;
/// What a queued task costs beside its payload.
const OVERHEAD: usize = 256;

/// A task as its caller describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRequest {
    /// The function's registered name.
    pub name: Arc<str>,
    /// Its content; `None`: the newest by that name.
    pub hash: Option<FunctionHash>,
    /// The encoding of `payload`.
    pub codec: Codec,
    /// The arguments.
    pub payload: Bytes,
    /// The arguments, where they are too large for `payload`; a majority of the voters holds them already.
    pub blob: Option<BlobRef>,
    /// Further attempts after a failure of user code.
    pub retries: u32,
    /// Wall time one attempt may take, in milliseconds; 0: none.
    pub timeout_ms: u64,
    /// Wait before the first retry in milliseconds.
    pub backoff_ms: u64,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// When it may run.
    pub terms: Terms,
    /// What it shall be alone with.
    pub claim: Option<Box<Claim>>,
    /// What a node must have to run it; `None`: a slot.
    pub needs: Option<Arc<Needs>>,
    /// It may run twice at once.
    pub idempotent: bool,
    /// It may run in a thread of its node's own process.
    pub in_thread: bool,
    /// The trace it belongs to.
    pub trace: Option<Box<TraceContext>>,
}

/// What became of a submit.
pub enum Submitted {
    /// It is queued.
    Queued(Arc<Handle>),
    /// This client's own bound is met: wait for room and try again.
    Full(TaskRequest),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In `queue`.
    Queued,
    /// Written to the connection that is open; its answer has not come.
    Sent,
    /// In `deferred`: the cluster could not say yes or no.
    Deferred,
    /// A majority holds it.
    Accepted,
}

pub(super) struct Entry {
    pub handle: Arc<Handle>,
    /// Kept until the task is accepted, so that it can be sent again.
    pub task: Option<Box<TaskRequest>>,
    pub order: u64,
    pub stage: Stage,
    /// Sent more than once: its outcome may have gone to an earlier connection.
    pub resent: bool,
    /// The cluster did not know the function once although its body was sent.
    pub body_resent: bool,
    /// The task it joined by its key.
    pub joined: Option<TaskId>,
    /// Function and payload; `None` where the task was only followed.
    digest: Option<u128>,
}

#[derive(Default)]
pub(super) struct Table {
    pub entries: HashMap<TaskId, Entry>,
    pub queue: VecDeque<TaskId>,
    /// Tasks on the open connection without an answer.
    pub unanswered: usize,
    pub deferred: Vec<TaskId>,
    /// Tasks that others joined by their key, with those.
    joined: HashMap<TaskId, Vec<TaskId>>,
    /// Ids to follow on the open connection.
    pub follow: Vec<TaskId>,
    /// Ids whose outcomes are stored and not yet acknowledged.
    pub acknowledge: Vec<TaskId>,
    /// Acknowledged last; said again after a reconnect, because the words may have been lost.
    pub acknowledged: VecDeque<TaskId>,
    functions: HashMap<FunctionHash, Arc<Function>>,
    /// Functions whose bodies went over the open connection.
    pub functions_sent: HashSet<FunctionHash>,
    finished: HashMap<TaskId, (Weak<Handle>, Option<u128>)>,
    finished_order: VecDeque<TaskId>,
    bytes: usize,
    next_order: u64,
    /// Most bytes of arguments the cluster takes; 0: it has not said.
    payload_limit: usize,
    /// Threads that wait for room.
    pub waiting: u32,
    /// Why no more is taken.
    pub closed: Option<Error>,
}

impl Table {
    /// The node this client is connected to from now on takes arguments of so many bytes, if it said so.
    pub fn heed_limit(&mut self, payload_bytes: Option<u64>) {
        if let Some(bytes) = payload_bytes {
            self.payload_limit = bytes as usize;
        }
    }

    pub fn has_room(&self) -> bool {
        self.entries.len() < MAX_PENDING && self.bytes < MAX_QUEUED_BYTES
    }

    /// Wakes threads that wait for room, if there is some (or never will be).
    pub fn wake_waiting(&self, room: &Condvar) {
        if self.waiting > 0 && (self.has_room() || self.closed.is_some()) {
            room.notify_all();
        }
    }

    /// Registers a function's body and returns the hash tasks may name.
    pub fn function(&mut self, name: &str, source: FunctionSource) -> Result<FunctionHash> {
        check_name(name)?;
        if source.size() > MAX_BODY {
            return Err(Error::PayloadTooLarge {
                what: format!("function {name:?}"),
                size: source.size(),
                limit: MAX_BODY,
                knob: "limits.function_bytes",
            });
        }
        let function = Function::new(name.into(), source);
        let hash = function.hash;
        if self.functions.len() >= MAX_FUNCTIONS && !self.functions.contains_key(&hash) {
            let problem = format!(
                "{MAX_FUNCTIONS} are registered by this client; define functions once, not in a loop"
            );
            return Err(Error::config("function", problem));
        }
        self.functions.entry(hash).or_insert_with(|| Arc::new(function));
        Ok(hash)
    }

    pub fn body(&self, hash: FunctionHash) -> Option<&Arc<Function>> {
        self.functions.get(&hash)
    }

    /// Queues a task. The same id with the same content joins; with another content it is a conflict.
    pub fn submit(
        &mut self,
        task: TaskRequest,
        id: Option<TaskId>,
        identity: &mut Identity,
    ) -> Result<Submitted> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.payload_limit > 0 {
            check_payload(&task, self.payload_limit)?;
        }
        let digest = Some(digest(&task));
        let id = match id {
            Some(id) => {
                if let Some(handle) = self.join(id, digest) {
                    return Ok(Submitted::Queued(handle));
                }
                id
            }
            None => identity.task_id(),
        };
        if !self.has_room() {
            return Ok(Submitted::Full(task));
        }
        let handle = Arc::new(Handle::new(id));
        self.bytes += cost(&task);
        self.insert(id, handle.clone(), Some(Box::new(task)), digest);
        self.queue.push_back(id);
        Ok(Submitted::Queued(handle))
    }

    /// The handle of a task this client knows already, if it is the same task; a refused one if it is another.
    fn join(&self, id: TaskId, digest: Option<u128>) -> Option<Arc<Handle>> {
        let (handle, known) = match self.entries.get(&id) {
            Some(entry) => (entry.handle.clone(), entry.digest),
            None => {
                let (handle, known) = self.finished.get(&id)?;
                (handle.upgrade()?, *known)
            }
        };
        if known.is_none() || known == digest {
            return Some(handle);
        }
        let conflict = Handle::new(id);
        conflict.settle(Settled::Failed(Error::TaskIdConflict { task: id.to_string() }));
        Some(Arc::new(conflict))
    }

    /// A handle on a task that was submitted before, by anybody; `true`: the cluster must be asked.
    pub fn follow(&mut self, id: TaskId) -> Result<(Arc<Handle>, bool)> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if let Some(entry) = self.entries.get(&id) {
            return Ok((entry.handle.clone(), false));
        }
        if let Some(handle) = self.finished.get(&id).and_then(|(handle, _)| handle.upgrade()) {
            return Ok((handle, false));
        }
        if !self.has_room() {
            return Err(Error::config(
                "future",
                format!("{MAX_PENDING} futures are pending already; wait for some first"),
            ));
        }
        let handle = Arc::new(Handle::new(id));
        handle.accept();
        self.insert(id, handle.clone(), None, None);
        self.follow.push(id);
        Ok((handle, true))
    }

    fn insert(
        &mut self,
        id: TaskId,
        handle: Arc<Handle>,
        task: Option<Box<TaskRequest>>,
        digest: Option<u128>,
    ) {
        let order = self.next_order;
        self.next_order += 1;
        let stage = if task.is_some() { Stage::Queued } else { Stage::Accepted };
        let (resent, body_resent) = (false, false);
        let joined = None;
        let entry = Entry { handle, task, order, stage, resent, body_resent, joined, digest };
        self.entries.insert(id, entry);
    }

    /// Drops the content of an accepted task.
    pub fn release(&mut self, id: TaskId) {
        if let Some(task) = self.entries.get_mut(&id).and_then(|entry| entry.task.take()) {
            self.bytes = self.bytes.saturating_sub(cost(&task));
        }
    }

    /// A task joined another one by its key: the other one's outcome is its own.
    pub fn join_key(&mut self, id: TaskId, existing: TaskId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.stage = Stage::Accepted;
        entry.handle.join(existing);
        entry.handle.accept();
        if entry.joined.replace(existing).is_none() {
            self.joined.entry(existing).or_default().push(id);
        }
        self.release(id);
        // Its outcome may have come before this.
        self.follow.push(existing);
    }

    /// How far a task is; those that joined it are as far.
    pub fn note_progress(&self, id: TaskId, progress: &Progress) {
        let joined = self.joined.get(&id).map_or(&[][..], Vec::as_slice);
        for entry in joined.iter().chain([&id]).filter_map(|id| self.entries.get(id)) {
            entry.handle.note_progress(progress.clone());
        }
    }

    /// The id under which the cluster knows a task.
    pub fn known_as(&self, id: TaskId) -> TaskId {
        self.entries.get(&id).and_then(|entry| entry.joined).unwrap_or(id)
    }

    /// Takes out a task and those that joined it.
    pub fn remove_all(&mut self, id: TaskId) -> Vec<Entry> {
        let joined = self.joined.remove(&id).unwrap_or_default();
        joined.into_iter().chain([id]).filter_map(|id| self.remove(id)).collect()
    }

    /// Takes a task out; the caller settles its handle.
    pub fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(task) = &entry.task {
            self.bytes = self.bytes.saturating_sub(cost(task));
        }
        if self.finished_order.len() >= MAX_FINISHED
            && let Some(oldest) = self.finished_order.pop_front()
        {
            self.finished.remove(&oldest);
        }
        if self.finished.insert(id, (Arc::downgrade(&entry.handle), entry.digest)).is_none() {
            self.finished_order.push_back(id);
        }
        Some(entry)
    }

    /// Takes everything out and refuses what comes later.
    pub fn close(&mut self, error: Error) -> Vec<Arc<Handle>> {
        self.closed.get_or_insert(error);
        self.queue.clear();
        self.deferred.clear();
        self.follow.clear();
        self.joined.clear();
        self.bytes = 0;
        self.entries.drain().map(|(_, entry)| entry.handle).collect()
    }
}

/// Checks what can be checked without the cluster.
pub(super) fn check_task(task: &TaskRequest) -> Result<()> {
    check_name(&task.name)?;
    if task.priority > 9 {
        return Err(Error::config("priority", format!("{} is outside 0 to 9", task.priority)));
    }
    if let Some(claim) = &task.claim
        && (claim.key.is_empty() || claim.key.len() > MAX_KEY)
    {
        let problem = format!("{} bytes; give 1 to {MAX_KEY}", claim.key.len());
        return Err(Error::config("key", problem));
    }
    check_payload(task, MAX_BODY)
}

fn check_payload(task: &TaskRequest, limit: usize) -> Result<()> {
    let size = task.payload.len();
    if size > limit {
        let (what, knob) = (format!("arguments of {:?}", task.name), "limits.payload_bytes");
        return Err(Error::PayloadTooLarge { what, size, limit, knob });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::config(
            "name",
            format!("a function's name has 1 to {MAX_NAME} bytes, this one has {}", name.len()),
        ));
    }
    Ok(())
}

fn cost(task: &TaskRequest) -> usize {
    task.payload.len() + OVERHEAD
}

/// What tells one submission from another under the same id.
fn digest(task: &TaskRequest) -> u128 {
    use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};
    let function = match task.hash {
        Some(hash) => (hash.0 >> 64) as u64 ^ hash.0 as u64,
        None => xxh3_64(task.name.as_bytes()),
    };
    let content = task.blob.as_ref().map_or(&task.payload[..], |blob| &blob.id.0[..]);
    xxh3_128_with_seed(content, function.wrapping_add(task.codec as u64))
}
