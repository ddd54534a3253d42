//! The head of every peer call: written here, checked here, so that two clusters never mix (guarantees, row 33), nor two
//! lives of one node (row 32).

use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use crate::node::proto as pb;
use crate::node::shared::Shared;
use tonic::Status;

/// What this node puts at the head of a call to `node` (0: whoever listens there).
pub fn address(shared: &Shared, node: NodeId) -> Option<pb::Envelope> {
    Some(pb::Envelope {
        cluster_id: shared.cluster_bytes(),
        from_node: shared.me.id.0,
        to_node: node.0,
        incarnation: shared.me.incarnation,
        life: shared.life,
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
    match (theirs, shared.standing().cluster) {
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

/// Refuses a node that was started again since, elsewhere or from an old copy of its data: it has forgotten what it
/// promised.
pub fn check_life(shared: &Shared, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
    let Some(envelope) = envelope else { return Ok(()) };
    let (node, given) = (NodeId(envelope.from_node), envelope.incarnation);
    let refused = match node == shared.me.id && given > 0 && envelope.life != shared.life {
        true => Err(Error::incarnation_mismatch(node, shared.me.incarnation, given)),
        false => shared.lives().check(node, given, envelope.life),
    };
    refused.map_err(|error| Status::aborted(error.to_string()))
}
