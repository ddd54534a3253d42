//! What tasks imagined clients submit, and what fate each attempt meets; all of it follows from ids and the seed.

use super::loads::{exponential, unit};
use crate::core::chance::Chance;
use crate::core::cluster::command::{
    Codec, Failure, Function, FunctionRef, FunctionSource, Outcome, Payload, Report, TaskSpec,
    Terms,
};
use crate::core::ids::{FunctionHash, SessionId, TaskId, Token};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Clients of one simulation.
pub const MAX_CLIENTS: usize = 64;
/// Nodes that only work.
pub const MAX_WORKERS: usize = 64;
/// Arguments of an imagined task have at most so many bytes.
const MAX_ARGUMENTS: usize = 64;
/// One task in so many may run twice at once.
const IDEMPOTENT: usize = 4;

/// What clients ask for, and how their tasks go.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// New tasks a second, of all clients together.
    pub per_s: f64,
    /// How many clients.
    pub clients: usize,
    /// Mean time an attempt takes; exponential.
    pub mean: Duration,
    /// Callbacks each node runs at once.
    pub slots: u32,
    /// The share of attempts that raise.
    pub raise: f64,
    /// The share of attempts whose runner dies.
    pub crash: f64,
    /// The share of tasks that their client cancels.
    pub cancel: f64,
    /// The share of tasks that are submitted again under the same id.
    pub again: f64,
    /// The share of those that come with other arguments.
    pub conflict: f64,
    /// Mean life of a client's connection; exponential.
    pub connection: Duration,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            per_s: 2.0,
            clients: 3,
            mean: Duration::from_millis(200),
            slots: 2,
            raise: 0.05,
            crash: 0.02,
            cancel: 0.03,
            again: 0.05,
            conflict: 0.3,
            connection: Duration::from_secs(20),
        }
    }
}

impl Work {
    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<()> {
        let bound = |field: &str, problem: String| Err(Error::config(field, problem));
        if !(0.0..=10_000.0).contains(&self.per_s) {
            let problem = format!("{} is out of bounds; it must lie in [0, 10000]", self.per_s);
            return bound("tasks_per_s", problem);
        }
        if self.clients == 0 || self.clients > MAX_CLIENTS {
            let problem =
                format!("{} is out of bounds; it must lie in [1, {MAX_CLIENTS}]", self.clients);
            return bound("clients", problem);
        }
        if self.slots == 0 || self.slots > 1_024 {
            let problem = format!("{} is out of bounds; it must lie in [1, 1024]", self.slots);
            return bound("slots", problem);
        }
        if self.mean.is_zero() || self.connection.is_zero() {
            return bound("task_s", "tasks and connections must last a while".to_owned());
        }
        let ratios = [self.raise, self.crash, self.cancel, self.again, self.conflict];
        if ratios.iter().any(|ratio| !(0.0..=1.0).contains(ratio)) {
            return bound("tasks", format!("{ratios:?}: shares lie in [0, 1]"));
        }
        Ok(())
    }

    /// How long an attempt takes and how it ends.
    pub fn fate(&self, task: TaskId, token: Token) -> (Duration, Report) {
        let seed = (task.0 as u64) ^ ((task.0 >> 64) as u64).rotate_left(17) ^ token.0;
        let mut chance = Chance::seeded(seed);
        let takes = exponential(&mut chance, self.mean).min(self.mean * 10);
        let draw = unit(&mut chance);
        let report = if draw < self.raise {
            Report::Failure(Failure {
                type_name: "ValueError".to_owned(),
                message: token.0.to_string(),
                traceback: String::new(),
                pickled: Bytes::new(),
            })
        } else if draw < self.raise + self.crash {
            Report::Crashed(format!("imagined, attempt {}", token.0))
        } else {
            let body = Bytes::from(token.0.to_string());
            Report::Value(Payload::inline(Codec::Json, body))
        };
        (takes, report)
    }
}

/// The one function of imagined clients.
pub fn function() -> Arc<Function> {
    let source = FunctionSource::Reference("imagined:work".to_owned());
    Arc::new(Function::new("work".to_owned(), source))
}

/// A task with arguments drawn from `chance`.
pub fn task(id: TaskId, session: SessionId, chance: &mut Chance) -> Arc<TaskSpec> {
    let length = 1 + chance.below(MAX_ARGUMENTS);
    let payload: Vec<u8> = (0..length).map(|_| chance.draw() as u8).collect();
    Arc::new(TaskSpec {
        id,
        session,
        function: FunctionRef { name: "work".to_owned(), hash: FunctionHash(0) },
        codec: Codec::Json,
        payload: payload.into(),
        blob: None,
        terms: Terms::default(),
        claim: None,
        needs: None,
        idempotent: length.is_multiple_of(IDEMPOTENT),
        in_thread: false,
        trace: None,
        retries: chance.below(3) as u32,
        timeout_ms: 0,
        priority: chance.below(10) as u8,
        backoff_ms: 50,
    })
}

/// What a submission is known by.
pub fn content(spec: &TaskSpec) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&spec.payload)
}

/// An outcome in one word: two outcomes are the same if their words are. The word of a value or an exception names the
/// attempt it comes from.
pub fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Value(value) => format!("value:{}", String::from_utf8_lossy(&value.body)),
        Outcome::Failure(failure) => format!("failure:{}", failure.message),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Lost(_) => "lost".to_owned(),
        Outcome::TimedOut(_) => "timed_out".to_owned(),
        Outcome::NeverStarted(_) | Outcome::PastDeadline(_) => "expired".to_owned(),
    }
}

/// The attempt an outcome's word names, if it does.
pub fn attempt_of(word: &str) -> Option<Token> {
    let (kind, token) = word.split_once(':')?;
    matches!(kind, "value" | "failure").then(|| token.parse().ok().map(Token)).flatten()
}
