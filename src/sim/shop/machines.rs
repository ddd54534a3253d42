//! The machines: the core's worker, attempts that take virtual time, streams that come and go.

use super::agenda::Happening;
use super::spec::ShopSpec;
use super::workload::STRAGGLER;
use super::{Shop, id_of, machine_of};
use crate::config::Config;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Effect, Ended, Event, NodeStatus};
use crate::core::chance::Chance;
use crate::core::cluster::command::{Codec, Member, Payload, Report};
use crate::core::ids::{TaskId, Term, Token};
use crate::core::load::{Load, Position};
use crate::core::worker::Worker;
use crate::node::clock::START;
use crate::sim::loads::{exponential, unit};
use crate::sim::total_queue::Kind;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a node says how it is, as the product's task loop does.
const STATUS_EVERY: Duration = Duration::from_millis(300);
/// How soon a machine that is not admitted asks again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long the leader needs to be sure that a process is gone: three refused dials.
const REFUSALS: Duration = Duration::from_millis(20);

/// One machine.
pub(super) struct Machine {
    pub(super) member: Member,
    pub(super) name: Arc<str>,
    pub(super) speed: f64,
    pub(super) worker: Worker,
    /// Counted up when it dies and when it returns.
    pub(super) life: u32,
    pub(super) up: bool,
    /// The leader's stream to it.
    pub(super) stream: Option<u64>,
    running: BTreeMap<(TaskId, Token), Moment>,
    next_status: Moment,
    wakes: Option<Moment>,
    /// When the last of its words arrives: they stay in order.
    pub(super) said_until: Moment,
    /// The same for words to it.
    pub(super) heard_until: Moment,
}

/// What a step of a machine says to the leader.
#[derive(Default)]
struct Words {
    inventory: Option<Event>,
    reports: Vec<Ended>,
    released: Vec<TaskId>,
    kept: Vec<TaskId>,
    asks: Option<u32>,
}

impl Machine {
    pub(super) fn new(machine: usize, spec: &ShopSpec, position: Position) -> Self {
        let name: Arc<str> = Arc::from(format!("w{}", machine + 1));
        let member = Member {
            id: id_of(machine),
            name: name.to_string(),
            address: format!("{name}:1"),
            slots: spec.slots,
            position,
            ..Member::default()
        };
        Machine {
            worker: new_worker(&member, &spec.config),
            speed: spec.speed(machine),
            member,
            name,
            life: 0,
            up: true,
            stream: None,
            running: BTreeMap::new(),
            next_status: START,
            wakes: None,
            said_until: START,
            heard_until: START,
        }
    }

    pub(super) fn hears(&self, stream: u64) -> bool {
        self.up && self.stream == Some(stream)
    }

    fn status(&self, cpu_available: f64) -> NodeStatus {
        NodeStatus {
            score: cpu_available,
            load: Load { cpu_available, memory_available: 1.0, ..Load::default() },
            queued: self.worker.queued() as u32,
            running: self.worker.running(),
            draining: self.worker.is_draining(),
            ..NodeStatus::default()
        }
    }
}

fn new_worker(member: &Member, config: &Config) -> Worker {
    Worker::new(member.slots, config.steal.cooldown).offering(member.clone())
}

