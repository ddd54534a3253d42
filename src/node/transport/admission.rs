//! The calls by which a node comes to belong to a cluster, and their answers in plain words.

use super::envelope;
use super::wire;
use crate::core::cluster::command::Member;
use crate::core::ids::{ClusterId, NodeId};
use crate::error::Error;
use crate::node::proto as pb;
use crate::node::proto::peer_service_client::PeerServiceClient;
use crate::node::shared::{PROTOCOL, Shared};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long one call may take.
const CALL: Duration = Duration::from_millis(1_000);

/// Why a call brought nothing.
pub enum Refused {
    /// Asking again will not help.
    ForGood(Error),
    /// Another node has this one's id, or had until a moment ago.
    InUse(Error),
    /// No answer, or not yet; the words say what was tried.
    ForNow(String),
}

/// What a founder says of itself.
pub struct Introduction {
    /// Who it is.
    pub member: Member,
    /// The cluster it belongs to already.
    pub cluster: Option<ClusterId>,
    /// Whom it has met.
    pub met: BTreeSet<NodeId>,
}

/// What a member says to a newcomer.
pub struct Admission {
    /// The leader took the request.
    pub admitted: bool,
    /// Where to ask instead.
    pub leader_address: Option<String>,
    /// This node was removed: it need not ask again.
    pub removed: bool,
}

/// Refuses whoever speaks another version of the protocol.
pub fn check_protocol(theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL {
        return Ok(());
    }
    let peer = "the caller".to_owned();
    let error = Error::VersionMismatch { peer, theirs, ours: PROTOCOL };
    Err(Status::failed_precondition(error.to_string()))
}

/// Introduces this founder to the one at `address`.
pub async fn call_meet(shared: &Shared, address: &str) -> Result<Introduction, Refused> {
    let request = pb::MeetRequest {
        envelope: envelope::address(shared, NodeId(0)),
        founders: shared.standing().founders.clone(),
        me: Some(wire::member_out(&shared.member())),
        protocol: PROTOCOL,
    };
    let mut client = PeerServiceClient::new(channel(shared, address)?);
    let answer = bounded(address, client.meet(request)).await?;
    let member = wire::member_in(answer.me.unwrap_or_default())
        .map_err(|status| Refused::ForNow(format!("{address}: {}", status.message())))?;
    Ok(Introduction {
        member,
        cluster: ClusterId::from_bytes(&answer.cluster_id),
        met: answer.met.iter().map(|member| NodeId(member.id)).collect(),
    })
}

/// Asks the node at `address` to have this node admitted.
pub async fn call_join(shared: &Shared, address: &str) -> Result<Admission, Refused> {
    let functions: Vec<pb::Function> = {
        let functions = shared.functions.lock().unwrap_or_else(PoisonError::into_inner);
        functions.values().map(|f| wire::function_out(f)).collect()
    };
    let request = pb::JoinRequest {
        envelope: envelope::address(shared, NodeId(0)),
        me: Some(wire::member_out(&shared.member())),
        functions,
        protocol: PROTOCOL,
    };
    let mut client = PeerServiceClient::new(channel(shared, address)?)
        .max_encoding_message_size(super::peer_message_bytes(&shared.config.limits));
    let answer = bounded(address, client.join(request)).await?;
    let leader_address = Some(answer.leader_address).filter(|address| !address.is_empty());
    Ok(Admission { admitted: answer.admitted, leader_address, removed: answer.removed })
}

fn channel(shared: &Shared, address: &str) -> Result<Channel, Refused> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| {
        Refused::ForGood(Error::InvalidPeers { problem: format!("{address}: {e}") })
    })?;
    Ok(shared.dialler.lazily(&endpoint.connect_timeout(CALL)))
}

async fn bounded<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Refused> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(refused(address, &status)),
        Err(_) => Err(Refused::ForNow(format!("{address}: no answer within {CALL:?}"))),
    }
}

fn refused(address: &str, status: &Status) -> Refused {
    let problem = status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition => Refused::ForGood(Error::InvalidPeers { problem }),
        Code::Aborted => Refused::ForGood(Error::IncarnationMismatch { problem }),
        Code::AlreadyExists => Refused::InUse(Error::NodeIdInUse { problem }),
        _ => Refused::ForNow(format!("{address}: {}", innermost(status))),
    }
}

/// The cause a person can act on, not the layers around it.
fn innermost(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
