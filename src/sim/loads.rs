//! What simulated nodes measure: given loads, or loads that are drawn as time passes.

use crate::config::Config;
use crate::core::chance::Chance;
use crate::core::election::score::Scorer;
use crate::core::load::Load;
use crate::error::{Error, Result};
use crate::node::clock::{Clock, START};
use crate::node::consensus::Consensus;
use crate::node::consensus::runtime::random_jitter;
use crate::node::sampler::LoadSource;
use std::sync::Arc;
use std::time::Duration;

/// What a drawn load says about memory and age.
const MEMORY: f64 = 0.9;
const UPTIME_S: f64 = 600.0;

/// Where a simulated node's load comes from.
#[derive(Debug)]
pub enum Loads {
    /// Constant, or a trace.
    Given(LoadSource),
    /// White noise.
    Noise(Noise),
    /// A mean-reverting walk (Ornstein and Uhlenbeck) with exponential spikes of work on top.
    Wandering(Wandering),
    /// The node claims this score, whatever it measures: a liar, or a broken sensor.
    Claims(f64),
}

/// White noise around a mean.
#[derive(Clone, Debug)]
pub struct Noise {
    mean: f64,
    deviation: f64,
    chance: Chance,
}

/// See [`Loads::Wandering`].
#[derive(Clone, Debug)]
pub struct Wandering {
    level: f64,
    deviation: f64,
    pull: Duration,
    spikes: Spikes,
    value: f64,
    spike_until: Duration,
    at: Option<Duration>,
    chance: Chance,
}

/// Short bursts of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spikes {
    /// How many a minute, on average.
    pub per_minute: f64,
    /// How long each lasts, on average.
    pub mean: Duration,
    /// How much CPU each takes, in [0, 1].
    pub depth: f64,
}

fn ratio(field: &str, value: f64) -> Result<f64> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => {
            let problem = format!("{value} is out of bounds; it must lie in [0, 1]");
            Err(Error::config(field, problem))
        }
    }
}

impl Loads {
    /// White noise with this mean and standard deviation of the available CPU.
    pub fn noise(mean: f64, deviation: f64, seed: u64) -> Result<Self> {
        let (mean, deviation) = (ratio("load.mean", mean)?, ratio("load.deviation", deviation)?);
        Ok(Loads::Noise(Noise { mean, deviation, chance: Chance::seeded(seed) }))
    }

    /// A walk around `level` that returns with the time constant `pull` and strays by `deviation`.
    pub fn wandering(
        level: f64,
        deviation: f64,
        pull: Duration,
        spikes: Spikes,
        seed: u64,
    ) -> Result<Self> {
        let (level, deviation) = (ratio("load.level", level)?, ratio("load.deviation", deviation)?);
        ratio("load.spikes.depth", spikes.depth)?;
        if pull.is_zero() || !(0.0..=600.0).contains(&spikes.per_minute) {
            let problem = "pull must be positive and spikes come 0 to 600 times a minute";
            return Err(Error::config("load", problem));
        }
        let chance = Chance::seeded(seed);
        let (value, spike_until, at) = (level, Duration::ZERO, None);
        let walk = Wandering { level, deviation, pull, spikes, value, spike_until, at, chance };
        Ok(Loads::Wandering(walk))
    }

    fn sample(&mut self, now: Duration) -> Load {
        let cpu = match self {
            Loads::Given(source) => return source.sample(now),
            Loads::Claims(_) => 0.5,
            Loads::Noise(noise) => noise.mean + noise.deviation * gauss(&mut noise.chance),
            Loads::Wandering(walk) => walk.step(now),
        };
        let cpu_available = cpu.clamp(0.0, 1.0);
        Load {
            cpu_available,
            memory_available: MEMORY,
            uptime_s: UPTIME_S + now.as_secs_f64(),
            cpu_percent: 100.0 * (1.0 - cpu_available),
            available_mb: 8_192.0 * MEMORY,
            synthetic: true,
            tasks_cpu: 0.0,
        }
    }
}

impl Wandering {
    fn step(&mut self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at.replace(now).unwrap_or(now));
        let keep = (-passed.as_secs_f64() / self.pull.as_secs_f64()).exp();
        let stray = self.deviation * (1.0 - keep * keep).sqrt() * gauss(&mut self.chance);
        self.value = self.level + keep * (self.value - self.level) + stray;
        let due = self.spikes.per_minute * passed.as_secs_f64() / 60.0;
        if now >= self.spike_until && unit(&mut self.chance) < due {
            self.spike_until = now + exponential(&mut self.chance, self.spikes.mean);
        }
        self.value - if now < self.spike_until { self.spikes.depth } else { 0.0 }
    }
}

/// A number in [0, 1).
pub(super) fn unit(chance: &mut Chance) -> f64 {
    (chance.draw() >> 11) as f64 / (1u64 << 53) as f64
}

/// A waiting time with this mean.
pub(super) fn exponential(chance: &mut Chance, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - unit(chance)).ln())
}

/// A standard normal number (Box and Muller).
fn gauss(chance: &mut Chance) -> f64 {
    let radius = (-2.0 * (1.0 - unit(chance)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(chance)).cos()
}

/// Measures for one node until `consensus` is let go of by the world that runs it.
pub(super) async fn measure(
    mut loads: Loads,
    config: Arc<Config>,
    clock: Clock,
    consensus: Arc<Consensus>,
    ended: impl Fn() -> bool,
) -> Loads {
    let mut scorer = Scorer::new(&config.score, config.election.score_tau);
    while !ended() {
        let now = clock.now();
        let load = loads.sample(now.since(START));
        let measured = scorer.update(now, &load, random_jitter());
        let score = if let Loads::Claims(claimed) = loads { claimed } else { measured };
        consensus.set_score(score, load);
        clock.sleep(config.election.score_period).await;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_spread(loads: &mut Loads) -> (f64, f64) {
        // Over a day the mean of a walk that returns in half a minute is known to a few thousandths.
        let draws: Vec<f64> = (0..345_600)
            .map(|n| loads.sample(Duration::from_millis(250 * n)).cpu_available)
            .collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn drawn_loads_have_the_mean_and_spread_they_were_asked_for() {
        let calm = Spikes::default();
        let pull = Duration::from_secs(30);
        let noise = mean_and_spread(&mut Loads::noise(0.5, 0.1, 7).unwrap());
        let walk = mean_and_spread(&mut Loads::wandering(0.5, 0.1, pull, calm, 7).unwrap());
        for (mean, spread) in [noise, walk] {
            assert!((mean - 0.5).abs() < 0.02 && (spread - 0.1).abs() < 0.02, "{mean} {spread}");
        }
    }

    #[test]
    fn spikes_take_their_share_of_time() {
        let spikes = Spikes { per_minute: 6.0, mean: Duration::from_secs(2), depth: 0.4 };
        let mut loads = Loads::wandering(0.8, 0.0, Duration::from_secs(30), spikes, 3).unwrap();
        let low = (0..40_000)
            .filter(|n| loads.sample(Duration::from_millis(250 * n)).cpu_available < 0.5)
            .count() as f64;
        // Six spikes of two seconds and 54 calm seconds between their ends: a sixth of the time.
        assert!((low / 40_000.0 - 1.0 / 6.0).abs() < 0.03, "{low}");
    }

    #[test]
    fn impossible_loads_are_refused() {
        assert!(Loads::noise(1.1, 0.1, 1).unwrap_err().to_string().starts_with("load.mean: 1.1"));
        assert!(Loads::noise(0.5, f64::NAN, 1).is_err());
    }
}
