//! What a task needs of a node, what a node offers, and what is taken of it: hard constraints, compared in one place.

use super::command::Member;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Labels of a node or task at most.
pub const MAX_LABELS: usize = 32;
/// Bytes of a label's name or value, or of a resource's name, at most.
pub const MAX_WORD: usize = 256;
/// Resources of a node or task at most, besides slots.
pub const MAX_RESOURCES: usize = 16;
/// Amounts are counted in thousandths, so that they add up exactly.
pub const THOUSANDTHS: u64 = 1_000;
/// The greatest amount of one resource, in thousandths: a quadrillion whole ones.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000_000 * THOUSANDTHS;
/// Slots of a node at most.
pub const MAX_SLOTS: u32 = 4_096;

/// What a node must have for a task to run there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Needs {
    /// Slots it takes while it runs, at least 1.
    pub slots: u32,
    /// Labels the node must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// How much it takes of what the node offers, in thousandths.
    pub resources: BTreeMap<String, u64>,
}

impl Default for Needs {
    /// One slot, anywhere.
    fn default() -> Self {
        Needs { slots: 1, labels: BTreeMap::new(), resources: BTreeMap::new() }
    }
}

impl Needs {
    /// It asks for nothing but one slot.
    pub fn is_plain(&self) -> bool {
        self.slots <= 1 && self.labels.is_empty() && self.resources.is_empty()
    }

    /// An idle `node` could run it.
    pub fn is_met_by(&self, node: &Member) -> bool {
        self.slots <= node.slots.max(1)
            && self.labels.iter().all(|(name, value)| node.labels.get(name) == Some(value))
            && self.resources.iter().all(|(name, amount)| offered(node, name) >= *amount)
    }

    /// `node` has so much left, beside what is `taken`.
    pub fn fits(&self, node: &Member, taken: &Taken) -> bool {
        self.resources
            .iter()
            .all(|(name, amount)| taken.of(name).saturating_add(*amount) <= offered(node, name))
    }

    /// Rough size in memory and on the wire.
    pub fn size(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len() + 8);
        let resources = self.resources.keys().map(|name| name.len() + 16);
        labels.chain(resources).sum::<usize>() + 8
    }
}

/// How much `node` offers of a resource, in thousandths.
pub fn offered(node: &Member, resource: &str) -> u64 {
    node.resources.get(resource).copied().unwrap_or(0)
}

/// Resources of one node that are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    amounts: BTreeMap<String, u64>,
}

impl Taken {
    /// How much of `resource`, in thousandths.
    pub fn of(&self, resource: &str) -> u64 {
        self.amounts.get(resource).copied().unwrap_or(0)
    }

    /// Nothing is taken.
    pub fn is_empty(&self) -> bool {
        self.amounts.values().all(|amount| *amount == 0)
    }

    /// A task takes what it needs.
    pub fn take(&mut self, needs: &Needs) {
        for (name, amount) in &needs.resources {
            let taken = self.amounts.entry(name.clone()).or_default();
            *taken = taken.saturating_add(*amount);
        }
    }

    /// A task gives it back.
    pub fn give_back(&mut self, needs: &Needs) {
        for (name, amount) in &needs.resources {
            if let Some(taken) = self.amounts.get_mut(name) {
                *taken = taken.saturating_sub(*amount);
            }
        }
    }

    /// The greatest share in use of anything `node` offers, in thousandths of all of it.
    pub fn dominant_share(&self, node: &Member) -> u64 {
        let share = |(name, amount): (&String, &u64)| {
            let all = u128::from(offered(node, name).max(1));
            (u128::from(*amount) * u128::from(THOUSANDTHS) / all) as u64
        };
        self.amounts.iter().map(share).max().unwrap_or(0)
    }
}

/// Refuses labels that are too many, too long or unprintable.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("labels: {} given; at most {MAX_LABELS}", labels.len()));
    }
    labels.iter().try_for_each(|(name, value)| {
        check_word("labels", name)?;
        check_word("labels", value)
    })
}

/// Refuses resources that are too many, badly named, of no amount or of too much.
pub fn check_resources(resources: &BTreeMap<String, u64>) -> Result<(), String> {
    if resources.len() > MAX_RESOURCES {
        return Err(format!("resources: {} given; at most {MAX_RESOURCES}", resources.len()));
    }
    resources.iter().try_for_each(|(name, amount)| {
        check_word("resources", name)?;
        if *amount == 0 || *amount > MAX_AMOUNT {
            return Err(format!(
                "resources: {name}={} is out of bounds; it must lie in [0.001, {}]",
                *amount as f64 / THOUSANDTHS as f64,
                MAX_AMOUNT / THOUSANDTHS
            ));
        }
        Ok(())
    })
}

/// Refuses slots a node cannot have.
pub fn check_slots(slots: u32) -> Result<(), String> {
    if (1..=MAX_SLOTS).contains(&slots) {
        return Ok(());
    }
    Err(format!("slots: {slots} is out of bounds; it must lie in [1, {MAX_SLOTS}]"))
}

fn check_word(field: &str, word: &str) -> Result<(), String> {
    if word.is_empty() || word.len() > MAX_WORD || word.chars().any(char::is_control) {
        let shown: String = word.escape_default().take(64).collect();
        return Err(format!(
            "{field}: \"{shown}\" must have 1 to {MAX_WORD} bytes and no control characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<V: Copy>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    fn node() -> Member {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        Member { slots: 4, labels, resources: map(&[("gpu", 2_000)]), ..Member::default() }
    }

    fn needs(slots: u32, zone: Option<&str>, gpu: u64) -> Needs {
        let labels = zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
        let resources = if gpu == 0 { BTreeMap::new() } else { map(&[("gpu", gpu)]) };
        Needs { slots, labels: labels.into_iter().collect(), resources }
    }

    #[test]
    fn a_node_meets_needs_by_slots_labels_and_resources() {
        let check = |needs: Needs, expected: bool| {
            assert_eq!(needs.is_met_by(&node()), expected, "{needs:?}");
        };
        check(Needs::default(), true);
        check(needs(4, None, 0), true);
        check(needs(5, None, 0), false);
        check(needs(1, Some("eu"), 2_000), true);
        check(needs(1, Some("us"), 0), false);
        check(needs(1, None, 2_001), false);
    }

    #[test]
    fn what_is_taken_is_given_back_exactly() {
        let mut taken = Taken::default();
        let third = needs(1, None, 333);
        for _ in 0..6 {
            assert!(third.fits(&node(), &taken));
            taken.take(&third);
        }
        assert!(!third.fits(&node(), &taken));
        assert_eq!(taken.dominant_share(&node()), 999);
        for _ in 0..6 {
            taken.give_back(&third);
        }
        assert_eq!(taken.dominant_share(&node()), 0);
    }

    #[test]
    fn impossible_labels_and_amounts_are_refused_by_name() {
        let many: BTreeMap<String, String> =
            (0..33).map(|i| (format!("l{i}"), "x".to_owned())).collect();
        assert!(check_labels(&many).unwrap_err().contains("at most 32"));
        let long = "x".repeat(257);
        for bad in ["", "a\nb", long.as_str()] {
            let labels = BTreeMap::from([("zone".to_owned(), bad.to_owned())]);
            assert!(check_labels(&labels).unwrap_err().starts_with("labels: "));
        }
        for bad in [0, MAX_AMOUNT + 1] {
            assert!(check_resources(&map(&[("gpu", bad)])).unwrap_err().contains("gpu="));
        }
        assert!(check_slots(0).is_err() && check_slots(4_097).is_err() && check_slots(1).is_ok());
    }
}
