//! Is the leader gone? Adaptive silence plus evidence; separate because accusing wrongly costs every task a pause.
//!
//! After the phi-accrual and Lifeguard failure detectors: the bound follows the measured heartbeats, their spread and
//! the longest gap of late, doubles for a while after a false alarm, and a node whose own loop lags accuses nobody.
//!
//! ```text
//!   contact ── quiet: no wake-up ──▶ half of the bound ── a tick every 5 ms ──▶ bound: suspected
//!      └── each wake-up was promised: one that comes late shows that this node is the slow one ──▶ grace
//! ```

use crate::config::ElectionConfig;
use crate::core::Moment;
use crate::core::ids::{NodeId, Term};
use std::time::Duration;

/// The bound until enough heartbeats were measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Heartbeats that are enough.
const WARM_SAMPLES: u32 = 10;
/// Gaps are clipped to this, so that one bad sample does not poison the bound.
const GAP_CLIP: Duration = Duration::from_millis(200);
/// What of the longest gap is left after each heartbeat: a third of it after a minute of the `lan` profile.
const PEAK_KEPT: f64 = 1.0 - 1.0 / 3_000.0;
/// The bound is at least so many times the longest gap not yet forgotten.
const PEAK_FACTOR: f64 = 2.0;
/// How long the bound stays doubled after a false alarm.
const DOUBLED_FOR: Duration = Duration::from_secs(60);
/// The longest step between two ticks of a follower whose leader has been silent for a while.
pub const TICK: Duration = Duration::from_millis(5);
/// So many heartbeats long a node that finds itself late accuses nobody: what waited for it must be read first.
const GRACE: u32 = 2;

/// Why the leader is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing was heard for longer than the bound.
    Silence,
    /// Its port refuses connections: its process is gone.
    Refused,
}

/// Watches one leader at a time.
#[derive(Clone, Debug)]
pub struct Detector {
    heartbeat: Duration,
    bounds: (Duration, Duration),
    leader: Option<NodeId>,
    term: Term,
    contact: Option<Moment>,
    last_heartbeat: Option<Moment>,
    gaps: Gaps,
    evidence: Option<Moment>,
    announced: bool,
    doubled_until: Moment,
    grace_until: Moment,
    armed: Option<Moment>,
}

#[derive(Clone, Debug, Default)]
struct Gaps {
    count: u32,
    mean_us: f64,
    variance: f64,
    /// The longest lately: what happens once in many seconds the mean and the variance forget in between.
    peak_us: f64,
}

impl Gaps {
    fn take(&mut self, gap: Duration) {
        let x = gap.min(GAP_CLIP).as_micros() as f64;
        let weight = if self.count < 20 { 1.0 / f64::from(self.count + 1) } else { 0.05 };
        let difference = x - self.mean_us;
        self.mean_us += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
        self.peak_us = x.max(self.peak_us * PEAK_KEPT);
        self.count = self.count.saturating_add(1);
    }
}

impl Detector {
    /// A detector that has heard nobody yet.
    pub fn new(config: &ElectionConfig) -> Self {
        Detector {
            heartbeat: config.heartbeat,
            bounds: (config.suspicion_min, config.suspicion_max.max(config.suspicion_min)),
            leader: None,
            term: 0,
            contact: None,
            last_heartbeat: None,
            gaps: Gaps::default(),
            evidence: None,
            announced: false,
            doubled_until: Moment(0),
            grace_until: Moment(0),
            armed: None,
        }
    }

    /// The leader it watches.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// When the leader was last heard, or when this node began to listen.
    pub fn contact(&self) -> Option<Moment> {
        self.contact
    }

    /// The silence that is tolerated now.
    pub fn bound(&self, now: Moment) -> Duration {
        let (min, max) = self.bounds;
        let bound = if self.gaps.count < WARM_SAMPLES {
            WARM_UP
        } else {
            let spread = self.gaps.mean_us + 6.0 * self.gaps.variance.sqrt();
            let longest = spread.max(self.gaps.peak_us * PEAK_FACTOR);
            Duration::from_micros(longest as u64).max(self.heartbeat * 4)
        };
        let bound = bound.clamp(min, max);
        if now < self.doubled_until { bound * 2 } else { bound }
    }

