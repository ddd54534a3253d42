//! How a node leaves: refuse, hand over, hand back, finish up to the grace.

use super::driver::{Input, TaskLoop};
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
/// How long a node with nothing to run waits for somebody who could take its reports: where all nodes are stopped at
/// once, the last ones have no majority, and nobody will.
const LEADERLESS: Duration = Duration::from_secs(2);

/// How long a collector may take for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What keeps a node from leaving.
struct Held {
    /// Attempts run.
    runs: bool,
    /// What attempts came to is not committed.
    owes: bool,
    /// Not even an assignment waits here, to be given back or to be missed by the next leader.
    idle: bool,
    /// A leader with a majority behind it hears this node.
    heard: bool,
}

/// Hands leadership and unstarted work over and waits for running work; true if all of it ended within `grace`.
pub async fn drain(shared: &Arc<Shared>, grace: Duration) -> bool {
    shared.draining.store(true, Ordering::Release);
    if let Some(consensus) = &shared.consensus {
        // Nobody shall prefer a node that is leaving.
        consensus.set_score(0.0, Load::default());
    }
    hand_over(shared).await;
    if shared.stopping.load(Ordering::Acquire) {
        // Whoever still sends here is told to look for another.
        shared.refusing.store(true, Ordering::Release);
    }
    shared.tell(Input::Core(Event::DrainStarted));
    let finished = tokio::time::timeout(grace, finish(shared)).await.unwrap_or(false);
    send_spans(shared).await;
    finished
}

/// Gives the collector a moment to take the last spans.
async fn send_spans(shared: &Shared) {
    let Some(queue) = shared.spans.get() else { return };
    let sent = async {
        while !queue.is_empty() {
            tokio::time::sleep(ROUND).await;
        }
    };
    let _ = tokio::time::timeout(LAST_SPANS, sent).await;
}

/// Waits until nothing is held; false if a report is left that nobody takes.
async fn finish(shared: &Arc<Shared>) -> bool {
    let mut alone_since = shared.clock.now();
    loop {
        let own = shared.clone();
        let Ok(held) = shared.ask(move |task_loop| look(&own, task_loop)).await else {
            return true;
        };
        // Reports must be settled, that is committed, before this node may forget them.
        if held.idle {
            return true;
        }
        let now = shared.clock.now();
        if held.runs || held.heard {
            alone_since = now;
        } else if now.since(alone_since) >= LEADERLESS {
            return !held.owes;
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn look(shared: &Shared, task_loop: &TaskLoop) -> Held {
    let worker = &task_loop.worker;
    let leader = task_loop.heard_leader().map(|(_, leader, _)| leader);
    Held {
        runs: !worker.running().is_empty(),
        owes: worker.unsettled() > 0,
        idle: worker.is_idle(),
        heard: leader.is_some_and(|leader| leader != shared.me.id || shared.leads()),
    }
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
