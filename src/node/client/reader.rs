//! Reads what a generator task yields, from whichever node runs it, each item once and in order.
//!
//! ```text
//!   leader ── who runs it, which attempt ──▶ locate ──┐
//!                                                     ▼
//!   node that runs it ◀── Pull: from `next` on ──── fetch ──▶ queue, at most so much ──▶ take
//! ```
//! To ask for the items from `next` on is to say that all before are here. When another attempt takes over, it is asked
//! for the same `next`, and told by a chain of hashes what the items before were: it passes over them if it yields the
//! same ones, and fails if not. A reader that has no room asks for nothing, so that its generator stops.

use super::handle::Handle;
use super::identity::Backoff;
use super::{Client, Shared, lock};
use crate::core::cluster::command::{Codec, Payload};
use crate::core::ids::TaskId;
use crate::error::{Error, Result};
use crate::node::execution::streams::link;
use crate::node::proto::{self, TaskState};
use bytes::Bytes;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Code;

/// Items held here before they are taken, about.
pub const READ_AHEAD: usize = 64;
/// Their bytes, about: one answer more.
pub const READ_AHEAD_BYTES: usize = 1 << 20;
/// How long a node keeps a question until there is an item; a generator that waits hears of its reader so often.
const PATIENCE: Duration = Duration::from_secs(2);
/// A node that keeps a question for so much longer is given up for now.
const GRACE: Duration = Duration::from_secs(1);
/// How often the leader is asked who runs the task, while its items come.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How many times slower than other questions that one is repeated while nothing comes: a majority stands behind it.
const SLOWER: u32 = 3;
/// How long one node may take to say that.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a generator task yields, as it arrives. Dropped, it asks for no more.
pub struct Reader {
    inner: Arc<Inner>,
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// It.
    pub value: Payload,
    /// Which attempt yielded it, counted from 1.
    pub attempt: u32,
}

struct Inner {
    handle: Arc<Handle>,
    /// Who reads, for the nodes.
    reader: Bytes,
    queue: Mutex<Queue>,
    /// Threads that wait for an item or the end.
    filled: Condvar,
    /// Tasks that do.
    news: Notify,
    /// Rings when half of the room is free.
    taken: Notify,
    /// Rings when no more are wanted.
    over: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// The index of the first item that has not come.
    next: u64,
    chain: u128,
    failed: Option<Error>,
    closed: bool,
}

/// Who runs the task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: String,
    token: u64,
    attempt: u32,
}

/// What locating and fetching tell each other.
#[derive(Default)]
struct Whereabouts {
    place: Mutex<Option<Place>>,
    /// Items come from there.
    open: Mutex<bool>,
    moved: Notify,
    lost: Notify,
}

impl Client {
    /// Reads what the task of `handle` yields. A task has one reader.
    pub fn read(&self, handle: Arc<Handle>) -> Result<Reader> {
        self.check_open()?;
        let reader = lock(&self.shared.identity).session_id().0;
        let inner = Arc::new(Inner {
            handle,
            reader: Bytes::copy_from_slice(&reader.to_le_bytes()),
            queue: Mutex::default(),
            filled: Condvar::new(),
            news: Notify::new(),
            taken: Notify::new(),
            over: Notify::new(),
        });
        let settling = Arc::downgrade(&inner);
        inner.handle.on_settled(move || {
            if let Some(inner) = settling.upgrade() {
                inner.tell_all();
            }
        })?;
        tokio::spawn(read_on(self.shared.clone(), inner.clone()));
        Ok(Reader { inner })
    }
}

impl Reader {
    /// The next item, waited for on this thread for at most `at_most`: `Some(None)` after the last one, when the task
    /// has its outcome; `None`: nothing came.
    pub fn take(&self, at_most: Duration) -> Option<Result<Option<Item>>> {
        let queue = lock(&self.inner.queue);
        let waits = |queue: &mut Queue| !self.inner.has_news(queue);
        let waited = self.inner.filled.wait_timeout_while(queue, at_most, waits);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = queue.items.pop_front() {
            queue.bytes -= item.value.body.len();
            let half_empty =
                queue.items.len() <= READ_AHEAD / 2 && queue.bytes <= READ_AHEAD_BYTES / 2;
            drop(queue);
            if half_empty {
                self.inner.taken.notify_one();
            }
            return Some(Ok(Some(item)));
        }
        match &queue.failed {
            Some(error) => Some(Err(error.clone())),
            None => self.inner.has_news(&queue).then_some(Ok(None)),
        }
    }