    /// An append of the leader of `term` arrived. Returns how long it had been silent if that was a false alarm.
    ///
    /// Only `is_heartbeat` messages are measured: appends that carry a commit index come as often as the load, and
    /// would teach the detector an impatience that idle times cannot meet.
    pub fn on_append(
        &mut self,
        now: Moment,
        leader: NodeId,
        term: Term,
        is_heartbeat: bool,
    ) -> Option<Duration> {
        if term < self.term {
            return None;
        }
        let late = self.is_late(now);
        if self.leader != Some(leader) || self.term != term {
            *self = Detector { leader: Some(leader), term, last_heartbeat: None, ..self.clone() };
            (self.announced, self.evidence) = (false, None);
        } else if self.evidence.is_some_and(|at| now.since(at) < self.heartbeat) {
            // What a dead process had already sent may still arrive: that is no sign of life.
            return None;
        }
        let mut false_alarm = None;
        if self.announced {
            self.announced = false;
            self.doubled_until = now.after(DOUBLED_FOR);
            false_alarm = self.contact.map(|contact| now.since(contact));
        }
        if is_heartbeat {
            if let Some(last) = self.last_heartbeat
                && !late
                && now >= self.grace_until
            {
                self.gaps.take(now.since(last));
            }
            self.last_heartbeat = Some(now);
        }
        self.evidence = None;
        self.contact = self.contact.max(Some(now));
        false_alarm
    }

    /// This node leads: there is nobody to suspect.
    pub fn on_leading(&mut self, now: Moment, me: NodeId, term: Term) {
        (self.leader, self.term, self.contact) = (Some(me), term, Some(now));
        (self.last_heartbeat, self.evidence, self.announced) = (None, None, false);
    }

    /// This node led and was deposed: whoever did it must speak up soon.
    pub fn on_stepped_down(&mut self, now: Moment) {
        (self.leader, self.contact) = (None, Some(now));
    }

    /// The port of `leader` refused a connection.
    pub fn on_refused(&mut self, now: Moment, leader: NodeId) {
        if self.leader == Some(leader) && self.evidence.is_none() {
            self.evidence = Some(now);
        }
    }

    /// Time passes; a tick that comes later than promised shows that this node is the slow one.
    pub fn tick(&mut self, now: Moment) {
        if self.is_late(now) {
            self.grace_until = now.after(self.heartbeat * GRACE);
        }
        self.contact = self.contact.or(Some(now));
    }

    /// The next tick is promised for `at`; an earlier one may come and promise anew.
    pub fn promise(&mut self, at: Moment) {
        self.armed = Some(at);
    }

    /// When the next tick was promised.
    pub fn promised(&self) -> Option<Moment> {
        self.armed
    }

    /// When a follower must look again: after a quiet time if it heard the leader lately, else every [`TICK`].
    pub fn next_look(&self, now: Moment) -> Moment {
        let Some(due) = self.deadline(now).filter(|due| *due > now) else {
            return now.after(TICK);
        };
        let quiet_until = self.contact.map_or(now, |contact| contact.after(self.quiet(now)));
        quiet_until.max(now.after(TICK)).min(due)
    }

    /// How much of the bound may pass unobserved. If this node was frozen in it without noticing, what is left still
    /// outlasts the grace of a node that did notice.
    fn quiet(&self, now: Moment) -> Duration {
        let bound = self.bound(now);
        let watched = self.tolerance() + self.heartbeat * GRACE;
        (bound / 2).min(bound.saturating_sub(watched))
    }

    /// A wake-up later than this is late.
    fn tolerance(&self) -> Duration {
        TICK + self.heartbeat
    }

    /// Since when the leader is suspected, if it is.
    pub fn suspected(&self, now: Moment) -> Option<(Moment, Cause)> {
        if let Some(at) = self.evidence {
            return Some((at, Cause::Refused));
        }
        if self.is_late(now) {
            return None;
        }
        let due = self.deadline(now)?;
        (now >= due).then_some((due, Cause::Silence))
    }

