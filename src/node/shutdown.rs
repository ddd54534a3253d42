//! How a node leaves: refuse, hand over, hand back, finish up to the grace.

use super::driver::Input;
use super::shared::Shared;
use crate::core::boundary::Event;
use crate::core::load::Load;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a handover may take before the node goes on without it.
const HANDOVER: Duration = Duration::from_millis(1_500);
/// How often progress is looked at.
const ROUND: Duration = Duration::from_millis(5);

/// Hands leadership and unstarted work over and waits for running work; true if all of it ended within `grace`.
pub async fn drain(shared: &Arc<Shared>, grace: Duration) -> bool {
    shared.draining.store(true, Ordering::Release);
    if let Some(consensus) = &shared.consensus {
        // Nobody shall prefer a node that is leaving.
        consensus.set_score(0.0, Load::default());
    }
    hand_over(shared).await;
    shared.tell(Input::Core(Event::DrainStarted));
    let finished = async {
        loop {
            // Reports must be settled, that is committed, before this node may forget them.
            let idle = shared.ask(|task_loop| task_loop.worker.is_idle()).await.unwrap_or(true);
            if idle {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    tokio::time::timeout(grace, finished).await.is_ok()
}

/// A leader makes the best other voter lead, if there is one.
async fn hand_over(shared: &Arc<Shared>) {
    let Some(consensus) = &shared.consensus else { return };
    let alone = consensus.voters().len() < 2;
    let handed = async {
        while shared.leads() && !alone {
            // A fresh leader has not heard from its voters yet, and then there is nobody to hand over to.
            let _ = consensus.transfer_leader(None).await;
            tokio::time::sleep(ROUND).await;
        }
    };
    // Without a new leader in time the others elect one when this node is gone.
    let _ = tokio::time::timeout(HANDOVER, handed).await;
}
