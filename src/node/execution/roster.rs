//! Decides which runner runs which attempt, when runners start, and what the end of one means.
//!
//! Touches no process: every method says by [`Act`]s what the pool shall do after it has let go of the lock. A slot
//! that is to be killed is *doomed* first, so that a late kill never hits the next attempt of the same runner.

mod starts;
mod threads;
mod views;

use super::backoff::Backoff;
use super::frame::{self, PROTOCOL};
use super::output::last_line;
use super::runner::Runner;
use super::seat::{Interrupt, Work};
use super::slot::{Busy, Doom, Host, Job, Slot};
use super::{Act, Inner, PoolOptions};
use crate::core::Moment;
use crate::core::boundary::Assignment;
use crate::core::cluster::command::{Function, Report};
use crate::core::ids::{TaskId, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Names a runner within its pool; never reused.
pub(super) type RunnerId = u64;

/// Attempts that may wait for a runner beyond the slots; the worker never gives so many.
const MAX_WAITING: usize = 4096;
/// How long after its timeout, or after it was cancelled, an attempt is killed: first the runner itself raises, and
/// says where it stood.
const KILL_AFTER: Duration = Duration::from_secs(1);
/// How long a runner may take until it is ready; a cold disk can be slow.
const START_LIMIT: Duration = Duration::from_secs(30);

enum Timer {
    Start(RunnerId),
    Attempt { id: RunnerId, seq: u64 },
    Interrupt { id: RunnerId, seq: u64 },
    Doomed(RunnerId),
    Restart,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Open,
    /// No new attempts.
    Draining,
    /// No attempts, no runners.
    Closed,
}

/// All slots, all waiting attempts, all timers.
pub(super) struct Roster {
    slots: usize,
    payload_limit: usize,
    phase: Phase,
    runners: BTreeMap<RunnerId, Slot>,
    /// Ready and free; the last used first, its caches are warm.
    idle: Vec<RunnerId>,
    threads: threads::Seats,
    busy: usize,
    waiting: VecDeque<Job>,
    timers: BTreeMap<(Moment, u64), Timer>,
    last_number: u64,
    backoff: Backoff,
    /// A runner died at work: from now on one spare is kept warm.
    spare: bool,
}

impl Roster {
    pub(super) fn new(options: &PoolOptions, pool: Weak<Inner>) -> Self {
        Roster {
            slots: options.slots.max(1),
            payload_limit: options.payload_limit,
            phase: Phase::Open,
            runners: BTreeMap::new(),
            idle: Vec::new(),
            threads: threads::Seats::new(options.threads.is_some().then_some(pool)),
            busy: 0,
            waiting: VecDeque::new(),
            timers: BTreeMap::new(),
            last_number: 0,
            backoff: Backoff::default(),
            spare: false,
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Moment,
        attempts: Vec<(Assignment, Arc<Function>)>,
        acts: &mut Vec<Act>,
    ) {
        for (assignment, function) in attempts {
            let in_thread = self.threads.takes(&assignment);
            let job = Job { assignment, function, in_thread };
            if self.phase != Phase::Open {
                acts.push(job.end_unbegun(Report::Crashed("the node is stopping".into())));
            } else if self.waiting.len() >= MAX_WAITING {
                let words = format!("{MAX_WAITING} attempts wait for a runner already");
                acts.push(job.end_unbegun(Report::Crashed(words)));
            } else {
                self.waiting.push_back(job);
            }
        }
        self.dispatch(now, acts);
    }

    /// The process of `id` exists.
    pub(super) fn on_spawned(&mut self, id: RunnerId, runner: Arc<Runner>, acts: &mut Vec<Act>) {
        match self.runners.get_mut(&id) {
            Some(slot) if slot.doom.is_none() => slot.host = Some(Host::Process(runner)),
            _ => acts.push(Act::Kill(Host::Process(runner))),
        }
    }

    pub(super) fn on_ready(
        &mut self,
        now: Moment,
        id: RunnerId,
        protocol: u16,
        acts: &mut Vec<Act>,
    ) {
        if protocol != PROTOCOL {
            let words = format!(
                "runner speaks protocol {protocol}, this node {PROTOCOL}; use the same hustings version for both"
            );
            return self.on_broken(id, words, acts);
        }
        match self.runners.get_mut(&id) {
            Some(slot) if slot.ready => self.on_broken(id, "runner was ready twice".into(), acts),
            Some(slot) => {
                slot.ready = true;
                if slot.doom.is_none() {
                    self.idle.push(id);
                    self.dispatch(now, acts);
                }
            }
            None => {}
        }
    }

    pub(super) fn on_done(
        &mut self,
        now: Moment,
        id: RunnerId,
        seq: u64,
        (report, output): (Report, Bytes),
        acts: &mut Vec<Act>,
    ) {
        let Some(slot) = self.runners.get_mut(&id) else { return };
        let Some(busy) = slot.busy.take_if(|busy| busy.seq == seq) else {
            return self.on_broken(id, "runner answered what it was not asked".into(), acts);
        };
        slot.served = true;
        let is_thread = slot.is_thread();
        match (&slot.doom, &slot.host) {
            (None, _) if is_thread => self.threads.idle.push(id),
            (None, _) => self.idle.push(id),
            (Some(_), Some(host)) => acts.push(Act::Kill(host.clone())),
            (Some(_), None) => {}
        }
        if !is_thread {
            self.backoff.reset();
        }
        self.release(&busy);
        self.dispatch(now, acts);
        acts.push(busy.job.end(report, output, now.since(busy.started)));
        self.announce_idle(acts);
    }

    /// `id` broke the protocol.
    pub(super) fn on_broken(&mut self, id: RunnerId, words: String, acts: &mut Vec<Act>) {
        self.doom(id, Doom::Broken(words), acts);
    }

    /// The process of `id` is reaped, or could not be started.
    pub(super) fn on_dead(
        &mut self,
        now: Moment,
        id: RunnerId,
        (words, output): (String, Bytes),
        acts: &mut Vec<Act>,
    ) {
        let Some(slot) = self.runners.remove(&id) else { return };
        self.idle.retain(|other| *other != id);
        let is_thread = slot.is_thread();
        self.threads.forget(id, is_thread && slot.busy.is_some());
        let report = match slot.doom {
            Some(Doom::Cancelled) => Some(Report::Crashed("cancelled".into())),
            Some(Doom::TimedOut(ms)) => Some(Report::TimedOut(ms)),
            Some(Doom::Broken(words)) => Some(Report::Crashed(words)),
            Some(Doom::Closed) => None,
            None => Some(Report::Crashed(words)),
        };
        match slot.busy {
            Some(busy) => {
                self.release(&busy);
                if !is_thread {
                    self.backoff.reset();
                    self.spare = true;
                }
                if let Some(report) = report {
                    acts.push(busy.job.end(report, output, now.since(busy.started)));
                }
            }
            None if !slot.served => self.start_failed(now, report, last_line(&output), acts),
            None => {}
        }
        self.dispatch(now, acts);
        self.announce_idle(acts);
    }

    /// Kills an attempt, wherever it is.
    pub(super) fn kill(&mut self, now: Moment, task: TaskId, token: Token, acts: &mut Vec<Act>) {
        let is_meant = |job: &Job| job.is(task, token);
        if let Some(at) = self.waiting.iter().position(is_meant) {
            if let Some(job) = self.waiting.remove(at) {
                acts.push(job.end_unbegun(Report::Crashed("cancelled".into())));
            }
            return self.announce_idle(acts);
        }
        let found = self
            .runners
            .iter()
            .find(|(_, slot)| slot.busy.as_ref().is_some_and(|busy| is_meant(&busy.job)));
        if let Some((&id, _)) = found {
            self.ask_to_end(now, id, acts);
        }
    }

    /// Takes back an attempt that no runner has begun.
    pub(super) fn take_back(&mut self, task: TaskId, token: Token) -> bool {
        let at = self.waiting.iter().position(|job| job.is(task, token));
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// Fires what is due.
    pub(super) fn expire(&mut self, now: Moment, acts: &mut Vec<Act>) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Timer::Start(id) => {
                    if self.runners.get(&id).is_some_and(|slot| !slot.ready) {
                        let words =
                            format!("runner was not ready after {} s", START_LIMIT.as_secs());
                        self.doom(id, Doom::Broken(words), acts);
                    }
                }
                Timer::Interrupt { id, seq } => self.on_timeout(id, seq, acts),
                Timer::Attempt { id, seq } => {
                    let busy = self.runners.get(&id).and_then(|slot| slot.busy.as_ref());
                    if let Some(busy) = busy.filter(|busy| busy.seq == seq) {
                        let ms = busy.job.assignment.spec.timeout_ms;
                        self.doom(id, Doom::TimedOut(ms), acts);
                    }
                }
                Timer::Doomed(id) => {
                    let host = self.runners.get(&id).and_then(|slot| slot.host.clone());
                    acts.extend(host.map(Act::Kill));
                }
                Timer::Restart => {
                    self.backoff.cool();
                    self.dispatch(now, acts);
                }
            }
        }
    }

    /// Takes no more attempts; what is here goes on.
    pub(super) fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
    }

    /// Ends everything: idle runners by themselves unless `abort`, busy ones by SIGKILL. Reports nothing more;
    /// returns the attempts that were cut off.
    pub(super) fn close(&mut self, abort: bool, acts: &mut Vec<Act>) -> Vec<TaskId> {
        self.phase = Phase::Closed;
        let waiting = self.waiting.drain(..).map(|job| job.assignment.spec.id);
        let mut cut: Vec<TaskId> = waiting.collect();
        cut.extend(self.running());
        self.idle.clear();
        self.threads.idle.clear();
        self.timers.clear();
        for slot in self.runners.values_mut() {
            slot.doom = Some(Doom::Closed);
            let Some(host) = slot.host.clone() else { continue };
            let gentle = !abort && slot.busy.is_none();
            acts.push(if gentle { Act::Close(host) } else { Act::Kill(host) });
        }
        acts.push(Act::Announce);
        cut
    }

    /// Gives waiting attempts to idle runners, then starts runners for the rest.
    fn dispatch(&mut self, now: Moment, acts: &mut Vec<Act>) {
        if self.threads.are_used {
            self.seat_threads(acts);
        }
        while self.busy < self.slots
            && let Some((id, job)) = self.match_waiting()
        {
            self.begin(now, id, job, acts);
        }
        if self.phase == Phase::Closed {
            return;
        }
        let spare = usize::from(self.spare && self.backoff.is_clear());
        let (busy, waiting) = self.of_processes();
        let wanted = (busy + waiting).min(self.slots) + spare;
        let processes = self.runners.values().filter(|slot| !slot.is_thread());
        let (mut all, mut live) = (0, 0);
        processes.for_each(|slot| {
            all += 1;
            live += usize::from(slot.doom.is_none());
        });
        while live < wanted && all <= self.slots && self.backoff.allows() {
            self.start(now, acts);
            (all, live) = (all + 1, live + 1);
        }
    }

    fn begin(&mut self, now: Moment, id: RunnerId, job: Job, acts: &mut Vec<Act>) {
        let seq = self.number();
        let slot = self.runners.get_mut(&id);
        let Some((slot, host)) = slot.and_then(|slot| slot.host.clone().map(|host| (slot, host)))
        else {
            return self.waiting.push_front(job);
        };
        let send = match host {
            Host::Thread(seat) => Act::Hand(seat, Work::new(seq, job.clone())),
            Host::Process(runner) => {
                let limit = frame::to_runner_limit(self.payload_limit);
                match slot.encode(&job, seq, limit) {
                    Ok(frames) => Act::Send(runner, frames),
                    Err(error) => {
                        self.idle.push(id);
                        return acts.push(job.end_unbegun(job.too_large(&error)));
                    }
                }
            }
        };
        let timeout = Duration::from_millis(job.assignment.spec.timeout_ms);
        let timer = |wait| (!timeout.is_zero()).then(|| (now.after(wait), seq));
        // A runner interrupts itself.
        let interrupt = timer(timeout).filter(|_| job.in_thread);
        let end = timer(timeout.saturating_add(KILL_AFTER));
        let (timers, in_thread) = ([interrupt, end], job.in_thread);
        slot.busy = Some(Busy { seq, job, started: now, timers, progress: None });
        self.busy += 1;
        self.threads.busy += usize::from(in_thread);
        if let Some((at, _)) = interrupt {
            self.arm(at, seq, Timer::Interrupt { id, seq }, acts);
        }
        if let Some((at, _)) = end {
            self.arm(at, seq, Timer::Attempt { id, seq }, acts);
        }
        acts.push(send);
    }

    /// Its attempt is not wanted any more. It may end it properly, but soon.
    fn ask_to_end(&mut self, now: Moment, id: RunnerId, acts: &mut Vec<Act>) {
        let Some(slot) = self.runners.get_mut(&id).filter(|slot| slot.doom.is_none()) else {
            return;
        };
        slot.doom = Some(Doom::Cancelled);
        let seq = slot.busy.as_ref().map_or(0, |busy| busy.seq);
        acts.extend(slot.host.clone().map(|host| match host {
            Host::Process(runner) => Act::Ask(runner),
            Host::Thread(seat) => Act::Interrupt(seat, seq, Interrupt::Cancelled),
        }));
        let number = self.number();
        self.arm(now.after(KILL_AFTER), number, Timer::Doomed(id), acts);
    }

    fn doom(&mut self, id: RunnerId, doom: Doom, acts: &mut Vec<Act>) {
        let Some(slot) = self.runners.get_mut(&id) else { return };
        if slot.doom.is_some() {
            return;
        }
        slot.doom = Some(doom);
        self.idle.retain(|other| *other != id);
        acts.extend(slot.host.clone().map(Act::Kill));
    }

    fn release(&mut self, busy: &Busy) {
        self.busy -= 1;
        self.threads.busy -= usize::from(busy.job.in_thread);
        for timer in busy.timers.iter().flatten() {
            self.timers.remove(timer);
        }
    }

    fn arm(&mut self, at: Moment, number: u64, timer: Timer, acts: &mut Vec<Act>) {
        if self.next_timer().is_none_or(|first| at < first) {
            acts.push(Act::Rearm);
        }
        self.timers.insert((at, number), timer);
    }

    fn announce_idle(&self, acts: &mut Vec<Act>) {
        if self.phase != Phase::Open && (!self.has_work() || !self.has_runners()) {
            acts.push(Act::Announce);
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}
