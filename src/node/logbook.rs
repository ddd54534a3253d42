//! What this process has to say to people, line by line: one bounded queue, which nobody who writes into it waits for.
//!
//! ```text
//!   what tasks print, what nodes do ──▶ Logbook ──▶ one thread, that of `src/python/logs.rs`, into Python's `logging`
//! ```
//! There is one for the whole process, as there is one `logging`. Until somebody reads it, it takes nothing.

use crate::core::ids::TaskId;
use crate::node::clock::Clock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Lines that may wait.
pub const MAX_LINES: usize = 10_000;
/// Their bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Of both bounds, what tasks may take: a task that talks without end must not silence its node.
const TASKS_SHARE: usize = 2;
/// What a line costs beside its text.
const OVERHEAD: usize = 128;

/// Levels, as Python's `logging` numbers them.
pub mod level {
    /// For whoever looks for a fault.
    pub const DEBUG: u8 = 10;
    /// What happened.
    pub const INFO: u8 = 20;
    /// Something is not as it should be.
    pub const WARNING: u8 = 30;
    /// Something failed.
    pub const ERROR: u8 = 40;
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As in [`level`].
    pub level: u8,
    /// The logger it belongs to: `hustings.` and so on.
    pub logger: String,
    /// What is said.
    pub text: String,
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// The attempt that said it.
    pub said_by: Option<Speaker>,
}

/// The attempt behind a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Speaker {
    /// Its node.
    pub node: Arc<str>,
    /// Its task.
    pub task: TaskId,
    /// Counted from 1; 0: a runner said it that had no task.
    pub attempt: u32,
    /// `stdout`, `stderr` or `log`.
    pub stream: &'static str,
}

impl Line {
    /// A line of this moment.
    pub fn new(level: u8, logger: impl Into<String>, text: impl Into<String>) -> Self {
        let (logger, text) = (logger.into(), text.into());
        Line { level, logger, text, at_us: Clock::wall_us(), said_by: None }
    }

    fn cost(&self) -> usize {
        self.text.len() + self.logger.len() + OVERHEAD
    }
}

/// What a reader gets at once.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// In the order in which they were written.
    pub lines: VecDeque<Line>,
    /// How many there was no room for since the last page.
    pub dropped: u64,
}

#[derive(Default)]
struct Queue {
    page: Page,
    bytes: usize,
    /// Of them, those of tasks: lines and bytes.
    tasks: (usize, usize),
    waiting: bool,
}

/// A bounded queue of lines.
pub struct Logbook {
    /// Somebody reads.
    open: AtomicBool,
    queue: Mutex<Queue>,
    filled: Condvar,
    dropped: AtomicU64,
}

/// That of this process.
pub static LOGBOOK: Logbook = Logbook::new();

impl Logbook {
    /// An empty one that nobody reads.
    pub const fn new() -> Self {
        let page = Page { lines: VecDeque::new(), dropped: 0 };
        Logbook {
            open: AtomicBool::new(false),
            queue: Mutex::new(Queue { page, bytes: 0, tasks: (0, 0), waiting: false }),
            filled: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// From now on somebody reads.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Nobody reads any more: whoever waits in [`Logbook::read`] is woken. Only an atomic is written, so that a forked
    /// child may call it, which may hold any lock.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// As [`Logbook::close`], and wakes the reader, who gets what is left.
    pub fn close_and_wake(&self) {
        self.close();
        let _queue = self.lock();
        self.filled.notify_all();
    }

    /// Whether somebody reads.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Writes a line, if there is room; else it is counted. Never waits.
    pub fn write(&self, line: Line) {
        if !self.is_open() {
            return;
        }
        let (cost, of_task) = (line.cost(), line.said_by.is_some());
        let mut queue = self.lock();
        let full = queue.page.lines.len() >= MAX_LINES || queue.bytes + cost > MAX_BYTES;
        let tasks_full = queue.tasks.0 >= MAX_LINES / TASKS_SHARE
            || queue.tasks.1 + cost > MAX_BYTES / TASKS_SHARE;
        if full || (of_task && tasks_full) {
            queue.page.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            queue.bytes += cost;
            if of_task {
                queue.tasks = (queue.tasks.0 + 1, queue.tasks.1 + cost);
            }
            queue.page.lines.push_back(line);
        }
        if queue.waiting {
            self.filled.notify_one();
        }
    }

    /// How many lines there was no room for since the process started.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until there is something to read; `None` once it is closed and empty.
    pub fn read(&self) -> Option<Page> {
        let mut queue = self.lock();
        queue.waiting = true;
        let silent =
            |queue: &mut Queue| queue.page == Page::default() && self.open.load(Ordering::Acquire);
        let mut queue =
            self.filled.wait_while(queue, silent).unwrap_or_else(PoisonError::into_inner);
        queue.waiting = false;
        (queue.bytes, queue.tasks) = (0, (0, 0));
        let page = std::mem::take(&mut queue.page);
        (page != Page::default()).then_some(page)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Logbook {
    fn default() -> Self {
        Logbook::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, of_task: bool) -> Line {
        let said_by = of_task.then(|| Speaker {
            node: "n1".into(),
            task: TaskId(1),
            attempt: 1,
            stream: "stdout",
        });
        Line { said_by, ..Line::new(level::INFO, "hustings.test", text) }
    }

    #[test]
    fn nothing_is_kept_while_nobody_reads() {
        let book = Logbook::new();
        book.write(line("lost", false));
        book.open();
        book.write(line("kept", false));
        let page = book.read().unwrap();
        assert_eq!((page.lines.len(), page.dropped), (1, 0));
        assert_eq!(page.lines[0].text, "kept");
    }

    #[test]
    fn a_talking_task_leaves_room_for_its_node_and_what_is_dropped_is_counted() {
        let book = Logbook::new();
        book.open();
        for _ in 0..MAX_LINES {
            book.write(line("t", true));
        }
        for _ in 0..MAX_LINES {
            book.write(line("n", false));
        }
        let page = book.read().unwrap();
        let of_tasks = page.lines.iter().filter(|line| line.said_by.is_some()).count();
        assert_eq!((page.lines.len(), of_tasks), (MAX_LINES, MAX_LINES / TASKS_SHARE));
        assert_eq!(page.dropped, MAX_LINES as u64);
        assert_eq!(book.dropped_in_all(), MAX_LINES as u64);
        book.write(line("again", true));
        assert_eq!(book.read().unwrap().dropped, 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let book = Logbook::new();
        book.open();
        let long = "x".repeat(MAX_BYTES / 4);
        (0..5).for_each(|_| book.write(line(&long, false)));
        let page = book.read().unwrap();
        assert_eq!((page.lines.len(), page.dropped), (3, 2));
    }

    #[test]
    fn a_reader_is_woken_by_a_line_and_by_the_end() {
        let book = Arc::new(Logbook::new());
        book.open();
        let reader = std::thread::spawn({
            let book = book.clone();
            move || std::iter::from_fn(|| book.read()).map(|page| page.lines.len()).sum::<usize>()
        });
        book.write(line("a", false));
        book.close_and_wake();
        assert_eq!(reader.join().unwrap(), 1);
    }
}
