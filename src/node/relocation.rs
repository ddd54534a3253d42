//! How a member comes to stand elsewhere: the leader writes it down, and from then on it counts.

use super::driver::Input;
use super::shared::Shared;
use crate::core::boundary::Event;
use crate::core::ids::NodeId;
use crate::core::load::Position;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long the log may take to say so.
const WRITTEN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const ROUND: Duration = Duration::from_millis(2);

/// Says where `node` stands, on the leader; returns once that is committed.
pub async fn relocate(shared: &Arc<Shared>, node: NodeId, position: Position) -> Result<()> {
    find(shared, node)?;
    shared.tell(Input::Core(Event::MoveAsked { node, position }));
    let written = async {
        while find(shared, node)? != position {
            tokio::time::sleep(ROUND).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(WRITTEN, written).await;
    waited.unwrap_or_else(|_| {
        let what = format!("the move of {node} to be committed");
        Err(Error::WaitTimeout { what, waited: WRITTEN })
    })
}

fn find(shared: &Shared, node: NodeId) -> Result<Position> {
    let consensus = shared.consensus.as_ref().ok_or_else(|| Error::NoQuorum {
        detail: "this node is a worker, it cannot lead".to_owned(),
    })?;
    let state = consensus.state();
    let state = state.lock();
    let found = state.members().get(&node).map(|member| member.position);
    found.ok_or_else(|| Error::config("node", format!("{node} is no member of this cluster")))
}
