//! Decides where a node's load comes from: measured, or given by `loads=` so that one machine can look like several.

use super::Sampler;
use crate::core::load::Load;
use crate::error::{Error, Result};
use std::time::Duration;

/// Most points of a trace.
pub const MAX_TRACE_POINTS: usize = 100_000;
/// What `memory_available = 1` stands for in a given load that names no `available_mb`.
const PLENTY_MB: f64 = 8_192.0;
/// Greatest `uptime_s` that may be given: a century.
const MAX_UPTIME_S: f64 = 100.0 * 365.25 * 86_400.0;
/// Greatest `available_mb` that may be given: an exbibyte.
const MAX_AVAILABLE_MB: f64 = (1u64 << 40) as f64;

/// Where a node's load comes from.
#[derive(Debug)]
pub enum LoadSource {
    /// From this machine.
    Measured(Box<Sampler>),
    /// Always the same. Made by [`LoadSource::constant`].
    Constant(Load),
    /// A step function of the time since the node started. Made by [`LoadSource::trace`].
    Trace {
        /// When each load begins; starts at 0, strictly increasing.
        times_s: Vec<f64>,
        /// The loads.
        loads: Vec<Load>,
        /// Start again after the last one was held as long as the one before it.
        repeat: bool,
    },
}

impl LoadSource {
    /// This machine's own load; `now` is the time since the node's start. `own_process`: see [`Sampler::new`].
    pub fn measured(now: Duration, own_process: bool) -> Self {
        LoadSource::Measured(Box::new(Sampler::new(now, own_process)))
    }

    /// From now on tasks use so many cores in threads of this process: those count as load, though it is our own.
    pub fn set_of_tasks(&mut self, cores: f64) {
        if let LoadSource::Measured(sampler) = self {
            sampler.of_tasks = cores;
        }
    }

    /// The same load for ever. Its `uptime_s` is a head start that the real uptime is added to; without `available_mb`
    /// the figure follows from `memory_available`.
    pub fn constant(load: Load) -> Result<Self> {
        Ok(LoadSource::Constant(check(load, "load")?))
    }

    /// `loads[i]` from `times_s[i]` on, in seconds since the node's start.
    pub fn trace(times_s: Vec<f64>, loads: Vec<Load>, repeat: bool) -> Result<Self> {
        let count = times_s.len();
        let refuse = |field: &str, problem: String| Err(Error::config(field, problem));
        if count != loads.len() {
            let problem = format!(
                "{count} times but {} loads; give exactly one load for each time",
                loads.len()
            );
            return refuse("load.times_s", problem);
        }
        if count == 0 || count > MAX_TRACE_POINTS {
            let problem = format!("{count} points; a trace has 1 to {MAX_TRACE_POINTS}");
            return refuse("load.times_s", problem);
        }
        for (i, &time) in times_s.iter().enumerate() {
            let field = format!("load.times_s[{i}]");
            if !time.is_finite() || (i == 0 && time != 0.0) {
                let problem = format!("{time} is refused; times are finite and start at 0");
                return refuse(&field, problem);
            }
            if i > 0 && time <= times_s[i - 1] {
                let problem = format!(
                    "{time} does not come after {}; times must increase strictly",
                    times_s[i - 1]
                );
                return refuse(&field, problem);
            }
        }
        let loads = loads
            .into_iter()
            .enumerate()
            .map(|(i, load)| check(load, &format!("load.loads[{i}]")))
            .collect::<Result<Vec<_>>>()?;
        Ok(LoadSource::Trace { times_s, loads, repeat })
    }

    /// The load at `now`, the time since the node's start.
    pub fn sample(&mut self, now: Duration) -> Load {
        let uptime_s = now.as_secs_f64();
        let load = match self {
            LoadSource::Measured(sampler) => return sampler.sample(now),
            LoadSource::Constant(load) => *load,
            LoadSource::Trace { times_s, loads, repeat } => {
                let time = if *repeat { wrap(uptime_s, times_s) } else { uptime_s };
                let begun = times_s.partition_point(|&begin| begin <= time);
                loads.get(begun.saturating_sub(1)).copied().unwrap_or_default()
            }
        };
        Load { uptime_s: load.uptime_s + uptime_s, synthetic: true, ..load }
    }
}

/// `time` within the period of a repeated trace.
fn wrap(time: f64, times_s: &[f64]) -> f64 {
    match times_s {
        [.., before, last] => time % (last + (last - before)),
        _ => 0.0,
    }
}

