//! One long stream of heartbeats to one peer: questions go out in order, answers come back in order.
//!
//! ```text
//!   ask ──▶ [waiting: oldest first] ──one stream──▶ peer      an answer belongs to the oldest that waits
//!           too many wait, or the stream ends ──▶ all who wait are told, and the next one opens another stream
//! ```
//! A late answer thus reaches the one who asked, who may have given up, and never anybody else.

use super::grpc_peers::unreachable;
use super::peers::{AppendReplies, PeerError, Reply, Target};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Heartbeats that may wait for an answer. With more the peer is frozen, or the stream lost: it is given up.
const MAX_WAITING: usize = 8;
/// How long one waits.
const ANSWER_TTL: Duration = Duration::from_millis(200);

type Answer = Result<Bytes, PeerError>;

/// Those who wait, oldest first; `None` once the stream has ended.
type Waiting = Arc<Mutex<Option<VecDeque<oneshot::Sender<Answer>>>>>;

/// The stream to one peer; opened by the first heartbeat, and again by the first one after its end.
pub struct Beats {
    to: Target,
    line: Mutex<Option<Line>>,
}

/// An open stream.
struct Line {
    // Bounded by those who wait.
    requests: mpsc::UnboundedSender<Bytes>,
    waiting: Waiting,
    pump: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

// Queues and options, changed in one step each: whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Beats {
    /// No stream yet.
    pub fn new(to: Target) -> Self {
        Beats { to, line: Mutex::default() }
    }

    /// Sends one heartbeat and awaits its answer, for a bounded time. `open` is called if there is no stream.
    pub async fn ask(
        &self,
        raft: Bytes,
        open: impl FnOnce(BoxStream<'static, Bytes>) -> Reply<AppendReplies>,
    ) -> Answer {
        let answer = self.send(raft, open);
        match tokio::time::timeout(ANSWER_TTL, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unreachable(&self.to, "the stream of heartbeats broke")),
            Err(_) => Err(unreachable(&self.to, &format!("no answer within {ANSWER_TTL:?}"))),
        }
    }

