//! Who yields what to an idle node. The leader arbitrates: revoke, confirmed not started, log, grant.

use super::durations::Durations;
use super::holdings::Held;
use super::pools::Pools;
use super::reach::Reach;
use super::roster::{Post, Roster};
use crate::config::StealPolicy;
use crate::core::Moment;
use crate::core::chance::Chance;
use crate::core::cluster::needs::Taken;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId};
use std::cmp::Reverse;

/// Possible victims that are looked at in each cell of the plane, the richest first.
const LOOKS: usize = 32;
/// The same where distances are given by name, or a victim is drawn: there is one cell, or any victim may be drawn.
const MANY_LOOKS: usize = 1_024;
/// So many of them are asked what they have for a thief, until one has something.
const VICTIMS: usize = 4;

/// Tasks of a victim that are looked at beyond a batch: some may run, or be none the thief may have.
const LOOKS_BEYOND: usize = 64;

/// What to ask back from whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Steal {
    /// Who has too much.
    pub victim: NodeId,
    /// The newest of its assignments, which it would start last.
    pub tasks: Vec<TaskId>,
}

/// Why a thief gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StealRefusal {
    /// It is no member, its session is not open, or it drains.
    NotEligible,
    /// It has work already, or some is on its way.
    NotIdle,
    /// Its CPU is busy with other things.
    CpuFloor,
    /// No work waits at any other node.
    NoVictim,
    /// Work waits, but at nodes out of the thief's reach.
    OutOfReach,
    /// Nothing that waits there meets what the thief offers.
    NeedsUnmet,
    /// What waits there was stolen too often.
    StolenTooOften,
    /// It would be done as soon where it is.
    NoProfit,
    /// The victim had started it, or had it no more.
    Started,
    /// The thief is gone, or takes no more; what the victim gave up waits at the leader.
    ThiefGone,
}

impl StealRefusal {
    /// All of them.
    pub const ALL: [StealRefusal; 10] = [
        StealRefusal::NotEligible,
        StealRefusal::NotIdle,
        StealRefusal::CpuFloor,
        StealRefusal::NoVictim,
        StealRefusal::OutOfReach,
        StealRefusal::NeedsUnmet,
        StealRefusal::StolenTooOften,
        StealRefusal::NoProfit,
        StealRefusal::Started,
        StealRefusal::ThiefGone,
    ];

    /// The word people read.
    pub fn as_str(self) -> &'static str {
        match self {
            StealRefusal::NotEligible => "not_eligible",
            StealRefusal::NotIdle => "not_idle",
            StealRefusal::CpuFloor => "cpu_floor",
            StealRefusal::NoVictim => "no_victim",
            StealRefusal::OutOfReach => "out_of_reach",
            StealRefusal::NeedsUnmet => "needs_unmet",
            StealRefusal::StolenTooOften => "stolen_too_often",
            StealRefusal::NoProfit => "no_profit",
            StealRefusal::Started => "started",
            StealRefusal::ThiefGone => "thief_gone",
        }
    }
}

/// What a plan looks at.
pub struct Market<'a> {
    /// As it is at this moment.
    pub now: Moment,
    /// All nodes.
    pub roster: &'a Roster,
    /// Those with work to give.
    pub pools: &'a Pools,
    /// The log.
    pub state: &'a ClusterState,
    /// What tasks take.
    pub durations: &'a Durations,
    /// Who is how far from whom.
    pub reach: &'a Reach,
    /// The knobs.
    pub policy: &'a StealPolicy,
    /// What a steal takes from the first word to the grant, in microseconds.
    pub cost_us: u64,
}

