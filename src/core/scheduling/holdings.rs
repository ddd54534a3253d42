//! What one node holds of tasks, by the log and on its way there, and how much work that is.

use super::durations::{Durations, Kind, remaining_us};
use super::row::Row;
use crate::core::Moment;
use crate::core::cluster::needs::{Needs, Taken};
use crate::core::ids::{TaskId, Token};
use std::sync::Arc;
use std::time::Duration;

/// Kinds that are counted apart on one node; the rest count as one.
const KINDS: usize = 16;
/// Of the oldest on a node so many are looked at for those that run.
const LOOKS: usize = 64;

/// What a task costs whoever holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Charge {
    /// How long it may take.
    pub kind: Kind,
    /// What it takes of the node; `None`: a slot.
    pub needs: Option<Arc<Needs>>,
}

impl Charge {
    /// Slots it takes.
    pub fn slots(&self) -> u64 {
        self.needs.as_ref().map_or(1, |needs| u64::from(needs.slots.max(1)))
    }
}

/// A live attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its fencing token.
    pub token: Token,
    /// What it costs.
    pub charge: Charge,
    /// Since when the node holds it.
    pub since: Moment,
    /// Since when it is known to run.
    pub started: Option<Moment>,
    /// The node gave it up, which the log has not said yet: it is not sent there again.
    pub leaving: bool,
    /// What its age says about the time it takes, beside what its kind says.
    age_us: i64,
}

/// All of them on one node, and their sums.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    assigned: Row<TaskId, Held>,
    by_age: Row<(Token, TaskId), ()>,
    /// Those of them that are not known to run, and do not leave.
    waiting: Row<(Token, TaskId), ()>,
    /// Proposed for this node and not yet committed.
    incoming: Row<TaskId, Charge>,
    slots: u64,
    kinds: Vec<(Kind, u64)>,
    taken: Taken,
    leaving: usize,
    age_us: i64,
}

impl Holdings {
    /// A task is proposed for this node.
    pub fn expect(&mut self, task: TaskId, charge: Charge) {
        self.give_up_on(task);
        self.add(&charge);
        self.incoming.insert(task, charge);
    }

    /// It does not come.
    pub fn give_up_on(&mut self, task: TaskId) {
        if let Some(charge) = self.incoming.remove(task) {
            self.subtract(&charge);
        }
    }

    /// The log says that this node holds it.
    pub fn hold(&mut self, now: Moment, task: TaskId, token: Token, charge: Charge) {
        self.give_up_on(task);
        self.let_go(task);
        self.add(&charge);
        self.by_age.insert((token, task), ());
        self.waiting.insert((token, task), ());
        let held = Held { token, charge, since: now, started: None, leaving: false, age_us: 0 };
        self.assigned.insert(task, held);
    }

    /// The node gave it up, and will not have it again under this token.
    pub fn leave(&mut self, task: TaskId) -> Option<&Held> {
        let held = self.assigned.get_mut(task)?;
        self.leaving += usize::from(!std::mem::replace(&mut held.leaving, true));
        self.waiting.remove((held.token, task));
        Some(held)
    }

    /// How many it gave up that way.
    pub fn leaving(&self) -> usize {
        self.leaving
    }

    /// The log says that it does no more.
    pub fn let_go(&mut self, task: TaskId) -> Option<Held> {
        let held = self.assigned.remove(task)?;
        self.by_age.remove((held.token, task));
        self.waiting.remove((held.token, task));
        self.age_us -= held.age_us;
        self.leaving -= usize::from(held.leaving);
        self.subtract(&held.charge);
        Some(held)
    }

    /// The token of the attempt it holds.
    pub fn token(&self, task: TaskId) -> Option<Token> {
        self.assigned.get(task).map(|held| held.token)
    }

    /// The attempt it holds.
    pub fn get(&self, task: TaskId) -> Option<&Held> {
        self.assigned.get(task)
    }

