//! Tasks without a node, in lines of the same kind and needs: by priority, then in order of arrival or longest first.
//!
//! Longest first means that a task has a start on others by the time it is expected to take: it passes those that came
//! no earlier than that before it. Tasks that come at once thus go strictly by length, the best order for what must all
//! be done (Graham, SIAM J. Appl. Math. 17(2), 1969); of tasks that keep coming none is passed for ever.

use super::durations::Kind;
use super::holdings::Charge;
use crate::core::cluster::needs::Needs;
use crate::core::ids::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where longest go first, every so many tasks the one that came first does, whatever is expected of others.
const TURN: u64 = 8;
/// The longest start on others, as a power of two of a microsecond: twelve days.
const MAX_LENGTH: u32 = 40;

/// Priorities a task can have, from 0 to 9.
pub const PRIORITIES: usize = 10;

/// Where a task stands: in which line, and at which place of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    line: u32,
    key: Key,
}

/// The lower the sooner: 9 less the priority, then the number of its arrival.
type Key = (u8, u64);

/// Why a line is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Until some node changes.
    NoPlace,
    /// Until another kind of node comes.
    NoOffer,
}

#[derive(Debug)]
struct Line {
    charge: Charge,
    tasks: BTreeMap<Key, Waiting>,
    length: u32,
    parked: Option<Parked>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    task: TaskId,
    /// Since when, by the clock of the log.
    since_ms: u64,
}

/// All lines.
#[derive(Debug, Default)]
pub struct Queue {
    lines: BTreeMap<u32, Line>,
    by_charge: BTreeMap<(Kind, Option<Arc<Needs>>), u32>,
    /// The heads of lines that are not parked.
    by_age: BTreeSet<(Key, u32)>,
    /// The same by when they would have come with their start.
    by_length: BTreeSet<(u8, i64, u64, u32)>,
    parked: BTreeSet<u32>,
    /// Lines for which there is no kind of node.
    hopeless: usize,
    /// How many wait of each priority.
    depths: [usize; PRIORITIES],
    next_line: u32,
    arrivals: u64,
    taken: u64,
    len: usize,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many wait of each priority, from 0 to 9.
    pub fn depths(&self) -> [usize; PRIORITIES] {
        self.depths
    }

    /// Since when the oldest waits, by the clock of the log.
    pub fn oldest_ms(&self) -> Option<u64> {
        let firsts = |line: &Line| {
            let of = |rank: u8| line.tasks.range((rank, 0)..(rank + 1, 0)).next();
            (0..PRIORITIES as u8).filter_map(of).map(|(_, waiting)| waiting.since_ms).min()
        };
        self.lines.values().filter_map(firsts).min()
    }

    /// Nobody waits for whom there is a kind of node.
    pub fn is_hopeless(&self) -> bool {
        self.lines.len() == self.hopeless
    }

    /// A task lines up that waits since `since_ms`. `length` is that of its kind.
    pub fn push(
        &mut self,
        task: TaskId,
        priority: u8,
        since_ms: u64,
        charge: Charge,
        length: u32,
    ) -> Spot {
        self.arrivals += 1;
        let key = (9 - priority.min(9), self.arrivals);
        let by = (charge.kind, charge.needs.clone());
        let line = match self.by_charge.get(&by) {
            Some(line) => *line,
            None => {
                self.next_line = self.next_line.wrapping_add(1);
                let line = Line { charge, tasks: BTreeMap::new(), length, parked: None };
                self.lines.insert(self.next_line, line);
                self.by_charge.insert(by, self.next_line);
                self.next_line
            }
        };
        self.change(line, |line| line.tasks.insert(key, Waiting { task, since_ms }));
        self.len += 1;
        self.depths[usize::from(9 - key.0)] += 1;
        Spot { line, key }
    }

    /// A task leaves.
    pub fn remove(&mut self, spot: Spot) {
        let left = self.change(spot.line, |line| line.tasks.remove(&spot.key));
        if left.flatten().is_none() {
            return;
        }
        self.len -= 1;
        self.depths[usize::from(9 - spot.key.0)] -= 1;
        let done = self.lines.get(&spot.line).is_some_and(|line| line.tasks.is_empty());
        if let Some(line) = done.then(|| self.lines.remove(&spot.line)).flatten() {
            self.hopeless -= usize::from(line.parked == Some(Parked::NoOffer));
            self.parked.remove(&spot.line);
            self.by_charge.remove(&(line.charge.kind, line.charge.needs));
        }
    }

