//! When a leader yields, and to whom: only if it is bad and somebody else is much better, for long enough.

use super::ranking::Ranking;
use crate::config::ElectionConfig;
use crate::core::Moment;
use crate::core::ids::NodeId;
use std::collections::VecDeque;
use std::time::Duration;

/// Handovers older than this no longer lengthen the cool-down.
const MEMORY: Duration = Duration::from_secs(600);

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
        if self.yielded.len() > self.doublings {
            self.yielded.pop_front();
        }
        self.yielded.push_back(now);
        Some(best)
    }

    fn rest(&mut self, now: Moment) -> Duration {
        self.yielded.retain(|at| now.since(*at) < MEMORY);
        self.cooldown * (1 << self.yielded.len().min(self.doublings))
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
        assert_eq!(yields_after(&mut new(), 0.31, 1.0), None, "above the floor");
        assert_eq!(yields_after(&mut new(), 0.29, 0.5), None, "within the margin");
        assert_eq!(yields_after(&mut new(), 0.2, 0.9), Some(60), "after the cool-down");
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
