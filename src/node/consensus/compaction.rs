//! Keeps the log within its bound of bytes: a snapshot when enough was applied, then a purge of what it covers.

use super::Consensus;
use super::types::position;
use std::sync::Arc;

/// The share of the bound that stays behind a snapshot, for voters that lag a little.
const KEPT_SHARE: u64 = 8;

impl Consensus {
    /// Runs until the node stops. The library counts entries; this counts bytes.
    pub(super) async fn bound_log(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.progress.kept.notified() => self.purge().await,
                () = self.progress.applied_more.notified() => {}
            }
            if self.progress.grown() >= self.bound() {
                // It is ignored while the library holds that a snapshot is being made, also just after it was kept: no
                // answer may be waited for, and what is applied next asks again. An error says that Raft has stopped.
                let _ = self.raft.trigger().snapshot().await;
            }
        }
    }

    /// Writing a large state often would cost more than the log it saves, so the bound grows with it.
    fn bound(&self) -> u64 {
        self.config.limits.log_bytes.max(self.stores.snapshots.size())
    }

    async fn purge(&self) {
        let covered = self.stores.snapshots.last().and_then(|(meta, _)| meta.last_log_id);
        let point = self.stores.log.purge_point(self.config.limits.log_bytes / KEPT_SHARE);
        if let (Some(covered), Some(point)) = (covered, point) {
            let _ = self.raft.trigger().purge_log(point.min(position(Some(&covered)).1)).await;
        }
    }
}
