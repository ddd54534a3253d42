//! Join tokens: once, for a quarter of an hour, for one name, from the cluster that the token names.

use super::{Place, alone, authority, issue, secret};
use crate::cluster::PATIENCE;
use hustings::error::Error;
use hustings::node::security::authority::{Authority, Subject, hex};
use hustings::node::security::tokens::{self, LIFE, REFUSED, Token};
use hustings::node::security::{Role, Tls};
use hustings::node::transport::enrolling::enrol;
use hustings::node::{Enrolment, Entry, Node, NodeOptions};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

fn subject(name: &str) -> Subject {
    Subject::new(Role::Peer, name, &["127.0.0.1".to_owned()], 30).unwrap()
}

/// A node that admits, and where.
async fn admitting(place: &Place, ca: &Authority) -> (Arc<Node>, String) {
    let folder = issue(ca, place, Role::Peer, "a");
    let listen = free_port();
    let enrolment = Some(Enrolment { listen: listen.clone(), authority: place.at("ca") });
    let node = Node::bind(NodeOptions { enrolment, ..secret(&folder, "a") }).await.unwrap();
    node.enter(Entry { founders: vec![node.address().to_owned()], ..Entry::default() }).unwrap();
    node.wait_ready(PATIENCE).await.unwrap();
    (node, listen)
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_one_node_in_once_and_every_other_use_sounds_the_same() {
    let place = Place::new("joining");
    let ca = authority(&place);
    let (node, desk) = admitting(&place, &ca).await;
    let token = tokens::create(&ca, &subject("e"), LIFE).unwrap().reveal();

    let folder = place.at("e");
    enrol(&desk, &token, &folder).await.unwrap();
    assert_eq!(Tls::open(&folder).unwrap().current().me.name, "e");
    let joiner = Node::bind(secret(&folder, "e")).await.unwrap();
    joiner.enter(Entry { join: vec![node.address().to_owned()], ..Entry::default() }).unwrap();
    joiner.wait_ready(PATIENCE).await.unwrap();

    let old = tokens::create(&ca, &subject("e"), Duration::ZERO).unwrap().reveal();
    let good = tokens::create(&ca, &subject("f"), LIFE).unwrap().reveal();
    let mut guessed = good.clone().into_bytes();
    let at = good.len() - 70; // inside the secret
    guessed[at] = if guessed[at] == b'0' { b'1' } else { b'0' };
    let guessed = String::from_utf8(guessed).unwrap();
    for (what, token) in [("used", &token), ("expired", &old), ("guessed", &guessed)] {
        let error = enrol(&desk, token, &place.at("never")).await.unwrap_err();
        assert!(matches!(&error, Error::Auth { problem } if problem == REFUSED), "{what}: {error}");
        assert!(!place.at("never").exists(), "{what}");
    }
    // The guess has not used up the true one.
    enrol(&desk, &good, &place.at("f")).await.unwrap();
    joiner.abort();
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_only_shown_to_the_cluster_it_names() {
    let (place, elsewhere) = (Place::new("joining-a"), Place::new("joining-b"));
    let (ca, foreign) = (authority(&place), authority(&elsewhere));
    let (node, desk) = admitting(&place, &ca).await;
    let token = tokens::create(&foreign, &subject("e"), LIFE).unwrap().reveal();
    let error = enrol(&desk, &token, &place.at("e")).await.unwrap_err();
    let said = "whoever answers there is not of the cluster that the token is for";
    assert!(matches!(&error, Error::Auth { problem } if problem.contains(said)), "{error}");
    // The listener for tokens serves nothing else, and the node's own does not take tokens.
    let script = issue(&ca, &place, Role::Client, "c");
    let own = super::calls::channel(&script, &desk);
    let mut client = hustings::node::proto::client_service_client::ClientServiceClient::new(own);
    let status = client.status(hustings::node::proto::StatusRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_limited() {
    let place = Place::new("guesses");
    let ca = authority(&place);
    let (node, desk) = admitting(&place, &ca).await;
    use hustings::node::proto::enrolment_service_client::EnrolmentServiceClient;
    use hustings::node::transport::dialling::Dialler;
    let token = tokens::create(&ca, &subject("e"), LIFE).unwrap();
    let config = hustings::node::security::enrolment::client_config(&token).unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{desk}")).unwrap();
    let channel = Dialler::fixed(Arc::new(config)).lazily(&endpoint);
    let mut codes = Vec::new();
    for _ in 0..40 {
        let request = hustings::node::proto::EnrolRequest::default();
        let answer = EnrolmentServiceClient::new(channel.clone()).enrol(request).await;
        codes.push(answer.unwrap_err().code());
    }
    assert!(codes.contains(&tonic::Code::Unauthenticated), "{codes:?}");
    assert!(codes.contains(&tonic::Code::ResourceExhausted), "{codes:?}");
    node.abort();
}

#[test]
fn what_is_stored_and_printed_of_a_token_is_not_the_token() {
    let place = Place::new("stored");
    let ca = authority(&place);
    let token = tokens::create(&ca, &subject("e"), LIFE).unwrap();
    let secret = hex(token.secret());
    let stored = fs::read_dir(place.at("ca").join("tokens")).unwrap().flatten();
    let stored: Vec<String> =
        stored.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains(&secret) && stored[0].contains("name e"));
    assert!(token.reveal().contains(&secret) && !format!("{token:?}").contains(&secret));
    let cut = token.reveal().replace(&secret, &secret[1..]);
    let error = Token::parse(&cut).unwrap_err().to_string();
    assert!(error.contains("no join token") && !error.contains(&secret[1..]), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_admits_only_for_its_own_cluster_and_inside_tls() {
    let (place, elsewhere) = (Place::new("desk-a"), Place::new("desk-b"));
    let ca = authority(&place);
    let _foreign = authority(&elsewhere);
    let folder = issue(&ca, &place, Role::Peer, "a");
    let at = |authority| Some(Enrolment { listen: "127.0.0.1:0".to_owned(), authority });
    let wrong = NodeOptions { enrolment: at(elsewhere.at("ca")), ..secret(&folder, "a") };
    let error = Node::bind(wrong).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("it is the authority of cluster"), "{error}");
    let plain = NodeOptions { tls: None, enrolment: at(place.at("ca")), ..secret(&folder, "a") };
    let error = Node::bind(plain).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("this node has no certificate itself"), "{error}");
    let node = alone(&folder, "a").await;
    node.abort();
}
