//! Imagined runners: an attempt takes virtual time, returns, raises or dies, and ends with its node.

use super::invariants::{Fact, TaskFact};
use super::total_queue::Kind;
use super::work::Work;
use super::world::{Life, World};
use crate::core::boundary::{Assignment, Event};
use crate::core::cluster::command::{Function, Report};
use crate::core::ids::{NodeId, TaskId, Token};
use crate::node::driver::{Hands, Input};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// The attempts that run, and how to end each.
type Busy = BTreeMap<(TaskId, Token), Arc<Notify>>;

/// The runners of one life of a node.
pub struct Runners {
    world: Arc<World>,
    node: NodeId,
    name: Arc<str>,
    life: Arc<Life>,
    work: Work,
    inputs: UnboundedSender<Input>,
    busy: Arc<Mutex<Busy>>,
}

impl Runners {
    /// Idle ones, which report into `inputs`.
    pub fn new(
        world: Arc<World>,
        (node, name): (NodeId, Arc<str>),
        life: Arc<Life>,
        work: Work,
        inputs: UnboundedSender<Input>,
    ) -> Self {
        Runners { world, node, name, life, work, inputs, busy: Arc::default() }
    }

    // A map of plain values: whole after any panic.
    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runners {
    fn begin(&self, assignment: Assignment) {
        let (task, token) = (assignment.spec.id, assignment.token);
        let (takes, mut report) = self.work.fate(task, token);
        let killed = Arc::new(Notify::new());
        self.busy().insert((task, token), killed.clone());
        let (world, node, name) = (self.world.clone(), self.node, self.name.clone());
        world.note(Fact::Task(TaskFact::Began { node, task, token }));
        world.tell(Kind::Started, task, &name, Some(token));
        let (life, inputs, busy) = (self.life.clone(), self.inputs.clone(), self.busy.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // A runner does not outlive its node.
                () = life.over() => return,
                () = killed.notified() => report = Report::Crashed("killed".to_owned()),
                () = world.clock.sleep(takes) => {}
            }
            if !life.awake().await {
                return;
            }
            busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&(task, token));
            let done = matches!(report, Report::Value(_));
            world.note(Fact::Task(TaskFact::Ended { task, token, done }));
            world.tell(Kind::Ended, task, &name, Some(token));
            let output = bytes::Bytes::new();
            let ended = Event::AttemptEnded { task, token, report, output, duration: takes };
            let _ = inputs.send(Input::Core(ended));
        });
    }
}

impl Hands for Runners {
    fn run(&self, attempts: Vec<(Assignment, Arc<Function>)>) {
        attempts.into_iter().for_each(|(assignment, _)| self.begin(assignment));
    }

    fn kill(&self, task: TaskId, token: Token) {
        if let Some(killed) = self.busy().get(&(task, token)) {
            killed.notify_one();
        }
    }
}
