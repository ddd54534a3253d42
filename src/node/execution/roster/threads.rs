//! Attempts that run in threads of this process: which of them wait for one, and what becomes of threads that do not
//! heed an interrupt.

use super::super::seat::{Interrupt, Seat};
use super::super::slot::{Host, Job, Slot};
use super::super::{Act, Inner};
use super::{Phase, Report, Roster, RunnerId};
use crate::core::Moment;
use crate::core::boundary::Assignment;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Weak;

/// Threads that were given up and still run, at most; beyond, attempts in threads fail until some of them have ended.
const MAX_GIVEN_UP: usize = 32;

/// What the roster knows of them.
#[derive(Default)]
pub(super) struct Seats {
    /// Whom they belong to; `None`: there is no interpreter in this process.
    pool: Option<Weak<Inner>>,
    /// An attempt came that wants one.
    pub(super) are_used: bool,
    /// Free; the last used first.
    pub(super) idle: Vec<RunnerId>,
    pub(super) busy: usize,
    /// Those that did not end when they should.
    given_up: BTreeSet<RunnerId>,
}

impl Seats {
    pub(super) fn new(pool: Option<Weak<Inner>>) -> Self {
        Seats { pool, ..Seats::default() }
    }

    /// Whether it runs in one.
    pub(super) fn takes(&mut self, assignment: &Assignment) -> bool {
        let taken = self.pool.is_some() && assignment.spec.in_thread;
        self.are_used |= taken;
        taken
    }

    /// A slot is gone; `is_at_work`: its thread is not.
    pub(super) fn forget(&mut self, id: RunnerId, is_at_work: bool) {
        self.idle.retain(|other| *other != id);
        if is_at_work {
            self.given_up.insert(id);
        }
    }
}

impl Roster {
    /// Makes seats for the attempts that wait for one, as far as there are slots.
    pub(super) fn seat_threads(&mut self, acts: &mut Vec<Act>) {
        let Some(pool) = self.threads.pool.clone().filter(|_| self.phase != Phase::Closed) else {
            return;
        };
        let waiting = self.waiting.iter().filter(|job| job.in_thread).count();
        let wanted = (self.threads.busy + waiting).min(self.slots);
        let mut live = self.threads.busy + self.threads.idle.len();
        while live < wanted {
            if self.threads.given_up.len() >= MAX_GIVEN_UP {
                return self.refuse_threads(acts);
            }
            let id = self.number();
            let seat = Seat::new(id, pool.clone());
            self.runners.insert(id, Slot::of_thread(seat.clone()));
            self.threads.idle.push(id);
            acts.push(Act::Seat(seat));
            live += 1;
        }
    }

    fn refuse_threads(&mut self, acts: &mut Vec<Act>) {
        if self.threads.busy + self.threads.idle.len() > 0 {
            return; // Those go on.
        }
        let words = format!(
            "{MAX_GIVEN_UP} threads of this node did not end when they should, so it starts no more; run what cannot \
             be interrupted with run_in=\"process\""
        );
        self.refuse_waiting(true, &words, acts);
    }

    /// What waits for a thread, or else for a process, waits in vain.
    pub(super) fn refuse_waiting(&mut self, in_thread: bool, words: &str, acts: &mut Vec<Act>) {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (refused, rest): (Vec<Job>, Vec<Job>) = all.partition(|job| job.in_thread == in_thread);
        self.waiting = rest.into();
        acts.extend(refused.iter().map(|job| job.end_unbegun(Report::Crashed(words.to_owned()))));
    }

    /// The first waiting attempt that somebody is free for, and who.
    pub(super) fn match_waiting(&mut self) -> Option<(RunnerId, Job)> {
        if self.idle.is_empty() && self.threads.idle.is_empty() {
            return None;
        }
        let is_free = |job: &Job| match job.in_thread {
            true => !self.threads.idle.is_empty(),
            false => !self.idle.is_empty(),
        };
        let at = self.waiting.iter().position(is_free)?;
        let job = self.waiting.remove(at)?;
        let idle = if job.in_thread { &mut self.threads.idle } else { &mut self.idle };
        Some((idle.pop()?, job))
    }

    /// Attempts that run and wait for processes.
    pub(super) fn of_processes(&self) -> (usize, usize) {
        let busy = self.busy - self.threads.busy;
        if !self.threads.are_used {
            return (busy, self.waiting.len());
        }
        (busy, self.waiting.iter().filter(|job| !job.in_thread).count())
    }

    /// The time of an attempt in a thread is over: it is interrupted first.
    pub(super) fn on_timeout(&mut self, id: RunnerId, seq: u64, acts: &mut Vec<Act>) {
        let slot = self.runners.get(&id).filter(|slot| slot.doom.is_none());
        if let Some(slot) = slot.filter(|slot| slot.busy.as_ref().is_some_and(|b| b.seq == seq))
            && let Some(Host::Thread(seat)) = &slot.host
        {
            acts.push(Act::Interrupt(seat.clone(), seq, Interrupt::TimedOut));
        }
    }

    /// The thread of `id` has ended.
    pub(in crate::node::execution) fn on_left(
        &mut self,
        now: Moment,
        id: RunnerId,
        acts: &mut Vec<Act>,
    ) {
        if !self.threads.given_up.remove(&id) {
            self.on_dead(now, id, ("its thread ended".into(), Bytes::new()), acts);
        }
    }
}
