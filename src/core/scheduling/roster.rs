//! What the leader knows of each node: its session, its assignments, when it was last heard.

use crate::core::Moment;
use crate::core::boundary::NodeStatus;
use crate::core::cluster::command::Member;
use crate::core::ids::{NodeId, TaskId, Token};
use std::collections::BTreeMap;

/// The least time a window holds work for, so that short tasks stream.
const WINDOW_US: u64 = 5_000;

/// One member in the leader's eyes.
#[derive(Clone, Debug)]
pub struct Post {
    /// Who.
    pub member: Member,
    /// Its inventory has arrived; it may be given work.
    pub open: bool,
    /// When it last said anything.
    pub heard: Moment,
    /// Its last status.
    pub status: NodeStatus,
    /// Live attempts it holds, by the log.
    pub assigned: BTreeMap<TaskId, Token>,
    /// Attempts proposed for it and not yet committed.
    pub incoming: usize,
    /// Asked back, not yet answered: the thief, if it is a steal.
    pub revoking: BTreeMap<TaskId, Option<NodeId>>,
    /// It has been given up; its removal is proposed.
    pub lost: bool,
}

impl Post {
    /// A member that was just heard of.
    pub fn new(member: Member, now: Moment) -> Self {
        Post {
            member,
            open: false,
            heard: now,
            status: NodeStatus::default(),
            assigned: BTreeMap::new(),
            incoming: 0,
            revoking: BTreeMap::new(),
            lost: false,
        }
    }

    /// It may be given new work.
    pub fn eligible(&self) -> bool {
        self.open && !self.lost && !self.status.draining
    }

    /// How much it holds or will hold.
    pub fn burden(&self) -> usize {
        self.assigned.len() + self.incoming
    }

    /// How much it should hold at once: `slots + 1`, or what keeps it busy for 5 ms, at most `cap`.
    pub fn window(&self, cap: u64) -> usize {
        let slots = u64::from(self.member.slots.max(1));
        let mean_us = self.status.mean_task.as_micros() as u64;
        let streaming = (slots * WINDOW_US).checked_div(mean_us).unwrap_or(0);
        streaming.max(slots + 1).min(cap.max(1)) as usize
    }

    /// Assignments that are not running, as far as the leader knows.
    pub fn queued(&self) -> usize {
        self.assigned.len().saturating_sub(self.status.running.len() + self.revoking.len())
    }
}

/// All members.
pub type Roster = BTreeMap<NodeId, Post>;
