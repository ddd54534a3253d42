//! The exact words of each refusal; `docs/security.md` has them in a table.

use super::{Place, alone, authority, issue, issue_for, secret};
use crate::cluster::{PATIENCE, for_condition};
use hustings::error::Error;
use hustings::node::client::{Client, ClientOptions};
use hustings::node::security::authority::{Authority, Subject};
use hustings::node::security::{Role, Tls, files};
use hustings::node::transport::dialling::Dialler;
use hustings::node::{Entry, Node, NodeOptions};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Endpoint;

async fn connect(address: &str, tls: Option<PathBuf>) -> Result<Client, Error> {
    let options = ClientOptions { timeout: PATIENCE, watch: false, tls, ..Default::default() };
    Client::connect(&[address.to_owned()], options).await
}

/// What a caller hears that trusts the authority in `ca` and shows the certificate in `shown`, unchecked.
async fn hears(address: &str, ca: &Path, shown: Option<&Path>) -> String {
    let mut roots = RootCertStore::empty();
    for certificate in files::read_certificates(&ca.join(files::CA), "").unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(folder) => {
            let chain: Vec<CertificateDer<'static>> =
                files::read_certificates(&folder.join(files::CERT), "").unwrap();
            let key = files::read_key(&folder.join(files::KEY), "").unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = Dialler::fixed(Arc::new(config)).lazily(&endpoint);
    let mut client =
        hustings::node::proto::client_service_client::ClientServiceClient::new(channel);
    let status = client.status(hustings::node::proto::StatusRequest::default()).await.unwrap_err();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&status);
    let mut text = status.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// Makes one file of a folder unusable.
type Break<'a> = &'a dyn Fn(&Path);

fn refusal(connected: Result<Client, Error>) -> String {
    match connected.map(drop) {
        Err(error @ (Error::Auth { .. } | Error::TlsConfig { .. })) => error.to_string(),
        other => panic!("not refused for its credentials: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_that_is_not_let_in_hears_why() {
    let (place, elsewhere) = (Place::new("admission"), Place::new("elsewhere"));
    let (ca, foreign) = (authority(&place), authority(&elsewhere));
    let node = alone(&issue(&ca, &place, Role::Peer, "a"), "a").await;
    let address = node.address();

    let text = refusal(connect(address, None).await);
    let said = "the node speaks TLS only; give tls=DIR (--tls DIR, HUSTINGS_TLS)";
    assert_eq!(text, format!("not admitted: {address}: {said}"));
    let text = hears(address, &place.at("ca"), None).await;
    assert!(text.contains("asks for a certificate and none was shown"), "{text}");

    let stranger = issue(&foreign, &elsewhere, Role::Client, "s");
    let text = refusal(connect(address, Some(stranger.clone())).await);
    assert!(text.contains("was issued by another authority than the ca.pem here"), "{text}");
    let text = hears(address, &place.at("ca"), Some(&stranger)).await;
    assert!(text.contains("the node does not know the authority"), "{text}");

    let old = issue_for(&ca, &place.at("old"), Role::Client, "old", Duration::ZERO);
    // Certificates count whole seconds.
    for_condition("its end", async || Tls::open(&old).is_err().then_some(())).await;
    let text = refusal(connect(address, Some(old.clone())).await);
    assert!(text.contains("old/cert.pem expired on 2"), "{text}");
    let text = hears(address, &place.at("ca"), Some(&old)).await;
    assert!(text.contains("for the node this certificate has expired"), "{text}");

    let peer = issue(&ca, &place, Role::Peer, "b");
    let text = refusal(connect(address, Some(peer)).await);
    assert!(text.contains("a script needs one of: hustings certs client|admin"), "{text}");
    let script = connect(address, Some(issue(&ca, &place, Role::Client, "c"))).await.unwrap();
    let drained = script.drain(address, Duration::ZERO).await.unwrap_err().to_string();
    let said = "client \"c\" may not call Drain; that needs one of: admin";
    assert!(drained.contains(said) && drained.starts_with("not admitted: "), "{drained}");
    let moved = script.handover(None, PATIENCE).await.unwrap_err();
    assert!(matches!(&moved, Error::Auth { problem } if problem.contains("Handover")), "{moved}");
    script.close().await;
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_trusted_at_the_addresses_of_its_certificate_and_only_as_a_node() {
    let place = Place::new("hosts");
    let ca = authority(&place);
    let folder = place.at("far");
    let hosts = vec!["10.9.9.9".to_owned(), "far.example".to_owned()];
    let lasts = Duration::from_secs(3_600);
    let subject = Subject { role: Role::Peer, name: "far".into(), hosts, lasts };
    ca.issue(&subject, &folder).unwrap();
    let error = Node::bind(secret(&folder, "far")).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("it is not made for 127.0.0.1, where this node is reached"), "{error}");
    let node = alone(&issue(&ca, &place, Role::Peer, "near"), "near").await;
    let script = issue(&ca, &place, Role::Client, "c");
    let elsewhere = node.address().replace("127.0.0.1", "localhost");
    let text = refusal(connect(&elsewhere, Some(script)).await);
    let said = "is not made for localhost; make it with: hustings certs node";
    assert!(text.contains(said), "{text}");
    node.abort();

    let everywhere = NodeOptions { listen: "0.0.0.0:0".into(), ..secret(&folder, "far") };
    let error = Node::bind(everywhere).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("here or as advertise"), "{error}");
    let named = NodeOptions {
        listen: "0.0.0.0:0".into(),
        advertise: Some("far.example:7400".into()),
        ..secret(&folder, "far")
    };
    let node = Node::bind(named).await.unwrap();
    assert_eq!(node.address(), "far.example:7400");
    node.abort();
    let unnamed =
        NodeOptions { advertise: Some("else.example:1".into()), ..secret(&folder, "far") };
    let error = Node::bind(unnamed).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("it is not made for else.example"), "{error}");

    let admin = issue(&ca, &place, Role::Admin, "x");
    let error = Node::bind(secret(&admin, "x")).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("a node needs one of: hustings certs node"), "{error}");
    let error = Node::bind(secret(&folder, "other")).await.map(drop).unwrap_err().to_string();
    assert!(error.starts_with("name: \"other\" is not the name in"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_certificate_hears_that_a_node_speaks_no_tls() {
    let place = Place::new("plain");
    let ca = authority(&place);
    let node = Node::bind(crate::cluster::options("a", 0.5)).await.unwrap();
    node.enter(Entry { founders: vec![node.address().to_owned()], ..Entry::default() }).unwrap();
    let text = refusal(connect(node.address(), Some(issue(&ca, &place, Role::Client, "c"))).await);
    assert!(text.contains("the node does not speak TLS"), "{text}");
    node.abort();
}

#[test]
fn each_file_that_cannot_be_used_is_named_with_its_remedy() {
    let (place, elsewhere) = (Place::new("files"), Place::new("files-elsewhere"));
    let (ca, foreign) = (authority(&place), authority(&elsewhere));
    let other = issue(&foreign, &elsewhere, Role::Client, "o");
    let broken = |name: &str, break_it: Break<'_>| {
        let folder = issue(&ca, &place, Role::Client, name);
        Tls::open(&folder).unwrap();
        break_it(&folder);
        let error = Tls::open(&folder).unwrap_err();
        assert!(matches!(error, Error::TlsConfig { .. }), "{error}");
        error.to_string()
    };
    let mode = |folder: &Path| {
        fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    };
    let swap = |file: &'static str| {
        let other = other.clone();
        move |folder: &Path| {
            fs::copy(other.join(file), folder.join(file)).unwrap();
        }
    };
    let write = |file: &'static str, text: &'static str| {
        move |folder: &Path| fs::write(folder.join(file), text).unwrap()
    };
    let remove =
        |file: &'static str| move |folder: &Path| fs::remove_file(folder.join(file)).unwrap();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cases: [(&str, Break<'_>, &str); 8] = [
        ("mode", &mode, "mode 0644: others can read this key; chmod 600"),
        ("missing", &remove("key.pem"), "key.pem: there is no such file; make it with"),
        ("no-ca", &remove("ca.pem"), "ca.pem: there is no such file"),
        ("mismatch", &swap("key.pem"), "it is not the key of"),
        ("issuer", &swap("ca.pem"), "it was not issued by the authority in"),
        ("locked", &write("key.pem", locked), "protected by a password"),
        ("empty", &write("cert.pem", ""), "there is no certificate in it"),
        ("noise", &write("key.pem", "noise"), "there is no private key in PEM form in it"),
    ];
    for (name, break_it, expected) in cases {
        let text = broken(name, break_it);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn an_authority_is_made_once_and_refuses_what_cannot_be() {
    let place = Place::new("authority");
    let ca = authority(&place);
    let again = Authority::create(&place.at("ca")).map(drop).unwrap_err().to_string();
    assert!(again.contains("there is an authority already"), "{again}");
    for file in ["ca.key", "ca.pem"] {
        let mode = fs::metadata(place.at("ca").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(place.at("ca")).unwrap().permissions().mode() & 0o777, 0o700);
    let host = |host: &str| vec![host.to_owned()];
    for (name, hosts, days, expected) in [
        ("a/b", host("10.0.0.1"), 1, "cannot stand in a certificate"),
        ("a", Vec::new(), 1, "hosts: none given"),
        ("a", host("0.0.0.0"), 1, "is every address"),
        ("a", host("10.0.0.1:7400"), 1, "give it without a port"),
        ("a", host("*.example"), 1, "is no IP address and no DNS name"),
        ("a", host("10.0.0.1"), 0, "days: 0 is outside 1 to 3650"),
        ("a", host("10.0.0.1"), 9_999, "days: 9999 is outside 1 to 3650"),
    ] {
        let error = Subject::new(Role::Peer, name, &hosts, days).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        !format!("{:?}", Tls::open(&issue(&ca, &place, Role::Client, "c"))).contains("PRIVATE")
    );
}
