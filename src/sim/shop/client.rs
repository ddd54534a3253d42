//! The one client of a shop: it submits, follows a new leader, acknowledges, and knows when everything is done.

use super::agenda::Happening;
use super::ideal::lower_bound;
use super::spec::ShopSpec;
use super::workload::Job;
use super::{OPENING, Shop};
use crate::core::Moment;
use crate::core::boundary::{Event, Finished, Refusal};
use crate::core::cluster::command::{Function, FunctionSource, Outcome, TaskSpec};
use crate::core::ids::{SessionId, TaskId};
use crate::node::clock::START;
use crate::sim::total_queue::Kind;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const SESSION: SessionId = SessionId(1);
/// Tasks sent in one message.
const CHUNK: usize = 256;
/// How soon a task that was refused for now is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(100);
/// Outcomes are acknowledged together, so long after the first of them.
const ACKNOWLEDGE: Duration = Duration::from_millis(10);

/// What the client knows.
pub(super) struct Client {
    jobs: Vec<Job>,
    /// So many of them are lessons, before the clock starts.
    lessons: usize,
    idempotent: bool,
    functions: BTreeMap<u32, Arc<Function>>,
    sent: Vec<Option<Moment>>,
    accepted: Vec<bool>,
    done: Vec<Option<Moment>>,
    left: usize,
    held: Vec<TaskId>,
    began: Moment,
    pub(super) failed: usize,
}

impl Client {
    pub(super) fn new(spec: &ShopSpec) -> Self {
        let capacity = spec.all_speeds().iter().sum::<f64>() * f64::from(spec.slots);
        let (jobs, lessons) = spec.workload.draw(spec.seed, capacity);
        let function = |class: u32| {
            let source = FunctionSource::Reference(format!("imagined:work_{class}"));
            Arc::new(Function::new(format!("work_{class}"), source))
        };
        let functions = jobs.iter().map(|job| (job.class, function(job.class))).collect();
        let count = jobs.len();
        Client {
            jobs,
            lessons,
            idempotent: spec.workload.idempotent,
            functions,
            sent: vec![None; count],
            accepted: vec![false; count],
            done: vec![None; count],
            left: count,
            held: Vec::new(),
            began: START.after(OPENING),
            failed: 0,
        }
    }

    /// What is measured, without the lessons.
    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs[self.lessons..]
    }

    pub(super) fn bound(&self, spec: &ShopSpec) -> Duration {
        lower_bound(self.jobs(), &spec.all_speeds(), spec.slots)
    }

    pub(super) fn last_arrival(&self) -> Duration {
        self.jobs.iter().map(|job| job.comes).max().unwrap_or_default()
    }

    pub(super) fn began(&self) -> Moment {
        self.began
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    pub(super) fn finished(&self) -> usize {
        self.done[self.lessons..].iter().flatten().count()
    }

    pub(super) fn functions(&self) -> Vec<Arc<Function>> {
        self.functions.values().cloned().collect()
    }

    /// How long a task takes on a machine of speed 1.
    pub(super) fn takes(&self, task: TaskId) -> Duration {
        self.jobs.get(index_of(task)).map_or(Duration::ZERO, |job| job.takes)
    }

    /// When the last outcome came, and how long each task stayed, in order of submission.
    pub(super) fn stays(&self) -> (Option<Moment>, Vec<Duration>) {
        let done = &self.done[self.lessons..];
        let stay =
            |(done, sent): (&Option<Moment>, &Option<Moment>)| Some(done.as_ref()?.since((*sent)?));
        let stays = done.iter().zip(&self.sent[self.lessons..]).filter_map(stay).collect();
        (done.iter().flatten().max().copied(), stays)
    }

    fn spec(&self, index: usize) -> Arc<TaskSpec> {
        let function = &self.functions[&self.jobs[index].class];
        Arc::new(TaskSpec {
            idempotent: self.idempotent,
            ..TaskSpec::new(id_of(index), SESSION, function.to_ref())
        })
    }
}

fn id_of(index: usize) -> TaskId {
    TaskId(index as u128 + 1)
}

fn index_of(task: TaskId) -> usize {
    (task.0 as usize).wrapping_sub(1)
}

