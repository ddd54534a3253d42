//! Every knob once: meaning, unit, default, bounds. Python, TOML and the environment set them by name.

use crate::error::{Error, Result};
use std::time::Duration;

/// All knobs. `Config::default()` is the `lan` profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// When a leader is suspected, who campaigns when, when a leader yields.
    pub election: ElectionConfig,
    /// What makes a good leader.
    pub score: ScoreWeights,
    /// Who may take work from whom.
    pub steal: StealPolicy,
    /// How tasks are placed.
    pub placement: Placement,
    /// How far the leader may assign; infinite by default.
    pub assign_reach: f64,
    /// Bounds on everything.
    pub limits: Limits,
}

/// Election knobs (design section 3).
#[derive(Clone, Debug, PartialEq)]
pub struct ElectionConfig {
    /// Leader's heartbeat to its voters.
    pub heartbeat: Duration,
    /// Least silence that raises suspicion.
    pub suspicion_min: Duration,
    /// Most silence that is tolerated, however irregular the heartbeats were.
    pub suspicion_max: Duration,
    /// Wait per rank before a candidate polls.
    pub rank_delay: Duration,
    /// How long a voter may answer a poll with "wait, I know a better one".
    pub poll_patience: Duration,
    /// Raft's voter lease; also how long a leader without quorum still dispatches.
    pub lease: Duration,
    /// How often a node measures itself.
    pub score_period: Duration,
    /// Smoothing of the score (time constant of the moving average).
    pub score_tau: Duration,
    /// A better voter must be better by this much.
    pub handover_margin: f64,
    /// The leader yields only below this score.
    pub handover_floor: f64,
    /// ... for this long.
    pub handover_dwell: Duration,
    /// Least time between two handovers; doubles with each.
    pub handover_cooldown: Duration,
    /// How often the cool-down doubles at most.
    pub handover_doublings: u32,
    /// Plain randomised Raft: the library's own timers elect, the score has no say.
    pub plain: bool,
}

/// Weights of the score; normalised to a sum of 1.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreWeights {
    /// Weight of the available CPU.
    pub cpu: f64,
    /// Weight of the available memory.
    pub memory: f64,
    /// Weight of the uptime.
    pub uptime: f64,
    /// Size of the tie-breaking jitter, the same for all observers.
    pub jitter: f64,
    /// Use the classic, unbounded formula instead.
    pub classic: bool,
}

/// Stealing knobs.
#[derive(Clone, Debug, PartialEq)]
pub struct StealPolicy {
    /// Greatest distance between victim and thief.
    pub reach: f64,
    /// Least time between two requests of one thief.
    pub cooldown: Duration,
    /// A thief's CPU must be at least this idle, its own tasks not counted.
    pub cpu_floor: f64,
    /// Most tasks moved by one steal.
    pub batch: u32,
    /// Most steals of one task.
    pub per_task: u32,
}

/// How the leader places tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Keep tasks at the leader until a worker has a free place in its window.
    Window,
    /// A random eligible node, at once.
    Random,
}

