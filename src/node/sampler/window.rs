//! Turns a kernel counter into its growth over a sliding span of time.

use std::collections::VecDeque;
use std::time::Duration;

/// Most readings kept, however often the counter is read.
const MAX_POINTS: usize = 64;

/// Readings of one ever-growing counter.
#[derive(Debug)]
pub(super) struct Window {
    span: Duration,
    points: VecDeque<(Duration, f64)>,
}

/// How far a counter moved, and in how many seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    pub(super) amount: f64,
    pub(super) seconds: f64,
}

impl Window {
    /// A window that looks back over `span`, or over the last two readings if they are further apart.
    pub(super) fn new(span: Duration) -> Self {
        Window { span, points: VecDeque::new() }
    }

    /// Adds a reading. A counter that went backwards (reset, or another group's) starts afresh.
    pub(super) fn push(&mut self, now: Duration, total: f64) -> Option<Growth> {
        if self.points.back().is_some_and(|&(at, last)| total < last || now < at) {
            self.points.clear();
        }
        if self.points.back().is_none_or(|&(at, _)| at < now) {
            self.points.push_back((now, total));
        }
        let start = now.saturating_sub(self.span);
        // Two readings always stay, however far apart.
        while self.points.len() > 2 && (self.points.len() > MAX_POINTS || self.points[1].0 <= start)
        {
            self.points.pop_front();
        }
        let (first, last) = (self.points.front()?, self.points.back()?);
        let seconds = (last.0 - first.0).as_secs_f64();
        (seconds > 0.0).then_some(Growth { amount: last.1 - first.1, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn growth_spans_the_window_and_no_more() {
        let mut window = Window::new(ms(1_000));
        assert_eq!(window.push(ms(0), 10.0), None);
        assert_eq!(window.push(ms(500), 11.0), Some(Growth { amount: 1.0, seconds: 0.5 }));
        assert_eq!(window.push(ms(1_000), 12.0), Some(Growth { amount: 2.0, seconds: 1.0 }));
        assert_eq!(window.push(ms(1_500), 22.0), Some(Growth { amount: 11.0, seconds: 1.0 }));
    }

    #[test]
    fn a_reset_counter_starts_afresh() {
        let mut window = Window::new(ms(1_000));
        window.push(ms(0), 10.0);
        assert_eq!(window.push(ms(500), 3.0), None);
        assert_eq!(window.push(ms(750), 4.0), Some(Growth { amount: 1.0, seconds: 0.25 }));
    }

    #[test]
    fn the_number_of_readings_is_bounded() {
        let mut window = Window::new(Duration::from_secs(3_600));
        for n in 0..10_000 {
            window.push(ms(n), n as f64);
        }
        assert!(window.points.len() <= MAX_POINTS);
    }

    #[test]
    fn two_readings_at_one_moment_are_no_rate() {
        let mut window = Window::new(ms(1_000));
        window.push(ms(5), 1.0);
        assert_eq!(window.push(ms(5), 2.0), None);
    }
}
