//! The head of a shop: the core's leader and the log's state; entries that take a while, leaders that follow.

use super::agenda::Happening;
use super::figures::Calls;
use super::{FAILOVER, Shop, id_of, machine_of};
use crate::config::Config;
use crate::core::Moment;
use crate::core::boundary::{Change, Effect, Event};
use crate::core::cluster::command::{AssignCause, Batch, Command};
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{LogIndex, NodeId, Term};
use crate::core::scheduling::Leader;
use crate::node::clock::START;
use crate::node::proposals::{ENTRIES_IN_FLIGHT, PER_ENTRY};
use crate::sim::world::Row;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What the leader is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Events of tasks, and what follows from them.
    Decide,
    /// Nothing but how nodes are, and timers: what nodes cost while nothing happens.
    Listen,
    /// An idle machine asks for work: the more idle ones, the more calls.
    Call,
    /// A committed entry changes the state; every voter does the same.
    Apply,
}

/// Whoever measures how long the leader takes. No clock is read here.
pub trait Meter {
    /// The cluster is together and there is something to do: what was measured so far is no part of it.
    fn work_begins(&mut self) {}
    /// It begins.
    fn begin(&mut self, _phase: Phase) {}
    /// It ends.
    fn end(&mut self, _phase: Phase) {}
}

/// Nobody measures.
pub struct Unmeasured;

impl Meter for Unmeasured {}

/// The leader of the moment, and what outlives it.
pub(super) struct Head {
    pub(super) me: NodeId,
    pub(super) term: Term,
    /// Counted up whenever one ends: its entries are void from then on.
    reign: u64,
    leader: Leader,
    pub(super) state: ClusterState,
    index: LogIndex,
    queue: VecDeque<Command>,
    in_flight: usize,
    committed_until: Moment,
    wakes: Option<Moment>,
    streams: BTreeMap<usize, u64>,
    next_stream: u64,
}

impl Head {
    pub(super) fn new(me: NodeId, config: Arc<Config>, seed: u64) -> Self {
        Head {
            me,
            term: 0,
            reign: 0,
            leader: Leader::new(me, config, seed),
            state: ClusterState::default(),
            index: 0,
            queue: VecDeque::new(),
            in_flight: 0,
            committed_until: START,
            wakes: None,
            streams: BTreeMap::new(),
            next_stream: 0,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.leader.leads()
    }

    pub(super) fn hears(&self, machine: usize, stream: u64) -> bool {
        self.streams.get(&machine) == Some(&stream)
    }
}

fn phase_of(events: &[Event]) -> Phase {
    let quiet = |event: &Event| matches!(event, Event::StatusArrived { .. });
    match events {
        [Event::WorkAsked { .. }] => Phase::Call,
        events if events.iter().all(quiet) => Phase::Listen,
        _ => Phase::Decide,
    }
}

impl Shop<'_> {
    /// The leader takes one step.
    pub(super) fn lead(&mut self, events: Vec<Event>) {
        let mut effects = Vec::new();
        let phase = phase_of(&events);
        let head = &mut self.head;
        self.meter.begin(phase);
        for event in events {
            head.leader.on_event(self.now, &head.state, event, &mut effects);
        }
        head.leader.flush(self.now, &head.state, &mut effects);
        self.meter.end(phase);
        self.perform(effects);
        self.propose();
        self.set_leaders_alarm();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let term = self.head.term;
        let mut said: BTreeMap<NodeId, Vec<Event>> = BTreeMap::new();
        let mut say = |node, event| said.entry(node).or_default().push(event);
        let mut opened = Vec::new();
        for effect in effects {
            match effect {
                Effect::Propose(commands) => self.head.queue.extend(commands),
                Effect::OpenSession { member } => opened.push(machine_of(member.id)),
                Effect::CloseSession { node } => self.close_stream(machine_of(node)),
                Effect::Assign { node, assignments } => {
                    say(node, Event::TasksAssigned { term, assignments });
                }
                Effect::Revoke { node, tasks } => say(node, Event::TasksRevoked { term, tasks }),
                Effect::Kill { node, tasks } => say(node, Event::TasksKilled { term, tasks }),
                Effect::Settle { node, tasks } => say(node, Event::ReportsSettled { term, tasks }),
                Effect::Accept { tasks, .. } => self.on_accepted(&tasks),
                Effect::Deliver { outcomes, .. } => self.on_outcomes(&outcomes),
                Effect::Reject { task, refusal, .. } => self.on_refused(task, &refusal),
                Effect::Record(record) => self.keep(record),
                _ => {}
            }
        }
        for (node, events) in said {
            let machine = machine_of(node);
            let Some(stream) = self.head.streams.get(&machine).copied() else { continue };
            let at = self.now.after(self.latency()).max(self.machines[machine].heard_until);
            self.machines[machine].heard_until = at;
            self.agenda.add(at, Happening::ToMachine { machine, stream, events });
        }
        for machine in opened {
            self.open_stream(machine);
        }
    }

    fn keep(&mut self, record: crate::core::record::Record) {
        if !self.spec.detail {
            return;
        }
        let at_us = self.now.since(START).as_micros() as u64;
        let (node, name) = (self.head.me, self.machines[machine_of(self.head.me)].name.clone());
        self.rows.push(Row { at_us, node, name, record });
    }

