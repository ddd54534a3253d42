//! What will happen when: a queue ordered by virtual time, and by insertion where two things happen at once.

use crate::core::Moment;
use crate::core::boundary::Event;
use crate::core::cluster::command::{Batch, Report};
use crate::core::ids::{TaskId, Term, Token};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Something that happens at a moment of its own. Machines are known by their number, from 0.
#[derive(Debug)]
pub enum Happening {
    /// A machine's words arrive at the leader, on the stream of that number.
    ToLeader { machine: usize, stream: u64, events: Vec<Event> },
    /// A machine's single call arrives at the leader.
    Call { machine: usize, life: u32, event: Event },
    /// The leader's words arrive at a machine, on the stream of that number.
    ToMachine { machine: usize, stream: u64, events: Vec<Event> },
    /// The leader's stream arrives at a machine.
    Hello { machine: usize, stream: u64, term: Term },
    /// A stream's end is noticed by the leader.
    Broken { machine: usize, stream: u64 },
    /// An entry is committed, if the leader of that reign still leads.
    Committed { reign: u64, batch: Batch },
    /// An attempt comes to its end.
    Ended { machine: usize, life: u32, task: TaskId, token: Token, report: Report },
    /// The leader wanted to be woken.
    LeaderWakes,
    /// A machine wanted to be woken.
    MachineWakes { machine: usize },
    /// Words of the client arrive at the leader.
    FromClient(Event),
    /// The client sends these tasks, unless they are done.
    Submit(Range<usize>),
    /// The client acknowledges what it holds.
    Acknowledge,
    /// A machine asks to be admitted, until it is.
    Join { machine: usize, life: u32 },
    /// A machine dies.
    Die { machine: usize },
    /// A machine that died is started again.
    Return { machine: usize },
    /// The leader dies.
    LeaderDies,
    /// Another one leads.
    Elected,
}

#[derive(Debug)]
struct Item {
    at: Moment,
    number: u64,
    what: Happening,
}

// The heap gives its greatest first: the earliest is the greatest.
impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Item {}

/// The queue.
#[derive(Debug, Default)]
pub struct Agenda {
    items: BinaryHeap<Item>,
    number: u64,
}

impl Agenda {
    /// `what` happens at `at`.
    pub fn add(&mut self, at: Moment, what: Happening) {
        self.number += 1;
        self.items.push(Item { at, number: self.number, what });
    }

    /// The next thing and its moment.
    pub fn next(&mut self) -> Option<(Moment, Happening)> {
        self.items.pop().map(|item| (item.at, item.what))
    }
}
