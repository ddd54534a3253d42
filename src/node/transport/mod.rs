//! How nodes reach each other. `Peers` is the raft plane's door; gRPC stands behind it, or a simulated network.

pub mod access;
pub mod admission;
mod beats;
pub mod blob_calls;
pub mod blob_service;
pub mod carried;
pub mod client_service;
mod client_streams;
pub mod decoders;
pub mod dialling;
pub mod doorway;
pub mod enrolling;
pub mod enrolment_service;
pub mod envelope;
pub mod fault_service;
pub mod faulty_peers;
pub mod forward;
pub mod gate;
pub mod grpc_peers;
pub mod intake;
pub mod lines;
pub mod links;
pub mod lives;
pub mod peer_service;
pub mod peers;
pub mod server;
pub mod sessions;
pub mod socket;
pub mod status;
mod stream_service;
pub mod succession;
pub mod upstream;
pub mod wire;
pub mod wire_needs;
pub mod wire_raft;
pub mod wire_trace;

/// Least bound on one message between nodes: a log entry of a mebibyte and its neighbours must fit, whatever
/// `limits.message_bytes` says to clients.
const MIN_PEER_MESSAGE: usize = 8 << 20;

/// The bound on one message between nodes.
pub fn peer_message_bytes(limits: &crate::config::Limits) -> usize {
    (limits.message_bytes as usize).max(MIN_PEER_MESSAGE)
}
