//! This node's hands: queue, start, yield to a thief, report. Obeys the highest term only (design D5c).

use super::Moment;
use super::boundary::{Assignment, Effect, Ended, Event};
use super::cluster::command::Member;
use super::cluster::needs::{Needs, Taken};
use super::ids::{TaskId, Term, Token};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// First wait after an unlucky request for work; doubles up to [`MAX_ASK_WAIT`].
const MIN_ASK_WAIT: Duration = Duration::from_millis(4);
/// Longest wait between two requests for work.
const MAX_ASK_WAIT: Duration = Duration::from_millis(250);
/// How often the first in the queue may be passed by others while it waits for slots or resources.
const MAX_PASSED: u32 = 32;
/// How many in the queue are looked at for one that can start.
const LOOKS: usize = 64;

/// The worker half of every node.
#[derive(Debug)]
pub struct Worker {
    cooldown: Duration,
    term: Term,
    connected: bool,
    draining: bool,
    queue: Queue,
    /// What this node offers.
    me: Member,
    running: BTreeMap<(TaskId, Token), Running>,
    busy: u64,
    taken: Taken,
    ended: BTreeMap<(TaskId, Token), Ended>,
    ask_at: Option<Moment>,
    ask_wait: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    needs: Option<Arc<Needs>>,
    /// Cancelled: its end is nobody's business.
    killed: bool,
}

/// Assignments that have not started: first in, first out, at most one per task.
#[derive(Debug, Default)]
struct Queue {
    order: BTreeMap<u64, Assignment>,
    index: BTreeMap<TaskId, u64>,
    next: u64,
    /// How often the first was passed.
    passed: u32,
}

impl Queue {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Assignment> {
        self.order.values()
    }

    fn token(&self, task: TaskId) -> Option<Token> {
        self.index.get(&task).and_then(|at| self.order.get(at)).map(|a| a.token)
    }

    fn push(&mut self, assignment: Assignment) {
        self.remove(assignment.spec.id);
        self.index.insert(assignment.spec.id, self.next);
        self.order.insert(self.next, assignment);
        self.next += 1;
    }

    fn remove(&mut self, task: TaskId) -> bool {
        self.index.remove(&task).is_some_and(|at| self.order.remove(&at).is_some())
    }

    /// The first that `fits`; one that waits for room is passed so often and then waited for.
    fn pop(&mut self, fits: impl Fn(&Assignment) -> bool) -> Option<Assignment> {
        let looks = if self.passed < MAX_PASSED { LOOKS } else { 1 };
        let first = self.order.iter().take(looks).enumerate().find(|(_, (_, a))| fits(a));
        let (place, at) = first.map(|(place, (at, _))| (place, *at))?;
        self.passed = if place == 0 { 0 } else { self.passed + 1 };
        let assignment = self.order.remove(&at)?;
        self.index.remove(&assignment.spec.id);
        Some(assignment)
    }

    fn drain(&mut self) -> Vec<TaskId> {
        self.index.clear();
        std::mem::take(&mut self.order).into_values().map(|a| a.spec.id).collect()
    }
}

impl Worker {
    /// A worker with `slots` places and at least `cooldown` between two requests for work.
    pub fn new(slots: u32, cooldown: Duration) -> Self {
        Worker {
            me: Member { slots: slots.max(1), ..Member::default() },
            busy: 0,
            taken: Taken::default(),
            cooldown,
            term: 0,
            connected: false,
            draining: false,
            queue: Queue::default(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            ask_at: None,
            ask_wait: MIN_ASK_WAIT,
        }
    }

    /// The same, that offers what `me` says.
    pub fn offering(self, me: Member) -> Self {
        Worker { me: Member { slots: self.me.slots, ..me }, ..self }
    }

    /// The highest term that opened a session here.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Assignments that wait here.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Tasks that run here.
    pub fn running(&self) -> Vec<TaskId> {
        self.running.keys().map(|(task, _)| *task).collect()
    }

    /// Reports that no leader has settled.
    pub fn unsettled(&self) -> usize {
        self.ended.len()
    }

    /// Nothing runs, waits, or is unreported here.
    pub fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.running.is_empty() && self.ended.is_empty()
    }

