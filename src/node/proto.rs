//! The types generated from `proto/hustings/v1`.

#![allow(missing_docs, clippy::all, clippy::unwrap_used)]

tonic::include_proto!("hustings.v1");
