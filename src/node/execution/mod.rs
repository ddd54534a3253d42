//! Runs attempts in a bounded pool of runner subprocesses (design D8): starts them at first use, outlives their
//! deaths, kills what runs too long, and tells how each attempt ended.
//!
//! ```text
//!   run ──▶ Roster (one lock, decides) ──Act──▶ send(2), at once, on the caller's thread ──▶ runner process
//!                     ▲                                                                          │ Done
//!                     ├──────── reader thread, one per runner ◀────────── and what the task prints ┘
//!                     ├──────── serving thread, one per runner: spawns it, waits for its end
//!                     └──────── timekeeper thread: timeouts, start limits, back-off
//! ```
//!
//! The reader hands the next waiting attempt to its runner before it reports the last one: no thread is woken in
//! between.

mod backoff;
pub mod frame;
mod output;
mod reader;
mod roster;
mod runner;
pub mod seat;
mod slot;
pub mod stream;
pub mod streams;

use crate::core::Moment;
use crate::core::boundary::{Assignment, Progress};
use crate::core::cluster::command::{Function, Report};
use crate::core::ids::{TaskId, Token};
use crate::node::clock::Clock;
use bytes::Bytes;
use roster::{Roster, RunnerId};
use runner::{Runner, STACK};
use seat::{Interrupt, Seat, Threads, Work};
use slot::Host;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use streams::{StreamLimits, Streams};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// How long runners may take to end by themselves when the pool stops; then they are killed.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Attempts that run at once; at least 1.
    pub slots: usize,
    /// The runner's command line; it must exec the interpreter, not fork it.
    pub argv: Vec<String>,
    /// Added to the node's own environment.
    pub env: Vec<(String, String)>,
    /// Whether runners may unpickle.
    pub allow_pickle: bool,
    /// Most bytes of arguments or of a result.
    pub payload_limit: usize,
    /// How much nicer than the node runners are.
    pub nice: i32,
    /// The node's name, for whoever reads what its tasks print.
    pub node: Arc<str>,
    /// Of what an attempt prints, the last bytes that are kept.
    pub output_limit: usize,
    /// What is held of what a generator yields.
    pub stream: StreamLimits,
    /// Who runs attempts in threads of this process that may run there; `None`: they run like all others.
    pub threads: Option<Arc<dyn Threads>>,
}

/// How an attempt ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnded {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub token: Token,
    /// How.
    pub report: Report,
    /// The last it printed and logged.
    pub output: Bytes,
    /// How long it ran, from being sent to its runner.
    pub duration: Duration,
}

impl AttemptEnded {
    /// One that ended before it began.
    pub fn without_start(task: TaskId, token: Token, report: Report) -> Self {
        let (output, duration) = (Bytes::new(), Duration::ZERO);
        AttemptEnded { task, token, report, output, duration }
    }
}

/// The runners of one node.
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: PoolOptions,
    ended: UnboundedSender<AttemptEnded>,
    clock: Clock,
    /// The process that may kill and wait: not a forked copy of it.
    owner: u32,
    streams: Arc<Streams>,
    roster: Mutex<Roster>,
    /// With the roster's lock: the earliest timer changed.
    rearmed: Condvar,
    has_timekeeper: AtomicBool,
    changed: Notify,
}

/// What the roster decided.
enum Act {
    /// Start a thread that starts and serves this runner.
    Start(RunnerId),
    /// Start a thread that serves this seat.
    Seat(Arc<Seat>),
    /// Send frames.
    Send(Arc<Runner>, Vec<u8>),
    /// The same for a thread.
    Hand(Arc<Seat>, Work),
    /// Tell it that its attempt is not wanted any more.
    Ask(Arc<Runner>),
    /// The same for a thread.
    Interrupt(Arc<Seat>, u64, Interrupt),
    /// Kill it; its death is then told as [`Roster::on_dead`]. A thread is given up.
    Kill(Host),
    /// Let it end by itself.
    Close(Host),
    /// Tell the node.
    End(AttemptEnded),
    /// The earliest timer changed.
    Rearm,
    /// Somebody may wait for this: no attempt is left, or no runner, or the pool is closed.
    Announce,
}

