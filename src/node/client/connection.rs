//! The one connection of a client: two streams, kept open, moved to the leader, reopened after a break.

use super::blobs::fetch_and_settle;
use super::exchange::{session_bytes, settle_all};
use super::found::{Found, Respondent, leader_in, leads};
use super::handle::Settled;
use super::identity::Backoff;
use super::peers::{Grpc, STATUS_TIMEOUT, describe};
use super::{Shared, lock};
use crate::error::Error;
use crate::node::clock::Clock;
use crate::node::proto::{OutcomesRequest, SubmitRequest};
use crate::node::transport::succession::{self, named_in};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

/// Messages handed to the transport and not yet taken by it.
const STREAM_DEPTH: usize = 4;
/// A node that does not open a stream within this time is left.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// How often members are learnt anew.
const REFRESH: Duration = Duration::from_secs(1);
/// When something is pending and nothing arrives, look around after this long (then twice as long, up to `REFRESH`).
const TICK: Duration = Duration::from_millis(100);
/// How long a node keeps the question who leads next.
const QUESTION: Duration = Duration::from_secs(5);
/// A connected node that misses this many questions in a row is left.
const MISSES: u32 = 3;
/// How long `close` may take to write what is queued.
const FLUSH: Duration = Duration::from_millis(200);

/// Why a connection ended.
enum End {
    /// The client is closing.
    Closed,
    /// The leader is elsewhere.
    Moved(Box<Found>),
    /// The node is gone or broke off.
    Broken(String),
}

/// Keeps the client connected until it closes; then settles what is left.
pub(super) async fn run(shared: Arc<Shared>, first: Found) {
    let mut target = first;
    let mut backoff = Backoff::new();
    loop {
        {
            let mut table = lock(&shared.table);
            table.heed_limit(target.payload_bytes);
            table.restart();
        }
        let heard = shared.heard.load(Ordering::Relaxed);
        let end = serve(&shared, &target).await;
        let useful = heard != shared.heard.load(Ordering::Relaxed);
        if useful {
            backoff.reset();
        }
        *lock(&shared.connected) = None;
        match end {
            End::Closed => break,
            End::Moved(found) => target = *found,
            End::Broken(problem) => {
                *lock(&shared.trouble) = format!("{}: {problem}", target.address);
                // What worked until now is looked for again at once.
                let wait = if useful { Duration::ZERO } else { backoff.step() };
                let wait = lock(&shared.identity).jitter(wait);
                let found = tokio::select! { biased;
                    _ = shared.closing.acquire() => break,
                    found = async {
                        tokio::time::sleep(wait).await;
                        shared.find_node(Some(target.term)).await
                    } => found,
                };
                target = found;
            }
        }
    }
    let left = lock(&shared.table).close(Error::Stopped { what: "client".into() });
    let stopped = |handle| (handle, Settled::Failed(Error::Stopped { what: "client".into() }));
    settle_all(left.into_iter().map(stopped).collect());
    lock(&shared.table).wake_waiting(&shared.room);
}

async fn serve(shared: &Arc<Shared>, target: &Found) -> End {
    let grpc = match shared.peers.grpc(&target.address) {
        Ok(grpc) => grpc,
        Err(error) => return End::Broken(error.to_string()),
    };
    *lock(&shared.connected) = Some(target.address.clone());
    let (submit, submit_queue) = mpsc::channel(STREAM_DEPTH);
    let (ids, ids_queue) = mpsc::channel(STREAM_DEPTH);
    // Opens the Outcomes stream for this session even when there is nothing to follow yet.
    let session = session_bytes(shared.session);
    let hello = OutcomesRequest { session_id: session, ..OutcomesRequest::default() };
    if ids.send(hello).await.is_err() {
        return End::Broken("the stream closed".into());
    }
    let expected = target.expected.then_some(target.term);
    let ids_queue = succession::expect(Request::new(ReceiverStream::new(ids_queue)), expected);
    let submit_queue =
        succession::expect(Request::new(ReceiverStream::new(submit_queue)), expected);
    tokio::select! { biased;
        end = hear_outcomes(shared, grpc.clone(), ids_queue) => end,
        end = hear_answers(shared, grpc.clone(), submit_queue) => end,
        problem = say_ids(shared, &ids) => End::Broken(problem),
        problem = say_tasks(shared, &submit) => End::Broken(problem),
        end = look_around(shared, target) => end,
        found = await_successor(shared, target) => End::Moved(Box::new(found)),
        found = await_successor(shared, target) => End::Moved(Box::new(found)),
        () = flush(shared, target, &submit, &ids) => End::Closed,
    }
}

