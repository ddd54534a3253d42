//! The head of every peer call: written here, checked here, so that two clusters never mix (guarantees, row 33), nor
//! two lives of one node (row 32).

use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use crate::node::proto as pb;
use crate::node::shared::Shared;
use crate::node::transport::lives::Life;
use tonic::Status;

/// What this node puts at the head of a call to `node` (0: whoever listens there).
pub fn address(shared: &Shared, node: NodeId) -> Option<pb::Envelope> {
    Some(pb::Envelope {
        cluster_id: shared.cluster_bytes(),
        from_node: shared.me.id.0,
        to_node: node.0,
        incarnation: shared.life.incarnation,
        life: shared.life.number,
        ..Default::default()
    })
}

/// Refuses calls meant for another node or from another cluster.
pub fn check(shared: &Shared, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
    let Some(envelope) = envelope else {
        return Err(Status::invalid_argument("envelope: missing"));
    };
    let me = &shared.me;
    if envelope.to_node != 0 && envelope.to_node != me.id.0 {
        let error = Error::WrongNode {
            address: me.address.clone(),
            got: format!("{} ({})", me.name, me.id),
            want: NodeId(envelope.to_node).to_string(),
        };
        return Err(Status::failed_precondition(error.to_string()));
    }
    let theirs = ClusterId::from_bytes(&envelope.cluster_id);
    let ours = shared.standing().cluster;
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            let error = Error::WrongCluster {
                address: me.address.clone(),
                got: ours.to_string(),
                want: theirs.to_string(),
            };
            Err(Status::failed_precondition(error.to_string()))
        }
        _ => check_life(shared, Some(envelope)),
    }
}

/// Refuses a node that was outlived, and lets this one end if it is the one.
pub fn check_life(shared: &Shared, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
    let Some(envelope) = envelope else { return Ok(()) };
    let aborted = |error: &Error| Status::aborted(error.to_string());
    let (node, me) = (NodeId(envelope.from_node), shared.me.id);
    let speaks = Life { incarnation: envelope.incarnation, number: envelope.life };
    let meant = Life { incarnation: envelope.to_incarnation, number: envelope.to_life };
    if shared.life.is_outlived_by(meant) {
        let mine = shared.life.incarnation;
        let error = Error::incarnation_mismatch(me, meant.incarnation, mine);
        let status = aborted(&error);
        shared.give_way(error);
        return Err(status);
    }
    // A copy of this very node: whoever was here first stays.
    if node == me && speaks.incarnation > 0 && speaks != shared.life {
        let (known, given) = (shared.life.incarnation, speaks.incarnation);
        return Err(aborted(&Error::incarnation_mismatch(node, known, given)));
    }
    shared.peers.lives().check(node, speaks).map_err(|error| aborted(&error))
}