impl Pool {
    /// An empty pool: runners start with the first attempts. Every attempt given to [`Pool::run`] ends in exactly one
    /// message to `ended`, unless the pool is stopped or aborted before.
    pub fn start(options: PoolOptions, ended: UnboundedSender<AttemptEnded>) -> Arc<Pool> {
        let inner = Arc::new_cyclic(|pool| Inner {
            roster: Mutex::new(Roster::new(&options, pool.clone())),
            streams: Arc::new(Streams::new(options.stream)),
            options,
            ended,
            clock: Clock::start(),
            owner: std::process::id(),
            rearmed: Condvar::new(),
            has_timekeeper: AtomicBool::new(false),
            changed: Notify::new(),
        });
        Arc::new(Pool { inner })
    }

    /// Runs attempts, each as soon as a slot and a runner are free. Never blocks.
    pub fn run(&self, attempts: Vec<(Assignment, Arc<Function>)>) {
        self.inner.update(|roster, now, acts| roster.accept(now, attempts, acts));
    }

    /// Asks the runner of an attempt to end it, and kills it a second later; it ends as `Crashed("cancelled")`, or as
    /// it ends by then. Unknown attempts are ignored.
    pub fn kill(&self, task: TaskId, token: Token) {
        self.inner.update(|roster, now, acts| roster.kill(now, task, token, acts));
    }

    /// Takes back an attempt that waits for a runner; nothing more is told of it. False if it has begun.
    pub fn take_back(&self, task: TaskId, token: Token) -> bool {
        self.inner.lock().take_back(task, token)
    }

    /// Tasks that are in a runner now.
    pub fn running(&self) -> Vec<TaskId> {
        self.inner.lock().running()
    }

    /// How far attempts are that said so since this was asked last.
    pub fn take_progress(&self) -> Vec<(TaskId, Token, Progress)> {
        self.inner.lock().take_progress()
    }

