//! Newtypes for everything that is named by a number, so that no two kinds are mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A Raft term.
pub type Term = u64;
/// A position in the replicated log.
pub type LogIndex = u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl $name {
            /// Big-endian bytes, as on the wire.
            pub fn to_bytes(self) -> [u8; $bytes] {
                self.0.to_be_bytes()
            }

            /// The id in `bytes`, if there are exactly as many as it has.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(|b| Self(<$inner>::from_be_bytes(b)))
            }
        }
    };
}

id!(
    /// A node, chosen at random when it starts; never reused after its state is lost.
    NodeId(u64), 8
);
id!(
    /// A task; by preference a UUIDv7, so that ids carry their time (RFC 9562, section 5.7).
    TaskId(u128), 16
);
id!(
    /// A client's session: who is told the outcomes.
    SessionId(u128), 16
);
id!(
    /// A cluster, derived from its founders.
    ClusterId(u128), 16
);
id!(
    /// The content of a function: kind, name and body.
    FunctionHash(u128), 16
);

/// The content of a blob: its SHA-256 (FIPS 180-4).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BlobId(pub [u8; 32]);

/// A blob by its content and length.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BlobRef {
    /// Its content.
    pub id: BlobId,
    /// Bytes of it.
    pub size: u64,
}

impl TaskId {
    /// When the id was made, in milliseconds since 1970, if it says so: a UUID of version 7.
    pub fn time_ms(self) -> Option<u64> {
        let version_and_variant = ((self.0 >> 76) & 0xf, (self.0 >> 62) & 0b11);
        (version_and_variant == (7, 0b10)).then_some((self.0 >> 80) as u64)
    }
}

/// The fencing token of one attempt: `(log index of its assignment << 16) + position in the entry` (design D5c).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Token(pub u64);

impl Token {
    /// Commands one log entry may hold, so that positions fit.
    pub const MAX_PER_ENTRY: usize = 1 << 16;

    /// The token of the command at `position` of the entry at `index`.
    pub fn new(index: LogIndex, position: usize) -> Self {
        debug_assert!(position < Self::MAX_PER_ENTRY);
        Token((index << 16) | position as u64)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TaskId {
    /// The UUID form, 8-4-4-4-12.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xffff_ffff_ffff
        )
    }
}
