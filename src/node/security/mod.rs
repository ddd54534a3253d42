//! Who may speak with this node: identities inside certificates, the authority that issues them, and TLS from files
//! that are read again when they change. Knows certificates, not gRPC: `transport/` asks it.
//!
//! ```text
//!   authority ──issues──▶ ca.pem cert.pem key.pem ──material──▶ a TLS 1.3 configuration for each end
//!       ▲                                                  verify: the same authority, cluster and role
//!   tokens: one node, once, for a quarter of an hour
//! ```

pub mod authority;
pub mod enrolment;
pub mod files;
pub mod identity;
pub mod material;
pub mod tokens;
pub mod verify;

pub use identity::{Identity, Role};
pub use material::Tls;
