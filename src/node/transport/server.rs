//! The listener and what stands behind it.

use super::access::{Entrance, GateLayer};
use super::blob_service::Blobs;
use super::client_service::Client;
use super::doorway::{Doorway, Secrecy};
use super::peer_service::Peer;
use crate::error::{Error, Result};
use crate::node::proto::blob_service_server::BlobServiceServer;
use crate::node::proto::client_service_server::ClientServiceServer;
use crate::node::proto::peer_service_server::PeerServiceServer;
use crate::node::security::Tls;
use crate::node::shared::Shared;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Server;

/// HTTP/2 window of one stream.
const WINDOW: u32 = 2 << 20;
/// Streams one connection may hold open.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Bytes of headers of one call.
const HEADER_BYTES: u32 = 16 << 10;
/// How often a connection on which nothing comes in is probed, and how long the answer may take: then it is closed.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_TTL: Duration = Duration::from_secs(20);
/// Streams that a caller has opened and reset before they were looked at: past that its connection is closed.
const HASTY_RESETS: usize = 64;
/// Streams that were reset for what the caller did wrong: past that its connection is closed.
const FAULTY_RESETS: usize = 1_024;

/// Binds `listen`; beyond loopback only inside TLS, and every address only where others are told another one, which
/// the field `advertise` says where there is one.
pub async fn bind(
    listen: &str,
    secret: bool,
    advertised: bool,
    advertise: Option<&str>,
) -> Result<TcpListener> {
    let address = resolve(listen)?;
    if !secret && !address.ip().is_loopback() {
        return Err(Error::InsecureBind { address: listen.to_owned() });
    }
    if address.ip().is_unspecified() && !advertised {
        let or_there = advertise.map(|field| format!(" or as {field}")).unwrap_or_default();
        let problem = format!(
            "it is every address; give the one under which the others reach this node, here{or_there}"
        );
        return Err(Error::InvalidAddress { value: listen.to_owned(), problem });
    }
    TcpListener::bind(address)
        .await
        .map_err(|e| Error::Bind { address: listen.to_owned(), reason: e.to_string() })
}

/// The address behind `host:port`.
pub fn resolve(listen: &str) -> Result<SocketAddr> {
    let refuse = |problem: &str| Error::InvalidAddress {
        value: listen.to_owned(),
        problem: problem.to_owned(),
    };
    if listen.contains("://") {
        return Err(refuse("it must not carry a scheme"));
    }
    let Some((host, port)) = listen.rsplit_once(':') else {
        return Err(refuse("the port is missing"));
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(refuse("IPv6 needs brackets"));
    }
    if port.parse::<u16>().is_err() {
        return Err(refuse("the port must be a number from 0 to 65535"));
    }
    listen
        .to_socket_addrs()
        .map_err(|e| refuse(&e.to_string()))?
        .next()
        .ok_or_else(|| refuse("it has no address"))
}

/// Serves whom `entrance` is for until the future is dropped.
pub async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    entrance: Entrance,
) {
    let bytes = shared.config.limits.message_bytes as usize;
    let peer_bytes = super::peer_message_bytes(&shared.config.limits);
    let peer = PeerServiceServer::new(Peer::new(shared.clone()))
        .max_decoding_message_size(peer_bytes)
        .max_encoding_message_size(peer_bytes);
    let client = ClientServiceServer::new(Client::new(shared.clone()))
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ClientServiceServer<Client>>().await;
    reporter.set_serving::<PeerServiceServer<Peer>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::node::proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let secrecy = tls.map(|tls| Arc::new(move || tls.current().server.clone()) as Secrecy);
    let incoming = Doorway::NODE.open(listener, secrecy);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(PROBE_EVERY))
        .http2_keepalive_timeout(Some(PROBE_TTL))
        .http2_max_pending_accept_reset_streams(Some(HASTY_RESETS))
        .http2_max_local_error_reset_streams(Some(FAULTY_RESETS))
        .layer(GateLayer(entrance))
        .add_service(health)
        .add_optional_service(reflection.ok())
        .add_service(peer)
        .add_service(client)
        .add_service(BlobServiceServer::new(Blobs::new(shared.clone())))
        .serve_with_incoming(incoming);
    // It ends only with the node; an accept error is retried inside.
    let _ = server.await;
}
