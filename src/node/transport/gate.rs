//! Every word between nodes passes here: asks the switchboard what becomes of it. Without faults it is one atomic load.
//!
//! A message that stands alone (a request, an answer) can be lost. Words on a stream are carried by a connection, which
//! sends again what the network lost: they come late, in order and whole, as they do through TCP (see [`Carried`]).

use super::carried::Carried;
use crate::core::ids::NodeId;
use crate::node::clock::Clock;
use crate::node::faults::{Passage, Switchboard};
use futures::Stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How often words that cannot pass try again.
pub const RECHECK: Duration = Duration::from_millis(20);
/// How long an answer that cannot be given is kept; whoever asked has long gone by then.
pub const HELD: Duration = Duration::from_secs(60);
/// Requests under way that their senders need not wait for any more; past that they are lost.
const LATE: usize = 1_024;

/// One node's words, out and in.
#[derive(Clone, Debug)]
pub struct Gate {
    me: NodeId,
    board: Arc<Switchboard>,
    clock: Clock,
    late: Arc<Semaphore>,
}

/// A direction of words, and which end this node is.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// Who speaks.
    pub from: NodeId,
    /// Who listens.
    pub to: NodeId,
    /// This node speaks: delays and losses are its to suffer. A listener only turns deaf, or all would count twice.
    pub speaks: bool,
}

impl Gate {
    /// The gate of `me`, with the faults of `board`.
    pub fn new(me: NodeId, board: Arc<Switchboard>) -> Self {
        // A clock of its own: a node whose clock runs wrong does not bend the network.
        Gate { me, board, clock: Clock::start(), late: Arc::new(Semaphore::new(LATE)) }
    }

    /// The faults.
    pub fn board(&self) -> &Switchboard {
        &self.board
    }

    /// No fault is set.
    pub fn is_quiet(&self) -> bool {
        self.board.is_quiet()
    }

    /// What becomes of this node's next message to `to`.
    pub fn passage(&self, to: NodeId) -> Passage {
        self.board.passage(self.me, to)
    }

    /// `to` hears nothing of this node.
    pub fn is_mute(&self, to: NodeId) -> bool {
        !self.is_quiet() && self.board.fault(self.me, to).cut
    }

    /// Nothing passes between this node and `other` in at least one direction: dialling it proves nothing.
    pub fn is_cut(&self, other: NodeId) -> bool {
        let cut = |from, to| self.board.fault(from, to).cut;
        !self.is_quiet() && (cut(self.me, other) || cut(other, self.me))
    }

    /// Room for a request that goes on when its sender has stopped waiting; `None`: there are too many.
    pub fn late_permit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.late.clone().try_acquire_owned().ok()
    }

    /// Lets a message to `to` pass, in its time; false: it is lost, and nobody is told.
    pub async fn speak(&self, to: NodeId) -> bool {
        let direction = Direction { from: self.me, to, speaks: true };
        match self.draw(direction) {
            Passage::After(delay) if delay.is_zero() => true,
            Passage::After(delay) => {
                tokio::time::sleep(delay).await;
                true
            }
            Passage::Lost => false,
        }
    }

    /// Waits until `from` can be heard here; false: not within a minute.
    pub async fn hear(&self, from: NodeId) -> bool {
        self.wait_while_cut(from, self.me).await
    }

    /// Lets an answer to `to` pass; false: it is lost, and nobody must be told that it is.
    pub async fn answer(&self, to: NodeId) -> bool {
        self.wait_while_cut(self.me, to).await && self.speak(to).await
    }

    /// The words of `from` as they arrive here.
    pub fn heard<S: Stream + Unpin>(&self, from: NodeId, words: S) -> Carried<S> {
        let direction = Direction { from, to: self.me, speaks: false };
        Carried::new(self.clone(), direction, words)
    }

    /// This node's words to `to` as they leave.
    pub fn spoken<S: Stream + Unpin>(&self, to: NodeId, words: S) -> Carried<S> {
        let direction = Direction { from: self.me, to, speaks: true };
        Carried::new(self.clone(), direction, words)
    }

    pub(super) fn draw(&self, direction: Direction) -> Passage {
        let Direction { from, to, speaks } = direction;
        match speaks {
            true => self.board.passage(from, to),
            false if !self.is_quiet() && self.board.fault(from, to).cut => Passage::Lost,
            false => Passage::After(Duration::ZERO),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn wait_while_cut(&self, from: NodeId, to: NodeId) -> bool {
        if self.is_quiet() {
            return true;
        }
        let until = self.clock.now().after(HELD);
        while self.board.fault(from, to).cut {
            if self.clock.now() >= until {
                return false;
            }
            tokio::time::sleep(RECHECK).await;
        }
        true
    }
}
