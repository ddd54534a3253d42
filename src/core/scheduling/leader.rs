//! The leader: events in, effects out; its view is rebuilt from the log whenever it is elected.

use super::bids::Bids;
use super::durations::Durations;
use super::expiry::{Dues, Era};
use super::leases::Leases;
use super::pools::Pools;
use super::queue::{Queue, Spot};
use super::reach::Reach;
use super::roster::{Post, Roster};
use super::speculation::Copies;
use super::thefts::Thefts;
use crate::config::Config;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Effect, Event, Refusal};
use crate::core::chance::Chance;
use crate::core::cluster::command::{AssignCause, Command, ReleaseCause, Rules};
use crate::core::cluster::live::spec_bytes;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{FunctionHash, LogIndex, NodeId, SessionId, TaskId, Term, Token};
use crate::core::record::{Record, RecordKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long the leader waits before it proposes again what did not enter the log.
const RETRY_PROPOSAL: Duration = Duration::from_millis(20);
/// How often the leader writes down how burdened each node is.
const LOAD_RECORDS: Duration = Duration::from_millis(250);
/// Of how many nodes it does so that often.
const LOAD_RECORDED: usize = 64;

/// The scheduling half of a node that leads.
#[derive(Debug)]
pub struct Leader {
    pub(super) me: NodeId,
    pub(super) config: Arc<Config>,
    pub(super) term: Term,
    pub(super) leading: bool,
    /// Changes up to here are already in the view.
    rebuilt_at: LogIndex,
    pub(super) chance: Chance,
    pub(super) roster: Roster,
    pub(super) reach: Reach,
    /// Who is in reach must be found out anew.
    pub(super) moved: bool,
    pub(super) leases: Leases,
    pub(super) durations: Durations,
    pub(super) pools: Pools,
    pub(super) thefts: Thefts,
    pub(super) bids: Bids,
    pub(super) copies: Copies,
    /// Tasks without a node.
    pub(super) queue: Queue,
    pub(super) places: BTreeMap<TaskId, Place>,
    pub(super) delayed: BTreeSet<(Moment, TaskId)>,
    pub(super) era: Era,
    pub(super) dues: Dues,
    /// Who else is told an outcome, besides the submitter.
    pub(super) followers: BTreeMap<TaskId, Vec<SessionId>>,
    pub(super) in_flight: u64,
    pub(super) in_flight_bytes: u64,
    pub(super) registering: BTreeMap<FunctionHash, String>,
    /// Who voted when this node was elected.
    pub(super) voters: BTreeSet<NodeId>,
    /// Until then a voter that is no member yet may bring a function that nobody knows.
    pub(super) gathers_until: Moment,
    /// What must enter the log and did not; proposed again while this node leads.
    pub(super) retry: Vec<Command>,
    pub(super) retry_at: Option<Moment>,
    /// An assignment did not enter the log: none is proposed before.
    pub(super) place_at: Option<Moment>,
    next_load_record: Moment,
    pub(super) dispatch: BTreeMap<NodeId, Vec<Assignment>>,
    pub(super) asked_back: BTreeMap<NodeId, Vec<TaskId>>,
    pub(super) settle: BTreeMap<NodeId, Vec<TaskId>>,
}

/// Where a waiting task stands in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `queue`, there.
    Queued(Spot),
    /// In `delayed` until then.
    Delayed(Moment),
    /// Proposed for a node.
    Proposed(NodeId),
}

impl Leader {
    /// A leader to be; idle until `LeadershipGained`.
    pub fn new(me: NodeId, config: Arc<Config>, seed: u64) -> Self {
        Leader {
            me,
            reach: Reach::new(&config),
            config,
            term: 0,
            leading: false,
            rebuilt_at: 0,
            chance: Chance::seeded(seed),
            roster: Roster::default(),
            moved: true,
            leases: Leases::default(),
            durations: Durations::default(),
            pools: Pools::default(),
            thefts: Thefts::default(),
            bids: Bids::default(),
            copies: Copies::default(),
            queue: Queue::default(),
            places: BTreeMap::new(),
            delayed: BTreeSet::new(),
            era: Era::default(),
            dues: Dues::default(),
            followers: BTreeMap::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            registering: BTreeMap::new(),
            voters: BTreeSet::new(),
            gathers_until: Moment(0),
            retry: Vec::new(),
            retry_at: None,
            place_at: None,
            next_load_record: Moment(0),
            dispatch: BTreeMap::new(),
            asked_back: BTreeMap::new(),
            settle: BTreeMap::new(),
        }
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leading
    }

    /// The term it leads, 0 before it led.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The clock of the log, in milliseconds since 1970: what this leader's entries are stamped with.
    pub fn log_ms(&self, now: Moment) -> u64 {
        self.era.log_ms(now)
    }