    /// Waits in a task until [`Reader::take`] would not wait.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.inner.clone();
        async move {
            loop {
                let mut news = pin!(inner.news.notified());
                news.as_mut().enable();
                if inner.has_news(&lock(&inner.queue)) {
                    return;
                }
                news.await;
            }
        }
    }

    /// Its task.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.inner.handle
    }

    /// Asks for no more; what is here can still be taken.
    pub fn close(&self) {
        lock(&self.inner.queue).closed = true;
        self.inner.tell_all();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn has_news(&self, queue: &Queue) -> bool {
        !queue.items.is_empty() || self.is_over(queue)
    }

    fn is_over(&self, queue: &Queue) -> bool {
        queue.closed || queue.failed.is_some() || self.handle.settled().is_some()
    }

    fn tell_all(&self) {
        // Whoever is about to wait has looked under the lock: no wake-up falls in between.
        drop(lock(&self.queue));
        self.filled.notify_all();
        self.news.notify_waiters();
        self.over.notify_one();
    }

    fn fail(&self, error: Error) {
        lock(&self.queue).failed.get_or_insert(error);
        self.tell_all();
    }

    async fn wait_over(&self) {
        while !self.is_over(&lock(&self.queue)) {
            self.over.notified().await;
        }
    }

    /// What to ask `place` for.
    fn question(&self, place: &Place) -> proto::PullRequest {
        let queue = lock(&self.queue);
        let items = READ_AHEAD.saturating_sub(queue.items.len());
        let bytes = READ_AHEAD_BYTES.saturating_sub(queue.bytes);
        let items = if bytes == 0 { 0 } else { items };
        proto::PullRequest {
            task_id: Bytes::copy_from_slice(&self.handle.task().to_bytes()),
            token: place.token,
            reader: self.reader.clone(),
            next: queue.next,
            chain: Bytes::copy_from_slice(&queue.chain.to_le_bytes()),
            max_items: items as u32,
            max_bytes: bytes as u32,
            wait_ms: if items == 0 { 0 } else { PATIENCE.as_millis() as u32 },
        }
    }

    /// Items came from `place` that were asked for from `asked` on.
    fn add(&self, place: &Place, asked: u64, codec: Codec, bodies: Vec<Bytes>) {
        let mut queue = lock(&self.queue);
        if queue.next != asked || bodies.is_empty() {
            return;
        }
        for body in bodies {
            queue.chain = link(queue.chain, &body);
            queue.next += 1;
            queue.bytes += body.len();
            let value = Payload::inline(codec, body);
            queue.items.push_back(Item { value, attempt: place.attempt });
        }
        drop(queue);
        self.filled.notify_all();
        self.news.notify_waiters();
    }
}

impl Whereabouts {
    fn set(&self, place: Place) {
        let mut known = lock(&self.place);
        if known.as_ref() != Some(&place) {
            *known = Some(place);
            drop(known);
            *lock(&self.open) = false;
            self.moved.notify_one();
        }
    }

    /// Nothing comes from there just now: the leader is asked sooner.
    fn lose(&self) {
        *lock(&self.open) = false;
        self.lost.notify_one();
    }
}

/// Reads until the task has its outcome, or nobody wants more.
async fn read_on(shared: Arc<Shared>, inner: Arc<Inner>) {
    let whereabouts = Whereabouts::default();
    let work = async {
        tokio::join!(locate(&shared, &inner, &whereabouts), fetch(&shared, &inner, &whereabouts))
    };
    tokio::select! { biased;
        () = inner.wait_over() => {}
        _ = shared.closing.acquire() => inner.fail(Error::Stopped { what: "client".into() }),
        _ = work => {}
    }
}

