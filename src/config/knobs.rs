//! Every numeric knob by name: its meaning, its bounds, how it is read and written.

use super::Config;
use std::time::Duration;

/// One numeric knob: its full name, bounds and access.
pub struct Knob {
    /// `section.name_unit`, as Python and TOML spell it.
    pub name: &'static str,
    /// Meaning, for `hustings config show`.
    pub doc: &'static str,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Reads it.
    pub get: fn(&Config) -> f64,
    /// Writes it; the value was checked against the bounds.
    pub set: fn(&mut Config, f64),
}

macro_rules! knob {
    ($name:literal, $doc:literal, $min:expr, $max:expr, seconds $($field:ident).+) => {
        Knob { name: $name, doc: $doc, min: $min, max: $max,
               get: |c| c.$($field).+.as_secs_f64(),
               set: |c, v| c.$($field).+ = Duration::from_secs_f64(v) }
    };
    ($name:literal, $doc:literal, $min:expr, $max:expr, ratio $($field:ident).+) => {
        Knob { name: $name, doc: $doc, min: $min, max: $max,
               get: |c| c.$($field).+, set: |c, v| c.$($field).+ = v }
    };
    ($name:literal, $doc:literal, $min:expr, $max:expr, count $($field:ident).+) => {
        Knob { name: $name, doc: $doc, min: $min, max: $max,
               get: |c| c.$($field).+ as f64, set: |c, v| c.$($field).+ = v as _ }
    };
    ($name:literal, $doc:literal, flag $($field:ident).+) => {
        Knob { name: $name, doc: $doc, min: 0.0, max: 1.0,
               get: |c| f64::from(u8::from(c.$($field).+)), set: |c, v| c.$($field).+ = v != 0.0 }
    };
}

const DAY: f64 = 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;

