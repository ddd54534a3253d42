//! How long tasks take, by name and size of their arguments, and how fast nodes are: learnt from what they report.
//!
//! A guess only ever says where a task goes and in which order; it never says whether it may run.

use crate::core::cluster::command::TaskSpec;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a task of a kind takes that was never seen to end, in microseconds.
pub const UNKNOWN_US: u64 = 500_000;
/// Kinds that are told apart; the rest count as one.
pub const MAX_KINDS: usize = 4_096;
/// Arguments of up to so many bytes are one size; from there each doubling is another.
const SMALL: usize = 64;
/// Weight of the newest task, once a kind is well known.
const WEIGHT: f64 = 0.05;
/// The share of tasks of a kind that are no stragglers, and how far their bound moves with each task.
const USUAL: (f64, f64) = (0.95, 0.1);
/// So many times that bound makes a straggler.
const STRAGGLES: f64 = 2.0;
/// Tasks of a kind that must have ended before one of them can be called a straggler.
const ENOUGH: u32 = 3;
/// How slow or fast a node can seem: a node that claims more is not believed.
const SPEEDS: (f64, f64) = (0.125, 8.0);
/// What one more task leaves of a node's older ones.
const FADING: f64 = 0.99;
/// So many tasks of usual length stand for a node that is not known yet.
const PRIOR: f64 = 10.0;

/// Tasks of one name and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(u32);

/// What is known of each kind; forgotten with the leader that learnt it.
#[derive(Debug)]
pub struct Durations {
    names: BTreeMap<String, BTreeMap<u32, Kind>>,
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    mean_us: f64,
    /// 95 in a hundred take no longer, about.
    usual_us: f64,
    ended: u32,
}

impl Default for Durations {
    fn default() -> Self {
        // The first is for all that find no room.
        Durations { names: BTreeMap::new(), known: vec![Known::default()] }
    }
}

impl Durations {
    /// The kind of a task, if it has been met; else that of all strangers.
    pub fn known_kind(&self, spec: &TaskSpec) -> Kind {
        self.find(spec).unwrap_or_default()
    }

    fn find(&self, spec: &TaskSpec) -> Option<Kind> {
        self.names.get(&spec.function.name)?.get(&size_of(spec)).copied()
    }

    /// The kind of a task.
    pub fn kind_of(&mut self, spec: &TaskSpec) -> Kind {
        if let Some(kind) = self.find(spec) {
            return kind;
        }
        if self.known.len() >= MAX_KINDS {
            return Kind::default();
        }
        let kind = Kind(self.known.len() as u32);
        self.known.push(Known::default());
        self.names.entry(spec.function.name.clone()).or_default().insert(size_of(spec), kind);
        kind
    }

    /// What a task of that kind takes on a node of usual speed; `None`: none has ended yet.
    pub fn known_us(&self, kind: Kind) -> Option<u64> {
        let known = self.known.get(kind.0 as usize).filter(|known| known.ended > 0)?;
        Some(known.mean_us as u64)
    }

    /// The same, guessed where it is not known.
    pub fn expected_us(&self, kind: Kind) -> u64 {
        self.known_us(kind).unwrap_or(UNKNOWN_US)
    }

    /// A task of that kind that runs for longer takes too long; `None`: too few have ended to say.
    pub fn straggles(&self, kind: Kind) -> Option<Duration> {
        let known = self.known.get(kind.0 as usize).filter(|known| known.ended >= ENOUGH)?;
        Some(Duration::from_micros((known.usual_us * STRAGGLES) as u64))
    }

    /// How long tasks of that kind take as a power of two, for an order among kinds.
    pub fn length(&self, kind: Kind) -> u32 {
        u64::BITS - self.expected_us(kind).leading_zeros()
    }

    /// A task of that kind ended. True if its length is another one now.
    pub fn learn(&mut self, kind: Kind, took: Duration) -> bool {
        let before = self.length(kind);
        if let Some(known) = self.known.get_mut(kind.0 as usize) {
            known.ended = known.ended.saturating_add(1);
            let weight = WEIGHT.max(1.0 / f64::from(known.ended));
            let took_us = took.as_micros() as f64;
            known.mean_us += weight * (took_us - known.mean_us);
            known.usual_us = match (known.ended, took_us > known.usual_us) {
                (1, _) => took_us,
                (_, true) => known.usual_us * (1.0 + USUAL.1 * USUAL.0),
                (_, false) => known.usual_us * (1.0 - USUAL.1 * (1.0 - USUAL.0)),
            };
        }
        self.length(kind) != before
    }
}

/// How often the size of its arguments doubles a small one.
fn size_of(spec: &TaskSpec) -> u32 {
    let bytes = spec.blob.map_or(spec.payload.len() as u64, |blob| blob.size);
    u64::BITS - (bytes / SMALL as u64).leading_zeros()
}

