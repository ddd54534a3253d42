//! What a node measures about itself, already dimensionless, and where it stands.

use serde::{Deserialize, Serialize};

/// One sample of a node's resources. Ratios are in [0, 1]; 1 is idle or plentiful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Idle share of the CPU this node may use (host idle, quota headroom, stalls).
    pub cpu_available: f64,
    /// Available memory, saturating: 1 at a quarter free, 0 at 3 %.
    pub memory_available: f64,
    /// Seconds since this node started.
    pub uptime_s: f64,
    /// Raw figures for the classic score: CPU percent in use, available MiB.
    pub cpu_percent: f64,
    /// Available memory in MiB.
    pub available_mb: f64,
    /// Given by `loads=`, not measured.
    pub synthetic: bool,
    /// The share of the CPU this node's own tasks use: a thief counts it as idle. Nobody else is told.
    pub tasks_cpu: f64,
}

/// Where a node stands; distance limits the task plane only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// First coordinate.
    pub x: f64,
    /// Second coordinate.
    pub y: f64,
}

impl Position {
    /// Coordinates are less than this.
    pub const BOUND: f64 = 1e12;

    /// Euclidean distance.
    pub fn distance(&self, other: &Position) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}