impl Market<'_> {
    /// What a thief with so many free slots and so idle a CPU gets: of the work that waits at its victim the share that
    /// lets both be done at the same time.
    pub fn plan(
        &self,
        thief: NodeId,
        free_slots: u32,
        cpu_available: f64,
        chance: &mut Chance,
    ) -> Result<Steal, StealRefusal> {
        let (thief, free) = self.idle(thief, free_slots, cpu_available)?;
        let mut why_not = None;
        // The richest may have nothing for this thief, and the next one may.
        for victim in self.victims_of(thief, chance)? {
            match self.loot(victim, thief, free) {
                Ok(tasks) => return Ok(Steal { victim: victim.member.id, tasks }),
                Err(why) => why_not = why_not.or(Some(why)),
            }
        }
        Err(why_not.unwrap_or(StealRefusal::OutOfReach))
    }

    /// The same of that victim, which has more to give than before.
    pub fn offer(
        &self,
        victim: NodeId,
        thief: NodeId,
        free_slots: u32,
        cpu_available: f64,
    ) -> Result<Steal, StealRefusal> {
        let (thief, free) = self.idle(thief, free_slots, cpu_available)?;
        let victim = self.roster.get(&victim).filter(|post| post.member.id != thief.member.id);
        let rich = victim.filter(|post| post.answers() && post.queued() > 0);
        let victim = rich.ok_or(StealRefusal::NoVictim)?;
        if !self.reach.may_steal(&victim.member, &thief.member) {
            return Err(StealRefusal::OutOfReach);
        }
        let tasks = self.loot(victim, thief, free)?;
        Ok(Steal { victim: victim.member.id, tasks })
    }

    /// The thief, if it may have anything, and how many places it has.
    fn idle(&self, thief: NodeId, free: u32, cpu: f64) -> Result<(&Post, u64), StealRefusal> {
        let thief = self.roster.get(&thief).filter(|post| post.eligible());
        let thief = thief.ok_or(StealRefusal::NotEligible)?;
        let free = thief.slots().saturating_sub(thief.holds.slots()).min(u64::from(free));
        if free == 0 {
            return Err(StealRefusal::NotIdle);
        }
        // NaN is no idle CPU.
        if cpu.is_nan() || cpu < self.policy.cpu_floor {
            return Err(StealRefusal::CpuFloor);
        }
        Ok((thief, free))
    }

    /// The nodes with the most work that waits, within the thief's reach, the richest first; or a random one of all.
    fn victims_of(&self, thief: &Post, chance: &mut Chance) -> Result<Vec<&Post>, StealRefusal> {
        let own = usize::from(thief.queued() > 0);
        if self.pools.rich_count() <= own {
            return Err(StealRefusal::NoVictim);
        }
        let cells = self.reach.cells_around(self.reach.cell(thief.member.position));
        let looks = match self.policy.random_victim || self.reach.is_by_name() {
            true => MANY_LOOKS,
            false => LOOKS,
        };
        let near = self.pools.rich_around(&cells, looks).filter_map(|(work_us, node)| {
            let post = self.roster.get(&node).filter(|_| node != thief.member.id)?;
            self.reach.may_steal(&post.member, &thief.member).then_some((work_us, node, post))
        });
        let mut near: Vec<(u64, NodeId, &Post)> = near.collect();
        if self.policy.random_victim {
            let drawn = near.get(chance.below(near.len())).map(|(_, _, post)| *post);
            return drawn.map(|post| vec![post]).ok_or(StealRefusal::OutOfReach);
        }
        near.sort_unstable_by_key(|(us, node, _)| Reverse((*us, *node)));
        Ok(near.into_iter().take(VICTIMS).map(|(_, _, post)| post).collect())
    }

    /// What the victim shall give: the newest first, those it would start last; up to the thief's share by speed and
    /// slots, rounded to the nearest task, but one at least.
    fn loot(&self, victim: &Post, thief: &Post, free: u64) -> Result<Vec<TaskId>, StealRefusal> {
        let its = victim.slots() as f64 * victim.speed.ratio();
        let mine = free as f64 * thief.speed.ratio();
        let waiting_us = waiting_us(victim, self.durations);
        let wanted_us = (waiting_us as f64 * mine / (mine + its)) as u64;
        let (mut given_us, mut tasks, mut why_not) = (0, Vec::new(), StealRefusal::NoVictim);
        let mut taken = thief.holds.taken().clone();
        let batch = (self.policy.batch as usize).min(victim.queued());
        for (task, held) in victim.holds.newest_first().take(batch + LOOKS_BEYOND) {
            let asked_back = held.leaving || victim.revoking.contains_key(&task);
            if asked_back || victim.status.running.contains(&task) {
                continue;
            }
            if let Some(why) = self.why_not(task, held, thief, &taken) {
                why_not = why;
                continue;
            }
            let expected_us = self.durations.expected_us(held.charge.kind);
            if tasks.is_empty() && !self.is_worth_it(victim, thief, expected_us) {
                return Err(StealRefusal::NoProfit);
            }
            let enough = !tasks.is_empty() && given_us + expected_us / 2 > wanted_us;
            if enough || tasks.len() >= batch {
                break;
            }
            if let Some(needs) = &held.charge.needs {
                taken.take(needs);
            }
            given_us += expected_us;
            tasks.push(task);
        }
        if tasks.is_empty() { Err(why_not) } else { Ok(tasks) }
    }

    /// Why the thief may not have that task.
    fn why_not(
        &self,
        task: TaskId,
        held: &Held,
        thief: &Post,
        taken: &Taken,
    ) -> Option<StealRefusal> {
        let met =
            held.charge.needs.as_ref().is_none_or(|needs| {
                needs.is_met_by(&thief.member) && needs.fits(&thief.member, taken)
            });
        let live = self.state.live().get(&task);
        match live {
            None => Some(StealRefusal::NoVictim),
            Some(live) if live.steals >= self.policy.per_task => Some(StealRefusal::StolenTooOften),
            Some(_) => (!met).then_some(StealRefusal::NeedsUnmet),
        }
    }

    /// The last of the victim's tasks would be done sooner with the thief, by a multiple of what a steal costs.
    fn is_worth_it(&self, victim: &Post, thief: &Post, last_us: u64) -> bool {
        if self.policy.profit <= 0.0 {
            return true;
        }
        let backlog_us = victim.backlog_by(self.now, self.durations);
        let there = backlog_us.max(victim.time_us(last_us)) as f64;
        let gain = there - thief.time_us(last_us) as f64;
        gain >= self.policy.profit * self.cost_us as f64
    }
}

/// How long one slot of a node of usual speed would take over what waits at a victim, not running and not asked back.
pub fn waiting_us(victim: &Post, durations: &Durations) -> u64 {
    let held = (victim.holds.len() as u64).max(1);
    victim.holds.work_us(durations) / held * victim.queued() as u64
}

#[cfg(test)]
#[path = "stealing_tests.rs"]
mod tests;
