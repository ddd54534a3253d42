//! Every call by every role, over real connections: what the table grants is served, everything else is refused.

use super::{Place, alone, authority, issue};
use crate::cluster::PATIENCE;
use hustings::core::ids::NodeId;
use hustings::node::proto::peer_service_client::PeerServiceClient;
use hustings::node::proto::{Envelope, WorkRequestRequest};
use hustings::node::security::{Role, Tls};
use hustings::node::transport::access::{FORWARDED, TABLE, granted};
use hustings::node::transport::dialling::Dialler;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// A channel to `address` with the certificate in `folder`.
pub fn channel(folder: &Path, address: &str) -> Channel {
    let dialler = Dialler::new(Some(Tls::open(folder).unwrap()));
    dialler.lazily(&Endpoint::from_shared(format!("http://{address}")).unwrap())
}

/// Calls `rpc` with an empty message; what came of it, as far as the head of the answer says.
pub async fn call(channel: &Channel, rpc: &str, passed_on: bool) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut request = Request::new(());
    if passed_on {
        request.metadata_mut().insert(FORWARDED, "1".parse().unwrap());
    }
    let path = format!("/{rpc}").parse().unwrap();
    let called = grpc.server_streaming::<(), (), _>(request, path, ProstCodec::default());
    match tokio::time::timeout(Duration::from_secs(1), called).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Ok(()), // It works on it: then it was let through.
    }
}

fn refused(answer: &Result<(), Status>) -> bool {
    let told = |status: &Status| {
        status.code() == Code::PermissionDenied && status.message().starts_with("not admitted: ")
    };
    answer.as_ref().err().is_some_and(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_call_what_the_table_grants_and_nothing_else() {
    let place = Place::new("calls");
    let ca = authority(&place);
    let node = alone(&issue(&ca, &place, Role::Peer, "a"), "a").await;
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let folder = issue(&ca, &place, role, &format!("as-{}", role.as_str()));
        let channel = channel(&folder, node.address());
        for row in TABLE {
            for passed_on in [false, true] {
                let answer = call(&channel, row.rpc, passed_on).await;
                // Only nodes pass calls on.
                let pretends = passed_on && role != Role::Peer;
                let expected = granted(role, row.rpc, passed_on) && !pretends;
                if refused(&answer) == expected {
                    wrong.push(format!("{role:?} {} {passed_on}: {answer:?}", row.rpc));
                }
                let unreachable =
                    answer.as_ref().err().map(Status::code) == Some(Code::Unavailable);
                if unreachable && answer.as_ref().is_err_and(|s| s.message().contains("transport"))
                {
                    wrong.push(format!("{role:?} {}: not reached: {answer:?}", row.rpc));
                }
            }
        }
        let unknown = call(&channel, "hustings.v1.PeerService/Reset", false).await;
        assert!(refused(&unknown), "{unknown:?}");
        assert!(unknown.unwrap_err().message().contains("nobody may"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cannot_speak_for_another() {
    let place = Place::new("impostor");
    let ca = authority(&place);
    let node = alone(&issue(&ca, &place, Role::Peer, "a"), "a").await;
    let impostor = channel(&issue(&ca, &place, Role::Peer, "b"), node.address());
    let status = node.status().await.unwrap();
    let speak = |from: NodeId| {
        let envelope = Some(Envelope {
            cluster_id: status.cluster_id.clone(),
            from_node: from.0,
            to_node: node.id().0,
            ..Default::default()
        });
        let mut peer = PeerServiceClient::new(impostor.clone());
        async move {
            let asked = peer.work_request(WorkRequestRequest { envelope, ..Default::default() });
            tokio::time::timeout(PATIENCE, asked).await.unwrap().map(drop)
        }
    };
    // "a" is in the log; a node of which nothing is known is heard, and from then on is who spoke.
    let refused = speak(node.id()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("\"b\" cannot speak for node \"a\""), "{refused}");
    speak(NodeId(77)).await.unwrap();
    let third = channel(&issue(&ca, &place, Role::Peer, "c"), node.address());
    let envelope = Some(Envelope {
        cluster_id: status.cluster_id.clone(),
        from_node: 77,
        to_node: node.id().0,
        ..Default::default()
    });
    let asked = WorkRequestRequest { envelope, ..Default::default() };
    let refused = PeerServiceClient::new(third).work_request(asked).await.unwrap_err();
    assert!(refused.message().contains("\"c\" cannot speak for node \"b\""), "{refused}");
    node.abort();
}
