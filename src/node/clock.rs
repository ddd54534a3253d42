//! The one home of time: monotonic moments for decisions, wall time for people and retention.

use crate::core::Moment;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The moment at which every clock starts, so that "a while ago" never underflows.
pub const START: Moment = Moment(1_000_000);
/// How far away "never" is, for sleeping.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// Where the wall time of an imagined world begins: the first of January 2026.
const IMAGINED_EPOCH_US: u64 = 1_767_225_600_000_000;
/// How wrong a clock may be made to run.
pub const RATES: (f64, f64) = (0.01, 100.0);

/// A node's clock; clones are the same clock. It reads tokio's time, so that a paused runtime (simulation) moves it,
/// and it can be made to run wrong: too fast, too slow, or not at all.
#[derive(Clone, Debug)]
pub struct Clock {
    pace: Arc<Mutex<Pace>>,
    stretch: u32,
    /// When the imagined world began; `None`: the wall clock is the machine's.
    epoch: Option<Instant>,
}

/// `moment` was reached at `at`; since then it runs at `rate`.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: Instant,
    moment: Moment,
    rate: f64,
    frozen: bool,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock::stretched(1)
    }

    /// A clock whose every microsecond takes `stretch` of tokio's. Tokio's timers count whole milliseconds; a
    /// simulation that stretches time sees fractions of one.
    pub fn stretched(stretch: u32) -> Self {
        Clock::starting(stretch, None)
    }

    /// The same in an imagined world, whose wall time is a matter of the seed as well.
    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    pub fn imagined(stretch: u32) -> Self {
        Clock::starting(stretch, Some(Instant::now()))
    }

    /// Another clock of the same world, which starts now.
    pub fn twin(&self) -> Self {
        Clock::starting(self.stretch, self.epoch)
    }

    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    fn starting(stretch: u32, epoch: Option<Instant>) -> Self {
        let pace = Pace { at: Instant::now(), moment: START, rate: 1.0, frozen: false };
        Clock { pace: Arc::new(Mutex::new(pace)), stretch: stretch.max(1), epoch }
    }

    /// Now, monotonic.
    pub fn now(&self) -> Moment {
        let pace = self.pace();
        if pace.frozen { pace.moment } else { self.moment_of(&pace) }
    }

    /// The instant at which `moment` is reached, for sleeping.
    pub fn instant(&self, moment: Moment) -> Instant {
        let pace = self.pace();
        if pace.frozen {
            return pace.at + NEVER;
        }
        let left = moment.since(pace.moment) * self.stretch;
        pace.at + if pace.rate == 1.0 { left } else { left.div_f64(pace.rate).min(NEVER) }
    }

    /// How long `d` of this clock's time takes by tokio's, the clock's own rate left aside.
    pub fn stretch(&self, d: Duration) -> Duration {
        d * self.stretch
    }

    /// Sleeps for `d`.
    pub async fn sleep(&self, d: Duration) {
        tokio::time::sleep(self.stretch(d)).await;
    }

    /// From now on this clock runs `rate` times as fast as the others: a fault. Rates outside [`RATES`] are clamped.
    /// What tokio times itself, above all openraft's heartbeats, runs on as before; what this node decides does not.
    pub fn set_rate(&self, rate: f64) {
        let mut pace = self.pace();
        (pace.moment, pace.at) = (self.moment_of(&pace), self.read());
        pace.rate = if rate.is_nan() { 1.0 } else { rate.clamp(RATES.0, RATES.1) };
    }

    /// How many times as fast as the others this clock runs; 1 unless somebody set it.
    pub fn rate(&self) -> f64 {
        self.pace().rate
    }

    /// How long `d` of tokio's time takes by this clock.
    pub fn measure(&self, d: Duration) -> Duration {
        let (d, rate) = (d / self.stretch, self.rate());
        if rate == 1.0 { d } else { d.mul_f64(rate) }
    }

    /// Whether it runs at another rate than it should.
    pub fn is_wrong(&self) -> bool {
        self.pace().rate != 1.0
    }

    /// Stops: what a frozen process sees of time. [`Clock::resume`] brings it to where it would be.
    pub fn freeze(&self) {
        let mut pace = self.pace();
        if !pace.frozen {
            (pace.moment, pace.at) = (self.moment_of(&pace), self.read());
            pace.frozen = true;
        }
    }

    /// Goes on after [`Clock::freeze`]; the time in between has passed.
    pub fn resume(&self) {
        self.pace().frozen = false;
    }

    /// Microseconds since 1970 in this clock's world.
    pub fn today_us(&self) -> u64 {
        let Some(epoch) = self.epoch else { return Clock::wall_us() };
        let passed = self.read().saturating_duration_since(epoch) / self.stretch;
        IMAGINED_EPOCH_US + passed.as_micros() as u64
    }

    /// Microseconds since 1970 on this machine.
    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    pub fn wall_us() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }

    #[allow(clippy::disallowed_methods, reason = "the one home of time")]
    fn read(&self) -> Instant {
        Instant::now()
    }

    fn moment_of(&self, pace: &Pace) -> Moment {
        let passed = self.read().saturating_duration_since(pace.at) / self.stretch;
        pace.moment.after(if pace.rate == 1.0 { passed } else { passed.mul_f64(pace.rate) })
    }

    // Every change is a plain assignment; nothing panics half-way.
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_follows_tokio_and_may_run_wrong() {
        let clock = Clock::start();
        tokio::time::advance(ms(10)).await;
        assert_eq!(clock.now(), START.after(ms(10)));
        clock.set_rate(2.0);
        tokio::time::advance(ms(10)).await;
        assert_eq!(clock.now(), START.after(ms(30)));
        clock.sleep(ms(1)).await;
        tokio::time::sleep_until(clock.instant(START.after(ms(50)))).await;
        assert_eq!(clock.now(), START.after(ms(50)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_clock_stands_and_then_jumps() {
        let (clock, same) = (Clock::start(), Clock::start());
        clock.freeze();
        tokio::time::advance(ms(500)).await;
        assert_eq!(clock.now(), START);
        assert!(clock.instant(START.after(ms(1))) > same.instant(START.after(ms(86_400_000))));
        clock.resume();
        assert_eq!(clock.now(), same.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stretched_clock_sees_fractions_of_a_millisecond() {
        let clock = Clock::stretched(10);
        clock.sleep(Duration::from_micros(300)).await;
        assert_eq!(clock.now(), START.after(Duration::from_micros(300)));
        tokio::time::sleep_until(clock.instant(START.after(ms(2)))).await;
        assert_eq!(clock.now(), START.after(ms(2)));
    }
}