    /// The members as the leader sees them.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Tasks without a node.
    pub fn waiting(&self) -> &Queue {
        &self.queue
    }

    /// Takes one event. Afterwards call [`Leader::flush`] once for all events of a step.
    pub fn on_event(
        &mut self,
        now: Moment,
        state: &ClusterState,
        event: Event,
        out: &mut Vec<Effect>,
    ) {
        if let Event::LeadershipGained { term, wall_ms, followed, voters } = event {
            self.era.begin(now, state.clock_ms(), wall_ms, followed);
            self.on_gained(now, term, state, out);
            self.voters = voters;
            self.gathers_until = now.after(self.config.limits.worker_lease);
            return;
        }
        self.era.see(now, state.clock_ms());
        if !self.leading {
            return self.refuse_all(event, out);
        }
        match event {
            Event::LeadershipLost => self.on_lost(out),
            Event::Applied { index, changes } => {
                if index > self.rebuilt_at {
                    for change in changes {
                        self.on_change(now, state, change, out);
                    }
                }
            }
            Event::ProposalFailed { commands } => {
                self.on_proposal_failed(now, state, commands, out)
            }
            Event::Submitted { session, functions, tasks } => {
                self.on_submitted(now, state, session, &functions, tasks, out);
            }
            Event::Followed { session, tasks } => self.on_followed(state, session, tasks, out),
            Event::ReadConfirmed { session, tasks } => {
                self.follow_or_deny(state, session, tasks, out);
            }
            Event::Acknowledged { session, tasks } => {
                out.push(Effect::Propose(vec![Command::Acknowledge { session, tasks }]));
            }
            Event::SessionClosed { session } => self.on_session_closed(session),
            Event::CancelAsked { tasks, kill } => self.on_cancel(state, &tasks, kill, out),
            Event::JoinAsked { member, functions } => self.on_join(state, member, functions, out),
            Event::RemovalAsked { node } => self.on_removal_asked(now, node, out),
            Event::MoveAsked { node, position } => self.on_move_asked(state, node, position, out),
            Event::InventoryArrived { node, incarnation, held } => {
                self.on_inventory(now, state, (node, incarnation), &held, out)
            }
            Event::StatusArrived { node, status } => self.hear(now, state, node, status, out),
            Event::Reported { node, reports } => self.on_reported(now, state, node, reports, out),
            Event::Released { node, tasks } => self.on_released(now, state, node, tasks, out),
            Event::Kept { node, tasks } => self.on_kept(now, state, node, &tasks),
            Event::SessionBroken { node, refused } => self.on_broken(now, node, refused, out),
            Event::WorkAsked { thief, free_slots, cpu_available } => {
                self.on_work_asked(now, state, thief, free_slots, cpu_available);
            }
            // Timers are looked at by `flush`, and a worker's events are not the leader's.
            _ => {}
        }
    }

    /// Places what waits and sends what was collected; once per step.
    pub fn flush(&mut self, now: Moment, state: &ClusterState, out: &mut Vec<Effect>) {
        if !self.leading {
            return;
        }
        self.check_timers(now, state, out);
        self.place_waiting(state, out);
        self.serve_bids(now, state);
        self.copy_stragglers(now, state, out);
        for (node, assignments) in std::mem::take(&mut self.dispatch) {
            out.push(Effect::Assign { node, assignments });
        }
        // What is asked back was assigned before, perhaps in this step.
        for (node, tasks) in std::mem::take(&mut self.asked_back) {
            out.push(Effect::Revoke { node, tasks });
        }
        for (node, tasks) in std::mem::take(&mut self.settle) {
            out.push(Effect::Settle { node, tasks });
        }
    }

    /// When `TimerFired` is wanted.
    pub fn next_deadline(&self) -> Option<Moment> {
        if !self.leading {
            return None;
        }
        let delayed = self.delayed.first().map(|(due, _)| *due);
        let (leases, terms) = (self.next_lease(), self.dues.next());
        let again = [self.retry_at, self.place_at].into_iter().flatten().min();
        let copies = self.copies.next();
        let bids = self.bids.next();
        let always = [Some(self.next_load_record), delayed, leases, terms, again, copies, bids];
        always.into_iter().flatten().min()
    }

