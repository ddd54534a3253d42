//! Faults on purpose: what one node's words to another suffer. Live transports and the simulated network ask here.
//!
//! Faults are off unless somebody sets one; a node refuses to take any over the network unless it was started with
//! leave to (`allow_faults`). Ending or stopping a process is not in here: that is done to it, not by it.
//!
//! In a simulation one board serves all links. Live, each node has its own, with the directions it is an end of: as
//! the speaker it suffers them, as the listener it hears nothing of whom it is cut from.

use super::consensus::runtime::{random_range, random_u64};
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Faulty directions at most; a cluster of a hundred nodes cut in two needs half of that.
pub const MAX_RULES: usize = 10_000;
/// Longest delay of one message.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// What words in one direction suffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkFault {
    /// Nothing arrives.
    pub cut: bool,
    /// The share of messages that are lost, in [0, 1].
    pub drop_ratio: f64,
    /// Every message takes this much longer,
    pub delay: Duration,
    /// ... and up to this much more, by chance.
    pub jitter: Duration,
}

impl LinkFault {
    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.drop_ratio) {
            let problem = format!("{} is out of bounds; it must lie in [0, 1]", self.drop_ratio);
            return Err(Error::config("drop_ratio", problem));
        }
        for (field, value) in [("delay_s", self.delay), ("jitter_s", self.jitter)] {
            if value > MAX_DELAY {
                let (value, most) = (value.as_secs_f64(), MAX_DELAY.as_secs());
                let problem = format!("{value} is out of bounds; it must lie in [0, {most}]");
                return Err(Error::config(field, problem));
            }
        }
        Ok(())
    }
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives after this much more than usual.
    After(Duration),
    /// It never arrives.
    Lost,
}

/// The faulty directions, by who speaks and who listens.
#[derive(Debug, Default)]
pub struct Switchboard {
    rules: Mutex<BTreeMap<(NodeId, NodeId), LinkFault>>,
    /// How many rules there are: what a message costs while there are none is one look at this.
    count: AtomicUsize,
}

impl Switchboard {
    /// From now on words of `from` to `to` suffer `fault`, and nothing else.
    pub fn set(&self, from: NodeId, to: NodeId, fault: LinkFault) -> Result<()> {
        fault.check()?;
        let mut rules = self.rules();
        if fault == LinkFault::default() {
            rules.remove(&(from, to));
        } else if rules.len() < MAX_RULES || rules.contains_key(&(from, to)) {
            rules.insert((from, to), fault);
        } else {
            let problem = format!("{MAX_RULES} directions are faulty already; heal() some first");
            return Err(Error::config("faults", problem));
        }
        self.count.store(rules.len(), Ordering::Release);
        Ok(())
    }

    /// Nothing is faulty.
    pub fn is_quiet(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Cuts all words between nodes of different groups, both ways; nodes in no group keep all their links. Directions
    /// that stay open keep their other faults.
    pub fn partition(&self, groups: &[Vec<NodeId>]) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, g)| g);
            for to in others {
                for from in group {
                    let fault = self.fault(*from, *to);
                    self.set(*from, *to, LinkFault { cut: true, ..fault })?;
                }
            }
        }
        Ok(())
    }

    /// Ends all faults of links.
    pub fn heal(&self) {
        let mut rules = self.rules();
        rules.clear();
        self.count.store(0, Ordering::Release);
    }

    /// What words of `from` to `to` suffer now.
    pub fn fault(&self, from: NodeId, to: NodeId) -> LinkFault {
        self.rules().get(&(from, to)).copied().unwrap_or_default()
    }

    /// Every faulty direction, for people.
    pub fn faults(&self) -> Vec<(NodeId, NodeId, LinkFault)> {
        self.rules().iter().map(|((from, to), fault)| (*from, *to, *fault)).collect()
    }

    /// What becomes of the next message of `from` to `to`.
    pub fn passage(&self, from: NodeId, to: NodeId) -> Passage {
        if self.is_quiet() {
            return Passage::After(Duration::ZERO);
        }
        let fault = self.fault(from, to);
        if fault.cut || (fault.drop_ratio > 0.0 && chance(fault.drop_ratio)) {
            return Passage::Lost;
        }
        let jitter = match fault.jitter.as_micros() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_micros(random_range(0..=most)),
        };
        Passage::After(fault.delay + jitter)
    }

    // A map of plain values: whole after any panic.
    fn rules(&self) -> MutexGuard<'_, BTreeMap<(NodeId, NodeId), LinkFault>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chance(ratio: f64) -> bool {
    ((random_u64() >> 11) as f64 / (1u64 << 53) as f64) < ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    #[test]
    fn without_a_fault_everything_arrives_at_once() {
        assert_eq!(Switchboard::default().passage(A, B), Passage::After(Duration::ZERO));
    }

    #[test]
    fn a_cut_has_one_direction_and_a_partition_two() {
        let board = Switchboard::default();
        board.set(A, B, LinkFault { cut: true, ..LinkFault::default() }).unwrap();
        assert_eq!(board.passage(A, B), Passage::Lost);
        assert_eq!(board.passage(B, A), Passage::After(Duration::ZERO));
        board.heal();
        board.partition(&[vec![A], vec![B, C]]).unwrap();
        for (from, to) in [(A, B), (B, A), (A, C), (C, A)] {
            assert_eq!(board.passage(from, to), Passage::Lost);
        }
        assert_eq!(board.passage(B, C), Passage::After(Duration::ZERO));
        assert!(!board.is_quiet());
        board.heal();
        assert!(board.faults().is_empty() && board.is_quiet());
        board.set(A, B, LinkFault { cut: true, ..LinkFault::default() }).unwrap();
        board.set(A, B, LinkFault::default()).unwrap();
        assert!(board.is_quiet());
    }

    #[test]
    fn losses_and_delays_are_as_told() {
        let ms = Duration::from_millis;
        let board = Switchboard::default();
        let fault = LinkFault { drop_ratio: 0.3, delay: ms(5), jitter: ms(2), cut: false };
        board.set(A, B, fault).unwrap();
        let mut lost = 0;
        for _ in 0..10_000 {
            match board.passage(A, B) {
                Passage::Lost => lost += 1,
                Passage::After(d) => assert!((ms(5)..=ms(7)).contains(&d)),
            }
        }
        assert!((2_700..3_300).contains(&lost), "{lost}");
    }

    #[test]
    fn impossible_faults_are_refused_by_name() {
        let board = Switchboard::default();
        for ratio in [f64::NAN, -0.1, 1.1] {
            let fault = LinkFault { drop_ratio: ratio, ..LinkFault::default() };
            let text = board.set(A, B, fault).unwrap_err().to_string();
            assert!(text.starts_with("drop_ratio: "), "{text}");
        }
        let fault = LinkFault { delay: Duration::from_secs(61), ..LinkFault::default() };
        assert!(board.set(A, B, fault).unwrap_err().to_string().starts_with("delay_s: 61"));
    }
}
