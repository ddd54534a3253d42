//! Hands out indices of handles in the order they settle; one wake-up serves many.

use super::handle::Handle;
use super::lock;
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

#[derive(Default)]
struct Ready {
    indices: VecDeque<usize>,
    threads: u32,
}

struct Inner {
    ready: Mutex<Ready>,
    filled: Condvar,
}

/// One handle's place in a queue; it does not keep the queue alive.
pub(super) struct Slot {
    queue: Weak<Inner>,
    index: usize,
}

impl Slot {
    pub(super) fn fill(self) {
        let Some(queue) = self.queue.upgrade() else { return };
        let mut ready = lock(&queue.ready);
        ready.indices.push_back(self.index);
        if ready.threads > 0 {
            queue.filled.notify_one();
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.queue.strong_count() == 0
    }
}

/// Yields the indices of the handles it was made with, as they settle.
pub struct CompletionQueue {
    inner: Arc<Inner>,
}

impl CompletionQueue {
    /// A queue over `handles`; each index comes out once.
    pub fn new<'a>(handles: impl Iterator<Item = &'a Handle>) -> Result<Self> {
        let inner = Arc::new(Inner { ready: Mutex::default(), filled: Condvar::new() });
        for (index, handle) in handles.enumerate() {
            handle.enqueue_on_settled(Slot { queue: Arc::downgrade(&inner), index })?;
        }
        Ok(CompletionQueue { inner })
    }

    /// The next settled index; `None` if none settles within `at_most`.
    pub fn next(&self, at_most: Duration) -> Option<usize> {
        let mut ready = lock(&self.inner.ready);
        if ready.indices.is_empty() && !at_most.is_zero() {
            ready.threads += 1;
            let (woken, _) = self
                .inner
                .filled
                .wait_timeout_while(ready, at_most, |ready| ready.indices.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            ready = woken;
            ready.threads -= 1;
        }
        ready.indices.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::Settled;
    use super::*;
    use crate::core::ids::TaskId;
    use crate::error::Error;

    #[test]
    fn indices_come_in_the_order_of_settling() {
        let handles: Vec<_> = (0..3).map(|i| Handle::new(TaskId(i))).collect();
        let stopped = || Settled::Failed(Error::Stopped { what: "client".into() });
        handles[2].settle(stopped());
        let queue = CompletionQueue::new(handles.iter()).unwrap();
        handles[0].settle(stopped());
        assert_eq!(queue.next(Duration::ZERO), Some(2));
        assert_eq!(queue.next(Duration::ZERO), Some(0));
        assert_eq!(queue.next(Duration::ZERO), None);
        drop(queue);
        handles[1].settle(stopped());
    }

    #[test]
    fn dropped_queues_leave_nothing_behind() {
        let handle = Handle::new(TaskId(1));
        for _ in 0..super::super::handle::MAX_WATCHERS * 2 {
            CompletionQueue::new(std::iter::once(&handle)).unwrap();
        }
    }
}
