//! This node's hands: queue, start, yield to a thief, report. Obeys the highest term only (design D5c).

mod queue;

use super::Moment;
use super::boundary::{Assignment, Effect, Ended, Event};
use super::cluster::command::Member;
use super::cluster::needs::{Needs, Taken};
use super::ids::{TaskId, Term, Token};
use queue::Queue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// First wait after an unlucky request for work; doubles up to [`MAX_ASK_WAIT`].
const MIN_ASK_WAIT: Duration = Duration::from_millis(4);
/// Longest wait between two requests for work.
const MAX_ASK_WAIT: Duration = Duration::from_millis(250);

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
    /// Handed to the runners beyond what they can run at once, in order: whichever runner is free takes the next one
    /// by itself. What has not started can be taken back.
    staged: VecDeque<Staged>,
    /// How many may be staged.
    stage: usize,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Staged {
    task: TaskId,
    token: Token,
    killed: bool,
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
            staged: VecDeque::new(),
            stage: 0,
            ended: BTreeMap::new(),
            ask_at: None,
            ask_wait: MIN_ASK_WAIT,
        }
    }

    /// The same, that offers what `me` says.
    pub fn offering(self, me: Member) -> Self {
        Worker { me: Member { slots: self.me.slots, ..me }, ..self }
    }

    /// The same, that hands up to `stage` attempts to its runners before they are free.
    pub fn staging(self, stage: usize) -> Self {
        Worker { stage, ..self }
    }

    /// The highest term that opened a session here.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Assignments that wait here.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.staged.len()
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
        self.queued() == 0 && self.running.is_empty() && self.ended.is_empty()
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

    /// A staged attempt was taken back from the runners before it started.
    pub fn on_taken_back(&mut self, task: TaskId, token: Token) {
        self.staged.retain(|staged| (staged.task, staged.token) != (task, token));
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
        self.stage_next(out);
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
        let staged = self.staged.iter().map(|staged| (staged.task, staged.token, false));
        let held = staged.chain(queued).chain(running).chain(ended).collect();
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
        let staged = self.staged.iter().find(|staged| staged.task == task).map(|s| s.token);
        let running = self.running.range(all.clone()).map(|((_, token), _)| *token);
        let ended = self.ended.range(all).map(|((_, token), _)| *token);
        queued.into_iter().chain(staged).chain(running).chain(ended).max()
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
        let (mut released, mut kept, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            let staged = self.staged.iter().find(|staged| staged.task == *task && !staged.killed);
            match staged {
                _ if self.queue.remove(*task) => released.push(*task),
                Some(staged) => back.push((staged.task, staged.token)),
                None => kept.push(*task),
            }
        }
        out.push(match back.is_empty() {
            true => Effect::SendRelease { released, kept },
            false => Effect::TakeBack { staged: back, released, kept },
        });
    }

    fn on_killed(&mut self, tasks: &[TaskId], out: &mut Vec<Effect>) {
        for task in tasks {
            let all = (*task, Token(0))..=(*task, Token(u64::MAX));
            for ((task, token), running) in self.running.range_mut(all) {
                running.killed = true;
                out.push(Effect::KillRunner { task: *task, token: *token });
            }
            for staged in self.staged.iter_mut().filter(|staged| staged.task == *task) {
                staged.killed = true;
                out.push(Effect::KillRunner { task: *task, token: staged.token });
            }
        }
    }

    fn on_ended(&mut self, ended: Ended, out: &mut Vec<Effect>) {
        let attempt = (ended.task, ended.token);
        let killed = match self.running.remove(&attempt) {
            Some(running) => {
                self.give_back(running.needs.as_deref());
                running.killed
            }
            // The runners were faster than the word of it.
            None => self.unstage(attempt).is_some_and(|staged| staged.killed),
        };
        if killed {
            return;
        }
        self.ended.insert(attempt, ended.clone());
        if self.connected {
            out.push(Effect::SendReports { reports: vec![ended] });
        }
    }

    /// While draining, whatever waits here (or still arrives) goes back to the leader.
    fn hand_back(&mut self, out: &mut Vec<Effect>) {
        if !self.draining || !self.connected || self.queued() == 0 {
            return;
        }
        let (released, kept) = (self.queue.drain(), Vec::new());
        let wanted = self.staged.iter().filter(|staged| !staged.killed);
        let staged: Vec<_> = wanted.map(|staged| (staged.task, staged.token)).collect();
        out.push(match staged.is_empty() {
            true => Effect::SendRelease { released, kept },
            false => Effect::TakeBack { staged, released, kept },
        });
    }

    fn unstage(&mut self, attempt: (TaskId, Token)) -> Option<Staged> {
        let at = self.staged.iter().position(|staged| (staged.task, staged.token) == attempt)?;
        self.staged.remove(at)
    }

    /// Hands the runners what they shall run next, so that none waits for this node to hear that it is free. Only what
    /// takes one slot and nothing else, and only in the order of the queue.
    fn stage_next(&mut self, out: &mut Vec<Effect>) {
        let plain = |needs: &Option<Arc<Needs>>| needs.is_none();
        if self.draining || self.stage == 0 || !self.running.values().all(|r| plain(&r.needs)) {
            return;
        }
        while self.staged.len() < self.stage && self.free_slots() == 0 {
            let next = self.queue.first();
            if !next.is_some_and(|next| plain(&next.spec.needs) && next.spec.blob.is_none()) {
                return;
            }
            let Some(assignment) = self.queue.pop(|_| true) else { return };
            let (task, token) = (assignment.spec.id, assignment.token);
            self.staged.push_back(Staged { task, token, killed: false });
            out.push(Effect::Run(assignment));
        }
    }

    fn start_next(&mut self, out: &mut Vec<Effect>) {
        // A place became free, so the first that is staged has it by now.
        while self.free_slots() > 0
            && let Some(Staged { task, token, killed }) = self.staged.pop_front()
        {
            self.busy += 1;
            self.running.insert((task, token), Running { needs: None, killed });
        }
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
