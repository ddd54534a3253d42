//! Who is idle while there is work within reach, and for how long.

use crate::core::Moment;
use crate::core::load::Position;
use std::time::Duration;

/// Watches idle machines.
#[derive(Debug, Default)]
pub struct Starving {
    /// Who may steal from whom; `None`: everybody from everybody.
    neighbours: Option<Vec<Vec<usize>>>,
    /// Whether tasks wait at each machine.
    rich: Vec<bool>,
    /// How many neighbours are rich; of machines without limits, how many there are at all.
    rich_near: Vec<usize>,
    rich_at_all: usize,
    /// Whom the leader may give work.
    reached: Vec<bool>,
    /// Whether work waits at the leader.
    waiting: bool,
    free: Vec<bool>,
    since: Vec<Option<Moment>>,
    /// The spells that are over.
    spells: Vec<Duration>,
    from: Option<Moment>,
}

impl Starving {
    /// Watches machines at these places, who may steal as far as `reach`.
    pub fn new(places: &[Position], reach: f64) -> Self {
        let count = places.len();
        let near = |i: usize| {
            let within = |j: &usize| *j != i && places[i].distance(&places[*j]) <= reach;
            (0..count).filter(within).collect()
        };
        Starving {
            neighbours: reach.is_finite().then(|| (0..count).map(near).collect()),
            rich: vec![false; count],
            rich_near: vec![0; count],
            reached: vec![false; count],
            free: vec![false; count],
            since: vec![None; count],
            ..Starving::default()
        }
    }

    /// From now on spells count; who is idle now begins now.
    pub fn begin(&mut self, now: Moment) {
        self.from = Some(now);
        self.spells.clear();
        for since in self.since.iter_mut().flatten() {
            *since = now;
        }
    }

    /// Another leader, or the first one, reaches these.
    pub fn see_reach(&mut self, now: Moment, reached: Vec<bool>) {
        self.reached = reached;
        self.look_at_all(now);
    }

    /// Work waits at the leader, or none does.
    pub fn see_waiting(&mut self, now: Moment, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            self.look_at_all(now);
        }
    }

    /// A machine has tasks that wait, or a free place.
    pub fn see_machine(&mut self, now: Moment, machine: usize, rich: bool, free: bool) {
        self.free[machine] = free;
        if self.rich[machine] != rich {
            self.rich[machine] = rich;
            let step = |count: usize| if rich { count + 1 } else { count.saturating_sub(1) };
            self.rich_at_all = step(self.rich_at_all);
            match self.neighbours.as_ref().map(|all| all[machine].clone()) {
                Some(near) => {
                    for other in near {
                        self.rich_near[other] = step(self.rich_near[other]);
                        self.look_at(now, other);
                    }
                }
                // Only the first and the last one change anything for others.
                None if self.rich_at_all <= 1 => self.look_at_all(now),
                None => {}
            }
        }
        self.look_at(now, machine);
    }

    fn look_at_all(&mut self, now: Moment) {
        (0..self.free.len()).for_each(|machine| self.look_at(now, machine));
    }

    fn look_at(&mut self, now: Moment, machine: usize) {
        let near = match self.neighbours {
            Some(_) => self.rich_near[machine],
            None => self.rich_at_all,
        };
        let work = near > 0 || (self.waiting && self.reached[machine]);
        match (self.free[machine] && work, self.since[machine]) {
            (true, None) => self.since[machine] = Some(now),
            (false, Some(since)) => {
                self.since[machine] = None;
                if self.from.is_some() && now > since {
                    self.spells.push(now.since(since));
                }
            }
            _ => {}
        }
    }

    /// Every spell, the shortest first.
    pub fn end(mut self, now: Moment) -> Vec<Duration> {
        let open = self.since.iter().flatten().map(|since| now.since(*since));
        let mut spells: Vec<Duration> =
            self.spells.drain(..).chain(open).filter(|s| !s.is_zero()).collect();
        spells.sort_unstable();
        spells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000)
    }

    fn row(count: usize) -> Vec<Position> {
        (0..count).map(|i| Position { x: i as f64, y: 0.0 }).collect()
    }

    #[test]
    fn only_work_within_reach_makes_idleness_a_spell() {
        let mut starving = Starving::new(&row(4), 1.0);
        starving.begin(at(0));
        for machine in 1..4 {
            starving.see_machine(at(0), machine, false, true);
        }
        starving.see_machine(at(10), 0, true, false);
        starving.see_machine(at(13), 0, false, false);
        assert_eq!(starving.end(at(20)), [Duration::from_millis(3)]);
    }

    #[test]
    fn work_at_the_leader_counts_for_those_it_reaches() {
        let mut starving = Starving::new(&row(3), f64::INFINITY);
        starving.begin(at(0));
        starving.see_reach(at(0), vec![false, true, false]);
        (0..3).for_each(|machine| starving.see_machine(at(0), machine, false, true));
        starving.see_waiting(at(5), true);
        starving.see_machine(at(9), 1, false, false);
        starving.see_machine(at(9), 0, true, false);
        // What nobody has taken at the end counts too: the third has waited for the first's queue.
        let spells = starving.end(at(10));
        assert_eq!(spells, [Duration::from_millis(1), Duration::from_millis(4)]);
    }
}
