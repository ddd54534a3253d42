//! What this process runs natively: one stoppable tokio runtime and two threads that call Python, made at first use,
//! never shared with a forked child; and the interruptible way to wait for either.

use super::errors;
use super::logs::LogThread;
use super::resolver::Resolver;
use crate::error::Error;
use crate::node::client::lock;
use crate::node::clock::Clock;
use crate::node::log_events;
use crate::node::log_filter::Filter;
use crate::node::logbook::LOGBOOK;
use pyo3::prelude::*;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime.
const THREADS: usize = 2;
/// Longest uninterrupted wait: how late Ctrl-C may be noticed.
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// How long shutdown waits for nodes and clients, and then for the runtime.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// A timeout beyond this (thirty years) is no timeout.
const FOR_EVER_S: f64 = 1e9;

/// Something that is ended before the interpreter goes.
pub(super) trait Live: Send + Sync {
    /// Ends it without a long goodbye.
    fn end(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// This process' native half.
pub(super) struct Process {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    pub resolver: Arc<Resolver>,
    logs: LogThread,
    live: Mutex<Vec<Weak<dyn Live>>>,
}

/// Null before first use and in a forked child. Leaked, so that a child never runs the parent's destructors.
static PROCESS: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());
static GENERATION: AtomicU32 = AtomicU32::new(0);
static FIRST_USE: Mutex<()> = Mutex::new(());
static SHUT_DOWN: AtomicBool = AtomicBool::new(false);

/// The process' native half; made at first use, refused after `shutdown`.
pub(super) fn process(py: Python<'_>) -> PyResult<&'static Process> {
    if SHUT_DOWN.load(Ordering::Acquire) {
        return Err(errors::raise(py, Error::Stopped { what: "hustings in this process".into() }));
    }
    if let Some(process) = current() {
        return Ok(process);
    }
    // Held only between two attached threads of one process; a fork cannot happen inside.
    let _guard = lock(&FIRST_USE);
    if let Some(process) = current() {
        return Ok(process);
    }
    let filter = Filter::parse(&std::env::var("HUSTINGS_LOG").unwrap_or_default())
        .map_err(|error| errors::raise(py, error))?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("hustings")
        .enable_all()
        .build()
        .map_err(|e| errors::raise(py, Error::Runner { problem: format!("no threads: {e}") }))?;
    let process = Box::leak(Box::new(Process {
        handle: runtime.handle().clone(),
        runtime: Mutex::new(Some(runtime)),
        resolver: Arc::new(Resolver::default()),
        logs: LogThread::default(),
        live: Mutex::default(),
    }));
    // A forked child may have got the logbook while somebody wrote into it: there it stays closed.
    if generation() == 0 {
        log_events::install(filter);
        process.logs.start();
    }
    PROCESS.store(process, Ordering::Release);
    Ok(process)
}

fn current() -> Option<&'static Process> {
    // SAFETY: the pointer is null or comes from `Box::leak` above and is never freed.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

/// How many forks lie between this process and the import of the module; a counter, because asking the kernel for
/// the process id costs as much as the rest of a short call.
pub(super) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Fails unless no fork happened since `made`, when `what` was made.
pub(super) fn check_fork(py: Python<'_>, made: u32, what: &str) -> PyResult<()> {
    if made == generation() {
        return Ok(());
    }
    Err(errors::raise(py, Error::Forked { what: what.into() }))
}

/// Something native that belongs to the process that made it. A forked child never drops it: its locks may be held by
/// threads that are not there, and its sockets and children are the parent's.
pub(super) struct Resident<T> {
    value: ManuallyDrop<T>,
    generation: u32,
}

impl<T> Resident<T> {
    pub fn new(value: T) -> Self {
        Resident { value: ManuallyDrop::new(value), generation: generation() }
    }

    /// Fails in a forked child; `what` is what it is called there.
    pub fn check(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        check_fork(py, self.generation, what)
    }
}

impl<T> Deref for Resident<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Resident<T> {
    fn drop(&mut self) {
        if self.generation == generation() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// In a forked child: forgets the parent's threads, which do not exist here. Only atomics: the child may hold any lock.
pub(super) extern "C" fn forget_parent() {
    PROCESS.store(std::ptr::null_mut(), Ordering::Release);
    GENERATION.fetch_add(1, Ordering::Release);
    LOGBOOK.close();
}

/// Has every `fork` of this process call [`forget_parent`], also those that Python does not see.
pub(super) fn watch_forks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler touches atomics only. Without memory for the registration, `os.register_at_fork` remains.
        unsafe { libc::pthread_atfork(None, None, Some(forget_parent)) };
    });
}

impl Process {
    /// The runtime, for spawning.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends `live` at shutdown, if it is still there.
    pub fn register(&self, live: Weak<dyn Live>) {
        let mut list = lock(&self.live);
        list.retain(|other| other.strong_count() > 0);
        list.push(live);
    }

