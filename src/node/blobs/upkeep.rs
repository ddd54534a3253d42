//! Keeps what a voter holds in step with the log: fetches what it names and is not here, forgets what it names no more.

use super::carrier;
use crate::core::ids::{BlobId, BlobRef, LogIndex};
use crate::node::shared::Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often both are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Blobs fetched in one round.
const FETCHED_PER_ROUND: usize = 64;

/// Runs as long as the node does.
pub async fn keep(shared: Arc<Shared>) {
    let Some(consensus) = shared.consensus.clone() else { return };
    loop {
        tokio::time::sleep(EVERY).await;
        let (needed, freed): (BTreeSet<BlobRef>, BTreeMap<BlobId, LogIndex>) = {
            let state = consensus.state();
            let state = state.lock();
            let mut freed: Vec<_> = state.blobs().freed().map(|(at, id)| (id, at)).collect();
            // Where one was let go twice, the later entry counts.
            freed.reverse();
            (state.blobs().all().collect(), freed.into_iter().collect())
        };
        let ids = needed.iter().map(|blob| blob.id).collect();
        shared.blobs.sweep(shared.clock.now(), &ids, &freed).await;
        if !consensus.voters().contains_key(&shared.me.id) {
            continue;
        }
        let missing = needed.into_iter().filter(|blob| !shared.blobs.holds(blob.id));
        for blob in missing.take(FETCHED_PER_ROUND) {
            // Whoever holds it may be away; the next round asks again.
            if let Ok(content) = carrier::fetch_once(&shared, blob).await {
                let _ = carrier::keep(&shared, blob, content).await;
            }
        }
    }
}
