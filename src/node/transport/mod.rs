//! How nodes reach each other. `Peers` is the raft plane's door; gRPC stands behind it, or a simulated network.

pub mod grpc_peers;
pub mod peers;
pub mod wire_raft;
