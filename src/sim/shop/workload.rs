//! What there is to do: how long each task takes, when it comes, what the leader may know of it.

use crate::core::chance::Chance;
use crate::error::{Error, Result};
use crate::sim::loads::{exponential, unit};
use std::time::Duration;

/// Tasks of one run.
pub const MAX_TASKS: usize = 2_000_000;
/// A Pareto task takes at most so many means: the tail is cut, or no two runs could be compared.
const PARETO_CAP: f64 = 30.0;
/// The shape of the heavy tail.
const PARETO_SHAPE: f64 = 1.5;
/// How much longer a long task of two kinds takes, and how many are long.
const LONG: (f64, f64) = (20.0, 0.1);

/// How the times of tasks are distributed; all with the same mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same.
    Constant,
    /// Between a half and one and a half of the mean.
    Uniform,
    /// Exponential.
    Exponential,
    /// Pareto of shape 1.5, cut at 30 means.
    Pareto,
    /// One in ten takes twenty times as long as the others.
    Bimodal,
}

impl Sizes {
    /// Every distribution by name.
    pub const ALL: &'static [(&'static str, Sizes)] = &[
        ("constant", Sizes::Constant),
        ("uniform", Sizes::Uniform),
        ("exponential", Sizes::Exponential),
        ("pareto", Sizes::Pareto),
        ("bimodal", Sizes::Bimodal),
    ];

    fn draw(self, chance: &mut Chance, mean: Duration) -> Duration {
        let factor = match self {
            Sizes::Constant => 1.0,
            Sizes::Uniform => 0.5 + unit(chance),
            Sizes::Exponential => return exponential(chance, mean),
            Sizes::Pareto => {
                let least = (PARETO_SHAPE - 1.0) / PARETO_SHAPE;
                (least * (1.0 - unit(chance)).powf(-1.0 / PARETO_SHAPE)).min(PARETO_CAP)
            }
            Sizes::Bimodal => {
                let short = 1.0 / (LONG.0 * LONG.1 + 1.0 - LONG.1);
                if unit(chance) < LONG.1 { LONG.0 * short } else { short }
            }
        };
        mean.mul_f64(factor)
    }
}

/// What the names of functions tell of how long a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Nothing: there is one function.
    Nothing,
    /// Times of one name lie within a factor of two.
    Names,
    /// The same, and a few calls of every name have run before.
    Lessons,
}

impl Knowledge {
    /// Every kind by name.
    pub const ALL: &'static [(&'static str, Knowledge)] = &[
        ("nothing", Knowledge::Nothing),
        ("names", Knowledge::Names),
        ("lessons", Knowledge::Lessons),
    ];
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// How many tasks.
    pub tasks: usize,
    /// How their times are distributed.
    pub sizes: Sizes,
    /// The mean time on a machine of speed 1.
    pub mean: Duration,
    /// The share of attempts that take ten times as long, wherever they run.
    pub straggling: f64,
    /// The share of seconds in which a machine takes ten times as long over whatever it begins; drawn for each machine.
    pub slow_spells: f64,
    /// What the leader can know of times.
    pub knowledge: Knowledge,
    /// Tasks may run twice at once.
    pub idempotent: bool,
    /// All tasks fall to one machine before the others come.
    pub pile_up: bool,
    /// `Some`: tasks come one by one (Poisson), and keep this share of all places busy; `None`: all at once.
    pub rho: Option<f64>,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            tasks: 1_000,
            sizes: Sizes::Uniform,
            mean: Duration::from_millis(100),
            straggling: 0.0,
            slow_spells: 0.0,
            knowledge: Knowledge::Nothing,
            idempotent: false,
            pile_up: false,
            rho: None,
        }
    }
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// How long it takes on a machine of speed 1, if the attempt does not straggle.
    pub takes: Duration,
    /// When it comes, after the first one.
    pub comes: Duration,
    /// Which function: the n-th power of two of a microsecond, or 0.
    pub class: u32,
}

/// Calls of every name before the clock starts.
const LESSONS: usize = 3;
/// How much longer an attempt takes that straggles.
pub const STRAGGLER: u32 = 10;

impl Workload {
    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<()> {
        let bound = |field: &str, problem: String| Err(Error::config(field, problem));
        if self.tasks == 0 || self.tasks > MAX_TASKS {
            let problem =
                format!("{} is out of bounds; it must lie in [1, {MAX_TASKS}]", self.tasks);
            return bound("workload.tasks", problem);
        }
        let (least, most) = (Duration::from_micros(10), Duration::from_secs(3_600));
        if self.mean < least || self.mean > most {
            let problem = format!("{:?} is out of bounds; it must lie in [10 us, 1 h]", self.mean);
            return bound("workload.mean_s", problem);
        }
        if !(0.0..=1.0).contains(&self.straggling) {
            let problem = format!("{} is out of bounds; shares lie in [0, 1]", self.straggling);
            return bound("workload.straggling", problem);
        }
        if !(0.0..=1.0).contains(&self.slow_spells) {
            let problem = format!("{} is out of bounds; shares lie in [0, 1]", self.slow_spells);
            return bound("workload.slow_spells", problem);
        }
        if self.rho.is_some_and(|rho| !(0.01..=2.0).contains(&rho)) {
            let problem = format!("{:?} is out of bounds; it must lie in [0.01, 2]", self.rho);
            return bound("workload.rho", problem);
        }
        Ok(())
    }

