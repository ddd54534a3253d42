//! The types generated from `proto/hustings/v1`.

#![allow(missing_docs, clippy::all, clippy::unwrap_used)]

tonic::include_proto!("hustings.v1");

/// All of `proto/` as a `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hustings.v1.descriptors"));