/// A given load, with the figures it left out; refuses what no machine could measure.
fn check(load: Load, field: &str) -> Result<Load> {
    let checks = [
        ("cpu_available", load.cpu_available, 1.0),
        ("memory_available", load.memory_available, 1.0),
        ("uptime_s", load.uptime_s, MAX_UPTIME_S),
        ("available_mb", load.available_mb, MAX_AVAILABLE_MB),
    ];
    for (name, value, max) in checks {
        // NaN lies in no range.
        if !(0.0..=max).contains(&value) {
            return Err(Error::config(
                format!("{field}.{name}"),
                format!("{value} is out of bounds; it must lie in [0, {max}]"),
            ));
        }
    }
    let given = load.available_mb > 0.0;
    Ok(Load {
        cpu_percent: (1.0 - load.cpu_available) * 100.0,
        available_mb: if given { load.available_mb } else { load.memory_available * PLENTY_MB },
        synthetic: true,
        ..load
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(cpu_available: f64) -> Load {
        Load { cpu_available, memory_available: 0.5, ..Load::default() }
    }

    fn at(source: &mut LoadSource, seconds: f64) -> f64 {
        source.sample(Duration::from_secs_f64(seconds)).cpu_available
    }

    fn refusal(result: Result<LoadSource>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_constant_load_is_labelled_and_ages() {
        let head_start = Load { uptime_s: 100.0, ..idle(0.25) };
        let load = LoadSource::constant(head_start).unwrap().sample(Duration::from_secs(5));
        assert_eq!((load.cpu_available, load.uptime_s, load.synthetic), (0.25, 105.0, true));
        assert_eq!((load.cpu_percent, load.available_mb), (75.0, 4_096.0));
        let given = Load { available_mb: 3.0, ..idle(0.25) };
        assert_eq!(LoadSource::constant(given).unwrap().sample(Duration::ZERO).available_mb, 3.0);
    }

    #[test]
    fn impossible_loads_are_refused_by_name() {
        for bad in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let error = refusal(LoadSource::constant(idle(bad)));
            assert!(error.starts_with("load.cpu_available: "), "{error}");
        }
        let text = refusal(LoadSource::constant(Load { uptime_s: -1.0, ..idle(1.0) }));
        assert!(text.starts_with("load.uptime_s: -1 is out of bounds"), "{text}");
        let text = refusal(LoadSource::trace(vec![0.0, 1.0], vec![idle(1.0), idle(2.0)], false));
        assert!(text.starts_with("load.loads[1].cpu_available: 2 is out of bounds"), "{text}");
    }

    #[test]
    fn a_trace_holds_each_load_until_the_next() {
        let loads = || vec![idle(0.1), idle(0.2), idle(0.3)];
        let mut once = LoadSource::trace(vec![0.0, 1.0, 3.0], loads(), false).unwrap();
        let seen: Vec<f64> =
            [0.0, 0.99, 1.0, 2.9, 3.0, 1e9].iter().map(|&t| at(&mut once, t)).collect();
        assert_eq!(seen, [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]);
        let mut again = LoadSource::trace(vec![0.0, 1.0, 3.0], loads(), true).unwrap();
        let seen: Vec<f64> =
            [4.9, 5.0, 6.0, 8.5, 10.0].iter().map(|&t| at(&mut again, t)).collect();
        assert_eq!(seen, [0.3, 0.1, 0.2, 0.3, 0.1]);
        let mut single = LoadSource::trace(vec![0.0], vec![idle(0.7)], true).unwrap();
        assert_eq!(at(&mut single, 12.0), 0.7);
    }

    #[test]
    fn malformed_traces_are_refused_with_the_place() {
        let trace = |times: &[f64], count: usize| {
            refusal(LoadSource::trace(times.to_vec(), vec![idle(0.5); count], false))
        };
        let expected = [
            (trace(&[], 0), "load.times_s: 0 points"),
            (trace(&[0.0], 2), "load.times_s: 1 times but 2 loads"),
            (trace(&[1.0], 1), "load.times_s[0]: 1 is refused"),
            (trace(&[f64::NAN], 1), "load.times_s[0]: NaN is refused"),
            (trace(&[0.0, f64::INFINITY], 2), "load.times_s[1]: inf is refused"),
            (trace(&[0.0, 2.0, 2.0], 3), "load.times_s[2]: 2 does not come after 2"),
        ];
        for (text, start) in expected {
            assert!(text.starts_with(start), "{text:?} should start with {start:?}");
        }
        let many: Vec<f64> = (0..=MAX_TRACE_POINTS).map(|n| n as f64).collect();
        assert!(trace(&many, many.len()).contains("a trace has 1 to 100000"));
    }
}
