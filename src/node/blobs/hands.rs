//! The runners as the task loop knows them: arguments that are blobs are fetched first, results that are too large for
//! the log become blobs before they are reported.

use super::carrier;
use crate::core::boundary::{Assignment, Event, Progress};
use crate::core::cluster::command::{Function, Payload, Report, TaskSpec};
use crate::core::ids::{BlobRef, TaskId, Token};
use crate::node::driver::{Hands, Input};
use crate::node::execution::{AttemptEnded, Pool};
use crate::node::shared::Shared;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::AbortHandle;

/// Attempts that wait at the runners, so that a short one is not followed by a wait for the task loop.
const STAGE: usize = 64;

/// The pool of runners and what is on its way to it.
pub struct BlobHands {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    fetching: Arc<Mutex<BTreeMap<Token, AbortHandle>>>,
}

impl BlobHands {
    /// Hands that work with `pool` and tell the task loop how its attempts ended.
    pub fn start(
        shared: Arc<Shared>,
        pool: Arc<Pool>,
        mut ends: UnboundedReceiver<AttemptEnded>,
    ) -> Arc<Self> {
        let teller = shared.clone();
        tokio::spawn(async move {
            while let Some(end) = ends.recv().await {
                report(&teller, end);
            }
        });
        Arc::new(BlobHands { shared, pool, fetching: Arc::default() })
    }

    fn fetch_and_run(&self, blob: BlobRef, assignment: Assignment, function: Arc<Function>) {
        let (shared, pool) = (self.shared.clone(), self.pool.clone());
        let (token, fetching) = (assignment.token, self.fetching.clone());
        let mut waiting = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        let task = tokio::spawn(async move {
            let fetched = carrier::fetch(&shared, blob).await;
            let mut waiting = fetching.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.remove(&token).is_none() {
                return; // It was killed meanwhile.
            }
            drop(waiting);
            let (task, token) = (assignment.spec.id, assignment.token);
            match fetched {
                Ok(payload) => {
                    let spec = TaskSpec { payload, blob: None, ..(*assignment.spec).clone() };
                    let assignment = Assignment { spec: Arc::new(spec), ..assignment };
                    pool.run(vec![(assignment, function)]);
                }
                Err(error) => {
                    let report = Report::Crashed(format!("its arguments: {error}"));
                    tell(&shared, AttemptEnded::without_start(task, token, report));
                }
            }
        });
        waiting.insert(token, task.abort_handle());
    }
}

impl Hands for BlobHands {
    fn run(&self, attempts: Vec<(Assignment, Arc<Function>)>) {
        let mut whole = Vec::with_capacity(attempts.len());
        for (assignment, function) in attempts {
            match assignment.spec.blob {
                None => whole.push((assignment, function)),
                Some(blob) => self.fetch_and_run(blob, assignment, function),
            }
        }
        self.pool.run(whole);
    }

    fn take_progress(&self) -> Vec<(TaskId, Token, Progress)> {
        self.pool.take_progress()
    }

    fn take_back(&self, task: TaskId, token: Token) -> bool {
        self.pool.take_back(task, token)
    }

    fn stage(&self) -> usize {
        STAGE
    }

    fn kill(&self, task: TaskId, token: Token) {
        let waiting = self.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
        match waiting {
            None => self.pool.kill(task, token),
            Some(fetch) => {
                fetch.abort();
                let report = Report::Crashed("cancelled".into());
                tell(&self.shared, AttemptEnded::without_start(task, token, report));
            }
        }
    }
}

fn report(shared: &Arc<Shared>, end: AttemptEnded) {
    let inline = shared.config.limits.payload_bytes as usize;
    match end.report {
        Report::Value(Payload { codec, body, blob: None }) if body.len() > inline => {
            let shared = shared.clone();
            tokio::spawn(async move {
                let blob = super::name(&body);
                let report = match carrier::upload(&shared, blob, body).await {
                    Ok(()) => {
                        Report::Value(Payload { codec, body: Bytes::new(), blob: Some(blob) })
                    }
                    Err(error) => Report::Crashed(format!("its result: {error}")),
                };
                tell(&shared, AttemptEnded { report, ..end });
            });
        }
        _ => tell(shared, end),
    }
}

fn tell(shared: &Shared, end: AttemptEnded) {
    let AttemptEnded { task, token, report, output, duration } = end;
    shared.tell(Input::Core(Event::AttemptEnded { task, token, report, output, duration }));
}