/// What the end of a stream means: the next leader may be named.
fn ended(shared: &Shared, status: &tonic::Status) -> End {
    match named_in(status).filter(|_| !shared.options.pinned) {
        Some(leader) => End::Moved(Box::new(leader.into())),
        None => End::Broken(describe(status)),
    }
}

async fn hear_outcomes(
    shared: &Arc<Shared>,
    mut grpc: Grpc,
    ids: Request<ReceiverStream<OutcomesRequest>>,
) -> End {
    let mut stream = match tokio::time::timeout(OPEN_TIMEOUT, grpc.outcomes(ids)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(shared, &status),
        Err(_) => return End::Broken(format!("no Outcomes stream within {OPEN_TIMEOUT:?}")),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                shared.heard.fetch_add(1, Ordering::Relaxed);
                let (settlements, fetches) = {
                    let mut table = lock(&shared.table);
                    let arrived = table.on_outcomes(message);
                    table.wake_waiting(&shared.room);
                    arrived
                };
                settle_all(settlements);
                for fetch in fetches {
                    tokio::spawn(fetch_and_settle(shared.clone(), fetch));
                }
                shared.ids_ready.notify_one();
            }
            Ok(None) => return End::Broken("the node ended the Outcomes stream".into()),
            Err(status) => return ended(shared, &status),
        }
    }
}

async fn hear_answers(
    shared: &Shared,
    mut grpc: Grpc,
    batches: Request<ReceiverStream<SubmitRequest>>,
) -> End {
    // A server may wait for the first batch before it answers, so opening has no bound of its own here.
    let mut stream = match grpc.submit(batches).await {
        Ok(response) => response.into_inner(),
        Err(status) => return ended(shared, &status),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                shared.heard.fetch_add(1, Ordering::Relaxed);
                let answered = {
                    let mut table = lock(&shared.table);
                    let answered = table.on_answer(message);
                    table.wake_waiting(&shared.room);
                    answered
                };
                settle_all(answered.settlements);
                if answered.follow {
                    shared.ids_ready.notify_one();
                }
                if answered.requeued {
                    shared.tasks_ready.notify_one();
                }
                if answered.deferred {
                    shared.deferred.notify_one();
                }
            }
            Ok(None) => return End::Broken("the node ended the Submit stream".into()),
            Err(status) => return ended(shared, &status),
        }
    }
}

async fn say_tasks(shared: &Shared, submit: &mpsc::Sender<SubmitRequest>) -> String {
    let session = session_bytes(shared.session);
    say(submit, &shared.tasks_ready, || lock(&shared.table).take_batch(&session)).await
}

async fn say_ids(shared: &Shared, ids: &mpsc::Sender<OutcomesRequest>) -> String {
    let session = session_bytes(shared.session);
    say(ids, &shared.ids_ready, || lock(&shared.table).take_ids(&session)).await
}

/// Sends what `take` finds, whenever `ready` says so; returns why it ended.
async fn say<T>(to: &mpsc::Sender<T>, ready: &Notify, take: impl Fn() -> Option<T>) -> String {
    loop {
        // A place first, then the batch: whatever queues up meanwhile travels in the same message.
        let Ok(place) = to.reserve().await else { return "the stream closed".into() };
        match take() {
            Some(message) => place.send(message),
            None => {
                drop(place);
                ready.notified().await;
            }
        }
    }
}

/// Returns once another node leads, as soon as one node, another one each time, has heard of it. Two of these run, as
/// one of the nodes asked may be gone too.
async fn await_successor(shared: &Shared, target: &Found) -> Found {
    if shared.options.pinned {
        std::future::pending::<()>().await;
    }
    // Whoever has voted knows the next term before it hears the next leader: asking for a later one would miss it.
    let mut term = target.known_term();
    let mut backoff = Backoff::new();
    let clock = Clock::start();
    loop {
        let asked = clock.now();
        if let Some(address) = shared.peers.another(&target.address)
            && let Ok(status) = shared.peers.await_leader(&address, term, QUESTION).await
        {
            // It leads as expected: who asks for its term again is answered at once, and who asks often waits long.
            let leads = status.leader_node == target.node.0 && status.term >= target.term;
            if leads && term < target.term {
                term = target.term;
                backoff.reset();
                continue;
            }
            // A leader that was replaced may not know it yet.
            if let Some(found) = leader_in(&Respondent { address, status }, Some(term))
                && found.term > term
                && found.node != target.node
            {
                return found;
            }
        }
        if clock.now().since(asked) >= QUESTION / 2 {
            backoff.reset();
            continue;
        }
        let wait = lock(&shared.identity).jitter(backoff.step());
        tokio::time::sleep(wait).await;
    }
}