/// Bounds on everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Unfinished tasks in the cluster.
    pub queued_tasks: u64,
    /// Bytes of unfinished tasks in the cluster.
    pub queued_bytes: u64,
    /// Arguments or result of one task.
    pub payload_bytes: u64,
    /// One function's pickled body.
    pub function_bytes: u64,
    /// Registered functions.
    pub functions: u64,
    /// One gRPC message.
    pub message_bytes: u64,
    /// Outcomes kept for submitters that did not acknowledge.
    pub outcomes: u64,
    /// Their bytes.
    pub outcome_bytes: u64,
    /// How long an unacknowledged outcome is kept.
    pub outcome_ttl: Duration,
    /// How long a finished task's id is remembered.
    pub id_memory: Duration,
    /// Records each node keeps.
    pub events: u64,
    /// Assigned tasks per node.
    pub node_queue: u64,
    /// Runner or node deaths one task may cause.
    pub crash_budget: u32,
    /// Silence after which a worker's tasks are reassigned.
    pub worker_lease: Duration,
    /// Members of a cluster.
    pub members: u64,
    /// Client sessions a node serves at once.
    pub sessions: u64,
    /// Log entries after which a snapshot is taken and the log is cut.
    pub log_entries: u64,
    /// Bytes of log entries after which a snapshot is taken and the log is cut. Memory and disk of a voter hold about
    /// twice that, and the state.
    pub log_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        Config {
            election: ElectionConfig {
                heartbeat: ms(20),
                suspicion_min: ms(120),
                suspicion_max: s(1),
                rank_delay: ms(8),
                poll_patience: ms(40),
                lease: ms(600),
                score_period: ms(250),
                score_tau: s(8),
                handover_margin: 0.25,
                handover_floor: 0.30,
                handover_dwell: s(5),
                handover_cooldown: s(60),
                handover_doublings: 4,
                plain: false,
            },
            score: ScoreWeights {
                cpu: 0.5,
                memory: 0.3,
                uptime: 0.2,
                jitter: 0.01,
                classic: false,
            },
            steal: StealPolicy {
                reach: 2.0,
                cooldown: ms(0),
                cpu_floor: 0.70,
                batch: 64,
                per_task: 5,
            },
            placement: Placement::Window,
            assign_reach: f64::INFINITY,
            limits: Limits {
                queued_tasks: 1_000_000,
                queued_bytes: 1 << 30,
                payload_bytes: 64 << 10,
                function_bytes: 1 << 20,
                functions: 10_000,
                message_bytes: 4 << 20,
                outcomes: 1_000_000,
                outcome_bytes: 1 << 30,
                outcome_ttl: s(15 * 60),
                id_memory: s(24 * 3600),
                events: 100_000,
                node_queue: 1_024,
                crash_budget: 3,
                worker_lease: s(3),
                members: 1_000,
                sessions: 10_000,
                log_entries: 20_000,
                log_bytes: 64 << 20,
            },
        }
    }
}

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
    knob!("assign_reach", "how far the leader may assign", 0.001, f64::INFINITY, ratio assign_reach),
    knob!("limits.queued_tasks", "unfinished tasks in the cluster", 1.0, 1e8, count limits.queued_tasks),
    knob!("limits.queued_bytes", "bytes of unfinished tasks", 1024.0, 1024.0 * GIB, count limits.queued_bytes),
    knob!("limits.payload_bytes", "arguments or result of one task", 16.0, 2_097_152.0, count limits.payload_bytes),
    knob!("limits.function_bytes", "one function's pickled body", 16.0, 2_097_152.0, count limits.function_bytes),
    knob!("limits.functions", "registered functions", 1.0, 1e6, count limits.functions),
    knob!("limits.message_bytes", "one gRPC message", 65_536.0, 67_108_864.0, count limits.message_bytes),
    knob!("limits.outcomes", "outcomes kept unacknowledged", 1.0, 1e8, count limits.outcomes),
    knob!("limits.outcome_bytes", "their bytes", 1024.0, 1024.0 * GIB, count limits.outcome_bytes),
    knob!("limits.outcome_ttl_s", "how long an unacknowledged outcome is kept", 1.0, 30.0 * DAY, seconds limits.outcome_ttl),
    knob!("limits.id_memory_s", "how long a finished task's id is remembered", 1.0, 365.0 * DAY, seconds limits.id_memory),
    knob!("limits.events", "records each node keeps", 100.0, 1e7, count limits.events),
    knob!("limits.node_queue", "assigned tasks per node", 1.0, 1e6, count limits.node_queue),
    knob!("limits.crash_budget", "runner or node deaths one task may cause", 1.0, 1000.0, count limits.crash_budget),
    knob!("limits.worker_lease_s", "silence after which a worker's tasks are reassigned", 0.05, 3600.0, seconds limits.worker_lease),
    knob!("limits.members", "members of a cluster", 1.0, 1e5, count limits.members),
    knob!("limits.log_entries", "log entries after which a snapshot is taken", 100.0, 1e7, count limits.log_entries),
    knob!("limits.log_bytes", "bytes of log entries after which a snapshot is taken", 65_536.0, 64.0 * GIB, count limits.log_bytes),
    knob!("limits.sessions", "client sessions a node serves at once", 1.0, 1e6, count limits.sessions),
];

impl Placement {
    /// The names accepted for `placement`.
    pub const NAMES: &'static [&'static str] = &["window", "random"];

    /// The policy called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "window" => Ok(Placement::Window),
            "random" => Ok(Placement::Random),
            other => Err(Error::config(
                "placement",
                format!("{other:?} is not a policy; choose one of {}", Placement::NAMES.join(", ")),
            )),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Placement::Window => "window",
            Placement::Random => "random",
        }
    }
}