    /// The tasks, drawn from `seed` alone, for places of that speed in all; first the lessons, whose number is told.
    pub fn draw(&self, seed: u64, capacity: f64) -> (Vec<Job>, usize) {
        let mut chance = Chance::seeded(seed ^ 0x0073_697a_6573);
        let named = self.knowledge != Knowledge::Nothing;
        let job = |takes: Duration| {
            let takes = takes.max(Duration::from_micros(1));
            let class = if named { takes.as_micros().ilog2() } else { 0 };
            Job { takes, comes: Duration::ZERO, class }
        };
        let mut jobs: Vec<Job> =
            (0..self.tasks).map(|_| job(self.sizes.draw(&mut chance, self.mean))).collect();
        if let Some(rho) = self.rho {
            let work: f64 = jobs.iter().map(|job| job.takes.as_secs_f64()).sum();
            let every = work / jobs.len() as f64 / (rho * capacity);
            let mut at = Duration::ZERO;
            for job in &mut jobs {
                job.comes = at;
                at += exponential(&mut chance, Duration::from_secs_f64(every));
            }
        }
        let mut lessons = Vec::new();
        if self.knowledge == Knowledge::Lessons {
            let mut classes: Vec<u32> = jobs.iter().map(|job| job.class).collect();
            classes.sort_unstable();
            classes.dedup();
            for class in classes {
                let typical = Duration::from_micros(3 << class) / 2;
                lessons.extend(std::iter::repeat_n(job(typical), LESSONS));
            }
        }
        let taught = lessons.len();
        lessons.extend(jobs);
        (lessons, taught)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_has_the_mean_it_was_asked_for() {
        for (name, sizes) in Sizes::ALL {
            let workload = Workload { tasks: 200_000, sizes: *sizes, ..Workload::default() };
            let (jobs, taught) = workload.draw(7, 4.0);
            let mean = jobs.iter().map(|j| j.takes.as_secs_f64()).sum::<f64>() / jobs.len() as f64;
            // What lies past the cap of the heavy tail is a tenth of its work.
            let least = if *sizes == Sizes::Pareto { 0.085 } else { 0.098 };
            assert!(mean > least && mean < 0.102 && taught == 0, "{name}: {mean}");
        }
    }

    #[test]
    fn tasks_that_come_one_by_one_keep_the_asked_share_busy() {
        let workload = Workload { tasks: 50_000, rho: Some(0.8), ..Workload::default() };
        let (jobs, _) = workload.draw(3, 10.0);
        let work: f64 = jobs.iter().map(|job| job.takes.as_secs_f64()).sum();
        let rho = work / 10.0 / jobs.last().unwrap().comes.as_secs_f64();
        assert!((rho - 0.8).abs() < 0.02, "{rho}");
    }

    #[test]
    fn lessons_show_every_name_before_and_names_bound_times_to_a_factor_of_two() {
        let workload =
            Workload { sizes: Sizes::Pareto, knowledge: Knowledge::Lessons, ..Workload::default() };
        let (jobs, taught) = workload.draw(5, 4.0);
        let (lessons, jobs) = jobs.split_at(taught);
        assert_eq!(jobs.len(), workload.tasks);
        for job in jobs {
            let lesson = lessons.iter().find(|lesson| lesson.class == job.class).unwrap();
            let ratio = job.takes.as_secs_f64() / lesson.takes.as_secs_f64();
            assert!((0.6..=1.4).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn impossible_work_is_refused_by_name() {
        let refused = |workload: Workload| workload.check().unwrap_err().to_string();
        let ok = Workload::default;
        assert!(refused(Workload { tasks: 0, ..ok() }).starts_with("workload.tasks: 0"));
        let mean = Duration::ZERO;
        assert!(refused(Workload { mean, ..ok() }).starts_with("workload.mean_s"));
        let slow_spells = 1.5;
        assert!(refused(Workload { slow_spells, ..ok() }).starts_with("workload.slow_spells: 1.5"));
        let straggling = f64::NAN;
        assert!(refused(Workload { straggling, ..ok() }).starts_with("workload.straggling: NaN"));
        assert!(refused(Workload { rho: Some(3.0), ..ok() }).starts_with("workload.rho"));
    }
}
