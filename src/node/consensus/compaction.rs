//! Keeps the log within its bounds of entries and bytes: a snapshot when enough was applied, then a purge of what it
//! covers.

use super::Consensus;
use super::replica::{can_give_back, give_back};
use super::types::position;
use crate::config::Limits;
use crate::core::ids::{LogIndex, NodeId};
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Without an entry for so long, freed memory goes back to the system: that takes a moment in which others wait for
/// memory.
const QUIET: Duration = Duration::from_secs(1);
/// The share of the bound that stays behind a snapshot, for voters that lag a little.
const KEPT_SHARE: u64 = 8;
/// The share of a bound within which nodes differ.
const STAGGERED_SHARE: u64 = 4;
/// A log that is long but not large is snapshot once it has so large a share of the last snapshot's bytes.
const WORTH_SHARE: u64 = 2;

impl Consensus {
    /// Runs until the node stops.
    pub(super) async fn bound_log(self: Arc<Self>) {
        let mut freed = false;
        loop {
            tokio::select! {
                biased;
                () = self.progress.kept.notified() => {
                    self.purge().await;
                    freed = can_give_back();
                }
                () = self.progress.applied_more.notified() => {}
                () = tokio::time::sleep(QUIET), if freed => {
                    give_back();
                    freed = false;
                }
            }
            if self.is_long() {
                // It is ignored while the library holds that a snapshot is being made, also just after it was kept: no
                // answer may be waited for, and what is applied next asks again. An error says that Raft has stopped.
                let _ = self.raft.trigger().snapshot().await;
            }
        }
    }

    /// Writing a large state often would cost more than the log it saves, so the bounds grow with it. Every node takes
    /// off another share of them each time: all apply the same entries, and would take their snapshots in one moment,
    /// in which nobody works.
    fn is_long(&self) -> bool {
        let (limits, (entries, bytes)) = (&self.config.limits, self.progress.grown());
        if entries.saturating_mul(2) < limits.log_entries
            && bytes.saturating_mul(2) < limits.log_bytes
        {
            return false; // Far from it: nothing else is looked at for every entry.
        }
        let covered = self.stores.snapshots.last().and_then(|(meta, _)| meta.last_log_id);
        let index = position(covered.as_ref()).1;
        let size = self.stores.snapshots.size();
        is_due(limits, (entries, bytes), size, |most| stagger(self.me, index, most))
    }

    async fn purge(&self) {
        let covered = self.stores.snapshots.last().and_then(|(meta, _)| meta.last_log_id);
        let point = self.stores.log.purge_point(self.config.limits.log_bytes / KEPT_SHARE);
        if let (Some(covered), Some(point)) = (covered, point) {
            let _ = self.raft.trigger().purge_log(point.min(position(Some(&covered)).1)).await;
        }
    }
}

/// Whether a log that has grown by so many entries and bytes since a snapshot of `size` bytes is worth the next; `draw`
/// says how much of a share this node takes off a bound.
fn is_due(
    limits: &Limits,
    (entries, bytes): (u64, u64),
    size: u64,
    draw: impl Fn(u64) -> u64,
) -> bool {
    let reached = |grown: u64, whole: u64| grown >= whole - draw(whole / STAGGERED_SHARE);
    reached(bytes, limits.log_bytes.max(size))
        || (reached(entries, limits.log_entries) && bytes >= size / WORTH_SHARE)
}

/// Something from 0 to `most` that differs between nodes and from one snapshot, at `covered`, to the next.
fn stagger(me: NodeId, covered: LogIndex, most: u64) -> u64 {
    let drawn = xxh3_64_with_seed(&covered.to_le_bytes(), me.0);
    ((u128::from(drawn) * u128::from(most)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn both_bounds_hold_are_staggered_and_grow_with_the_state() {
        let limits = Limits { log_entries: 100, log_bytes: 4_000, ..Limits::default() };
        let due = |entries, bytes, size| is_due(&limits, (entries, bytes), size, |_| 0);
        assert!(!due(99, 3_999, 0));
        assert!(due(100, 10, 0) && due(1, 4_000, 0));
        // Many entries that say little beside a large state; and a state that is larger than the bound.
        assert!(!due(100, 499, 1_000) && due(100, 500, 1_000));
        assert!(!due(1, 4_000, 9_000) && due(1, 9_000, 9_000));
        let early = |entries, bytes| is_due(&limits, (entries, bytes), 0, |most| most);
        assert!(!early(74, 2_999) && early(75, 10) && early(1, 3_000));
    }

    #[test]
    fn nodes_take_their_snapshots_at_times_of_their_own() {
        let mut drawn = BTreeSet::new();
        for node in 1..=7 {
            for covered in [0, 1_000, 2_000] {
                let share = stagger(NodeId(node), covered, 16 << 20);
                assert!(share < 16 << 20);
                drawn.insert(share >> 16);
            }
        }
        assert!(drawn.len() > 15, "{drawn:?}");
        assert_eq!(stagger(NodeId(1), 7, 0), 0);
    }
}
