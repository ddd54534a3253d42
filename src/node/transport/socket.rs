//! How connections to other nodes are opened, and when a silent one is given up.
//!
//! A dead host is noticed by what it does not acknowledge: the kernel waits [`UNACKNOWLEDGED`] for that, and costs an
//! idle connection nothing. The pings of HTTP/2, which wake both ends, are left to connections on which nothing flows.

use hyper_util::client::legacy::connect::HttpConnector;
use std::time::Duration;
use tonic::transport::Endpoint;

/// A connection whose bytes stay unacknowledged for so long is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);
/// How often an idle connection is probed, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TTL: Duration = Duration::from_secs(2);

/// Opens sockets.
pub fn connector(connect: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

/// `endpoint`, with windows of `stream` bytes and twice as many for all its streams, and a probe when it is idle.
pub fn tune(endpoint: Endpoint, connect: Duration, stream: u32) -> Endpoint {
    endpoint
        .connect_timeout(connect)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(2 * stream)
        .http2_keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(PROBE_TTL)
        .keep_alive_while_idle(true)
}
