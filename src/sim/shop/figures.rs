//! What a run came to: makespan beside its bound, stays beside those of one ideal queue, steals, idle spells.

use super::Shop;
use super::ideal::central_queue;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is counted while a run goes on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tasks that wait at the leader.
    pub(super) waiting: u64,
    pub(super) steals: u64,
    pub(super) copies: u64,
    pub(super) entries: u64,
    pub(super) late: u64,
    pub(super) deaths: u64,
    /// Time of all attempts.
    pub(super) busy: Duration,
    /// Of leaders that are gone.
    pub(super) calls: Calls,
    /// Before the work began.
    before: Calls,
}

impl Tally {
    /// What was counted so far was preparation.
    pub(super) fn begin(&mut self, calls: Calls) {
        let (waiting, mut before) = (self.waiting, calls);
        let calls = std::mem::take(&mut self.calls);
        before.add(&calls);
        *self = Tally { waiting, calls, before, ..Tally::default() };
    }
}

/// Calls of idle machines for work.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    pub(super) asked: u64,
    /// By reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Calls {
    pub(super) fn add(&mut self, other: &Calls) {
        self.asked += other.asked;
        for (why, count) in &other.refused {
            *self.refused.entry(why).or_default() += count;
        }
    }

    fn without(mut self, other: &Calls) -> Calls {
        self.asked -= other.asked.min(self.asked);
        for (why, count) in &mut self.refused {
            *count -= other.refused.get(why).copied().unwrap_or(0).min(*count);
        }
        self
    }
}

/// How long tasks stayed, from submission to outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stays {
    /// The mean.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// 99 in a hundred stayed no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Stays {
    /// Of these, in any order; zero of none.
    pub fn of(mut stays: Vec<Duration>) -> Self {
        stays.sort_unstable();
        let sum: Duration = stays.iter().sum();
        Stays {
            mean: sum.checked_div(stays.len() as u32).unwrap_or_default(),
            p50: quantile(&stays, 0.5),
            p99: quantile(&stays, 0.99),
            max: stays.last().copied().unwrap_or_default(),
        }
    }
}

/// The least value that `share` of all do not exceed; zero of none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Tasks, lessons not counted.
    pub tasks: usize,
    /// Those that have an outcome.
    pub finished: usize,
    /// Those whose outcome is no value.
    pub failed: usize,
    /// From the first submission to the last outcome, as the client sees both; `None`: not everything came out.
    pub makespan: Option<Duration>,
    /// What no schedule can beat: `max(work / speed of all, longest / fastest)`.
    pub bound: Duration,
    /// How long tasks stayed.
    pub stays: Stays,
    /// The same of one ideal queue.
    pub ideal: Stays,
    /// Tasks that moved from a victim to a thief.
    pub steals: u64,
    /// Copies of attempts that took too long.
    pub copies: u64,
    /// Calls for work.
    pub calls: u64,
    /// Calls and tasks that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Spells in which a machine was idle while there was work within its reach: how many, and how long.
    pub spells: usize,
    /// Their median, 99th percentile and longest; the mean is of no interest.
    pub spell: Stays,
    /// Their sum.
    pub idle: Duration,
    /// Time of all attempts together.
    pub busy: Duration,
    /// Entries of the log.
    pub entries: u64,
    /// Completions that came too late.
    pub late: u64,
    /// Machines that died.
    pub deaths: u64,
}

/// The figures of a run that is over.
pub(super) fn of(shop: &Shop<'_>, spells: &[Duration]) -> Figures {
    let (spec, client, tally) = (shop.spec, &shop.client, &shop.tally);
    let (last, stays) = client.stays();
    let mut calls = shop.calls();
    calls.add(&tally.calls);
    let Calls { asked, refused } = calls.without(&tally.before);
    let makespan = last.filter(|_| client.is_done()).map(|last| last.since(client.began()));
    Figures {
        tasks: client.jobs().len(),
        finished: client.finished(),
        failed: client.failed,
        makespan,
        bound: client.bound(spec),
        stays: Stays::of(stays),
        ideal: Stays::of(central_queue(client.jobs(), &spec.all_speeds(), spec.slots)),
        steals: tally.steals,
        copies: tally.copies,
        calls: asked,
        refused,
        spells: spells.len(),
        spell: Stays::of(spells.to_vec()),
        idle: spells.iter().sum(),
        busy: tally.busy,
        entries: tally.entries,
        late: tally.late,
        deaths: tally.deaths,
    }
}
