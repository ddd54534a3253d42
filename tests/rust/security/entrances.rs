//! Listeners of their own for nodes and for clients: each takes its own and sends the others on; and what an admin is
//! told by reflection.

use super::calls::channel;
use super::{Place, authority, issue, secret};
use crate::cluster::{Cluster, PATIENCE, for_condition, options, request};
use hustings::core::cluster::command::FunctionSource;
use hustings::error::Error;
use hustings::node::client::{Client, ClientOptions};
use hustings::node::security::Role;
use hustings::node::{ClientDoor, NodeOptions};
use std::collections::BTreeSet;
use std::path::Path;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

fn apart(options: NodeOptions) -> NodeOptions {
    let door = ClientDoor { listen: "127.0.0.1:0".to_owned(), advertise: None };
    NodeOptions { clients: Some(door), ..options }
}

fn with(tls: Option<&Path>) -> ClientOptions {
    ClientOptions { tls: tls.map(Path::to_owned), ..ClientOptions::default() }
}

/// Works through its clients' listeners alone, from a follower's on, and beyond the death of its leader.
async fn serves_clients_apart(cluster: Cluster, tls: Option<&Path>) {
    let leader = cluster.leader().await;
    let doors: BTreeSet<&str> = cluster.nodes.iter().map(|n| n.client_address()).collect();
    assert!(cluster.nodes.iter().all(|n| !doors.contains(n.address())), "{doors:?}");

    let wrong = Client::connect(&[leader.address().to_owned()], with(tls)).await.err().unwrap();
    assert!(matches!(wrong, Error::Auth { .. }), "{wrong:?}");
    let place = format!("clients reach this node at {}", leader.client_address());
    assert!(wrong.to_string().contains(&place), "{wrong}");

    let follower = cluster.nodes.iter().find(|n| n.name() != leader.name()).unwrap();
    let door = [follower.client_address().to_owned()];
    let client = Client::connect(&door, with(tls)).await.unwrap();
    let hash = client.function("f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let finish = async |client: &Client| {
        let handle = client.submit(request("f", Some(hash)), None).unwrap();
        for_condition("an outcome", async || handle.settled().map(drop)).await;
    };
    finish(&client).await;
    let status = client.status(None, PATIENCE).await.unwrap();
    assert_eq!(status.leader_address, leader.client_address());
    let told: BTreeSet<&str> =
        status.members.iter().map(|m| m.member.as_ref().unwrap().address.as_str()).collect();
    assert_eq!(told, doors);

    leader.abort();
    finish(&client).await;
    client.close().await;
    cluster.nodes.iter().for_each(|node| node.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_listeners_of_their_own_never_need_those_of_the_nodes() {
    let cluster = Cluster::found(3, |name, cpu| apart(options(name, cpu))).await;
    serves_clients_apart(cluster, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_tls_the_role_decides_which_listener_is_the_right_one() {
    let place = Place::new("entrances");
    let ca = authority(&place);
    for name in ["n1", "n2", "n3"] {
        issue(&ca, &place, Role::Peer, name);
    }
    let cluster = Cluster::found(3, |name, cpu| {
        apart(NodeOptions { tls: Some(place.at(name)), ..options(name, cpu) })
    })
    .await;
    // A node's certificate opens no listener of clients, whatever is called there.
    let one = &cluster.nodes[0];
    let channel = channel(&place.at("n2"), one.client_address());
    let refused = super::calls::call(&channel, "hustings.v1.PeerService/Poll", false).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().ends_with(&format!("nodes reach this one at {}", one.address())));
    let scripts = issue(&ca, &place, Role::Client, "scripts");
    serves_clients_apart(cluster, Some(&scripts)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_tells_admins_of_every_service_and_nobody_else() {
    let place = Place::new("reflection");
    let ca = authority(&place);
    let node = super::alone(&issue(&ca, &place, Role::Peer, "a"), "a").await;
    let ask = async |role: Role, message: MessageRequest| {
        let channel = channel(&issue(&ca, &place, role, role.as_str()), node.address());
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let asked = tokio_stream::iter([request]);
        let answer = ServerReflectionClient::new(channel).server_reflection_info(asked).await?;
        let answer = answer.into_inner().message().await?.unwrap();
        Ok::<_, tonic::Status>(answer.message_response.unwrap())
    };
    let list = || MessageRequest::ListServices(String::new());
    let MessageResponse::ListServicesResponse(listed) = ask(Role::Admin, list()).await.unwrap()
    else {
        panic!("no list")
    };
    let names: BTreeSet<&str> = listed.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["ClientService", "PeerService", "BlobService"] {
        assert!(names.contains(format!("hustings.v1.{name}").as_str()), "{names:?}");
    }
    assert!(names.contains("grpc.health.v1.Health"), "{names:?}");
    let wanted = MessageRequest::FileContainingSymbol("hustings.v1.ClientService".to_owned());
    let MessageResponse::FileDescriptorResponse(file) = ask(Role::Admin, wanted).await.unwrap()
    else {
        panic!("no file")
    };
    assert!(!file.file_descriptor_proto.is_empty());
    for role in [Role::Client, Role::Peer] {
        let refused = ask(role, list()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role:?}");
    }
    node.abort();
}

#[tokio::test]
async fn a_clients_listener_keeps_the_rules_of_a_nodes() {
    let place = Place::new("doors");
    let ca = authority(&place);
    let folder = issue(&ca, &place, Role::Peer, "a");
    let door = |listen: &str, advertise: Option<&str>| {
        Some(ClientDoor { listen: listen.to_owned(), advertise: advertise.map(str::to_owned) })
    };
    let bind = async |options: NodeOptions| {
        hustings::node::Node::bind(options).await.err().unwrap().to_string()
    };
    let beyond = NodeOptions { clients: door("0.0.0.0:0", None), ..options("a", 0.5) };
    assert!(bind(beyond).await.contains("TLS"));
    let everywhere = NodeOptions { clients: door("0.0.0.0:0", None), ..secret(&folder, "a") };
    assert!(bind(everywhere).await.contains("here or as advertise_clients"));
    let unnamed = door("127.0.0.1:0", Some("far.example:7401"));
    let unnamed = NodeOptions { clients: unnamed, ..secret(&folder, "a") };
    assert!(bind(unnamed).await.contains("not made for far.example"));
}
