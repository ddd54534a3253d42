//! A certificate that is renewed on disk is shown in the next handshake, without a restart; a broken one changes
//! nothing.

use super::{Place, alone, authority, issue};
use crate::cluster::{Cluster, for_condition, options, request};
use hustings::core::cluster::command::FunctionSource;
use hustings::node::client::{Client, ClientOptions};
use hustings::node::security::{Role, Tls};
use hustings::node::{Node, NodeOptions};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// The certificate that whoever listens at `address` shows.
async fn shown(tls: &Tls, address: &str) -> Vec<u8> {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls.current().client.clone());
    let stream = connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never() {
    let place = Place::new("renewal");
    let ca = authority(&place);
    let folder = issue(&ca, &place, Role::Peer, "a");
    let node = alone(&folder, "a").await;
    let tls = Tls::open(&issue(&ca, &place, Role::Client, "c")).unwrap();
    let first = shown(&tls, node.address()).await;
    assert_eq!(shown(&tls, node.address()).await, first);
    let client = ClientOptions { tls: Some(place.at("c")), ..ClientOptions::default() };
    let client = Client::connect(&[node.address().to_owned()], client).await.unwrap();

    issue(&ca, &place, Role::Peer, "a");
    let second = for_condition("the new certificate", async || {
        let now = shown(&tls, node.address()).await;
        (now != first).then_some(now)
    })
    .await;
    fs::write(folder.join("cert.pem"), "broken").unwrap();
    for_condition("a look at the broken certificate", async || {
        let fresh = Tls::open(&folder).is_err();
        let now = shown(&tls, node.address()).await;
        assert_eq!(now, second);
        fresh.then_some(())
    })
    .await;
    issue(&ca, &place, Role::Peer, "a");
    for_condition("the third certificate", async || {
        (shown(&tls, node.address()).await != second).then_some(())
    })
    .await;
    // Whoever was connected all the time has noticed nothing.
    client.status(None, crate::cluster::PATIENCE).await.unwrap();
    client.close().await;
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_inside_tls_elects_works_and_survives_its_leader() {
    let place = Place::new("cluster");
    let ca = Arc::new(authority(&place));
    for name in ["n1", "n2", "n3"] {
        issue(&ca, &place, Role::Peer, name);
    }
    let folder = |name: &str| -> PathBuf { place.at(name) };
    let made = |name: &str, cpu| NodeOptions { tls: Some(folder(name)), ..options(name, cpu) };
    let cluster = Cluster::found(3, made).await;
    let tls = Some(issue(&ca, &place, Role::Client, "script"));
    let options = ClientOptions { tls, ..ClientOptions::default() };
    let client = Client::connect(&cluster.addresses(), options).await.unwrap();
    let hash = client.function("m:f", FunctionSource::Reference("m:f".to_owned())).unwrap();
    let leader: Arc<Node> = cluster.leader().await;
    let mut handles = Vec::new();
    for i in 0..6 {
        if i == 3 {
            leader.abort();
        }
        handles.push(client.submit(request("m:f", Some(hash)), None).unwrap());
    }
    for handle in handles {
        let waiting = handle.clone();
        let patience = crate::cluster::PATIENCE;
        let settled = tokio::task::spawn_blocking(move || waiting.wait(patience)).await.unwrap();
        assert!(settled, "no outcome in time: {:?}", handle.phase());
    }
    let status = cluster.leader().await.status().await.unwrap();
    assert_eq!(status.counters.unwrap().accepted, 6);
    client.close().await;
}