impl Shop<'_> {
    /// A machine takes what the leader said, or its own timer.
    pub(super) fn work(&mut self, machine: usize, events: Vec<Event>) {
        let mut words = Words::default();
        for event in events {
            let mut effects = Vec::new();
            self.machines[machine].worker.on_event(self.now, event, &mut effects);
            for effect in effects {
                self.act(machine, effect, &mut words);
            }
        }
        self.speak(machine, words);
        self.look_at(machine);
        self.set_alarm(machine);
    }

    fn act(&mut self, machine: usize, effect: Effect, words: &mut Words) {
        match effect {
            Effect::Run(assignment) => self.begin_attempt(machine, &assignment),
            Effect::KillRunner { task, token } => {
                let life = self.machines[machine].life;
                let report = Report::Crashed("killed".to_owned());
                self.agenda.add(self.now, Happening::Ended { machine, life, task, token, report });
            }
            Effect::SendInventory { held, .. } => {
                let held = held.into_iter().map(|(task, token, _)| (task, token)).collect();
                let incarnation = self.machines[machine].member.incarnation;
                let node = id_of(machine);
                words.inventory = Some(Event::InventoryArrived { node, incarnation, held });
            }
            Effect::SendReports { reports } => words.reports.extend(reports),
            Effect::SendRelease { released, kept } => {
                words.released.extend(released);
                words.kept.extend(kept);
            }
            Effect::AskForWork { free_slots } => words.asks = Some(free_slots),
            _ => {}
        }
    }

    fn begin_attempt(&mut self, machine: usize, assignment: &Assignment) {
        let (task, token) = (assignment.spec.id, assignment.token);
        let takes = self.client.takes(task);
        // One attempt in so many straggles, wherever it runs and whatever the knobs are: by its task and its number.
        let draw = self.spec.seed ^ (task.0 as u64).rotate_left(20) ^ u64::from(assignment.attempt);
        let straggles = unit(&mut Chance::seeded(draw)) < self.spec.workload.straggling;
        // Or a machine is slow for a while, and whatever it begins then.
        let second = self.now.since(START).as_secs();
        let draw = self.spec.seed ^ (machine as u64 + 1).rotate_left(40) ^ second.rotate_left(8);
        let slow = unit(&mut Chance::seeded(draw)) < self.spec.workload.slow_spells;
        let takes = takes * if straggles || slow { STRAGGLER } else { 1 };
        let takes = takes.div_f64(self.machines[machine].speed);
        let report = Report::Value(Payload::inline(Codec::Json, Bytes::from(token.0.to_string())));
        let host = &mut self.machines[machine];
        host.running.insert((task, token), self.now);
        let life = host.life;
        let name = host.name.clone();
        let ended = Happening::Ended { machine, life, task, token, report };
        self.agenda.add(self.now.after(takes), ended);
        if self.spec.detail {
            let at = self.now.since(START);
            self.diary.node_saw(at, Kind::Started, task, &name, Some(token));
        }
    }

    pub(super) fn end_attempt(
        &mut self,
        machine: usize,
        task: TaskId,
        token: Token,
        report: Report,
    ) {
        let host = &mut self.machines[machine];
        let Some(began) = host.running.remove(&(task, token)) else { return };
        let name = host.name.clone();
        let duration = self.now.since(began);
        if self.spec.detail {
            let at = self.now.since(START);
            self.diary.node_saw(at, Kind::Ended, task, &name, Some(token));
        }
        self.tally.busy += duration;
        let output = Bytes::new();
        self.work(machine, vec![Event::AttemptEnded { task, token, report, output, duration }]);
    }

    /// Everything a step collected leaves together, in the order in which the leader must hear it.
    fn speak(&mut self, machine: usize, words: Words) {
        let node = id_of(machine);
        let cpu_available = self.spec.cpu_available;
        let host = &mut self.machines[machine];
        let Some(stream) = host.stream else { return };
        let mut events = Vec::new();
        let period = (self.config.limits.worker_lease / 4).min(STATUS_EVERY);
        let due = self.now.after(period / 3) >= host.next_status;
        if due || words.inventory.is_some() {
            host.next_status = self.now.after(period);
            events.push(Event::StatusArrived { node, status: host.status(cpu_available) });
        }
        events.extend(words.inventory);
        if !words.reports.is_empty() {
            events.push(Event::Reported { node, reports: words.reports });
        }
        if !words.released.is_empty() {
            events.push(Event::Released { node, tasks: words.released });
        }
        if !words.kept.is_empty() {
            events.push(Event::Kept { node, tasks: words.kept });
        }
        let life = host.life;
        if !events.is_empty() {
            let at = self.now.after(self.latency()).max(self.machines[machine].said_until);
            self.machines[machine].said_until = at;
            self.agenda.add(at, Happening::ToLeader { machine, stream, events });
        }
        if let Some(free_slots) = words.asks {
            let at = self.now.after(self.latency());
            let event = Event::WorkAsked { thief: node, free_slots, cpu_available };
            self.agenda.add(at, Happening::Call { machine, life, event });
        }
    }

    /// What whoever watches idle machines must know of this one.
    fn look_at(&mut self, machine: usize) {
        if !self.spec.detail {
            return;
        }
        let host = &self.machines[machine];
        let queued = host.worker.queued();
        let busy = host.running.len() >= host.member.slots as usize;
        let free = host.up && queued == 0 && !busy;
        self.starving.see_machine(self.now, machine, host.up && queued > 0, free);
    }

    fn set_alarm(&mut self, machine: usize) {
        let host = &mut self.machines[machine];
        let status = host.stream.map(|_| host.next_status);
        let wanted = host.worker.next_deadline().into_iter().chain(status).min();
        let Some(at) = wanted.map(|at| at.max(self.now)) else { return };
        if host.up && host.wakes.is_none_or(|wakes| at < wakes) {
            host.wakes = Some(at);
            self.agenda.add(at, Happening::MachineWakes { machine });
        }
    }

    pub(super) fn wake_machine(&mut self, machine: usize) {
        let host = &mut self.machines[machine];
        if host.up && host.wakes == Some(self.now) {
            host.wakes = None;
            self.work(machine, vec![Event::TimerFired]);
        }
    }

    /// The leader's stream arrives; a process that is gone refuses it.
    pub(super) fn greet(&mut self, machine: usize, stream: u64, term: Term) {
        if !self.machines[machine].up {
            let at = self.now.after(REFUSALS);
            self.agenda.add(at, Happening::Broken { machine, stream });
        } else if self.head.hears(machine, stream) {
            self.machines[machine].stream = Some(stream);
            self.work(machine, vec![Event::LeaderConnected { term, leader: self.head.me }]);
        }
    }

    pub(super) fn ask_to_join(&mut self, machine: usize, life: u32) {
        let host = &self.machines[machine];
        if !host.up || host.life != life || host.stream.is_some() {
            return;
        }
        let member = host.member.clone();
        if self.head.leads() {
            let functions = self.client.functions();
            self.lead(vec![Event::JoinAsked { member, functions }]);
        }
        self.agenda.add(self.now.after(ASK_AGAIN), Happening::Join { machine, life });
    }

    /// A machine dies, unless it leads: with everything that runs and waits there.
    pub(super) fn die(&mut self, machine: usize) {
        let Some(churn) = &self.spec.churn else { return };
        let next = exponential(&mut self.fates, churn.mtbf);
        if machine == machine_of(self.head.me) || !self.machines[machine].up {
            return self.agenda.add(self.now.after(next), Happening::Die { machine });
        }
        let back = self.now.after(exponential(&mut self.fates, churn.mttr));
        self.agenda.add(back, Happening::Return { machine });
        self.agenda.add(back.after(next), Happening::Die { machine });
        let late = self.latency() + REFUSALS;
        let host = &mut self.machines[machine];
        (host.up, host.life) = (false, host.life + 1);
        host.running.clear();
        if let Some(stream) = host.stream.take() {
            self.agenda.add(self.now.after(late), Happening::Broken { machine, stream });
        }
        self.tally.deaths += 1;
        self.look_at(machine);
    }

    pub(super) fn come_back(&mut self, machine: usize) {
        let host = &mut self.machines[machine];
        host.member.incarnation += 1;
        host.worker = new_worker(&host.member, &self.config);
        (host.up, host.life) = (true, host.life + 1);
        (host.wakes, host.next_status) = (None, self.now);
        let life = host.life;
        self.agenda.add(self.now, Happening::Join { machine, life });
        self.look_at(machine);
    }

    /// The leader is gone: its streams end.
    pub(super) fn disconnect_all(&mut self) {
        for machine in 0..self.machines.len() {
            let host = &mut self.machines[machine];
            host.stream = None;
            host.worker.on_disconnected();
            let life = host.life;
            self.agenda.add(self.now.after(ASK_AGAIN), Happening::Join { machine, life });
        }
    }
}
