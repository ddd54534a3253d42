//! What a shop is given: machines, work, knobs, and what goes wrong.

use super::workload::Workload;
use crate::config::Config;
use crate::core::load::Position;
use crate::error::{Error, Result};
use std::time::Duration;

/// Machines of one shop.
pub const MAX_MACHINES: usize = 20_000;
/// Leaders of one run that die.
const MAX_ELECTIONS: usize = 1_000;

/// Machines that die and come back, all but the leader's.
#[derive(Clone, Debug, PartialEq)]
pub struct Churn {
    /// Mean time until a machine dies; exponential.
    pub mtbf: Duration,
    /// Mean time until it is back; exponential.
    pub mttr: Duration,
}

/// What to imagine.
#[derive(Clone, Debug)]
pub struct ShopSpec {
    /// How many machines, 1 to [`MAX_MACHINES`]; the leader's is one of them.
    pub machines: usize,
    /// Places of each machine.
    pub slots: u32,
    /// Speeds, given to the machines in turn.
    pub speeds: Vec<f64>,
    /// Where they stand, one each; none: all at one place.
    pub positions: Vec<Position>,
    /// What there is to do.
    pub workload: Workload,
    /// The knobs.
    pub config: Config,
    /// What every draw follows from; the work follows from it alone, whatever the knobs are.
    pub seed: u64,
    /// Least and greatest time of a word, one way.
    pub latency: (Duration, Duration),
    /// Least and greatest time until an entry is committed.
    pub commit: (Duration, Duration),
    /// Idle CPU that every machine reports, its own tasks not counted.
    pub cpu_available: f64,
    /// Machines die.
    pub churn: Option<Churn>,
    /// When leaders die, after the work began.
    pub elections: Vec<Duration>,
    /// Keep rows for pictures, and watch who idles; both cost time.
    pub detail: bool,
}

impl Default for ShopSpec {
    fn default() -> Self {
        let us = Duration::from_micros;
        ShopSpec {
            machines: 16,
            slots: 1,
            speeds: vec![1.0],
            positions: Vec::new(),
            workload: Workload::default(),
            config: Config::default(),
            seed: 0,
            latency: (us(200), us(600)),
            commit: (us(500), us(1_500)),
            cpu_available: 1.0,
            churn: None,
            elections: Vec::new(),
            detail: true,
        }
    }
}

impl ShopSpec {
    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<()> {
        self.config.validate()?;
        self.workload.check()?;
        let bound = |field: &str, problem: String| Err(Error::config(field, problem));
        if self.machines == 0 || self.machines > MAX_MACHINES {
            let problem =
                format!("{} is out of bounds; it must lie in [1, {MAX_MACHINES}]", self.machines);
            return bound("workers", problem);
        }
        if self.slots == 0 || self.slots > 1_024 {
            let problem = format!("{} is out of bounds; it must lie in [1, 1024]", self.slots);
            return bound("slots", problem);
        }
        if self.speeds.is_empty() || !self.speeds.iter().all(|s| (0.01..=100.0).contains(s)) {
            let problem = format!("{:?}: give at least one, each in [0.01, 100]", self.speeds);
            return bound("speeds", problem);
        }
        if !self.positions.is_empty() && self.positions.len() != self.machines {
            let (given, wanted) = (self.positions.len(), self.machines);
            return bound("positions", format!("{given} for {wanted} workers; give one each"));
        }
        if !self.positions.iter().all(|p| p.x.is_finite() && p.y.is_finite()) {
            return bound("positions", "coordinates must be finite".to_owned());
        }
        for (field, (least, most)) in [("latency_s", self.latency), ("commit_s", self.commit)] {
            if least > most || most > Duration::from_secs(10) {
                let problem = format!("{:?}: least and greatest, at most 10 s", (least, most));
                return bound(field, problem);
            }
        }
        if !(0.0..=1.0).contains(&self.cpu_available) {
            let problem = format!("{} is out of bounds; it lies in [0, 1]", self.cpu_available);
            return bound("cpu_available", problem);
        }
        let never = Duration::from_millis(1);
        if self.churn.as_ref().is_some_and(|c| c.mtbf < never || c.mttr < never) {
            return bound("churn", "mtbf and mttr must be at least a millisecond".to_owned());
        }
        if self.elections.len() > MAX_ELECTIONS {
            let problem = format!("{}; at most {MAX_ELECTIONS}", self.elections.len());
            return bound("leader_dies_at_s", problem);
        }
        Ok(())
    }

    /// The speed of a machine.
    pub fn speed(&self, machine: usize) -> f64 {
        self.speeds[machine % self.speeds.len()]
    }

    /// The speeds of all machines.
    pub fn all_speeds(&self) -> Vec<f64> {
        (0..self.machines).map(|machine| self.speed(machine)).collect()
    }

    /// Where everybody stands.
    pub fn places(&self) -> Vec<Position> {
        match self.positions.is_empty() {
            true => vec![Position::default(); self.machines],
            false => self.positions.clone(),
        }
    }

    /// Who leads first: whoever stands nearest to the middle.
    pub fn first_leader(&self) -> usize {
        let count = self.positions.len().max(1) as f64;
        let middle = self.positions.iter().fold(Position::default(), |sum, p| Position {
            x: sum.x + p.x / count,
            y: sum.y + p.y / count,
        });
        let far = |i: &usize| self.positions[*i].distance(&middle);
        (0..self.positions.len()).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0)
    }
}