/// Finds out, again and again, who runs the task.
async fn locate(shared: &Shared, inner: &Inner, whereabouts: &Whereabouts) {
    let mut backoff = Backoff::new();
    loop {
        let found = look(shared, inner.handle.task()).await;
        let wait = match found {
            Some(place) => {
                whereabouts.set(place);
                let open = *lock(&whereabouts.open);
                if open {
                    backoff.reset();
                    LOOK_AGAIN
                } else {
                    SLOWER * backoff.step()
                }
            }
            None => SLOWER * backoff.step(),
        };
        if wait == LOOK_AGAIN {
            let _ = tokio::time::timeout(wait, whereabouts.lost.notified()).await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Who runs it, by a leader with its quorum.
async fn look(shared: &Shared, task: TaskId) -> Option<Place> {
    let connected = lock(&shared.connected).clone();
    let mut asked: Vec<String> = Vec::new();
    for address in connected.into_iter().chain(shared.peers.candidates()) {
        if asked.contains(&address) {
            continue;
        }
        let mut grpc = shared.peers.grpc(&address).ok()?;
        asked.push(address);
        let task_ids = vec![Bytes::copy_from_slice(&task.to_bytes())];
        let request = proto::ListTasksRequest { state: 0, limit: 1, task_ids };
        let answer = tokio::time::timeout(LOOK_TIMEOUT, grpc.list_tasks(request)).await;
        let Ok(Ok(listed)) = answer else { continue };
        let info = listed.into_inner().tasks.into_iter().next()?;
        let runs = info.state() == TaskState::Assigned && !info.node_address.is_empty();
        let proto::TaskInfo { node_address: address, token, attempt, .. } = info;
        return runs.then_some(Place { address, token, attempt });
    }
    None
}

/// Fetches items from whoever runs the task, as long as there is room for them.
async fn fetch(shared: &Shared, inner: &Inner, whereabouts: &Whereabouts) {
    let mut backoff = Backoff::new();
    loop {
        let place = lock(&whereabouts.place).clone();
        let Some(place) = place else {
            whereabouts.moved.notified().await;
            continue;
        };
        let question = inner.question(&place);
        let (asked, full) = (question.next, question.max_items == 0);
        let answer = tokio::select! { biased;
            () = whereabouts.moved.notified() => continue,
            answer = ask(shared, &place, question) => answer,
        };
        match answer {
            Ok(proto::PullResponse { open: true, codec, items }) => {
                backoff.reset();
                *lock(&whereabouts.open) = true;
                match proto::Codec::try_from(codec).ok().and_then(codec_in) {
                    Some(codec) => inner.add(&place, asked, codec, items),
                    // It had none in time.
                    None if items.is_empty() => {}
                    None => return inner.fail(problem("a codec this version does not know")),
                }
                if full {
                    let _ = tokio::time::timeout(PATIENCE, inner.taken.notified()).await;
                }
                continue;
            }
            Ok(_) => {}
            Err(status) if is_final(status.code()) => {
                return inner.fail(problem(status.message()));
            }
            Err(_) => {}
        }
        whereabouts.lose();
        let _ = tokio::time::timeout(backoff.step(), whereabouts.moved.notified()).await;
    }
}

async fn ask(
    shared: &Shared,
    place: &Place,
    question: proto::PullRequest,
) -> Result<proto::PullResponse, tonic::Status> {
    let patience = Duration::from_millis(question.wait_ms.into()) + GRACE;
    let mut grpc = shared
        .peers
        .grpc(&place.address)
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    match tokio::time::timeout(patience, grpc.pull(question)).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(tonic::Status::unavailable("it does not answer")),
    }
}

fn is_final(code: Code) -> bool {
    matches!(code, Code::FailedPrecondition | Code::OutOfRange | Code::InvalidArgument)
}

fn codec_in(codec: proto::Codec) -> Option<Codec> {
    match codec {
        proto::Codec::Json => Some(Codec::Json),
        proto::Codec::Pickle => Some(Codec::Pickle),
        proto::Codec::Safe => Some(Codec::Safe),
        proto::Codec::Unspecified => None,
    }
}

fn problem(text: &str) -> Error {
    Error::Stream { problem: text.to_owned() }
}