impl Shop<'_> {
    /// The lessons, or the work itself where there are none.
    pub(super) fn submit_first(&mut self) {
        let at = START.after(OPENING);
        match self.client.lessons {
            0 => self.submit_work(at),
            count => self.agenda.add(at, Happening::Submit(0..count)),
        }
    }

    fn submit_work(&mut self, at: Moment) {
        self.client.began = at;
        self.starving.begin(at);
        self.tally.begin(self.calls());
        let (first, last) = (self.client.lessons, self.client.jobs.len());
        if self.spec.workload.rho.is_some() {
            for index in first..last {
                let comes = at.after(self.client.jobs[index].comes);
                self.agenda.add(comes, Happening::Submit(index..index + 1));
            }
            return;
        }
        for (chunk, from) in (first..last).step_by(CHUNK).enumerate() {
            let at = at.after(Duration::from_micros(200 * chunk as u64));
            self.agenda.add(at, Happening::Submit(from..(from + CHUNK).min(last)));
        }
    }

    pub(super) fn submit(&mut self, range: Range<usize>) {
        let first = self.client.lessons;
        if range.start == first && self.client.sent.get(first) == Some(&None) {
            self.meter.work_begins();
        }
        let open = range.filter(|index| self.client.done[*index].is_none());
        let open: Vec<usize> = open.collect();
        let mut tasks = Vec::with_capacity(open.len());
        for index in open {
            if self.client.sent[index].is_none() {
                self.client.sent[index] = Some(self.now);
                self.see(Kind::Submitted, id_of(index));
            }
            tasks.push(self.client.spec(index));
        }
        let functions = self.client.functions();
        self.tell_leader(Event::Submitted { session: SESSION, functions, tasks });
    }

    fn tell_leader(&mut self, event: Event) {
        let at = self.now.after(self.latency());
        self.agenda.add(at, Happening::FromClient(event));
    }

    fn see(&mut self, kind: Kind, task: TaskId) {
        if self.spec.detail {
            let at = self.now.since(START);
            self.diary.client_saw(at, kind, task, &Arc::from("c1"));
        }
    }

    /// Another one leads: what was not accepted goes again, the rest is followed.
    pub(super) fn submit_again(&mut self) {
        let client = &self.client;
        let open = |index: &usize| client.sent[*index].is_some() && client.done[*index].is_none();
        let open: Vec<usize> = (0..client.jobs.len()).filter(open).collect();
        let (accepted, lost): (Vec<usize>, Vec<usize>) =
            open.into_iter().partition(|index| client.accepted[*index]);
        for index in lost {
            self.agenda.add(self.now, Happening::Submit(index..index + 1));
        }
        if !accepted.is_empty() {
            let tasks = accepted.into_iter().map(id_of).collect();
            self.tell_leader(Event::Followed { session: SESSION, tasks });
        }
    }

    pub(super) fn on_accepted(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            let accepted = &mut self.client.accepted[index_of(*task)];
            if !std::mem::replace(accepted, true) {
                self.see(Kind::Accepted, *task);
            }
        }
    }

    pub(super) fn on_refused(&mut self, task: TaskId, refusal: &Refusal) {
        let index = index_of(task);
        match refusal {
            Refusal::NotLeader
            | Refusal::Unknown
            | Refusal::Gathering
            | Refusal::QueueFull { .. } => {
                let at = self.now.after(SEND_AGAIN);
                self.agenda.add(at, Happening::Submit(index..index + 1));
            }
            _ => {
                self.client.failed += 1;
                self.finish(index);
            }
        }
    }

    pub(super) fn on_outcomes(&mut self, outcomes: &[Arc<Finished>]) {
        for finished in outcomes {
            let word = crate::sim::work::word(&finished.outcome);
            if self.spec.detail {
                let at = self.now.since(START);
                self.diary.outcome(at, finished.task, &Arc::from("c1"), true, &word);
            }
            if !matches!(finished.outcome, Outcome::Value(_)) {
                self.client.failed += 1;
            }
            if self.client.held.is_empty() {
                self.agenda.add(self.now.after(ACKNOWLEDGE), Happening::Acknowledge);
            }
            self.client.held.push(finished.task);
            self.finish(index_of(finished.task));
        }
    }

    fn finish(&mut self, index: usize) {
        if self.client.done[index].is_some() {
            return;
        }
        self.client.done[index] = Some(self.now.after(self.latency()));
        self.client.left -= 1;
        let lessons = self.client.lessons;
        if index < lessons && self.client.done[..lessons].iter().all(Option::is_some) {
            self.submit_work(self.now.after(OPENING));
        }
    }

    pub(super) fn acknowledge(&mut self) {
        let tasks = std::mem::take(&mut self.client.held);
        self.tell_leader(Event::Acknowledged { session: SESSION, tasks });
    }
}