    fn on_gained(&mut self, now: Moment, term: Term, state: &ClusterState, out: &mut Vec<Effect>) {
        let (chance, era) = (self.chance.clone(), self.era);
        *self = Leader { chance, era, term, ..Leader::new(self.me, self.config.clone(), 0) };
        self.leading = true;
        self.rebuilt_at = state.applied();
        self.next_load_record = now;
        for member in state.members().values() {
            self.seat(Post::new(member.clone(), now));
            out.push(Effect::OpenSession { member: member.clone() });
        }
        for (task, live) in state.live() {
            self.watch_terms(now, state, *task);
            if live.holder.is_none() {
                self.enqueue_when_ready(now, *task, live);
            }
            for holder in live.holder.into_iter().chain(live.copy) {
                let charge = self.charge_of(&live.spec);
                match self.roster.get_mut(&holder.node) {
                    Some(post) => post.holds.hold(now, *task, holder.token, charge),
                    None => self.take_from_stranger(*task, holder.token, out),
                }
            }
            match live.copy {
                Some(copy) => self.copies.note(*task, copy.node),
                None if live.holder.is_some() => self.watch_attempt(now, live),
                None => {}
            }
        }
        // What holds already is not written again: the first tasks would wait for it.
        let rules = self.rules();
        if state.rules() != Some(&rules) {
            out.push(Effect::Propose(vec![Command::Adopt(rules)]));
        }
    }

    /// The log says a node holds it that is no member any more: its Release did not make it.
    pub(super) fn take_from_stranger(&mut self, task: TaskId, token: Token, out: &mut Vec<Effect>) {
        let cause = ReleaseCause::NodeLost { started: false };
        out.push(Effect::Propose(vec![Command::Release { task, replaces: token, cause }]));
    }

    fn rules(&self) -> Rules {
        let limits = &self.config.limits;
        Rules {
            crash_budget: limits.crash_budget,
            outcomes: limits.outcomes,
            outcome_bytes: limits.outcome_bytes,
            outcome_ttl_ms: limits.outcome_ttl.as_millis() as u64,
            id_memory_ms: limits.id_memory.as_millis() as u64,
            remembered_ids: limits.remembered_ids,
        }
    }

    fn on_lost(&mut self, out: &mut Vec<Effect>) {
        for node in self.roster.keys() {
            out.push(Effect::CloseSession { node });
        }
        let (chance, era) = (self.chance.clone(), self.era);
        *self = Leader { chance, era, ..Leader::new(self.me, self.config.clone(), 0) };
    }

    fn check_timers(&mut self, now: Moment, state: &ClusterState, out: &mut Vec<Effect>) {
        while let Some(&(due, task)) = self.delayed.first().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, task));
            self.places.remove(&task);
            if let Some(live) = state.live().get(&task) {
                self.enqueue(task, live);
            }
        }
        self.place_at = self.place_at.filter(|at| *at > now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            out.push(Effect::Propose(std::mem::take(&mut self.retry)));
        }
        self.check_leases(now, out);
        self.check_terms(now, state, out);
        if self.next_load_record <= now {
            // In a large cluster the same number of rows in all.
            let crowd = (self.roster.len() / LOAD_RECORDED).max(1) as u32;
            self.next_load_record = now.after(LOAD_RECORDS * crowd);
            for post in self.roster.values() {
                let record = Record::new(RecordKind::Loaded)
                    .term(self.term)
                    .subject(post.member.id)
                    .score(post.status.score)
                    .value(post.burden() as f64)
                    .detail(&post.member.name);
                out.push(Effect::Record(record));
            }
        }
    }

    fn on_proposal_failed(
        &mut self,
        now: Moment,
        state: &ClusterState,
        commands: Vec<Command>,
        out: &mut Vec<Effect>,
    ) {
        for command in commands {
            match command {
                Command::Submit { spec, to } => {
                    self.land(spec_bytes(&spec));
                    if to.is_some() {
                        self.withdraw(spec.id);
                    }
                    let (session, task) = (spec.session, spec.id);
                    out.push(Effect::Reject { session, task, refusal: Refusal::Unknown });
                }
                Command::Assign { task, to, cause: AssignCause::Placed, .. } => {
                    self.unburden(to, task);
                    self.requeue_proposed(state, task, to);
                    // At once it would fail again, as often as the processor can.
                    self.place_at = Some(now.after(RETRY_PROPOSAL));
                }
                Command::Assign { task, to, cause: AssignCause::Copied, .. } => {
                    self.unburden(to, task);
                    self.copies.void(task, to);
                    if let Some(live) = state.live().get(&task) {
                        self.watch_attempt(now, live);
                    }
                }
                other => self.retry.push(other),
            }
        }
        if !self.retry.is_empty() && self.retry_at.is_none() {
            self.retry_at = Some(now.after(RETRY_PROPOSAL));
        }
    }

    /// A submission left the pipe: it is in the log, or it never will be.
    pub(super) fn land(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        self.roster.get(&node).map_or_else(|| node.to_string(), |post| post.member.name.clone())
    }
}
