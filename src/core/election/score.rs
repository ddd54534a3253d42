//! Load in, score out: one number per node, higher is better; separate because it is the only opinion about loads.

use crate::config::ScoreWeights;
use crate::core::Moment;
use crate::core::ids::{NodeId, Term};
use crate::core::load::Load;
use std::time::Duration;

/// Uptime at which its part of the score reaches 1 - 1/e: age is evidence of stability, not merit.
const UPTIME_SCALE_S: f64 = 300.0;

/// The score of a node with this `load`: in [0, 1], or the classic formula where the weights ask for it.
///
/// Measurements that are not numbers count as nothing available; the function never panics.
pub fn score(load: &Load, weights: &ScoreWeights) -> f64 {
    if weights.classic {
        return classic_score(load, 0.0);
    }
    let (c, m, u) = (weight(weights.cpu), weight(weights.memory), weight(weights.uptime));
    let sum = c + m + u;
    if sum <= 0.0 {
        return 0.0;
    }
    let uptime = 1.0 - (-amount(load.uptime_s) / UPTIME_SCALE_S).exp();
    let total = c * ratio(load.cpu_available) + m * ratio(load.memory_available) + u * uptime;
    ratio(total / sum)
}

/// The coursework's formula, unbounded: CPU percent, thousands of MiB, minutes, and a jitter in [-1, 1].
pub fn classic_score(load: &Load, jitter: f64) -> f64 {
    let idle = 100.0 - amount(load.cpu_percent).min(100.0);
    0.5 * idle
        + 0.3 * amount(load.available_mb) / 1000.0
        + 0.2 * amount(load.uptime_s) / 60.0
        + if jitter.is_finite() { jitter } else { 0.0 }
}

/// From samples to the score a node tells others: weighed, then smoothed.
#[derive(Clone, Debug)]
pub struct Scorer {
    weights: ScoreWeights,
    smoothed: Ewma,
}

impl Scorer {
    /// A scorer with these weights, smoothing over `tau`.
    pub fn new(weights: &ScoreWeights, tau: Duration) -> Self {
        Scorer { weights: weights.clone(), smoothed: Ewma::new(tau) }
    }

    /// The smoothed score after `load`; `jitter` in [-1, 1] is heard by the classic formula alone.
    pub fn update(&mut self, now: Moment, load: &Load, jitter: f64) -> f64 {
        let sampled = match self.weights.classic {
            true => classic_score(load, jitter),
            false => score(load, &self.weights),
        };
        self.smoothed.update(now, sampled)
    }
}

/// The jitter that breaks ties: in [0, `size`), and the same for every observer of `term`.
pub fn tie_break(term: Term, node: NodeId, size: f64) -> f64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&term.to_le_bytes());
    key[8..].copy_from_slice(&node.0.to_le_bytes());
    let unit = (xxhash_rust::xxh3::xxh3_64(&key) >> 11) as f64 / (1u64 << 53) as f64;
    unit * ratio(size)
}

fn ratio(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) }
}

/// At most a billion: a wrong sensor must not make infinity out of a sum.
fn amount(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1e9) }
}

fn weight(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1e6) }
}

/// An exponentially weighted moving average over irregular samples.
#[derive(Clone, Debug)]
pub struct Ewma {
    tau: Duration,
    value: Option<(Moment, f64)>,
}

impl Ewma {
    /// An average with time constant `tau`; zero follows every sample.
    pub fn new(tau: Duration) -> Self {
        Ewma { tau, value: None }
    }

    /// Takes a sample in and returns the average; samples that are not numbers are ignored.
    pub fn update(&mut self, now: Moment, sample: f64) -> f64 {
        let Some((at, value)) = self.value else {
            let first = if sample.is_finite() { sample } else { 0.0 };
            self.value = Some((now, first));
            return first;
        };
        if !sample.is_finite() {
            return value;
        }
        let tau = self.tau.as_secs_f64();
        let keep = if tau > 0.0 { (-now.since(at).as_secs_f64() / tau).exp() } else { 0.0 };
        let next = keep * value + (1.0 - keep) * sample;
        self.value = Some((now, next));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(load: Load, expected: f64) {
        let got = score(&load, &Config::default().score);
        assert!((got - expected).abs() < 1e-9, "{load:?}: {got}, expected {expected}");
    }

    #[test]
    fn the_parts_add_up_by_their_weights() {
        let idle = Load { cpu_available: 1.0, memory_available: 1.0, ..Load::default() };
        check(idle, 0.8);
        check(Load { uptime_s: 1e9, ..idle }, 1.0);
        check(Load { cpu_available: 0.5, ..Load::default() }, 0.25);
        check(Load::default(), 0.0);
    }

    #[test]
    fn nonsense_is_clamped_and_never_panics() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            let load = Load {
                cpu_available: bad,
                memory_available: bad,
                uptime_s: bad,
                cpu_percent: bad,
                available_mb: bad,
                synthetic: false,
                tasks_cpu: 0.0,
            };
            let mut weights = Config::default().score;
            let got = score(&load, &weights);
            assert!((0.0..=1.0).contains(&got), "{bad}: {got}");
            assert!(classic_score(&load, bad).is_finite());
            weights.cpu = bad;
            assert!((0.0..=1.0).contains(&score(&load, &weights)));
        }
    }

    #[test]
    fn the_classic_formula_is_the_courseworks() {
        let load =
            Load { cpu_percent: 20.0, available_mb: 8000.0, uptime_s: 600.0, ..Load::default() };
        assert!((classic_score(&load, 0.5) - (40.0 + 2.4 + 2.0 + 0.5)).abs() < 1e-9);
        let weights = Config::profile("classic").unwrap().score;
        assert!((score(&load, &weights) - 44.4).abs() < 1e-9);
    }

    #[test]
    fn the_jitter_is_small_and_shared_but_differs_by_term_and_node() {
        let a = tie_break(3, NodeId(1), 0.01);
        assert_eq!(a, tie_break(3, NodeId(1), 0.01));
        assert!((0.0..0.01).contains(&a));
        assert_ne!(a, tie_break(4, NodeId(1), 0.01));
        assert_ne!(a, tie_break(3, NodeId(2), 0.01));
    }

    #[test]
    fn the_average_forgets_with_its_time_constant() {
        let mut ewma = Ewma::new(Duration::from_secs(8));
        assert_eq!(ewma.update(Moment(0), 1.0), 1.0);
        let after_tau = ewma.update(Moment(8_000_000), 0.0);
        assert!((after_tau - (-1.0f64).exp()).abs() < 1e-9);
        assert_eq!(ewma.update(Moment(9_000_000), f64::NAN), after_tau);
        let mut raw = Ewma::new(Duration::ZERO);
        raw.update(Moment(0), 0.2);
        assert_eq!(raw.update(Moment(1), 0.9), 0.9);
    }
}
