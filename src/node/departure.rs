//! How a member is removed: leadership moves first, then its seat among the voters goes, then its name.

use super::consensus::Consensus;
use super::driver::Input;
use super::shared::Shared;
use crate::core::boundary::Event;
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the log may take to forget a member.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const ROUND: Duration = Duration::from_millis(5);

/// Whether the leader would remove `node`, and what would be odd about the group that is left.
pub async fn check(shared: &Arc<Shared>, node: NodeId) -> Result<Option<String>> {
    let consensus = leading(shared)?;
    consensus.confirm().await?;
    find(&consensus, node)?;
    Ok(consensus.plan_unseat(node)?.and_then(|plan| plan.warning))
}

fn leading(shared: &Shared) -> Result<Arc<Consensus>> {
    shared.consensus.clone().ok_or_else(|| Error::NoQuorum {
        detail: "this node is a worker, it cannot lead".to_owned(),
    })
}

/// Whether `node` is still here: false if it was removed before. An id nobody knows is an error.
fn find(consensus: &Consensus, node: NodeId) -> Result<bool> {
    let state = consensus.state();
    let state = state.lock();
    if consensus.voters().contains_key(&node) || state.members().contains_key(&node) {
        return Ok(true);
    }
    if state.is_expelled(node) {
        return Ok(false);
    }
    Err(Error::config("node", format!("{node} is no member of this cluster")))
}

/// Removes `node`, on the leader; returns once that is committed, with what is odd about the group that is left. A
/// leader that is to be removed itself hands over and says `NoQuorum`: its successor must be asked.
pub async fn remove(shared: &Arc<Shared>, node: NodeId) -> Result<Option<String>> {
    let consensus = leading(shared)?;
    // Else a leader that was cut off would call unsafe what it may no longer decide.
    consensus.confirm().await?;
    if !find(&consensus, node)? {
        return Ok(None); // Somebody asks again.
    }
    if let Some(plan) = consensus.plan_unseat(node)?
        && plan.hand_over
    {
        let to = consensus.transfer_leader(None).await?;
        let detail = format!("leadership went to {to} first; ask again");
        return Err(Error::NoQuorum { detail });
    }
    let warning = consensus.unseat(node).await?;
    shared.tell(Input::Core(Event::RemovalAsked { node }));
    let forgotten = async {
        loop {
            let state = consensus.state();
            let done = {
                let state = state.lock();
                state.is_expelled(node) && !state.members().contains_key(&node)
            };
            if done {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    if tokio::time::timeout(FORGOTTEN, forgotten).await.is_err() {
        let what = format!("the removal of {node} to be committed");
        return Err(Error::WaitTimeout { what, waited: FORGOTTEN });
    }
    Ok(warning)
}

/// This node learns that it was removed: it votes, polls and joins no more. What it runs it may finish.
pub async fn accept(shared: &Arc<Shared>) {
    let error = Error::Removed { node: shared.me.name.clone() };
    shared.standing().fatal = Some(error);
    shared.removed.store(true, Ordering::Release);
    shared.tell(Input::Core(Event::DrainStarted));
    if let Some(consensus) = &shared.consensus {
        consensus.shutdown().await;
    }
}
