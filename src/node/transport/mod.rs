//! How nodes reach each other. `Peers` is the raft plane's door; gRPC stands behind it, or a simulated network.

pub mod client_service;
pub mod forward;
pub mod grpc_peers;
pub mod peer_service;
pub mod peers;
pub mod server;
pub mod status;
pub mod wire;
pub mod wire_raft;
