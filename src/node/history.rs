//! Keeps the last records of one node, stamped with order, time and author, for snapshots and Watch streams.
//!
//! Writers never wait for readers: the lock is held for one push, or while at most [`MAX_READ`] pointers are copied.
//! A reader that falls behind by more than the bound misses the oldest records and sees a gap in `seq`.

use super::clock::Clock;
use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most records handed out by one read.
pub const MAX_READ: usize = 4_096;
/// Longest `detail` kept, in bytes.
pub const MAX_DETAIL: usize = 1_024;

/// A record as its node keeps and streams it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// Its place in this node's history; the first is 1.
    pub seq: u64,
    /// Microseconds since 1970 by this node's clock; never decreases within a history.
    pub at_us: u64,
    /// The node that wrote it.
    pub node: NodeId,
    /// That node's name.
    pub node_name: Arc<str>,
    /// What happened.
    pub record: Record,
}

/// The bounded history of one node. Cheap to clone; all clones are the same history.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    node_name: Arc<str>,
    limit: usize,
    /// Each record is an event for the log too.
    aloud: bool,
    wall_us: Box<dyn Fn() -> u64 + Send + Sync>,
    grown: Notify,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<Arc<Stamped>>,
    last_seq: u64,
    last_at_us: u64,
    dropped: u64,
}

impl History {
    /// The history of `node`, with at most `limit` records (`limits.events`).
    pub fn new(node: NodeId, node_name: &str, limit: u64) -> Self {
        History::build(node, node_name, limit, true, Box::new(Clock::wall_us))
    }

    /// The same, of an imagined node, with another wall clock, in microseconds since 1970. It is not logged.
    pub fn with_clock(
        node: NodeId,
        node_name: &str,
        limit: u64,
        wall_us: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        History::build(node, node_name, limit, false, Box::new(wall_us))
    }

    fn build(
        node: NodeId,
        node_name: &str,
        limit: u64,
        aloud: bool,
        wall_us: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        let shared = Shared {
            node,
            node_name: node_name.into(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX).max(1),
            aloud,
            wall_us,
            grown: Notify::new(),
            kept: Mutex::default(),
        };
        History { shared: Arc::new(shared) }
    }

    /// Appends a record and returns its `seq`. Never waits; drops the oldest record when the history is full.
    pub fn push(&self, mut record: Record) -> u64 {
        cut(&mut record.detail);
        if self.shared.aloud {
            log(&self.shared.node_name, &record);
        }
        let now = (self.shared.wall_us)();
        let mut kept = self.kept();
        kept.last_seq += 1;
        kept.last_at_us = kept.last_at_us.max(now);
        let seq = kept.last_seq;
        let stamped = Stamped {
            seq,
            at_us: kept.last_at_us,
            node: self.shared.node,
            node_name: Arc::clone(&self.shared.node_name),
            record,
        };
        if kept.records.len() >= self.shared.limit {
            kept.records.pop_front();
            kept.dropped += 1;
        }
        kept.records.push_back(Arc::new(stamped));
        drop(kept);
        self.shared.grown.notify_waiters();
        seq
    }

    /// The oldest records whose `seq` is greater than `after`, at most `limit` and [`MAX_READ`], and the `after` of the
    /// next read.
    pub fn after(&self, after: u64, limit: usize) -> (Vec<Arc<Stamped>>, u64) {
        let kept = self.kept();
        let first = kept.last_seq + 1 - kept.records.len() as u64;
        let skip =
            usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let records: Vec<_> =
            kept.records.iter().skip(skip).take(limit.min(MAX_READ)).map(Arc::clone).collect();
        let next = records.last().map_or(after, |last| last.seq);
        (records, next)
    }

    /// Waits until there is a record after `after`.
    pub async fn grown(&self, after: u64) {
        loop {
            // Registered before the look, so that no push in between is missed.
            let mut grown = pin!(self.shared.grown.notified());
            grown.as_mut().enable();
            if self.last_seq() > after {
                return;
            }
            grown.await;
        }
    }

    /// The `seq` of the newest record; 0 if there is none yet.
    pub fn last_seq(&self) -> u64 {
        self.kept().last_seq
    }

    /// How many records were dropped to stay within the bound.
    pub fn dropped(&self) -> u64 {
        self.kept().dropped
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds the lock; if it did, the rows are still rows.
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("History")
            .field("node", &self.shared.node_name)
            .field("last_seq", &kept.last_seq)
            .field("kept", &kept.records.len())
            .field("dropped", &kept.dropped)
            .finish()
    }
}