/// How fast a node is beside all others: what its tasks usually take over what they took there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    usual_us: f64,
    spent_us: f64,
}

impl Speed {
    /// 1: as fast as all others together.
    pub fn ratio(&self) -> f64 {
        if self.spent_us <= 0.0 {
            return 1.0;
        }
        (self.usual_us / self.spent_us).clamp(SPEEDS.0, SPEEDS.1)
    }

    /// A task that usually takes `usual_us` took so long there.
    pub fn learn(&mut self, usual_us: u64, took: Duration) {
        let usual = usual_us as f64;
        if self.spent_us <= 0.0 {
            *self = Speed { usual_us: PRIOR * usual, spent_us: PRIOR * usual };
        }
        self.usual_us = self.usual_us * FADING + usual;
        self.spent_us = self.spent_us * FADING + took.as_micros() as f64;
    }
}

/// What is left of a running task: what it usually takes less its age; past that, as long again as it ran.
pub fn remaining_us(expected_us: u64, age: Duration) -> u64 {
    let age_us = age.as_micros() as u64;
    if age_us < expected_us { expected_us - age_us } else { age_us }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::cluster::command::FunctionRef;
    use crate::core::ids::{FunctionHash, SessionId, TaskId};

    /// A task of that name with arguments of so many bytes.
    pub fn spec(name: &str, bytes: usize) -> TaskSpec {
        TaskSpec {
            payload: vec![0; bytes].into(),
            ..TaskSpec::new(
                TaskId(1),
                SessionId(1),
                FunctionRef { name: name.to_owned(), hash: FunctionHash(1) },
            )
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn kinds_differ_by_name_and_by_doublings_of_size() {
        let mut durations = Durations::default();
        let mut kind = |name: &str, bytes: usize| durations.kind_of(&spec(name, bytes));
        assert_eq!(kind("f", 0), kind("f", 63));
        assert_eq!(kind("f", 128), kind("f", 255));
        assert_ne!(kind("f", 0), kind("f", 64));
        assert_ne!(kind("f", 0), kind("g", 0));
        for i in 0..MAX_KINDS {
            kind(&i.to_string(), 0);
        }
        assert_eq!(kind("one too many", 0), Kind::default());
        assert_ne!(kind("f", 0), Kind::default(), "known ones stay known");
    }

    #[test]
    fn a_kind_nobody_saw_end_is_guessed_until_one_does() {
        let mut durations = Durations::default();
        let kind = durations.kind_of(&spec("f", 0));
        assert_eq!((durations.known_us(kind), durations.expected_us(kind)), (None, UNKNOWN_US));
        assert!(durations.learn(kind, MS), "a millisecond is of another length than a guess");
        assert!(!durations.learn(kind, MS));
        assert_eq!(durations.known_us(kind), Some(1_000));
        for _ in 0..200 {
            durations.learn(kind, 4 * MS);
        }
        assert!((3_900..=4_000).contains(&durations.expected_us(kind)));
    }

    #[test]
    fn a_straggler_takes_twice_as_long_as_nineteen_in_twenty() {
        let mut durations = Durations::default();
        let kind = durations.kind_of(&spec("f", 0));
        for _ in 0..ENOUGH {
            assert_eq!(durations.straggles(kind), None);
            durations.learn(kind, 100 * MS);
        }
        let mut chance = crate::core::chance::Chance::seeded(3);
        for round in 0..2_000 {
            // One in a hundred takes ten times as long: it must not raise the bound for itself.
            let took = if round % 100 == 0 { 1_000 } else { 50 + chance.below(100) as u32 };
            durations.learn(kind, took * MS);
        }
        let bound = durations.straggles(kind).unwrap();
        assert!(bound > 250 * MS && bound < 350 * MS, "{bound:?}");
    }

    #[test]
    fn speed_is_relative_and_a_liar_is_believed_up_to_a_bound() {
        let check = |took: Duration, expected: f64| {
            let mut speed = Speed::default();
            for _ in 0..2_000 {
                speed.learn(1_000, took);
            }
            assert!((speed.ratio() - expected).abs() < 0.01, "{took:?}: {}", speed.ratio());
        };
        assert_eq!(Speed::default().ratio(), 1.0);
        check(MS, 1.0);
        check(2 * MS, 0.5);
        check(MS / 2, 2.0);
        check(Duration::ZERO, SPEEDS.1);
        check(3_600_000 * MS, SPEEDS.0);
    }

    #[test]
    fn a_task_past_its_time_is_expected_to_take_as_long_again() {
        let check = |age: Duration, expected: u64| {
            assert_eq!(remaining_us(10_000, age), expected, "{age:?}");
        };
        check(Duration::ZERO, 10_000);
        check(4 * MS, 6_000);
        check(10 * MS, 10_000);
        check(70 * MS, 70_000);
    }
}