/// Learns members once a second, tries deferred tasks again, and notices a leader elsewhere or a node gone silent.
async fn look_around(shared: &Shared, target: &Found) -> End {
    let clock = Clock::start();
    let mut backoff = Backoff::new();
    let mut heard = shared.heard.load(Ordering::Relaxed);
    let (mut misses, mut patience, mut asked) = (0, TICK, clock.now());
    loop {
        let retry = tokio::select! { biased;
            () = shared.deferred.notified() => true,
            () = tokio::time::sleep(TICK) => false,
        };
        let now_heard = shared.heard.load(Ordering::Relaxed);
        let silent = now_heard == heard && !lock(&shared.table).entries.is_empty();
        heard = now_heard;
        if retry {
            let wait = lock(&shared.identity).jitter(backoff.step());
            tokio::time::sleep(wait).await;
        } else {
            backoff.reset();
            let wait = if silent { patience } else { REFRESH };
            if clock.now().since(asked) < wait {
                continue;
            }
            patience = if silent { (patience * 2).min(REFRESH) } else { TICK };
        }
        asked = clock.now();
        match look_once(shared, target, silent && !retry).await {
            Look::Leader(found) => return End::Moved(found),
            Look::Fine => misses = 0,
            Look::Missed(_) if misses + 1 < MISSES => misses += 1,
            Look::Missed(problem) => return End::Broken(problem),
        }
        if lock(&shared.table).requeue_deferred() {
            shared.tasks_ready.notify_one();
        }
    }
}

enum Look {
    Fine,
    Leader(Box<Found>),
    Missed(String),
}

async fn look_once(shared: &Shared, target: &Found, silent: bool) -> Look {
    let here = shared.peers.status(&target.address, STATUS_TIMEOUT);
    // A frozen leader answers nothing and its followers know better.
    let there = async {
        let other = shared.peers.another(&target.address).filter(|_| silent)?;
        shared.peers.status(&other, STATUS_TIMEOUT).await.ok()
    };
    let (here, there) =
        if shared.options.pinned { (here.await, None) } else { tokio::join!(here, there) };
    if let Ok(status) = &here {
        shared.note_leader(status);
    }
    let views = [here.as_ref().ok(), there.as_ref()];
    for view in views.into_iter().flatten().filter(|_| !shared.options.pinned) {
        let elsewhere = view.leader_node != 0 && view.leader_node != target.node.0;
        if !elsewhere || view.leader_address.is_empty() {
            continue;
        }
        let address = view.leader_address.clone();
        if let Ok(status) = shared.peers.status(&address, STATUS_TIMEOUT).await
            && leads(&status)
        {
            return Look::Leader(Box::new((&Respondent { address, status }).into()));
        }
    }
    match here {
        Ok(_) => Look::Fine,
        Err(problem) => Look::Missed(problem),
    }
}

/// Returns once the client closes and everything queued was written, or after a bounded time.
async fn flush(
    shared: &Shared,
    target: &Found,
    submit: &mpsc::Sender<SubmitRequest>,
    ids: &mpsc::Sender<OutcomesRequest>,
) {
    if shared.closing.acquire().await.is_ok() {
        return;
    }
    let written = async {
        loop {
            shared.tasks_ready.notify_one();
            shared.ids_ready.notify_one();
            let waiting = {
                let table = lock(&shared.table);
                !table.queue.is_empty() || !table.acknowledge.is_empty()
            };
            let in_transport = submit.capacity() < STREAM_DEPTH || ids.capacity() < STREAM_DEPTH;
            if !waiting && !in_transport {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // An answer on the same connection: what was written before has left this machine.
        let _ = shared.peers.status(&target.address, FLUSH).await;
    };
    let _ = tokio::time::timeout(FLUSH, written).await;
}