    fn send(
        &self,
        raft: Bytes,
        open: impl FnOnce(BoxStream<'static, Bytes>) -> Reply<AppendReplies>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        // Held over both steps, so that the order of those who wait is the order on the stream.
        let mut line = lock(&self.line);
        if line.as_ref().is_some_and(|line| !line.has_room()) {
            *line = None;
        }
        let line = line.get_or_insert_with(|| Line::open(open));
        if let Some(waiting) = lock(&line.waiting).as_mut() {
            waiting.push_back(answer);
            let _ = line.requests.send(raft);
        }
        answered
    }
}

impl Line {
    fn open(open: impl FnOnce(BoxStream<'static, Bytes>) -> Reply<AppendReplies>) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let waiting: Waiting = Arc::new(Mutex::new(Some(VecDeque::with_capacity(MAX_WAITING))));
        let replies = open(UnboundedReceiverStream::new(outgoing).boxed());
        let pump = tokio::spawn(pump(replies, waiting.clone())).abort_handle();
        Line { requests, waiting, pump }
    }

    fn has_room(&self) -> bool {
        lock(&self.waiting).as_ref().is_some_and(|waiting| waiting.len() < MAX_WAITING)
    }
}

/// Gives every answer to the oldest who waits, until the stream ends; then its reason to all.
async fn pump(replies: Reply<AppendReplies>, waiting: Waiting) {
    let problem = match replies.await {
        Ok(mut replies) => loop {
            match replies.next().await {
                Some(Ok(raft)) => {
                    let asked = lock(&waiting).as_mut().and_then(VecDeque::pop_front);
                    // Who gave up does not listen any more. An answer nobody asked for ends the stream.
                    let Some(asked) = asked else { break None };
                    let _ = asked.send(Ok(raft));
                }
                Some(Err(problem)) => break Some(problem),
                None => break None,
            }
        },
        Err(problem) => Some(problem),
    };
    for asked in lock(&waiting).take().unwrap_or_default() {
        if let Some(problem) = &problem {
            let _ = asked.send(Err(problem.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::NodeId;
    use futures::FutureExt;

    /// The far end: what was asked, the way to answer, and how often a stream was opened.
    #[derive(Clone, Default)]
    struct Peer {
        streams: Arc<Mutex<Vec<FarEnd>>>,
    }

    struct FarEnd {
        asked: BoxStream<'static, Bytes>,
        answers: mpsc::UnboundedSender<Answer>,
    }

    impl Peer {
        fn opener(&self) -> impl FnOnce(BoxStream<'static, Bytes>) -> Reply<AppendReplies> + use<> {
            let streams = self.streams.clone();
            move |asked| {
                let (answers, replies) = mpsc::unbounded_channel();
                lock(&streams).push(FarEnd { asked, answers });
                async move { Ok(UnboundedReceiverStream::new(replies).boxed()) }.boxed()
            }
        }

        fn opened(&self) -> usize {
            lock(&self.streams).len()
        }

        fn next_asked(&self, stream: usize) -> Option<Bytes> {
            lock(&self.streams)[stream].asked.next().now_or_never().flatten()
        }

        fn answer(&self, stream: usize, answer: Answer) {
            let _ = lock(&self.streams)[stream].answers.send(answer);
        }
    }

    fn beats() -> Arc<Beats> {
        Arc::new(Beats::new(Target { node: NodeId(2), address: "there:1".into() }))
    }

    fn bytes(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    fn ask(beats: &Arc<Beats>, peer: &Peer, n: u8) -> tokio::task::JoinHandle<Answer> {
        let (beats, open) = (beats.clone(), peer.opener());
        tokio::spawn(async move { beats.ask(bytes(n), open).await })
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_one_stream_and_each_gets_its_own_answer() {
        let (beats, peer) = (beats(), Peer::default());
        let mut asking = Vec::new();
        for n in 0..5 {
            asking.push(ask(&beats, &peer, n));
            tokio::task::yield_now().await;
        }
        for n in 0..5 {
            assert_eq!(peer.next_asked(0), Some(bytes(n)));
            peer.answer(0, Ok(bytes(n + 100)));
        }
        for (n, asked) in asking.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap(), Ok(bytes(n as u8 + 100)));
        }
        assert_eq!(peer.opened(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_nobody_elses() {
        let (beats, peer) = (beats(), Peer::default());
        let early = ask(&beats, &peer, 1);
        assert!(early.await.unwrap().is_err(), "no answer in time");
        let late = ask(&beats, &peer, 2);
        tokio::task::yield_now().await;
        peer.answer(0, Ok(bytes(101)));
        peer.answer(0, Ok(bytes(102)));
        assert_eq!(late.await.unwrap(), Ok(bytes(102)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_stream_fails_all_who_wait_and_the_next_one_opens_another() {
        let (beats, peer) = (beats(), Peer::default());
        let asking = [ask(&beats, &peer, 1), ask(&beats, &peer, 2)];
        tokio::task::yield_now().await;
        let problem = unreachable(&beats.to, "reset");
        peer.answer(0, Err(problem.clone()));
        for asked in asking {
            assert_eq!(asked.await.unwrap(), Err(problem.clone()));
        }
        let again = ask(&beats, &peer, 3);
        tokio::task::yield_now().await;
        assert_eq!((peer.opened(), peer.next_asked(1)), (2, Some(bytes(3))));
        peer.answer(1, Ok(bytes(103)));
        assert_eq!(again.await.unwrap(), Ok(bytes(103)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_peer_is_not_sent_more_than_a_bounded_number() {
        let (beats, peer) = (beats(), Peer::default());
        let mut asking = Vec::new();
        for n in 0..=MAX_WAITING as u8 {
            asking.push(ask(&beats, &peer, n));
            tokio::task::yield_now().await;
        }
        assert_eq!(peer.opened(), 2, "given up and opened anew");
        peer.answer(1, Ok(bytes(200)));
        let last = asking.pop().unwrap();
        assert_eq!(last.await.unwrap(), Ok(bytes(200)));
        for asked in asking {
            assert!(asked.await.unwrap().is_err());
        }
    }
}
