//! The head of every peer call: written here, checked here, so that two clusters never mix (guarantees, row 33), nor
//! two lives of one node (row 32).

use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use crate::node::proto as pb;
use crate::node::shared::Shared;
use crate::node::transport::lives::Life;
use std::sync::atomic::Ordering;
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

/// Refuses calls that do not mean this very node, or do not come from its cluster. A node that was not yet told its
/// cluster has to believe the first that knows its id, and belongs there from then on: whoever wrote into its log may
/// be gone before anybody else tells it.
pub fn check_member(shared: &Shared, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
    let Some(envelope) = envelope else {
        return Err(Status::invalid_argument("envelope: missing"));
    };
    if envelope.to_node != shared.me.id.0 {
        return Err(wrong_node(shared, envelope));
    }
    let ours = shared.standing().cluster;
    match ClusterId::from_bytes(&envelope.cluster_id) {
        Some(theirs) if ours.is_none_or(|ours| ours == theirs) => {
            check_speaker(shared, envelope)?;
            check_life(shared, envelope)?;
            if ours.is_none() {
                shared.belong(theirs);
            }
            Ok(())
        }
        theirs => Err(wrong_cluster(shared, theirs)),
    }
}

/// Refuses calls that mean another node, or come from another cluster.
pub fn check_anybody(shared: &Shared, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
    let Some(envelope) = envelope else {
        return Err(Status::invalid_argument("envelope: missing"));
    };
    if envelope.to_node != 0 && envelope.to_node != shared.me.id.0 {
        return Err(wrong_node(shared, envelope));
    }
    let ours = shared.standing().cluster;
    match ClusterId::from_bytes(&envelope.cluster_id) {
        Some(theirs) if ours.is_some_and(|ours| ours != theirs) => {
            Err(wrong_cluster(shared, Some(theirs)))
        }
        _ => check_life(shared, envelope),
    }
}

/// Refuses a node that speaks for another: inside TLS its certificate has a name, and the log says whose it is.
fn check_speaker(shared: &Shared, envelope: &pb::Envelope) -> Result<(), Status> {
    let node = NodeId(envelope.from_node);
    let by_log = shared.consensus.as_ref().and_then(|consensus| {
        let state = consensus.state();
        state.lock().members().get(&node).map(|member| member.name.clone())
    });
    shared.speakers.check(node, by_log.as_deref())
}

/// Refuses a node that was outlived, and lets this one end if it is the one.
fn check_life(shared: &Shared, envelope: &pb::Envelope) -> Result<(), Status> {
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

fn wrong_node(shared: &Shared, envelope: &pb::Envelope) -> Status {
    shared.refusals.wrong_node.fetch_add(1, Ordering::Relaxed);
    let me = &shared.me;
    let error = Error::WrongNode {
        address: me.address.clone(),
        got: format!("{} ({})", me.name, me.id),
        want: NodeId(envelope.to_node).to_string(),
    };
    Status::failed_precondition(error.to_string())
}

fn wrong_cluster(shared: &Shared, theirs: Option<ClusterId>) -> Status {
    shared.refusals.wrong_cluster.fetch_add(1, Ordering::Relaxed);
    let text = |id: Option<ClusterId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let error = Error::WrongCluster {
        address: shared.me.address.clone(),
        got: text(shared.standing().cluster),
        want: text(theirs),
    };
    Status::failed_precondition(error.to_string())
}