    /// Who is next, of the lines that are not parked.
    pub fn first(&self, longest_first: bool) -> Option<(Spot, TaskId, &Charge)> {
        let line = match longest_first && !self.taken.is_multiple_of(TURN) {
            true => self.by_length.first().map(|(_, _, _, line)| *line),
            false => self.by_age.first().map(|(_, line)| *line),
        }?;
        let found = self.lines.get(&line)?;
        let (key, waiting) = found.tasks.first_key_value()?;
        Some((Spot { line, key: *key }, waiting.task, &found.charge))
    }

    /// That one got its place.
    pub fn take(&mut self, spot: Spot) {
        self.taken = self.taken.wrapping_add(1);
        self.remove(spot);
    }

    /// Nobody can take the first of that line.
    pub fn park(&mut self, spot: Spot, why: Parked) {
        self.change(spot.line, |line| line.parked = Some(why));
        self.parked.insert(spot.line);
    }

    /// Something has changed for lines that were parked: `all` of them, or those that wait for a place.
    pub fn unpark(&mut self, all: bool) {
        let waiting = |line: &u32| {
            all || self.lines.get(line).is_some_and(|l| l.parked == Some(Parked::NoPlace))
        };
        let lines: Vec<u32> = self.parked.iter().copied().filter(waiting).collect();
        for line in lines {
            self.parked.remove(&line);
            self.change(line, |line| line.parked = None);
        }
    }

    /// Tasks of that kind take longer or shorter now.
    pub fn set_length(&mut self, kind: Kind, length: u32) {
        let of_kind = self.by_charge.range((kind, None)..).take_while(|((k, _), _)| *k == kind);
        let lines: Vec<u32> = of_kind.map(|(_, line)| *line).collect();
        for line in lines {
            self.change(line, |line| line.length = length);
        }
    }

    /// How many would come before it by age; counted up to `most`.
    pub fn ahead(&self, spot: Spot, most: usize) -> usize {
        let lines = self.lines.values();
        lines.flat_map(|line| line.tasks.range(..spot.key)).take(most).count()
    }

    /// The one that waits longest, of the highest priority.
    pub fn oldest(&self) -> Option<TaskId> {
        let heads = self.lines.values().filter_map(|line| line.tasks.first_key_value());
        heads.min_by_key(|(key, _)| **key).map(|(_, waiting)| waiting.task)
    }

    /// Changes a line and keeps its head where it belongs.
    fn change<T>(&mut self, at: u32, change: impl FnOnce(&mut Line) -> T) -> Option<T> {
        let line = self.lines.get_mut(&at)?;
        if let Some((key, due)) = head(line) {
            self.by_age.remove(&(key, at));
            self.by_length.remove(&(key.0, due, key.1, at));
        }
        self.hopeless -= usize::from(line.parked == Some(Parked::NoOffer));
        let changed = change(line);
        self.hopeless += usize::from(line.parked == Some(Parked::NoOffer));
        if let Some((key, due)) = head(line) {
            self.by_age.insert((key, at));
            self.by_length.insert((key.0, due, key.1, at));
        }
        Some(changed)
    }
}