    /// Runs `future` on the runtime and waits for it, detached; Ctrl-C aborts it.
    pub fn block<T: Send + 'static>(
        &self,
        py: Python<'_>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> PyResult<T> {
        let cell = Arc::new(Cell { value: Mutex::new(Slot::Empty), filled: Condvar::new() });
        let filler = Filler(cell.clone());
        let task = self.handle.spawn(async move {
            let value = future.await;
            filler.fill(value);
        });
        loop {
            match py.detach(|| cell.take(SLICE)) {
                Some(Some(value)) => return Ok(value),
                Some(None) => {
                    return Err(errors::raise(py, Error::Stopped { what: "the runtime".into() }));
                }
                None => {}
            }
            if let Err(interrupt) = py.check_signals() {
                task.abort();
                return Err(interrupt);
            }
        }
    }

    /// As [`Process::block`], for what may fail.
    pub fn block_on<T: Send + 'static>(
        &self,
        py: Python<'_>,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> PyResult<T> {
        self.block(py, future)?.map_err(|error| errors::raise(py, error))
    }
}

enum Slot<T> {
    Empty,
    Full(T),
    /// The task ended without a value: it was aborted, or it panicked.
    Gone,
}

struct Cell<T> {
    value: Mutex<Slot<T>>,
    filled: Condvar,
}

impl<T> Cell<T> {
    fn take(&self, at_most: Duration) -> Option<Option<T>> {
        let slot = lock(&self.value);
        let (mut slot, _) = self
            .filled
            .wait_timeout_while(slot, at_most, |slot| matches!(slot, Slot::Empty))
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Empty => None,
            Slot::Full(value) => Some(Some(value)),
            Slot::Gone => Some(None),
        }
    }
}

struct Filler<T>(Arc<Cell<T>>);

impl<T> Filler<T> {
    fn fill(&self, value: T) {
        *lock(&self.0.value) = Slot::Full(value);
        self.0.filled.notify_all();
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.0.value);
        // A value that was taken already leaves nobody waiting.
        if matches!(*slot, Slot::Empty) {
            *slot = Slot::Gone;
            self.0.filled.notify_all();
        }
    }
}

/// Waits in slices, detached, until `poll` gives something; obeys Ctrl-C. `None`: the timeout passed.
pub(super) fn wait_sliced<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    poll: impl Fn(Duration) -> Option<T> + Sync,
) -> PyResult<Option<T>> {
    if let Some(value) = poll(Duration::ZERO) {
        return Ok(Some(value));
    }
    let clock = Clock::start();
    let end = timeout.map(|timeout| clock.now().after(timeout));
    let poll = &poll;
    loop {
        let left = end.map_or(SLICE, |end| end.since(clock.now()).min(SLICE));
        if left.is_zero() {
            return Ok(None);
        }
        if let Some(value) = py.detach(|| poll(left)) {
            return Ok(Some(value));
        }
        py.check_signals()?;
    }
}

/// A timeout as the standard library takes it: `None` waits for ever, 0 and less do not wait.
pub(super) fn parse_timeout(
    py: Python<'_>,
    name: &str,
    value: Option<f64>,
) -> PyResult<Option<Duration>> {
    match value {
        None => Ok(None),
        Some(s) if s.is_nan() => {
            let problem = "NaN is not a number of seconds; None waits for ever";
            Err(errors::raise(py, Error::config(name, problem)))
        }
        Some(s) if s >= FOR_EVER_S => Ok(None),
        Some(s) => Ok(Some(Duration::from_secs_f64(s.max(0.0)))),
    }
}

/// A timeout that has a bound: `inf` means thirty years.
pub(super) fn parse_seconds(py: Python<'_>, name: &str, value: f64) -> PyResult<Duration> {
    if value < 0.0 {
        let problem = format!("{value} is negative; give seconds, 0 or more");
        return Err(errors::raise(py, Error::config(name, problem)));
    }
    let parsed = parse_timeout(py, name, Some(value))?;
    Ok(parsed.unwrap_or(Duration::from_secs(FOR_EVER_S as u64)))
}

/// Ends nodes, clients and threads of this process, in this order: what speaks to the network, what calls Python, the
/// runtime, the log. The interpreter must be detached meanwhile, or a thread that wants it would wait for us and we
/// for it.
pub(super) fn shut_down(py: Python<'_>) {
    SHUT_DOWN.store(true, Ordering::Release);
    let Some(process) = current() else { return };
    let live: Vec<_> = lock(&process.live).drain(..).filter_map(|weak| weak.upgrade()).collect();
    let left = py.detach(|| {
        let (done, ended) = std::sync::mpsc::channel::<()>();
        for item in live {
            let done = done.clone();
            process.handle.spawn(async move {
                item.end().await;
                drop(done);
            });
        }
        drop(done);
        let _ = ended.recv_timeout(SHUTDOWN);
        let left = process.resolver.stop();
        let runtime = lock(&process.runtime).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(SHUTDOWN);
        }
        process.logs.stop();
        left
    });
    drop(left);
}