/// The table of knobs.
pub const KNOBS: &[Knob] = &[
    knob!("election.heartbeat_s", "leader's heartbeat to its voters", 0.001, 10.0, seconds election.heartbeat),
    knob!("election.suspicion_min_s", "least silence that raises suspicion", 0.004, 60.0, seconds election.suspicion_min),
    knob!("election.suspicion_max_s", "most silence that is tolerated", 0.004, 600.0, seconds election.suspicion_max),
    knob!("election.rank_delay_s", "wait per rank before a candidate polls", 0.001, 10.0, seconds election.rank_delay),
    knob!("election.poll_patience_s", "how long a poll may be told to wait for a better candidate", 0.0, 10.0, seconds election.poll_patience),
    knob!("election.lease_s", "Raft's voter lease", 0.01, 600.0, seconds election.lease),
    knob!("election.score_period_s", "how often a node measures itself", 0.05, 60.0, seconds election.score_period),
    knob!("election.score_tau_s", "time constant of the score's moving average", 0.0, 3600.0, seconds election.score_tau),
    knob!("election.handover_margin", "how much better a voter must be; above 1 for the classic score only", 0.0, f64::INFINITY, ratio election.handover_margin),
    knob!("election.handover_floor", "the leader yields only below this score; above 1 for the classic score only", 0.0, f64::INFINITY, ratio election.handover_floor),
    knob!("election.handover_dwell_s", "how long it must stay so", 0.0, 3600.0, seconds election.handover_dwell),
    knob!("election.handover_cooldown_s", "least time between two handovers, doubling", 0.0, DAY, seconds election.handover_cooldown),
    knob!("election.handover_doublings", "how often the cool-down doubles at most", 0.0, 16.0, count election.handover_doublings),
    knob!("election.plain", "plain randomised Raft: the library's own timers and pre-vote-less elections; no ranks, no poll, no handover by score", flag election.plain),
    knob!("score.cpu", "weight of available CPU", 0.0, 1e6, ratio score.cpu),
    knob!("score.memory", "weight of available memory", 0.0, 1e6, ratio score.memory),
    knob!("score.uptime", "weight of uptime", 0.0, 1e6, ratio score.uptime),
    knob!("score.jitter", "size of the tie-breaking jitter", 0.0, 1.0, ratio score.jitter),
    knob!("score.classic", "use the classic, unbounded formula", flag score.classic),
    knob!("steal.reach", "greatest distance between victim and thief", 0.001, f64::INFINITY, ratio steal.reach),
    knob!("steal.cooldown_s", "least time between two requests of one thief", 0.0, 3600.0, seconds steal.cooldown),
    knob!("steal.cpu_floor", "how idle a thief's CPU must be", 0.0, 1.0, ratio steal.cpu_floor),
    knob!("steal.batch", "most tasks moved by one steal", 1.0, 1024.0, count steal.batch),
    knob!("steal.per_task", "most steals of one task", 0.0, 1000.0, count steal.per_task),
    knob!("steal.profit", "how many times its cost a steal must spare its tasks; 0: always worth it", 0.0, 1e6, ratio steal.profit),
    knob!("steal.random_victim", "a random victim within reach, not the one with the most work", flag steal.random_victim),
    knob!("assign_reach", "how far the leader may assign", 0.001, f64::INFINITY, ratio assign_reach),
    knob!("speculate", "attempts of idempotent tasks that take too long get a copy elsewhere; the first to end counts", flag speculate),
    knob!("limits.queued_tasks", "unfinished tasks in the cluster", 1.0, 1e8, count limits.queued_tasks),
    knob!("limits.queued_bytes", "bytes of unfinished tasks", 1024.0, 1024.0 * GIB, count limits.queued_bytes),
    knob!("limits.payload_bytes", "arguments or result of one task that travel in the log", 16.0, 2_097_152.0, count limits.payload_bytes),
    knob!("limits.blob_bytes", "arguments or result of one task that travel beside the log", 1024.0, GIB, count limits.blob_bytes),
    knob!("limits.blobs_bytes", "bytes of all those a voter holds", 1024.0, 1024.0 * GIB, count limits.blobs_bytes),
    knob!("limits.function_bytes", "one function's pickled body", 16.0, 2_097_152.0, count limits.function_bytes),
    knob!("limits.functions", "registered functions", 1.0, 1e6, count limits.functions),
    knob!("limits.message_bytes", "one gRPC message", 65_536.0, 67_108_864.0, count limits.message_bytes),
    knob!("limits.outcomes", "outcomes kept unacknowledged", 1.0, 1e8, count limits.outcomes),
    knob!("limits.outcome_bytes", "their bytes", 1024.0, 1024.0 * GIB, count limits.outcome_bytes),
    knob!("limits.outcome_ttl_s", "how long an unacknowledged outcome is kept", 1.0, 30.0 * DAY, seconds limits.outcome_ttl),
    knob!("limits.id_memory_s", "how old a task's id may be to be accepted, and how long it is remembered", 1.0, 365.0 * DAY, seconds limits.id_memory),
    knob!("limits.remembered_ids", "finished tasks' ids remembered at most", 1.0, 1e9, count limits.remembered_ids),
    knob!("limits.events", "records each node keeps", 100.0, 1e7, count limits.events),
    knob!("limits.node_queue", "assigned tasks per node", 1.0, 1e6, count limits.node_queue),
    knob!("limits.crash_budget", "runner or node deaths one task may cause", 1.0, 1000.0, count limits.crash_budget),
    knob!("limits.worker_lease_s", "silence after which a worker's tasks are reassigned", 0.05, 3600.0, seconds limits.worker_lease),
    knob!("limits.members", "members of a cluster", 1.0, 1e5, count limits.members),
    knob!("limits.copies_ratio", "share of all slots that copies of stragglers take at once; one is always allowed", 0.0, 1.0, ratio limits.copies_ratio),
    knob!("limits.log_entries", "log entries after which a snapshot is taken", 100.0, 1e7, count limits.log_entries),
    knob!("limits.log_bytes", "bytes of log entries after which a snapshot is taken", 65_536.0, 64.0 * GIB, count limits.log_bytes),
    knob!("limits.sessions", "client sessions a node serves at once", 1.0, 1e6, count limits.sessions),
    knob!("limits.task_output_bytes", "the last an attempt printed and logged, kept with its outcome; 0: nothing", 0.0, 32_768.0, count limits.task_output_bytes),
    knob!("limits.stream_items", "items of one generator held until they are read", 1.0, 65_536.0, count limits.stream_items),
    knob!("limits.stream_bytes", "their bytes, hence also those of one item", 1024.0, 16_777_216.0, count limits.stream_bytes),
    knob!("limits.stream_idle_s", "how long a generator waits for a sign of its reader", 5.0, DAY, seconds limits.stream_idle),
];
