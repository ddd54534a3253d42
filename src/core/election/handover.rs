//! When a leader yields, and to whom: only if it is bad and somebody else is much better, for long enough. And when a
//! handover has failed: nobody took over within the time of an election.

use super::ranking::Ranking;
use crate::config::ElectionConfig;
use crate::core::Moment;
use crate::core::ids::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Handovers older than this no longer lengthen the cool-down.
const MEMORY: Duration = Duration::from_secs(600);

/// A voter that did not take over is asked again after this at the earliest.
const MUTED_FOR: Duration = Duration::from_secs(60);
/// Voters whose failure is remembered; more than a Raft group has.
const MAX_MUTED: usize = 64;

/// The best voter that may lead instead of `me`: caught up and `live`.
pub fn plan_handover(table: &Ranking, me: NodeId, live: impl Fn(NodeId) -> bool) -> Option<NodeId> {
    table.rows().iter().find(|r| r.node != me && r.caught_up && live(r.node)).map(|r| r.node)
}

/// Keeps leadership from wandering after every gust of load (design section 3, "stabilise").
#[derive(Clone, Debug)]
pub struct Stabiliser {
    margin: f64,
    floor: f64,
    dwell: Duration,
    cooldown: Duration,
    doublings: usize,
    led_since: Option<Moment>,
    worse_since: Option<Moment>,
    yielded: VecDeque<Moment>,
}

impl Stabiliser {
    /// One that has seen no handover.
    pub fn new(config: &ElectionConfig) -> Self {
        Stabiliser {
            margin: config.handover_margin,
            floor: config.handover_floor,
            dwell: config.handover_dwell,
            cooldown: config.handover_cooldown,
            doublings: config.handover_doublings as usize,
            led_since: None,
            worse_since: None,
            yielded: VecDeque::new(),
        }
    }

    /// This node began to lead.
    pub fn on_leading(&mut self, now: Moment) {
        (self.led_since, self.worse_since) = (Some(now), None);
    }

    /// This node no longer leads.
    pub fn on_following(&mut self) {
        (self.led_since, self.worse_since) = (None, None);
    }

    /// To whom leadership should move now, if it should.
    pub fn consider(
        &mut self,
        now: Moment,
        table: &Ranking,
        me: NodeId,
        live: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let led_since = self.led_since?;
        let mine = table.row(me)?.score;
        let best = plan_handover(table, me, live)?;
        let theirs = table.row(best)?.score;
        let better = theirs > mine && theirs - mine >= self.margin;
        if mine >= self.floor || !better {
            self.worse_since = None;
            return None;
        }
        let worse_since = *self.worse_since.get_or_insert(now);
        let long_enough = now.since(worse_since) >= self.dwell;
        if !long_enough || now.since(led_since) < self.rest(now) {
            return None;
        }
        self.worse_since = None;
        // Counts as a new reign in case the transfer fails, so that it is not tried in every round.
        self.led_since = Some(now);
        self.note_yielded(now);
        Some(best)
    }

    /// The handover failed: it counts twice, so that the next one waits longer.
    pub fn on_failed(&mut self, now: Moment) {
        self.led_since = self.led_since.and(Some(now));
        self.note_yielded(now);
    }

    fn note_yielded(&mut self, now: Moment) {
        if self.yielded.len() > self.doublings {
            self.yielded.pop_front();
        }
        self.yielded.push_back(now);
    }

    fn rest(&mut self, now: Moment) -> Duration {
        self.yielded.retain(|at| now.since(*at) < MEMORY);
        self.cooldown * (1 << self.yielded.len().min(self.doublings))
    }
}

/// A handover under way, and who failed to take over lately.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    pending: Option<Pending>,
    failures: u32,
    muted: BTreeMap<NodeId, Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    to: NodeId,
    due: Moment,
}

/// A handover that nobody took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Who should have taken over.
    pub to: NodeId,
    /// It is the first of this reign's last attempt: somebody else may be asked.
    pub first: bool,
}

impl Transfer {
    /// `to` was asked to take over, which takes it `patience` at most.
    pub fn on_started(&mut self, now: Moment, to: NodeId, patience: Duration) {
        self.pending = Some(Pending { to, due: now.after(patience) });
    }

    /// This node leads no more, or in a newer term.
    pub fn on_ended(&mut self) {
        (self.pending, self.failures) = (None, 0);
    }

    /// When the handover under way will have failed.
    pub fn due(&self) -> Option<Moment> {
        self.pending.map(|pending| pending.due)
    }

    /// The handover that has failed by now, told once. Who should have taken over is muted for a while.
    pub fn take_overdue(&mut self, now: Moment) -> Option<Failed> {
        let Pending { to, .. } = self.pending.filter(|pending| now >= pending.due)?;
        self.pending = None;
        self.muted.retain(|_, until| now < *until);
        if self.muted.len() < MAX_MUTED {
            self.muted.insert(to, now.after(MUTED_FOR));
        }
        self.failures += 1;
        Some(Failed { to, first: self.failures == 1 })
    }