impl Config {
    /// The names accepted for a profile.
    pub const PROFILES: &'static [&'static str] =
        &["lan", "lan_fast", "wan", "ci", "raft", "classic"];

    /// The profile called `name`: `lan` (default), `lan_fast`, `wan`, `ci` (busy shared machines), `raft` (plain
    /// randomised Raft with openraft's own timers) or `classic` (the policies of the system hustings grew out of).
    pub fn profile(name: &str) -> Result<Self> {
        let mut config = Config::default();
        let ms = Duration::from_millis;
        match name {
            "lan" => {}
            "lan_fast" => config.election.suspicion_min = ms(80),
            "wan" => {
                config.election.heartbeat = ms(70);
                config.election.suspicion_min = ms(350);
                config.election.suspicion_max = ms(3_000);
                config.election.rank_delay = ms(90);
                config.election.poll_patience = ms(450);
                config.election.lease = ms(2_000);
            }
            "ci" => {
                config.election.heartbeat = ms(40);
                config.election.suspicion_min = ms(400);
                config.election.suspicion_max = ms(3_000);
                config.election.rank_delay = ms(25);
                config.election.poll_patience = ms(125);
                config.election.lease = ms(2_000);
            }
            "raft" => {
                config.election.plain = true;
                config.election.heartbeat = ms(50);
                config.election.suspicion_min = ms(150);
                config.election.suspicion_max = ms(300);
                config.election.lease = ms(300);
            }
            "classic" => {
                config.score.classic = true;
                config.election.score_tau = Duration::ZERO;
                // Whoever scores higher leads, looked at as often as that system spoke: every 3 s.
                config.election.handover_margin = 0.0;
                config.election.handover_floor = f64::INFINITY;
                config.election.handover_dwell = Duration::ZERO;
                config.election.handover_cooldown = Duration::from_secs(3);
                config.election.handover_doublings = 0;
                config.placement = Placement::Random;
                config.steal.cooldown = Duration::from_secs(5);
                config.steal.batch = 1;
            }
            other => {
                return Err(Error::config(
                    "profile",
                    format!(
                        "{other:?} is not a profile; choose one of {}",
                        Config::PROFILES.join(", ")
                    ),
                ));
            }
        }
        Ok(config)
    }

    /// Sets the numeric knob `name`.
    pub fn set(&mut self, name: &str, value: f64) -> Result<()> {
        let Some(knob) = KNOBS.iter().find(|k| k.name == name) else {
            let known = KNOBS.iter().map(|k| k.name).chain(["placement"]);
            return Err(Error::config(name, format!("unknown knob{}", did_you_mean(name, known))));
        };
        if value.is_nan() || value < knob.min || value > knob.max {
            return Err(Error::config(
                name,
                format!("{value} is out of bounds; it must lie in [{}, {}]", knob.min, knob.max),
            ));
        }
        (knob.set)(self, value);
        Ok(())
    }

    /// Sets the knob `name` from text, as the environment gives it.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<()> {
        if name == "placement" {
            self.placement = Placement::parse(text)?;
            return Ok(());
        }
        let value = match text {
            "true" => 1.0,
            "false" => 0.0,
            number => number
                .parse::<f64>()
                .map_err(|_| Error::config(name, format!("{text:?} is not a number")))?,
        };
        self.set(name, value)
    }

    /// Checks what no single knob can know.
    pub fn validate(&self) -> Result<()> {
        let e = &self.election;
        let less = |a: &str, x: Duration, b: &str, y: Duration| {
            if x < y {
                return Ok(());
            }
            Err(Error::config(
                format!("election.{a}_s"),
                format!(
                    "{} must be less than election.{b}_s = {}",
                    x.as_secs_f64(),
                    y.as_secs_f64()
                ),
            ))
        };
        less("heartbeat", e.heartbeat * 2, "suspicion_min", e.suspicion_min).map_err(|_| {
            Error::config(
                "election.heartbeat_s",
                format!(
                    "{} must be less than half of election.suspicion_min_s = {}",
                    e.heartbeat.as_secs_f64(),
                    e.suspicion_min.as_secs_f64()
                ),
            )
        })?;
        if e.suspicion_min > e.suspicion_max {
            return less("suspicion_min", e.suspicion_min, "suspicion_max", e.suspicion_max);
        }
        less("suspicion_min", e.suspicion_min, "lease", e.lease)?;
        if !self.score.classic && self.score.cpu + self.score.memory + self.score.uptime <= 0.0 {
            return Err(Error::config(
                "score",
                "cpu, memory and uptime are all 0; at least one must be positive",
            ));
        }
        let l = &self.limits;
        if l.payload_bytes.max(l.function_bytes) * 2 > l.message_bytes {
            return Err(Error::config(
                "limits.message_bytes",
                format!(
                    "{} must be at least twice limits.payload_bytes and limits.function_bytes",
                    l.message_bytes
                ),
            ));
        }
        Ok(())
    }
}

/// `"; did you mean 'x'?"` for the nearest of `known`, or the empty string when nothing is near.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|k| (edit_distance(word, k), k)).min();
    match nearest {
        Some((distance, name)) if distance <= 2.max(word.chars().count() / 3) => {
            format!("; did you mean {name:?}?")
        }
        _ => String::new(),
    }
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_within_its_bounds_and_round_trips() {
        let mut config = Config::default();
        for knob in KNOBS {
            let value = (knob.get)(&config);
            config.set(knob.name, value).unwrap();
            assert_eq!((knob.get)(&config), value, "{}", knob.name);
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_profile_is_valid() {
        for name in Config::PROFILES {
            Config::profile(name).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn a_misspelt_knob_is_refused_with_the_nearest_name() {
        let error = Config::default().set("election.hartbeat_s", 0.1).unwrap_err().to_string();
        assert!(error.contains("did you mean \"election.heartbeat_s\""), "{error}");
    }

    #[test]
    fn contradictions_name_both_sides() {
        let mut config = Config::default();
        config.set("election.heartbeat_s", 0.1).unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("heartbeat_s") && error.contains("suspicion_min_s"), "{error}");
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            assert!(Config::default().set("election.heartbeat_s", bad).is_err());
        }
    }
}