    fn open_stream(&mut self, machine: usize) {
        self.head.next_stream += 1;
        let (stream, term) = (self.head.next_stream, self.head.term);
        self.head.streams.insert(machine, stream);
        let host = &mut self.machines[machine];
        host.stream = None;
        host.worker.on_disconnected();
        let at = self.now.after(self.latency() * 2);
        self.machines[machine].heard_until = at;
        self.agenda.add(at, Happening::Hello { machine, stream, term });
    }

    fn close_stream(&mut self, machine: usize) {
        self.head.streams.remove(&machine);
        if let Some(host) = self.machines.get_mut(machine) {
            host.stream = None;
            host.worker.on_disconnected();
            let (life, at) = (host.life, self.now.after(self.spec.latency.1));
            self.agenda.add(at, Happening::Join { machine, life });
        }
    }

    /// The leader notices that a process is gone.
    pub(super) fn miss(&mut self, machine: usize, stream: u64) {
        if self.head.hears(machine, stream) {
            self.lead(vec![Event::SessionBroken { node: id_of(machine), refused: true }]);
        }
    }

    /// What became of calls for work since this leader began.
    pub(super) fn calls(&self) -> Calls {
        let thefts = self.head.leader.thefts();
        Calls { asked: thefts.asked(), refused: thefts.refused().collect() }
    }

    /// What is queued shares an entry; a few are on their way at once, as in the product.
    fn propose(&mut self) {
        while !self.head.queue.is_empty() && self.head.in_flight < ENTRIES_IN_FLIGHT {
            let count = self.head.queue.len().min(PER_ENTRY);
            let commands = self.head.queue.drain(..count).collect();
            let batch = Batch { at_ms: self.head.leader.log_ms(self.now), commands };
            let takes = super::draw(&mut self.wires, self.spec.commit);
            let at = self.now.after(takes).max(self.head.committed_until);
            self.head.committed_until = at;
            self.head.in_flight += 1;
            let reign = self.head.reign;
            self.agenda.add(at, Happening::Committed { reign, batch });
        }
    }

    pub(super) fn commit(&mut self, reign: u64, batch: &Batch) {
        if self.head.reign != reign {
            return;
        }
        self.head.in_flight -= 1;
        self.head.index += 1;
        let index = self.head.index;
        self.meter.begin(Phase::Apply);
        let changes = self.head.state.apply(index, batch);
        self.meter.end(Phase::Apply);
        self.tally.entries += 1;
        for change in &changes {
            self.count(change);
        }
        if self.spec.detail {
            self.starving.see_waiting(self.now, self.tally.waiting > 0);
        }
        self.lead(vec![Event::Applied { index, changes }]);
    }

    fn count(&mut self, change: &Change) {
        let tally = &mut self.tally;
        match change {
            Change::Submitted { .. } => tally.waiting += 1,
            Change::Requeued { .. } => tally.waiting += 1,
            Change::Assigned { cause: AssignCause::Copied, .. } => tally.copies += 1,
            Change::Assigned { from: None, .. } => tally.waiting = tally.waiting.saturating_sub(1),
            Change::Assigned { cause: AssignCause::Stolen, .. } => tally.steals += 1,
            Change::Finished { from: None, .. } => tally.waiting = tally.waiting.saturating_sub(1),
            Change::LateCompletion { .. } => tally.late += 1,
            _ => {}
        }
    }

    fn set_leaders_alarm(&mut self) {
        let Some(at) = self.head.leader.next_deadline().map(|at| at.max(self.now)) else { return };
        if self.head.wakes.is_none_or(|wakes| at < wakes) {
            self.head.wakes = Some(at);
            self.agenda.add(at, Happening::LeaderWakes);
        }
    }

    pub(super) fn wake_leader(&mut self) {
        if self.head.wakes == Some(self.now) {
            self.head.wakes = None;
            self.lead(Vec::new());
        }
    }

    /// The leader dies, but its machine works on: entries on their way are lost, streams end.
    pub(super) fn depose(&mut self) {
        let calls = self.calls();
        self.tally.calls.add(&calls);
        let head = &mut self.head;
        head.leader.on_event(self.now, &head.state, Event::LeadershipLost, &mut Vec::new());
        head.reign += 1;
        head.queue.clear();
        (head.in_flight, head.wakes) = (0, None);
        head.streams.clear();
        self.disconnect_all();
        self.agenda.add(self.now.after(FAILOVER), Happening::Elected);
    }

    /// The next machine that is up leads.
    pub(super) fn elect(&mut self) {
        let count = self.machines.len();
        let last = machine_of(self.head.me);
        let first = if self.head.term == 0 { last } else { last + 1 };
        let next = (0..count).map(|step| (first + step) % count).find(|m| self.machines[*m].up);
        let me = next.unwrap_or(last);
        let head = &mut self.head;
        head.me = id_of(me);
        head.term += 1;
        head.leader = Leader::new(head.me, self.config.clone(), self.spec.seed ^ head.term);
        let origin = self.machines[me].member.position;
        let within =
            |at: &super::Machine| at.member.position.distance(&origin) <= self.config.assign_reach;
        let reached = self.machines.iter().map(within).collect();
        self.starving.see_reach(self.now, reached);
        let wall_ms = self.now.since(START).as_millis() as u64 + 1;
        let (term, voters) = (self.head.term, BTreeSet::new());
        self.lead(vec![Event::LeadershipGained { term, wall_ms, followed: term > 1, voters }]);
        self.submit_again();
    }
}