/// A record as an event of the log. What comes by the thousand is for whoever looks for a fault.
fn log(node: &str, record: &Record) {
    use RecordKind as K;
    const TARGET: &str = "hustings::events";
    let Record { kind, term, subject, task, detail, .. } = record;
    let task = task.map(tracing::field::display);
    let (kind, subject) =
        (kind.as_str(), (subject.0 != 0).then(|| tracing::field::display(subject)));
    match record.kind {
        K::Scored | K::Loaded | K::Stolen | K::Retried | K::Reassigned | K::LateCompletion => {
            tracing::debug!(target: TARGET, term, subject, task, detail, "{node} {kind}");
        }
        K::StorageFailed => tracing::error!(target: TARGET, detail, "{node} {kind}"),
        _ => tracing::info!(target: TARGET, term, subject, detail, "{node} {kind}"),
    }
}

/// Cuts `text` to [`MAX_DETAIL`] bytes at a character.
fn cut(text: &mut String) {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn history(limit: u64) -> History {
        let ticks = AtomicU64::new(0);
        History::with_clock(NodeId(7), "n7", limit, move || ticks.fetch_add(10, Ordering::Relaxed))
    }

    fn row(value: f64) -> Record {
        Record::new(RecordKind::Scored).value(value)
    }

    fn seqs(read: &(Vec<Arc<Stamped>>, u64)) -> Vec<u64> {
        read.0.iter().map(|stamped| stamped.seq).collect()
    }

    #[test]
    fn records_are_stamped_in_order() {
        let history = history(10);
        assert_eq!((history.push(row(1.0)), history.push(row(2.0))), (1, 2));
        let (records, next) = history.after(0, 10);
        assert_eq!(next, 2);
        let expected = Stamped {
            seq: 2,
            at_us: 10,
            node: NodeId(7),
            node_name: "n7".into(),
            record: row(2.0),
        };
        assert_eq!(*records[1], expected);
    }

    #[test]
    fn reading_goes_on_where_it_ended() {
        let history = history(10);
        for n in 0..5 {
            history.push(row(n as f64));
        }
        let read = history.after(0, 2);
        assert_eq!((seqs(&read), read.1), (vec![1, 2], 2));
        let read = history.after(2, 2);
        assert_eq!((seqs(&read), read.1), (vec![3, 4], 4));
        let read = history.after(4, 2);
        assert_eq!((seqs(&read), read.1), (vec![5], 5));
        for after in [5, 99, u64::MAX] {
            assert_eq!(history.after(after, 2), (vec![], after));
        }
        assert_eq!(history.after(0, 0), (vec![], 0));
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let history = history(3);
        for n in 0..10 {
            history.push(row(n as f64));
        }
        assert_eq!(history.dropped(), 7);
        let read = history.after(0, 10);
        assert_eq!((seqs(&read), read.1), (vec![8, 9, 10], 10));
        let read = history.after(8, 10);
        assert_eq!(seqs(&read), vec![9, 10]);
    }

    #[test]
    fn one_read_is_bounded() {
        let history = history(100_000);
        for n in 0..MAX_READ + 1 {
            history.push(row(n as f64));
        }
        assert_eq!(history.after(0, usize::MAX).0.len(), MAX_READ);
    }

    #[test]
    fn a_clock_set_back_does_not_reorder() {
        let times = Mutex::new(vec![5, 3, 9]);
        let history = History::with_clock(NodeId(1), "n1", 10, move || {
            times.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(0)
        });
        let at: Vec<u64> = (0..3)
            .map(|_| history.push(row(0.0)))
            .map(|seq| history.after(seq - 1, 1).0[0].at_us)
            .collect();
        assert_eq!(at, [9, 9, 9]);
    }

    #[test]
    fn long_details_are_cut_at_a_character() {
        let history = history(10);
        history.push(row(0.0).detail("é".repeat(MAX_DETAIL)));
        history.push(row(0.0).detail(format!("x{}", "é".repeat(MAX_DETAIL))));
        let (records, _) = history.after(0, 2);
        assert_eq!(records[0].record.detail.len(), MAX_DETAIL);
        assert_eq!(records[1].record.detail.len(), MAX_DETAIL - 1);
    }

    #[tokio::test]
    async fn a_watcher_wakes_for_what_it_has_not_seen() {
        let history = history(10);
        history.push(row(0.0));
        history.grown(0).await;
        let watcher = tokio::spawn({
            let history = history.clone();
            async move {
                let mut seen = 1;
                while seen < 100 {
                    history.grown(seen).await;
                    seen = history.after(seen, 10).1;
                }
                seen
            }
        });
        for n in 1..100 {
            history.push(row(n as f64));
            tokio::task::yield_now().await;
        }
        assert_eq!(watcher.await.ok(), Some(100));
    }
}
