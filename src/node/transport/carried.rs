//! A stream through a gate: its words come late, in order and whole; while no fault is set it is the stream itself.

use super::gate::{Direction, Gate, RECHECK};
use crate::core::Moment;
use crate::node::faults::Passage;
use futures::{Stream, StreamExt};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Words held back at most; past that the stream behind is not read.
pub const MAX_HELD: usize = 256;
/// A lost word is sent again after this: TCP's least retransmission timeout.
pub const RESEND: Duration = Duration::from_millis(200);

/// See the file's first sentence.
pub struct Carried<S: Stream> {
    inner: S,
    gate: Gate,
    direction: Direction,
    held: VecDeque<Held<S::Item>>,
    ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Held<T> {
    word: T,
    due: Moment,
    /// When due it is sent again instead of arriving.
    lost: bool,
}

// Nothing in it is pinned in place: the timer has a place of its own.
impl<S: Stream + Unpin> Unpin for Carried<S> {}

impl<S: Stream + Unpin> Carried<S> {
    /// The words of `inner` as `direction` carries them.
    pub fn new(gate: Gate, direction: Direction, inner: S) -> Self {
        Carried { inner, gate, direction, held: VecDeque::new(), ended: false, timer: None }
    }

    /// Takes in what is ready; `Some` is a word that nothing holds back.
    fn take_in(&mut self, context: &mut Context<'_>) -> Option<S::Item> {
        while !self.ended && self.held.len() < MAX_HELD {
            match self.inner.poll_next_unpin(context) {
                Poll::Ready(Some(word)) if self.held.is_empty() && self.gate.is_quiet() => {
                    return Some(word);
                }
                Poll::Ready(Some(word)) => {
                    let (due, lost) = self.send();
                    self.held.push_back(Held { word, due, lost });
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => return None,
            }
        }
        None
    }

    /// When a word sent now arrives, or is found lost.
    fn send(&self) -> (Moment, bool) {
        let now = self.gate.clock().now();
        let Direction { from, to, .. } = self.direction;
        match self.gate.draw(self.direction) {
            Passage::After(delay) => (now.after(delay), false),
            // A cut that heals lets the words through at once; a real connection may take a while longer.
            Passage::Lost if self.gate.board().fault(from, to).cut => (now.after(RECHECK), true),
            Passage::Lost => (now.after(RESEND), true),
        }
    }

    /// The first word held back, if it may arrive now.
    fn let_out(&mut self) -> Option<S::Item> {
        if !self.gate.is_quiet() {
            let now = self.gate.clock().now();
            while let Some(first) = self.held.front().filter(|first| first.due <= now) {
                if !first.lost {
                    break;
                }
                let (due, lost) = self.send();
                if let Some(first) = self.held.front_mut() {
                    (first.due, first.lost) = (due, lost);
                }
            }
            if self.held.front().is_some_and(|first| first.due > now) {
                return None;
            }
        }
        self.held.pop_front().map(|held| held.word)
    }
}

impl<S: Stream + Unpin> Stream for Carried<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        if let Some(word) = this.take_in(context) {
            return Poll::Ready(Some(word));
        }
        loop {
            if let Some(word) = this.let_out() {
                this.timer = None;
                return Poll::Ready(Some(word));
            }
            let Some(first) = this.held.front() else {
                return if this.ended { Poll::Ready(None) } else { Poll::Pending };
            };
            // A fault that is mended is noticed within this time, however long the delay was.
            let wait = first.due.since(this.gate.clock().now()).clamp(MS, RECHECK);
            let timer = this.timer.insert(Box::pin(tokio::time::sleep(wait)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// The least sleep of tokio's timers.
const MS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::NodeId;
    use crate::node::faults::{LinkFault, Switchboard};
    use futures::stream;
    use std::sync::Arc;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn fault(change: impl FnOnce(&mut LinkFault)) -> LinkFault {
        let mut fault = LinkFault::default();
        change(&mut fault);
        fault
    }

    fn gate() -> (Arc<Switchboard>, Gate) {
        let board = Arc::new(Switchboard::default());
        (board.clone(), Gate::new(A, board))
    }

    /// What arrived of the numbers 0..5 within `ms`.
    async fn arrived<S: Stream<Item = u32> + Unpin>(stream: &mut S, ms: u64) -> Vec<u32> {
        let mut words = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(ms), async {
            while let Some(word) = stream.next().await {
                words.push(word);
            }
        })
        .await;
        words
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fault_it_is_the_stream_itself() {
        let (_, gate) = gate();
        assert_eq!(gate.spoken(B, stream::iter(0..5)).collect::<Vec<_>>().await, [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_moves_the_whole_stream_and_keeps_its_order() {
        let (board, gate) = gate();
        let slow = |f: &mut LinkFault| (f.delay, f.jitter) = (MS * 100, MS * 50);
        board.set(A, B, fault(slow)).unwrap();
        let mut words = gate.spoken(B, stream::iter(0..5));
        assert!(arrived(&mut words, 99).await.is_empty());
        // All were sent together, so they need not wait for each other.
        assert_eq!(arrived(&mut words, 52 + 2).await, [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_holds_words_back_and_a_bound_holds_the_speaker_back() {
        let (board, gate) = gate();
        board.set(A, B, fault(|f| f.cut = true)).unwrap();
        let mut words = gate.spoken(B, stream::iter(0..1_000));
        assert!(arrived(&mut words, 5_000).await.is_empty());
        assert_eq!(words.held.len(), MAX_HELD);
        board.heal();
        assert_eq!(arrived(&mut words, 5_000).await.len(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_sent_again() {
        let (board, gate) = gate();
        board.set(A, B, fault(|f| f.drop_ratio = 0.5)).unwrap();
        let mut words = gate.spoken(B, stream::iter(0..20));
        assert_eq!(arrived(&mut words, 60_000).await, (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_is_deaf_to_whom_it_is_cut_from_and_counts_no_delay_twice() {
        let (board, gate) = gate();
        board.set(B, A, fault(|f| (f.cut, f.delay) = (true, MS * 500))).unwrap();
        let mut words = gate.heard(B, stream::iter(0..5));
        assert!(arrived(&mut words, 1_000).await.is_empty());
        board.set(B, A, fault(|f| f.delay = MS * 500)).unwrap();
        assert_eq!(arrived(&mut words, 50).await, [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn lone_messages_pass_late_or_not_at_all() {
        let (board, gate) = gate();
        assert!(gate.speak(B).await && gate.hear(B).await && gate.answer(B).await);
        board.set(A, B, fault(|f| f.cut = true)).unwrap();
        assert!(!gate.speak(B).await && gate.hear(B).await && !gate.answer(B).await);
        assert!(gate.is_cut(B));
        board.set(A, B, fault(|f| f.delay = MS * 5)).unwrap();
        let before = gate.clock().now();
        assert!(gate.speak(B).await);
        assert!(gate.clock().now().since(before) >= MS * 5);
        assert!(!gate.is_cut(B));
    }
}
