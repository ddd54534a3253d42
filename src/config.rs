//! Every knob once: meaning, unit, default, bounds. Python, TOML and the environment set them by name.

mod choices;
mod distances;
mod knobs;

use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

pub use choices::{CHOICES, Choice, OutOfReach, Placement};
pub use distances::Distances;
pub use knobs::{KNOBS, Knob};

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
    /// What happens to a task that only nodes beyond it could run.
    pub out_of_reach: OutOfReach,
    /// Attempts of idempotent tasks that take too long get a copy.
    pub speculate: bool,
    /// Distances between nodes, by name, where their positions do not say them.
    pub distances: Arc<Distances>,
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
    /// A steal must spare its tasks this many times what it costs; 0: always worth it.
    pub profit: f64,
    /// A random victim within reach, instead of the one with the most work.
    pub random_victim: bool,
}

/// Bounds on everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Unfinished tasks in the cluster.
    pub queued_tasks: u64,
    /// Bytes of unfinished tasks in the cluster.
    pub queued_bytes: u64,
    /// Arguments or result of one task that travel in the log; larger ones travel beside it.
    pub payload_bytes: u64,
    /// Arguments or result of one task that is too large for the log; more is refused.
    pub blob_bytes: u64,
    /// Bytes of all such arguments and results a voter holds.
    pub blobs_bytes: u64,
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
    /// How old a task's id may be to be accepted, and how long it is remembered.
    pub id_memory: Duration,
    /// Ids of finished tasks remembered at most.
    pub remembered_ids: u64,
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
    /// The share of all slots that copies of stragglers may take at once; one is always allowed.
    pub copies_ratio: f64,
    /// Client sessions a node serves at once.
    pub sessions: u64,
    /// The last that an attempt printed and logged, which comes home with its outcome.
    pub task_output_bytes: u64,
    /// Items of one generator that a node holds until they are read.
    pub stream_items: u64,
    /// Their bytes, hence also the most bytes of one item; no more than half of `message_bytes` is used of it.
    pub stream_bytes: u64,
    /// How long a generator waits for a sign of its reader.
    pub stream_idle: Duration,
    /// Log entries after which a snapshot is taken and the log is cut, once they hold half as much as the snapshot.
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
                handover_floor: 0.65,
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
                profit: 2.0,
                random_victim: false,
            },
            placement: Placement::Auto,
            assign_reach: f64::INFINITY,
            out_of_reach: OutOfReach::Wait,
            speculate: true,
            distances: Arc::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queued_tasks: 1_000_000,
            queued_bytes: 1 << 30,
            payload_bytes: 64 << 10,
            blob_bytes: 256 << 20,
            blobs_bytes: 4 << 30,
            function_bytes: 1 << 20,
            functions: 10_000,
            message_bytes: 4 << 20,
            outcomes: 1_000_000,
            outcome_bytes: 1 << 30,
            outcome_ttl: Duration::from_secs(15 * 60),
            id_memory: Duration::from_secs(24 * 3600),
            remembered_ids: 2_000_000,
            events: 100_000,
            node_queue: 1_024,
            crash_budget: 3,
            worker_lease: Duration::from_secs(3),
            members: 1_000,
            copies_ratio: 0.05,
            sessions: 10_000,
            task_output_bytes: 4 << 10,
            stream_items: 64,
            stream_bytes: 1 << 20,
            stream_idle: Duration::from_secs(30),
            log_entries: 20_000,
            log_bytes: 64 << 20,
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
                config.steal.profit = 0.0;
                config.steal.random_victim = true;
                config.speculate = false;
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
            let known = KNOBS.iter().map(|k| k.name).chain(CHOICES.iter().map(|c| c.name));
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
        if let Some(choice) = CHOICES.iter().find(|choice| choice.name == name) {
            return (choice.set)(self, text);
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
    let nearest = known.map(|name| (distance_of(word, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2.max(word.chars().count() / 3) => {
            format!("; did you mean {name:?}?")
        }
        _ => String::new(),
    }
}

/// People leave out the module of a function, and the section of a knob: that counts as one mistake.
fn distance_of(word: &str, name: &str) -> usize {
    let whole = edit_distance(word, name);
    match name.rsplit_once('.') {
        Some((_, last)) => whole.min(1 + edit_distance(word, last)),
        None => whole,
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
    fn a_name_is_found_without_what_stands_before_it() {
        let known = || ["app.count_words", "app.sum", "other.count"].into_iter();
        assert_eq!(did_you_mean("count_words", known()), "; did you mean \"app.count_words\"?");
        assert_eq!(did_you_mean("count_word", known()), "; did you mean \"app.count_words\"?");
        assert_eq!(did_you_mean("app.count_wrds", known()), "; did you mean \"app.count_words\"?");
        assert_eq!(did_you_mean("something_else", known()), "");
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