    /// Live attempts, by task.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &Held)> {
        self.assigned.iter()
    }

    /// The same, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (TaskId, &Held)> {
        self.by_age.iter().rev().filter_map(|(by, _)| self.with(by))
    }

    /// The oldest, as many as may run.
    fn oldest(&self) -> impl Iterator<Item = (TaskId, &Held)> {
        self.by_age.iter().take(LOOKS).filter_map(|(by, _)| self.with(by))
    }

    fn with(&self, (_, task): (Token, TaskId)) -> Option<(TaskId, &Held)> {
        self.assigned.get(task).map(|held| (task, held))
    }

    /// How many are live.
    pub fn len(&self) -> usize {
        self.assigned.len()
    }

    /// How many are on their way.
    pub fn coming(&self) -> usize {
        self.incoming.len()
    }

    /// It holds nothing and expects nothing.
    pub fn is_empty(&self) -> bool {
        self.assigned.is_empty() && self.incoming.is_empty()
    }

    /// How many it holds or will hold.
    pub fn count(&self) -> usize {
        self.assigned.len() + self.incoming.len()
    }

    /// Slots all of them take.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Resources all of them take.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// What all of them take, in microseconds of a node of usual speed.
    pub fn work_us(&self, durations: &Durations) -> u64 {
        let whole =
            |(kind, count): &(Kind, u64)| durations.expected_us(*kind).saturating_mul(*count);
        let whole = self.kinds.iter().map(whole).fold(0, u64::saturating_add);
        whole.saturating_add_signed(self.age_us)
    }

    /// The same as things are now: what it said last of those that run may be a while ago.
    pub fn work_by(&self, now: Moment, durations: &Durations, speed: f64) -> u64 {
        let since = |held: &Held| {
            held.started.map_or(0, |started| {
                aged_us(now.since(started), held, durations, speed) - held.age_us
            })
        };
        let aged: i64 = self.oldest().map(|(_, held)| since(held)).sum();
        self.work_us(durations).saturating_add_signed(aged)
    }

    /// One that ran has ended, so the oldest that waits begins.
    pub fn begin_next(&mut self, now: Moment) -> Option<TaskId> {
        let ((_, next), ()) = self.waiting.iter().next()?;
        self.begin(now, next);
        Some(next)
    }

    /// It has begun, for all that is known.
    pub fn begin(&mut self, now: Moment, task: TaskId) {
        if let Some(held) = self.assigned.get_mut(task) {
            held.started.get_or_insert(now);
            self.waiting.remove((held.token, task));
        }
    }

    /// The node says what runs there: the age of those corrects what they are expected to take. Those that were not
    /// known to run are returned.
    pub fn note_running(
        &mut self,
        now: Moment,
        running: &[TaskId],
        durations: &Durations,
        speed: f64,
    ) -> Vec<TaskId> {
        let mut begun = Vec::new();
        for task in running {
            let Some(held) = self.assigned.get_mut(*task) else { continue };
            if held.started.is_none() {
                begun.push(*task);
                self.waiting.remove((held.token, *task));
            }
            let age = now.since(*held.started.get_or_insert(now));
            let age_us = aged_us(age, held, durations, speed);
            self.age_us += age_us - held.age_us;
            held.age_us = age_us;
        }
        begun
    }

    fn add(&mut self, charge: &Charge) {
        self.slots += charge.slots();
        if let Some(needs) = &charge.needs {
            self.taken.take(needs);
        }
        match self.kinds.iter().position(|(kind, _)| *kind == charge.kind) {
            Some(at) => self.kinds[at].1 += 1,
            None if self.kinds.len() < KINDS => self.kinds.push((charge.kind, 1)),
            None => self.count_other(1),
        }
    }

    fn subtract(&mut self, charge: &Charge) {
        self.slots = self.slots.saturating_sub(charge.slots());
        if let Some(needs) = &charge.needs {
            self.taken.give_back(needs);
        }
        match self.kinds.iter().position(|(kind, _)| *kind == charge.kind) {
            Some(at) if self.kinds[at].1 > 1 => self.kinds[at].1 -= 1,
            // One that was counted with the others may make room here for a kind that comes later.
            Some(at) if self.kinds[at].0 != Kind::default() => {
                self.kinds.swap_remove(at);
            }
            _ => self.count_other(-1),
        }
    }

    fn count_other(&mut self, by: i64) {
        match self.kinds.iter_mut().find(|(kind, _)| *kind == Kind::default()) {
            Some((_, count)) => *count = count.saturating_add_signed(by),
            None if by > 0 => self.kinds.push((Kind::default(), 1)),
            None => {}
        }
    }
}

/// What the age of a running task says about the time it takes, beside what its kind says.
fn aged_us(age: Duration, held: &Held, durations: &Durations, speed: f64) -> i64 {
    let expected = durations.expected_us(held.charge.kind);
    let worked = Duration::from_secs_f64(age.as_secs_f64() * speed);
    remaining_us(expected, worked) as i64 - expected as i64
}
