//! The listener and what stands behind it.

use super::blob_service::Blobs;
use super::client_service::Client;
use super::peer_service::Peer;
use crate::error::{Error, Result};
use crate::node::proto::blob_service_server::BlobServiceServer;
use crate::node::proto::client_service_server::ClientServiceServer;
use crate::node::proto::peer_service_server::PeerServiceServer;
use crate::node::shared::Shared;
use futures::StreamExt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// HTTP/2 window of one stream.
const WINDOW: u32 = 2 << 20;
/// Streams one connection may hold open.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Pause after a connection could not be accepted: without descriptors the next cannot be either, and asking at once
/// would take a whole core.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Bytes of headers of one call.
const HEADER_BYTES: u32 = 16 << 10;

/// Binds `listen`; only loopback until there is TLS.
pub async fn bind(listen: &str) -> Result<TcpListener> {
    let address = resolve(listen)?;
    if !address.ip().is_loopback() {
        return Err(Error::InsecureBind { address: listen.to_owned() });
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

/// Serves until the future is dropped.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
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
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).then(|socket| async {
        if socket.is_err() {
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
        socket
    });
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(health)
        .add_service(peer)
        .add_service(client)
        .add_service(BlobServiceServer::new(Blobs::new(shared.clone())))
        .serve_with_incoming(incoming);
    // It ends only with the node; an accept error is retried inside.
    let _ = server.await;
}