    /// This leader has let go, and nobody has taken over.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// `node` failed to take over not long ago.
    pub fn is_muted(&self, now: Moment, node: NodeId) -> bool {
        self.muted.get(&node).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::election::ranking::RankEntry;

    const ME: NodeId = NodeId(1);

    fn table(rows: &[(u64, f64, bool)]) -> Ranking {
        let rows = rows.iter().map(|&(n, score, caught_up)| RankEntry {
            node: NodeId(n),
            score,
            caught_up,
        });
        Ranking::order(1, rows.collect(), 0.01)
    }

    fn check(rows: &[(u64, f64, bool)], dead: &[u64], expected: Option<u64>) {
        let got = plan_handover(&table(rows), ME, |n| !dead.contains(&n.0));
        assert_eq!(got.map(|n| n.0), expected);
    }

    #[test]
    fn drain_hands_over_to_the_best_live_caught_up_other() {
        let rows = [(1, 0.9, true), (2, 0.8, false), (3, 0.7, true), (4, 0.6, true)];
        check(&rows, &[], Some(3));
        check(&rows, &[3], Some(4));
        check(&rows, &[3, 4], None);
        check(&[(1, 0.9, true)], &[], None);
    }

    /// When the leader with `mine` yields to one with `theirs`, in seconds after it began to lead.
    fn yields_after(stabiliser: &mut Stabiliser, mine: f64, theirs: f64) -> Option<u64> {
        stabiliser.on_leading(Moment(0));
        let rows = table(&[(1, mine, true), (2, theirs, true)]);
        (0..7_200).find(|s| {
            stabiliser.consider(Moment(s * 1_000_000), &rows, ME, |_| true) == Some(NodeId(2))
        })
    }

    #[test]
    fn a_leader_yields_only_if_it_is_bad_and_another_much_better() {
        let new = || Stabiliser::new(&Config::default().election);
        assert_eq!(yields_after(&mut new(), 0.66, 1.0), None, "above the floor");
        assert_eq!(yields_after(&mut new(), 0.6, 0.84), None, "within the margin");
        assert_eq!(yields_after(&mut new(), 0.47, 0.9), Some(60), "busy CPU, free memory, long up");
    }

    #[test]
    fn a_classic_leader_yields_to_whoever_scores_higher_every_three_seconds() {
        let mut s = Stabiliser::new(&Config::profile("classic").unwrap().election);
        assert_eq!(yields_after(&mut s.clone(), 44.0, 44.5), Some(3));
        assert_eq!(yields_after(&mut s.clone(), 44.0, 44.0), None, "an equal is not better");
        s.on_leading(Moment(0));
        let rows = table(&[(1, 44.0, true), (2, 44.5, true)]);
        let moves: Vec<u64> = (0..20)
            .filter(|t| s.consider(Moment(t * 1_000_000), &rows, ME, |_| true).is_some())
            .collect();
        assert_eq!(moves, [3, 6, 9, 12, 15, 18]);
    }

    #[test]
    fn the_cool_down_doubles() {
        let mut s = Stabiliser::new(&Config::default().election);
        s.on_leading(Moment(0));
        let rows = table(&[(1, 0.1, true), (2, 0.9, true)]);
        let moves: Vec<u64> = (0..2_000)
            .filter(|s_| s.consider(Moment(s_ * 1_000_000), &rows, ME, |_| true).is_some())
            .collect();
        assert_eq!(&moves[..3], &[60, 180, 420]);
    }

    #[test]
    fn a_failed_handover_doubles_the_cool_down_once_more() {
        let mut s = Stabiliser::new(&Config::default().election);
        s.on_leading(Moment(0));
        let rows = table(&[(1, 0.1, true), (2, 0.9, true)]);
        let mut moves = Vec::new();
        // Up to the end of its memory, after which it forgives.
        for second in 0..MEMORY.as_secs() {
            let now = Moment(second * 1_000_000);
            if s.consider(now, &rows, ME, |_| true).is_some() {
                moves.push(second);
                s.on_failed(now);
            }
        }
        assert_eq!(moves, [60, 300], "two doublings after each");
    }

    #[test]
    fn a_handover_fails_once_its_time_is_over_and_who_failed_is_muted() {
        let (ms, two) = (Duration::from_millis, NodeId(2));
        let (start, mut t) = (Moment(1_000_000), Transfer::default());
        t.on_started(start, two, ms(60));
        assert_eq!(t.take_overdue(start.after(ms(59))), None);
        assert!(!t.has_failed() && t.due() == Some(start.after(ms(60))));
        let failed = start.after(ms(60));
        assert_eq!(t.take_overdue(failed), Some(Failed { to: two, first: true }));
        assert_eq!((t.take_overdue(failed), t.due()), (None, None), "told once");
        assert!(t.has_failed() && t.is_muted(failed, two) && !t.is_muted(failed, NodeId(3)));
        t.on_started(failed, NodeId(3), ms(60));
        let again = failed.after(ms(60));
        assert_eq!(t.take_overdue(again), Some(Failed { to: NodeId(3), first: false }));
        t.on_ended();
        assert!(!t.has_failed() && t.is_muted(again, two), "muted beyond the reign");
        assert!(!t.is_muted(failed.after(MUTED_FOR), two));
    }

    #[test]
    fn a_gust_shorter_than_the_dwell_moves_nobody() {
        let mut s = Stabiliser::new(&Config::default().election);
        s.on_leading(Moment(0));
        let (bad, good) =
            (table(&[(1, 0.1, true), (2, 0.9, true)]), table(&[(1, 0.8, true), (2, 0.9, true)]));
        for second in 0..1_000 {
            let rows = if second % 5 == 4 { &good } else { &bad };
            assert_eq!(s.consider(Moment(second * 1_000_000), rows, ME, |_| true), None);
        }
    }
}
