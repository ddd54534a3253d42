//! The nodes as one waiting task sees them, for people: who could take it, who could not, and why.

use super::holdings::Charge;
use super::leader::Leader;
use super::placement::{Candidates, policy};
use crate::config::OutOfReach;
use crate::core::cluster::command::{Member, TaskSpec};
use crate::core::cluster::needs::{Needs, THOUSANDTHS, offered};

/// How many nodes are in which case; each is counted once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) members: usize,
    /// They do not offer what it needs, however idle they are.
    pub(super) unmet: usize,
    pub(super) silent: usize,
    pub(super) draining: usize,
    pub(super) out_of_reach: usize,
    pub(super) full: usize,
    pub(super) free: usize,
}

impl Survey {
    /// The nodes as `spec` sees them.
    pub(super) fn new(leader: &Leader, spec: &TaskSpec) -> Self {
        let kind = leader.durations.known_kind(spec);
        let charge = Charge { kind, needs: spec.needs.clone() };
        let mut seen = Survey::default();
        let cap = leader.config.limits.node_queue;
        let policy = policy(leader.config.placement, leader.pools.has_unreached());
        let roster = &leader.roster;
        let from = Candidates::new(roster, &leader.pools, &leader.durations, &charge, cap);
        for post in roster.values() {
            let case = if !is_met(&charge, &post.member) {
                &mut seen.unmet
            } else if !post.answers() {
                &mut seen.silent
            } else if post.status.draining {
                &mut seen.draining
            } else if post.hops.is_none() {
                &mut seen.out_of_reach
            } else if policy.takes(&from, post) {
                &mut seen.free
            } else {
                &mut seen.full
            };
            *case += 1;
            seen.members += 1;
        }
        seen
    }

    /// No member could ever run it.
    pub(super) fn is_infeasible(&self) -> bool {
        self.members > 0 && self.unmet == self.members
    }

    /// Why no node can take it now, where none can.
    pub(super) fn why_none(&self, out_of_reach: OutOfReach) -> String {
        let mut parts = vec![
            format!("{} do not answer", self.silent),
            format!("{} take no more work", self.draining),
            format!("{} are out of reach", self.out_of_reach),
        ];
        if self.unmet > 0 {
            parts.push(format!("{} do not offer what it needs", self.unmet));
        }
        let mut text =
            format!("no node can take it: of {} members {}", self.members, parts.join(", "));
        if self.out_of_reach > 0 {
            text.push_str(match out_of_reach {
                OutOfReach::Wait => {
                    "; it waits until one comes into the leader's reach (out_of_reach = wait)"
                }
                OutOfReach::Relay => {
                    "; no chain of members leads there, each in reach of the next (out_of_reach = relay)"
                }
            });
        }
        text
    }
}

fn is_met(charge: &Charge, member: &Member) -> bool {
    charge.needs.as_ref().is_none_or(|needs| needs.is_met_by(member))
}

/// What no member offers of `needs`, in words.
pub(super) fn lacking(leader: &Leader, needs: &Needs) -> String {
    let members: Vec<&Member> = leader.roster.values().map(|post| &post.member).collect();
    let all = members.len();
    let count = |has: &dyn Fn(&Member) -> bool| members.iter().filter(|m| has(m)).count();
    let mut parts = Vec::new();
    if needs.slots > 1 {
        let most = members.iter().map(|m| m.slots).max().unwrap_or(0);
        let has = count(&|m| m.slots >= needs.slots);
        parts.push(format!(
            "cpu={} ({has} of {all} have so many slots, the most is {most})",
            needs.slots
        ));
    }
    for (name, amount) in &needs.resources {
        let most = members.iter().map(|m| offered(m, name)).max().unwrap_or(0);
        let has = count(&|m| offered(m, name) >= *amount);
        let (amount, most) = (whole(*amount), whole(most));
        parts.push(format!("{name}={amount} ({has} of {all} offer so much, the most is {most})"));
    }
    for (name, value) in &needs.labels {
        let has = count(&|m| m.labels.get(name) == Some(value));
        parts.push(format!("label {name}={value:?} ({has} of {all} have it)"));
    }
    format!("no member could run it, however idle: it needs {}", parts.join(" and "))
}

fn whole(thousandths: u64) -> f64 {
    thousandths as f64 / THOUSANDTHS as f64
}
