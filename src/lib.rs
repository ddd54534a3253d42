//! **Core decides, node acts, sim imagines, python speaks.**
//!
//! ```text
//!   script ──▶ python/ ──▶ node/ ──events──▶ core/        core/   elections, the shared truth, placement, stealing: pure
//!                           ▲  ◀──effects───               node/   sockets, clocks, processes, openraft: performs, never decides
//!   another node ──gRPC─────┘                              sim/    the same core and node under virtual time
//!                                                          python/ pyo3: converts and forwards
//! ```
//!
//! Who may name whom: `python -> sim -> node -> core`, never upward; `config` and `error` are for all.
//! `ARCHITECTURE.md` is the longer map.

pub mod config;
pub mod core;
pub mod error;
pub mod node;
pub mod sim;

#[cfg(feature = "python")]
mod python;