/// The first of a line, and when it would have come with its start, in microseconds.
fn head(line: &Line) -> Option<(Key, i64)> {
    let (key, waiting) = line.tasks.first_key_value().filter(|_| line.parked.is_none())?;
    let since_us = i64::try_from(waiting.since_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    Some((*key, since_us - (1 << line.length.min(MAX_LENGTH))))
}

#[cfg(test)]
mod tests {
    use super::super::durations::Durations;
    use super::super::durations::tests::spec;
    use super::*;

    /// Kinds of three names, and what they are charged.
    fn charges() -> [Charge; 3] {
        let mut durations = Durations::default();
        ["short", "long", "other"].map(|name| {
            let kind = durations.kind_of(&spec(name, 0));
            Charge { kind, needs: None }
        })
    }

    fn drain(queue: &mut Queue, longest_first: bool) -> Vec<u128> {
        let mut order = Vec::new();
        while let Some((spot, task, _)) = queue.first(longest_first) {
            queue.take(spot);
            order.push(task.0);
        }
        order
    }

    #[test]
    fn priority_comes_before_arrival_whatever_the_line() {
        let [short, long, _] = charges();
        let mut queue = Queue::default();
        queue.push(TaskId(1), 5, 0, short.clone(), 1);
        queue.push(TaskId(2), 5, 0, long.clone(), 9);
        queue.push(TaskId(3), 9, 0, short.clone(), 1);
        queue.push(TaskId(4), 0, 0, long, 9);
        queue.push(TaskId(5), 5, 0, short, 1);
        let depths = [1, 0, 0, 0, 0, 3, 0, 0, 0, 1];
        assert_eq!((queue.depths(), queue.oldest_ms()), (depths, Some(0)));
        assert_eq!(drain(&mut queue, false), [3, 1, 2, 5, 4]);
        assert_eq!((queue.depths(), queue.oldest_ms()), ([0; PRIORITIES], None));
        assert!(queue.is_empty() && queue.lines.is_empty() && queue.by_charge.is_empty());
    }

    #[test]
    fn longest_first_but_every_eighth_is_the_one_that_came_first() {
        let [short, long, _] = charges();
        let mut queue = Queue::default();
        for id in 0..20 {
            let charge = if id < 4 { short.clone() } else { long.clone() };
            queue.push(TaskId(id), 5, 0, charge, if id < 4 { 1 } else { 9 });
        }
        let order = drain(&mut queue, true);
        assert_eq!(order[..8], [0, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(order[8], 1);
        assert_eq!(order.len(), 20);
    }

    #[test]
    fn a_task_passes_those_that_came_no_earlier_than_it_takes() {
        let [short, long, _] = charges();
        let mut queue = Queue::default();
        // A millisecond, and a second: each by its power of two.
        let came_ms = [5_000, 5_900, 6_100];
        for (id, ms) in (0..).zip(came_ms) {
            queue.push(TaskId(id), 5, ms, short.clone(), 10);
        }
        queue.push(TaskId(9), 5, 6_900, long, 20);
        // The first turn is for age.
        assert_eq!(drain(&mut queue, true), [0, 9, 1, 2]);
        let [short, long, _] = charges();
        let mut queue = Queue::default();
        for (id, ms) in (0..).zip(came_ms) {
            queue.push(TaskId(id), 5, ms, short.clone(), 10);
        }
        queue.push(TaskId(9), 5, 7_100, long, 20);
        assert_eq!(drain(&mut queue, true), [0, 1, 9, 2]);
    }

    #[test]
    fn a_kind_that_turns_out_long_moves_ahead() {
        let [short, long, _] = charges();
        let mut queue = Queue::default();
        queue.push(TaskId(0), 5, 0, short.clone(), 5);
        queue.push(TaskId(1), 5, 0, short, 5);
        queue.push(TaskId(2), 5, 0, long.clone(), 5);
        queue.set_length(long.kind, 20);
        assert_eq!(drain(&mut queue, true), [0, 2, 1], "the first turn is for age");
    }

    #[test]
    fn parked_lines_are_passed_over_and_their_tasks_still_counted() {
        let [short, long, other] = charges();
        let mut queue = Queue::default();
        let spots: Vec<Spot> = [short, long, other]
            .into_iter()
            .zip(1..)
            .map(|(charge, id)| queue.push(TaskId(id), 5, 0, charge, 1))
            .collect();
        queue.park(spots[0], Parked::NoPlace);
        queue.park(spots[1], Parked::NoOffer);
        let first = |queue: &Queue| queue.first(false).map(|(_, task, _)| task.0);
        assert_eq!(first(&queue), Some(3));
        assert_eq!((queue.len(), queue.ahead(spots[2], 10)), (3, 2));
        assert_eq!(queue.oldest(), Some(TaskId(1)));
        queue.unpark(false);
        assert_eq!(first(&queue), Some(1));
        queue.remove(spots[0]);
        assert_eq!(first(&queue), Some(3), "the second waits for another kind of node");
        queue.unpark(true);
        assert_eq!(first(&queue), Some(2));
    }
}