    /// Whether it takes no more work.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// When `TimerFired` is wanted.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.ask_at
    }

    /// The session with the leader ended.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
        self.ask_at = None;
    }

    /// Takes one event.
    pub fn on_event(&mut self, now: Moment, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::LeaderConnected { term, leader: _ } => self.on_connected(term, out),
            Event::TasksAssigned { term, assignments } => {
                if self.obeys(term, out) {
                    self.on_assigned(assignments);
                }
            }
            Event::TasksRevoked { term, tasks } => {
                if self.obeys(term, out) {
                    self.on_revoked(&tasks, out);
                }
            }
            Event::TasksKilled { term, tasks } => {
                if self.obeys(term, out) {
                    self.on_killed(&tasks, out);
                }
            }
            Event::ReportsSettled { term, tasks } => {
                if self.obeys(term, out) {
                    self.on_settled(&tasks);
                }
            }
            Event::AttemptEnded { task, token, report, output, duration } => {
                self.on_ended(Ended { task, token, report, output, took: duration }, out);
            }
            Event::DrainStarted => self.draining = true,
            // The leader's events, and timers: only the common tail below.
            _ => {}
        }
        self.hand_back(out);
        self.start_next(out);
        self.ask_for_work(now, out);
    }

    fn obeys(&mut self, term: Term, out: &mut Vec<Effect>) -> bool {
        if term < self.term {
            out.push(Effect::RefuseStaleLeader { term });
        }
        term >= self.term
    }

    fn on_connected(&mut self, term: Term, out: &mut Vec<Effect>) {
        if !self.obeys(term, out) {
            return;
        }
        self.term = term;
        self.connected = true;
        self.ask_wait = MIN_ASK_WAIT;
        let queued = self.queue.iter().map(|a| (a.spec.id, a.token, false));
        let running = self.running.keys().map(|(task, token)| (*task, *token, true));
        let ended = self.ended.keys().map(|(task, token)| (*task, *token, false));
        let held = queued.chain(running).chain(ended).collect();
        out.push(Effect::SendInventory { term, held });
        if !self.ended.is_empty() {
            out.push(Effect::SendReports { reports: self.ended.values().cloned().collect() });
        }
    }

    fn on_assigned(&mut self, assignments: Vec<Assignment>) {
        for assignment in assignments {
            let (task, token) = (assignment.spec.id, assignment.token);
            let newest = self.newest_token(task);
            if newest.is_some_and(|newest| newest >= token) {
                continue; // A re-send, or older than what is held: the fencing token decides.
            }
            self.queue.push(assignment);
        }
        self.ask_wait = MIN_ASK_WAIT;
        self.ask_at = None;
    }

    fn newest_token(&self, task: TaskId) -> Option<Token> {
        let all = (task, Token(0))..=(task, Token(u64::MAX));
        let queued = self.queue.token(task);
        let running = self.running.range(all.clone()).map(|((_, token), _)| *token);
        let ended = self.ended.range(all).map(|((_, token), _)| *token);
        queued.into_iter().chain(running).chain(ended).max()
    }

    fn on_settled(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            let all = (*task, Token(0))..=(*task, Token(u64::MAX));
            while let Some((key, _)) = self.ended.range(all.clone()).next() {
                let key = *key;
                self.ended.remove(&key);
            }
        }
    }

    fn on_revoked(&mut self, tasks: &[TaskId], out: &mut Vec<Effect>) {
        let (mut released, mut kept) = (Vec::new(), Vec::new());
        for task in tasks {
            if self.queue.remove(*task) { released.push(*task) } else { kept.push(*task) }
        }
        out.push(Effect::SendRelease { released, kept });
    }

    fn on_killed(&mut self, tasks: &[TaskId], out: &mut Vec<Effect>) {
        for task in tasks {
            let all = (*task, Token(0))..=(*task, Token(u64::MAX));
            for ((task, token), running) in self.running.range_mut(all) {
                running.killed = true;
                out.push(Effect::KillRunner { task: *task, token: *token });
            }
        }
    }

    fn on_ended(&mut self, ended: Ended, out: &mut Vec<Effect>) {
        let attempt = (ended.task, ended.token);
        let running = self.running.remove(&attempt);
        if let Some(running) = &running {
            self.give_back(running.needs.as_deref());
        }
        if running.is_some_and(|running| running.killed) {
            return;
        }
        self.ended.insert(attempt, ended.clone());
        if self.connected {
            out.push(Effect::SendReports { reports: vec![ended] });
        }
    }

    /// While draining, whatever waits here (or still arrives) goes back to the leader.
    fn hand_back(&mut self, out: &mut Vec<Effect>) {
        if self.draining && self.connected && self.queue.len() > 0 {
            let released = self.queue.drain();
            out.push(Effect::SendRelease { released, kept: Vec::new() });
        }
    }

    fn start_next(&mut self, out: &mut Vec<Effect>) {
        while !self.draining && self.free_slots() > 0 {
            let (me, taken, free) = (&self.me, &self.taken, self.free_slots());
            let idle = self.running.is_empty();
            // What the leader sent to an idle node is started there, whatever it was told of the node.
            let fits = |assignment: &Assignment| match &assignment.spec.needs {
                None => true,
                Some(needs) => idle || (u64::from(needs.slots) <= free && needs.fits(me, taken)),
            };
            let Some(assignment) = self.queue.pop(fits) else { return };
            let needs = assignment.spec.needs.clone();
            self.busy += slots_of(needs.as_deref());
            if let Some(needs) = &needs {
                self.taken.take(needs);
            }
            let running = Running { needs, killed: false };
            self.running.insert((assignment.spec.id, assignment.token), running);
            out.push(Effect::Run(assignment));
        }
    }

    fn give_back(&mut self, needs: Option<&Needs>) {
        self.busy = self.busy.saturating_sub(slots_of(needs));
        if let Some(needs) = needs {
            self.taken.give_back(needs);
        }
    }

    fn free_slots(&self) -> u64 {
        u64::from(self.me.slots).saturating_sub(self.busy)
    }

    fn ask_for_work(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let free = self.free_slots();
        if !self.connected || self.draining || free == 0 || self.queue.len() > 0 {
            self.ask_at = None;
            return;
        }
        match self.ask_at {
            // Just became idle: give the leader's own assignments a moment to arrive first.
            None => self.ask_at = Some(now.after(self.ask_wait.max(self.cooldown))),
            Some(at) if at <= now => {
                out.push(Effect::AskForWork { free_slots: free as u32 });
                self.ask_wait = (self.ask_wait * 2).min(MAX_ASK_WAIT);
                self.ask_at = Some(now.after(self.ask_wait.max(self.cooldown)));
            }
            Some(_) => {}
        }
    }
}

fn slots_of(needs: Option<&Needs>) -> u64 {
    needs.map_or(1, |needs| u64::from(needs.slots.max(1)))
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