    /// What its attempts yield.
    pub fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.inner.streams)
    }

    /// Its runners' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.inner.lock().processes()
    }

    /// The threads of this process that run attempts.
    pub fn threads(&self) -> Vec<u32> {
        self.inner.lock().threads()
    }

    /// Attempts that could start at once.
    pub fn idle_slots(&self) -> usize {
        self.inner.lock().idle_slots()
    }

    /// Takes no more attempts, lets the present ones end for up to `grace`, then ends all runners. Returns the tasks
    /// that were cut off; they are not reported. Returns when no runner is left.
    pub async fn stop(&self, grace: Duration) -> Vec<TaskId> {
        self.inner.lock().drain();
        let drained = self.inner.wait_until(|roster| !roster.has_work());
        // The bound is the point: who is not done by then is cut off.
        let _ = tokio::time::timeout(grace, drained).await;
        let cut = self.inner.update(|roster, _, acts| roster.close(false, acts));
        let gone = self.inner.wait_until(|roster| !roster.has_runners());
        if tokio::time::timeout(CLOSE_LIMIT, gone).await.is_err() {
            self.abort();
            // SIGKILL takes effect at once, except on a process stuck in the kernel: do not wait for that one.
            let gone = self.inner.wait_until(|roster| !roster.has_runners());
            let _ = tokio::time::timeout(CLOSE_LIMIT, gone).await;
        }
        cut
    }

    /// Kills all runners at once and reports nothing, as the death of the node would.
    pub fn abort(&self) {
        if self.inner.owner == std::process::id() {
            self.inner.update(|roster, _, acts| roster.close(true, acts));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the roster decide, then performs its acts without the lock.
    fn update<R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&mut Roster, Moment, &mut Vec<Act>) -> R,
    ) -> R {
        let mut acts = Vec::new();
        let result = decide(&mut self.lock(), self.clock.now(), &mut acts);
        for act in acts {
            self.perform(act);
        }
        result
    }

    fn perform(self: &Arc<Self>, act: Act) {
        match act {
            Act::Start(id) => self.start_thread(id),
            Act::Seat(seat) => self.fill(seat),
            Act::Send(runner, frames) => runner.send(&frames),
            Act::Hand(seat, work) => seat.hand(work),
            Act::Ask(runner) => runner.ask(),
            Act::Interrupt(seat, seq, why) => self.interrupt(seat, seq, why),
            Act::Kill(Host::Process(runner)) => runner.kill(),
            Act::Kill(Host::Thread(seat)) => {
                seat.close();
                let words = ("its thread was given up".to_owned(), Bytes::new());
                self.update(|roster, now, acts| roster.on_dead(now, seat.id(), words, acts));
            }
            Act::Close(Host::Process(runner)) => runner.close(),
            Act::Close(Host::Thread(seat)) => seat.close(),
            // Nobody listens any more only when the node itself is gone.
            Act::End(ended) => drop(self.ended.send(ended)),
            Act::Rearm => self.rearm(),
            Act::Announce => {
                self.changed.notify_waiters();
                self.rearmed.notify_all();
            }
        }
    }

    fn start_thread(self: &Arc<Self>, id: RunnerId) {
        let inner = Arc::clone(self);
        let serve = move || inner.serve(id);
        let name = format!("hustings-run{id}");
        if let Err(error) = thread::Builder::new().name(name).stack_size(STACK).spawn(serve) {
            let words = (format!("cannot start a thread for a runner: {error}"), Bytes::new());
            self.update(|roster, now, acts| roster.on_dead(now, id, words, acts));
        }
    }

    /// Has a seat served. By a thread of its own, as whoever calls this must not wait for the interpreter.
    fn fill(self: &Arc<Self>, seat: Arc<Seat>) {
        let inner = Arc::clone(self);
        let id = seat.id();
        let start = move || {
            let Some(threads) = &inner.options.threads else { return };
            if let Err(words) = threads.start(seat) {
                inner.lose(id, words);
            }
        };
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(start) {
            self.lose(id, error.to_string());
        }
    }

    fn lose(self: &Arc<Self>, id: RunnerId, why: String) {
        let words = (format!("no thread could be started: {why}"), Bytes::new());
        self.update(|roster, now, acts| roster.on_dead(now, id, words, acts));
    }

    fn interrupt(&self, seat: Arc<Seat>, seq: u64, why: Interrupt) {
        seat.mark(seq, why);
        let Some(threads) = self.options.threads.clone() else { return };
        let interrupt = move || threads.interrupt(&seat, seq, why);
        // Without it the attempt is given up a second later.
        drop(thread::Builder::new().stack_size(STACK).spawn(interrupt));
    }

    /// One runner's life, on its serving thread.
    fn serve(self: &Arc<Self>, id: RunnerId) {
        let words = match Runner::spawn(&self.options) {
            Ok((runner, child, pipes)) => {
                self.update(|roster, _, acts| roster.on_spawned(id, Arc::clone(&runner), acts));
                let (inner, source) = (Arc::clone(self), Arc::clone(&runner));
                let read = move || {
                    let output = inner.read(id, &source, pipes);
                    // It closed its stream: nothing more can come of it.
                    source.kill();
                    output
                };
                let name = format!("hustings-read{id}");
                let reader = thread::Builder::new().name(name).stack_size(STACK).spawn(read);
                if reader.is_err() {
                    runner.kill();
                }
                let words = runner.reap(child);
                // All it said before its end is heard first.
                let output = match reader {
                    Ok(reader) => reader.join().unwrap_or_default(),
                    Err(error) => {
                        let words = format!("cannot start a thread for a runner: {error}");
                        self.update(|roster, _, acts| roster.on_broken(id, words, acts));
                        Bytes::new()
                    }
                };
                (words, output)
            }
            Err(error) => {
                let program = self.options.argv.first().map_or("", String::as_str);
                (format!("cannot start runner {program:?}: {error}"), Bytes::new())
            }
        };
        self.update(|roster, now, acts| roster.on_dead(now, id, words, acts));
    }

    fn rearm(self: &Arc<Self>) {
        if self.has_timekeeper.swap(true, Ordering::Relaxed) {
            return self.rearmed.notify_one();
        }
        let inner = Arc::clone(self);
        let keep = move || inner.keep_time();
        let name = "hustings-timers".to_owned();
        if thread::Builder::new().name(name).stack_size(STACK).spawn(keep).is_err() {
            // Without threads no runner starts either; the next timer tries again.
            self.has_timekeeper.store(false, Ordering::Relaxed);
        }
    }

    /// Fires timers until the pool is closed.
    fn keep_time(self: &Arc<Self>) {
        loop {
            self.update(|roster, now, acts| roster.expire(now, acts));
            let roster = self.lock();
            if roster.is_closed() {
                return;
            }
            let now = self.clock.now();
            // A poisoned lock is as good as any: the roster holds no half-made state.
            match roster.next_timer() {
                Some(at) if at <= now => {}
                Some(at) => drop(self.rearmed.wait_timeout(roster, at.since(now))),
                None => drop(self.rearmed.wait(roster)),
            }
        }
    }

    async fn wait_until(&self, condition: impl Fn(&Roster) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}
