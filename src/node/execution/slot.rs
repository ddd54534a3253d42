//! One runner's place in the roster: what it does, what it holds, whether it is to die; and its attempts as frames.

use super::frame::{self, CACHED_FUNCTIONS, Frame, Load, Run};
use super::runner::Runner;
use super::seat::Seat;
use super::{Act, AttemptEnded};
use crate::core::Moment;
use crate::core::boundary::{Assignment, Progress};
use crate::core::cluster::command::{Failure, Function, Report};
use crate::core::ids::{FunctionHash, TaskId, Token};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// An attempt and the function it runs.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) assignment: Assignment,
    pub(super) function: Arc<Function>,
    /// Whether it runs in a thread of this process.
    pub(super) in_thread: bool,
}

/// Where the attempts of a slot run.
#[derive(Clone)]
pub(super) enum Host {
    Process(Arc<Runner>),
    Thread(Arc<Seat>),
}

/// An attempt in a runner.
pub(super) struct Busy {
    pub(super) seq: u64,
    pub(super) job: Job,
    pub(super) started: Moment,
    /// When a thread is interrupted, and when it is given up or a process killed.
    pub(super) timers: [Option<(Moment, u64)>; 2],
    /// What it said last of how far it is, until that is passed on.
    pub(super) progress: Option<Progress>,
}

/// Why a runner is being killed.
pub(super) enum Doom {
    Cancelled,
    TimedOut(u64),
    Broken(String),
    /// The pool closes; nothing is reported.
    Closed,
}

/// A runner, from the decision to start it until its process is reaped.
#[derive(Default)]
pub(super) struct Slot {
    /// `None` until its process exists.
    pub(super) host: Option<Host>,
    pub(super) ready: bool,
    pub(super) busy: Option<Busy>,
    pub(super) doom: Option<Doom>,
    /// It has ended an attempt, so it did start properly.
    pub(super) served: bool,
    loaded: HashSet<FunctionHash>,
}

impl Job {
    /// Whether it is this attempt.
    pub(super) fn is(&self, task: TaskId, token: Token) -> bool {
        self.assignment.spec.id == task && self.assignment.token == token
    }

    /// What a runner is told of it.
    pub(super) fn run(&self, seq: u64) -> Run<'_> {
        let Assignment { spec, token, attempt, end_by_ms } = &self.assignment;
        Run {
            seq,
            hash: self.function.hash,
            codec: spec.codec,
            task: spec.id,
            attempt: *attempt,
            token: *token,
            timeout_ms: spec.timeout_ms,
            end_by_ms: *end_by_ms,
            trace: spec.trace.as_deref().copied(),
            key: spec.claim.as_ref().map_or("", |claim| &claim.key),
            payload: &spec.payload,
        }
    }

    /// The end of this attempt.
    pub(super) fn end(&self, report: Report, output: Bytes, duration: Duration) -> Act {
        let Assignment { spec, token, .. } = &self.assignment;
        Act::End(AttemptEnded { task: spec.id, token: *token, report, output, duration })
    }

    /// The end of this attempt, which never began.
    pub(super) fn end_unbegun(&self, report: Report) -> Act {
        self.end(report, Bytes::new(), Duration::ZERO)
    }

    /// What to report when it does not fit into a frame.
    pub(super) fn too_large(&self, error: &frame::FrameError) -> Report {
        let name = &self.function.name;
        Report::Failure(Failure {
            type_name: "hustings.PayloadTooLargeError".into(),
            message: format!(
                "the arguments or the body of {name:?} do not fit to its runner: {error}; raise limits.payload_bytes"
            ),
            traceback: String::new(),
            pickled: Bytes::new(),
        })
    }
}

impl Slot {
    /// One that a thread serves, or will: attempts wait in its seat.
    pub(super) fn of_thread(seat: Arc<Seat>) -> Self {
        Slot { host: Some(Host::Thread(seat)), ready: true, served: true, ..Slot::default() }
    }

    pub(super) fn is_thread(&self) -> bool {
        matches!(self.host, Some(Host::Thread(_)))
    }

    /// The frames of one attempt: its function, if the runner does not hold it, and the run.
    pub(super) fn encode(
        &mut self,
        job: &Job,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<u8>, frame::FrameError> {
        let hash = job.function.hash;
        let mut out = Vec::with_capacity(job.assignment.spec.payload.len() + 128);
        let is_known = self.loaded.contains(&hash);
        if !is_known {
            let load =
                Load { hash, name: &job.function.name, source: (&job.function.source).into() };
            frame::encode(&Frame::Load(load), limit, &mut out)?;
        }
        frame::encode(&Frame::Run(job.run(seq)), limit, &mut out)?;
        if !is_known {
            if self.loaded.len() >= CACHED_FUNCTIONS {
                self.loaded.clear();
            }
            self.loaded.insert(hash);
        }
        Ok(out)
    }
}