    /// When silence turns into suspicion.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let contact = self.contact?;
        let bound = match (self.leader, self.term) {
            // A cluster that never had a leader need not wait for one to fall silent.
            (None, 0) => Duration::ZERO,
            (None, _) => self.bounds.0,
            (Some(_), _) => self.bound(now),
        };
        Some(contact.after(bound).max(self.grace_until))
    }

    /// True the first time it is asked during one suspicion, so that it is told once.
    pub fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }

    /// Raft is in `term` already, so this node is no newborn.
    pub fn on_term(&mut self, term: Term) {
        if self.leader.is_none() {
            self.term = self.term.max(term);
        }
    }

    fn is_late(&self, now: Moment) -> bool {
        self.armed.is_some_and(|at| now.since(at) > self.tolerance())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const L: NodeId = NodeId(1);

    struct Bench {
        detector: Detector,
        now: u64,
    }

    impl Bench {
        fn new() -> Self {
            Bench { detector: Detector::new(&Config::default().election), now: 1_000_000 }
        }
        fn ms(&self) -> Moment {
            Moment(self.now)
        }
        /// Time passes in ticks of a millisecond; the leader beats every `beat` ms if it lives.
        fn run(&mut self, ms: u64, beat: Option<u64>) {
            for step in 1..=ms {
                self.now += 1_000;
                if beat.is_some_and(|b| step % b == 0) {
                    self.detector.on_append(self.ms(), L, 1, true);
                }
                self.tick();
            }
        }
        fn tick(&mut self) {
            self.detector.tick(self.ms());
            let next = self.detector.next_look(self.ms());
            self.detector.promise(next);
        }
        fn suspects(&self) -> bool {
            self.detector.suspected(self.ms()).is_some()
        }
    }

    #[test]
    fn regular_heartbeats_lead_to_the_least_bound() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        assert_eq!(b.detector.bound(b.ms()), Duration::from_millis(120));
        b.run(119, None);
        assert!(!b.suspects());
        b.run(1, None);
        assert!(b.suspects());
    }

    #[test]
    fn irregular_heartbeats_make_it_patient_but_never_past_the_greatest_bound() {
        let mut b = Bench::new();
        for gap in [20, 100, 20, 160, 30, 120].repeat(10) {
            b.run(gap, Some(gap));
        }
        let bound = b.detector.bound(b.ms());
        assert!(bound > Duration::from_millis(250) && bound <= Duration::from_secs(1), "{bound:?}");
    }

    #[test]
    fn a_long_gap_once_in_a_while_makes_it_patient_for_a_minute() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.run(100, Some(100));
        b.run(5_000, Some(20));
        let bound = b.detector.bound(b.ms());
        assert!(
            bound > Duration::from_millis(180) && bound <= Duration::from_millis(200),
            "{bound:?}"
        );
        b.run(60_000, Some(20));
        assert_eq!(b.detector.bound(b.ms()), Duration::from_millis(120));
    }

    #[test]
    fn appends_that_carry_only_a_commit_index_are_no_samples() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        for _ in 0..1_000 {
            b.now += 100;
            b.detector.on_append(b.ms(), L, 1, false);
            b.tick();
        }
        assert!((b.detector.gaps.mean_us - 20_000.0).abs() < 1.0, "{}", b.detector.gaps.mean_us);
    }

    #[test]
    fn a_false_alarm_doubles_the_bound_for_a_minute() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.run(130, None);
        assert!(b.suspects() && b.detector.announce() && !b.detector.announce());
        let gap = b.detector.on_append(b.ms(), L, 1, true).unwrap();
        assert!(gap >= Duration::from_millis(120) && !b.suspects());
        let doubled = b.detector.bound(b.ms());
        assert!(doubled >= Duration::from_millis(240), "{doubled:?}");
        b.run(60_001, Some(20));
        assert_eq!(b.detector.bound(b.ms()), Duration::from_millis(120));
    }

    #[test]
    fn a_node_that_was_frozen_itself_does_not_accuse() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.now += 5_000_000;
        assert!(!b.suspects(), "asked before it noticed");
        b.tick();
        assert!(!b.suspects(), "asked in its grace");
        b.run(41, None);
        assert!(b.suspects(), "the leader is silent still");
    }

    /// A follower whose loop wakes exactly when it promised, and whose leader beats all the time; after a freeze
    /// everything that waited is read `lag` ms later than the loop wakes. Panics if the leader is ever accused.
    fn check_freeze(profile: &str, phase: u64, frozen: u64, lag: u64) {
        let config = Config::profile(profile).unwrap().election;
        let beat = config.heartbeat.as_millis() as u64;
        let mut b = Bench { detector: Detector::new(&config), now: 1_000_000 };
        b.detector.on_append(b.ms(), L, 1, true);
        let from = 50 * beat + phase;
        let (thaw, read) = (from + frozen, from + frozen + lag);
        for ms in 1..read + 20 * beat {
            b.now += 1_000;
            let runs = ms < from || ms >= thaw;
            if runs && b.detector.promised().is_none_or(|at| b.ms() >= at) {
                b.tick();
            }
            let heard = if ms < from || ms > read { ms.is_multiple_of(beat) } else { ms == read };
            if heard {
                b.detector.on_append(b.ms(), L, 1, true);
            }
            let case = format!("{profile}: frozen for {frozen} ms from {phase} ms, at {ms}");
            assert!(!runs || !b.suspects(), "{case}");
        }
        let bound = b.detector.bound(b.ms());
        assert!(bound < config.suspicion_min * 2, "the freeze taught it patience: {bound:?}");
    }

    #[test]
    fn a_freeze_at_any_phase_of_the_silence_accuses_nobody() {
        for phase in (0..20).step_by(3) {
            for frozen in (1..150).chain([200, 500, 2_000]) {
                check_freeze("lan", phase, frozen, 38);
            }
        }
        for phase in (0..40).step_by(3) {
            for frozen in (10..500).step_by(5) {
                check_freeze("ci", phase, frozen, 30);
                check_freeze("lan_fast", phase / 2, frozen, 15);
            }
        }
    }

    #[test]
    fn a_follower_that_hears_its_leader_seldom_wakes_and_one_that_does_not_wakes_often() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        let mut ticks = Vec::new();
        for ms in 1..=1_120 {
            b.now += 1_000;
            if ms <= 1_000 && ms % 20 == 0 {
                b.detector.on_append(b.ms(), L, 1, true);
            }
            if b.detector.promised().is_none_or(|at| b.ms() >= at) {
                ticks.push(ms);
                b.tick();
            }
        }
        let (quiet, silent): (Vec<u64>, Vec<u64>) = ticks.iter().partition(|at| **at <= 1_000);
        assert!(quiet.len() <= 25, "{} wake-ups a second", quiet.len());
        assert!(silent.len() >= 13 && silent.last() == Some(&1_120), "{silent:?}");
        assert!(b.suspects());
    }

    #[test]
    fn a_gap_measured_while_late_is_no_sample() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.now += 3_000_000;
        b.detector.on_append(b.ms(), L, 1, true);
        b.tick();
        assert_eq!(b.detector.bound(b.ms()), Duration::from_millis(120));
    }

    #[test]
    fn a_refused_connection_is_evidence_at_once_but_only_against_the_leader() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.detector.on_refused(b.ms(), NodeId(7));
        assert!(!b.suspects());
        b.detector.on_refused(b.ms(), L);
        assert_eq!(b.detector.suspected(b.ms()), Some((b.ms(), Cause::Refused)));
        b.run(2, Some(1));
        assert!(b.suspects(), "what was in flight is no sign of life");
        b.run(40, Some(20));
        assert!(!b.suspects(), "it beats on: it lives");
    }

    #[test]
    fn a_newer_leader_ends_the_suspicion_and_an_older_one_does_not() {
        let mut b = Bench::new();
        b.run(1_000, Some(20));
        b.run(200, None);
        assert!(b.suspects() && b.detector.announce());
        assert_eq!(b.detector.on_append(b.ms(), NodeId(2), 0, true), None);
        assert!(b.suspects());
        assert_eq!(b.detector.on_append(b.ms(), NodeId(2), 2, true), None);
        assert!(!b.suspects());
    }

    #[test]
    fn a_deposed_leader_does_not_take_itself_for_a_live_one() {
        let mut b = Bench::new();
        b.detector.on_leading(b.ms(), L, 3);
        b.run(1, None);
        b.detector.on_stepped_down(b.ms());
        b.run(119, None);
        assert!(!b.suspects());
        b.run(1, None);
        assert!(b.suspects());
    }

    #[test]
    fn a_newborn_cluster_needs_no_silence_but_a_restarted_voter_does() {
        let mut b = Bench::new();
        b.run(1, None);
        assert!(b.suspects());
        let mut b = Bench::new();
        b.detector.on_term(4);
        b.run(120, None);
        assert!(!b.suspects());
        b.run(1, None);
        assert!(b.suspects());
    }
}
