//! The task loop: wait, let the core decide, perform the effects in order. It makes no decision.

use super::clock::Clock;
use super::consensus::Replica;
use super::errands;
use super::history::History;
use super::metrics::tasks::TaskTally;
use super::proposals::{Commit, Proposals};
use super::shared::Whereabouts;
use super::spans::collector::Collector;
use super::transport::lines::Lines;
use super::transport::links::Word;
use super::transport::sessions::{OutcomesOutbox, Sessions, SubmitOutbox};
use super::transport::upstream::{Upstream, Words};
use crate::config::Config;
use crate::core::boundary::{Assignment, Change, Effect, Event, NodeStatus, Progress};
use crate::core::cluster::command::{Function, Member};
use crate::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Term, Token};
use crate::core::load::Load;
use crate::core::scheduling::Leader;
use crate::core::worker::Worker;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Inputs taken in one step.
const STEP: usize = 512;
/// How soon a leader without its quorum's lease looks again.
const LEASE_RECHECK: Duration = Duration::from_millis(10);
/// How often a leader says to every node that it still leads.
pub(super) const LEAD_EVERY: Duration = Duration::from_secs(1);
/// How often a node says how it is at least; more than the time between two measurements, which say it anyway.
const STATUS_EVERY: Duration = Duration::from_millis(300);

/// What reaches the task loop.
pub enum Input {
    /// Something for the core.
    Core(Event),
    /// Something for the core from the link of that number; ignored once the link is replaced.
    FromLink(u64, Event),
    /// This node leads that term and has applied the log up to its own first entry.
    LeadGained(Term),
    /// This node leads no more; who is about to, as far as it voted for somebody.
    LeadLost(Option<Whereabouts>),
    /// A client opened its Submit stream.
    SubmitOpened(SessionId, u64, SubmitOutbox),
    /// A client opened its Outcomes stream.
    OutcomesOpened(SessionId, u64, OutcomesOutbox),
    /// A slow client took a message of outcomes.
    OutcomesDrained(SessionId, u64),
    /// A client sends no more tasks on its Submit stream.
    SubmitHalfClosed(SessionId, u64),
    /// One of a client's streams ended.
    StreamClosed(SessionId, u64),
    /// The leader of a term opened its AssignTask stream to this node.
    UpstreamOpened(Upstream),
    /// The leader said something on the stream of that number.
    FromUpstream(u64, Words),
    /// That stream ended.
    UpstreamClosed(u64),
    /// A fresh sample and its smoothed score.
    Measured(Load, f64),
    /// Somebody wants to look, between two steps.
    Look(Box<dyn FnOnce(&mut TaskLoop) + Send>),
}

/// How callbacks are run; the pool of runners.
pub trait Hands: Send + Sync {
    /// Starts attempts; the end of each arrives as [`Event::AttemptEnded`]. Those that come together are given
    /// together, so that nobody is woken for the first of them.
    fn run(&self, attempts: Vec<(Assignment, Arc<Function>)>);
    /// Ends an attempt by force.
    fn kill(&self, task: TaskId, token: Token);
    /// Takes back an attempt that waits for a runner; false if it has begun, or is not here.
    fn take_back(&self, _task: TaskId, _token: Token) -> bool {
        false
    }
    /// How many attempts may wait here for a runner.
    fn stage(&self) -> usize {
        0
    }
    /// How far attempts are that said so since it was asked last.
    fn take_progress(&self) -> Vec<(TaskId, Token, Progress)> {
        Vec::new()
    }
}

/// What the loop is built with.
pub struct TaskLoopOptions {
    /// This node.
    pub me: Member,
    /// The knobs.
    pub config: Arc<Config>,
    /// The clock.
    pub clock: Clock,
    /// Where rows go.
    pub history: Arc<History>,
    /// The replicated state, on voters.
    pub state: Replica,
    /// The way into the log, on voters.
    pub commit: Option<Arc<dyn Commit>>,
    /// The runners.
    pub hands: Arc<dyn Hands>,
    /// The way to the members, for the leader.
    pub lines: Arc<dyn Lines>,
    /// Whether pickled functions and payloads may run here.
    pub allow_pickle: bool,
    /// Seed of the random policies.
    pub seed: u64,
}

/// The loop and everything it owns; `Look` sees it.
pub struct TaskLoop {
    /// This node.
    pub me: Member,
    /// The cluster, once known.
    pub cluster_id: Bytes,
    /// Its half that leads.
    pub leader: Leader,
    /// Its half that works.
    pub worker: Worker,
    /// The replicated state, on voters.
    pub state: Replica,
    /// Clients served here.
    pub sessions: Sessions,
    /// The leader's stream to this node.
    pub upstream: Option<Upstream>,
    /// The members as the leader last told them.
    pub told_members: Vec<Member>,
    /// Who votes, on voters; the log only says who wanted to.
    pub voters: BTreeSet<NodeId>,
    /// The last sample and score.
    pub measured: (Load, f64),
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) history: Arc<History>,
    proposals: Proposals,
    pub(super) hands: Arc<dyn Hands>,
    /// What the hands are about to be given.
    pub(super) runs: Vec<(Assignment, Arc<Function>)>,
    pub(super) lines: Arc<dyn Lines>,
    pub(super) allow_pickle: bool,
    pub(super) links: BTreeMap<NodeId, (u64, mpsc::UnboundedSender<Word>)>,
    pub(super) next_link: u64,
    pub(super) functions: BTreeMap<FunctionHash, Arc<Function>>,
    pub(super) inputs: mpsc::UnboundedSender<Input>,
    pub(super) next_status: crate::core::Moment,
    pub(super) next_lead: crate::core::Moment,
    pub(super) heard_leader: crate::core::Moment,
    /// Some leader spoke to it since it started.
    pub(super) followed: bool,
    pub(super) members_changed: bool,
    /// Counts of tasks, where somebody wants metrics.
    pub(super) tally: Option<Box<TaskTally>>,
    /// Spans of traced tasks, where somebody collects them.
    pub(super) spans: Option<Box<Collector>>,
}

impl TaskLoop {
    /// A loop that is fed through `inputs`.
    pub fn new(options: TaskLoopOptions, inputs: mpsc::UnboundedSender<Input>) -> Self {
        let TaskLoopOptions {
            me,
            config,
            clock,
            history,
            state,
            commit,
            hands,
            lines,
            allow_pickle,
            seed,
        } = options;
        TaskLoop {
            leader: Leader::new(me.id, config.clone(), seed),
            worker: Worker::new(me.slots, config.steal.cooldown)
                .offering(me.clone())
                .staging(hands.stage()),
            me,
            cluster_id: Bytes::new(),
            state,
            sessions: Sessions::default(),
            upstream: None,
            told_members: Vec::new(),
            voters: BTreeSet::new(),
            measured: (Load::default(), 0.0),
            next_status: clock.now(),
            next_lead: clock.now(),
            heard_leader: clock.now(),
            followed: false,
            proposals: Proposals::new(commit, inputs.clone()),
            clock,
            history,
            hands,
            runs: Vec::new(),
            lines,
            allow_pickle,
            links: BTreeMap::new(),
            next_link: 0,
            functions: BTreeMap::new(),
            inputs,
            members_changed: false,
            tally: None,
            spans: None,
            config,
        }
    }

    /// Runs until every sender of inputs is gone.
    pub async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        let mut batch = Vec::with_capacity(STEP);
        loop {
            let deadline = self.next_deadline();
            let taken = tokio::select! {
                biased;
                taken = inputs.recv_many(&mut batch, STEP) => taken,
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => {
                    batch.push(Input::Core(Event::TimerFired));
                    1
                }
            };
            if taken == 0 {
                return;
            }
            self.step(&mut batch);
        }
    }

    /// It leads, and a quorum answered it lately. A frozen node that wakes up must not act on what it knew.
    pub(super) fn may_dispatch(&self) -> bool {
        self.leader.leads() && self.proposals.may_dispatch()
    }

    fn next_deadline(&self) -> crate::core::Moment {
        // What fell due while the quorum is silent waits for it, or for the end of this reign.
        let held_up = self.leader.leads() && !self.proposals.may_dispatch();
        let leader = match held_up {
            true => Some(self.clock.now().after(LEASE_RECHECK)),
            false => self.leader.next_deadline(),
        };
        let wanted = [leader, self.worker.next_deadline()];
        wanted.into_iter().flatten().chain([self.next_status]).min().unwrap_or(self.next_status)
    }

    fn step(&mut self, batch: &mut Vec<Input>) {
        let mut effects = Vec::new();
        for input in batch.drain(..) {
            self.take(input, &mut effects);
            self.perform(&mut effects);
        }
        let now = self.clock.now();
        if self.may_dispatch() {
            let state = self.state.clone();
            let state = state.lock();
            self.leader.flush(now, &state, &mut effects);
        }
        self.perform(&mut effects);
        self.tell_members();
        self.tell_status(now);
        self.tell_lead(now);
        self.proposals.flush(self.leader.term(), self.leader.log_ms(now));
        self.sessions.flush(&self.inputs);
        if let Some(upstream) = &mut self.upstream {
            upstream.flush_step();
        }
    }

    fn take(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Core(event) => self.feed(event, effects),
            Input::FromLink(link, event) => {
                let node = errands::node_of(&event);
                if node.and_then(|n| self.links.get(&n)).is_some_and(|(l, _)| *l == link) {
                    self.feed(event, effects);
                }
            }
            Input::LeadGained(term) => {
                let (wall_ms, followed) = (self.clock.today_us() / 1_000, self.followed);
                let voters = self.voters.clone();
                self.feed(Event::LeadershipGained { term, wall_ms, followed, voters }, effects);
            }
            Input::LeadLost(to) => {
                self.feed(Event::LeadershipLost, effects);
                self.proposals.clear();
                self.sessions.cut_all(to.map(|to| self.as_clients_know(to)).as_ref());
            }
            Input::SubmitOpened(session, stream, outbox) => {
                self.sessions.open_submit(session, stream, outbox);
            }
            Input::OutcomesOpened(session, stream, outbox) => {
                self.sessions.open_outcomes(session, stream, outbox);
            }
            Input::OutcomesDrained(session, stream) => self.sessions.on_drained(session, stream),
            Input::SubmitHalfClosed(session, stream) => self.sessions.half_close(session, stream),
            Input::StreamClosed(session, stream) => {
                if self.sessions.close(session, stream) {
                    self.feed(Event::SessionClosed { session }, effects);
                }
            }
            Input::UpstreamOpened(upstream) => self.on_upstream(upstream, effects),
            Input::FromUpstream(stream, words) => self.on_words(stream, words, effects),
            Input::UpstreamClosed(stream) => {
                if self.upstream.as_ref().is_some_and(|u| u.stream == stream) {
                    self.upstream = None;
                    self.worker.on_disconnected();
                }
            }
            Input::Measured(load, score) => self.measured = (load, score),
            Input::Look(look) => look(self),
        }
    }

    /// Lets the right half of the core decide.
    pub(super) fn feed(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let now = self.clock.now();
        match &event {
            Event::LeaderConnected { .. }
            | Event::TasksAssigned { .. }
            | Event::TasksRevoked { .. }
            | Event::TasksKilled { .. }
            | Event::ReportsSettled { .. }
            | Event::AttemptEnded { .. } => self.worker.on_event(now, event, effects),
            Event::DrainStarted => {
                self.worker.on_event(now, event, effects);
                self.next_status = now;
            }
            Event::Submitted { session, tasks, .. } => {
                self.sessions.owe(*session, tasks.len());
                self.feed_leader(now, event, effects);
            }
            Event::TimerFired => self.worker.on_event(now, event, effects),
            Event::Applied { changes, .. } => {
                let moved =
                    |c: &Change| matches!(c, Change::Admitted { .. } | Change::Removed { .. });
                self.members_changed |= changes.iter().any(moved);
                self.feed_leader(now, event, effects);
            }
            _ => self.feed_leader(now, event, effects),
        }
    }

    fn feed_leader(&mut self, now: crate::core::Moment, event: Event, effects: &mut Vec<Effect>) {
        let state = self.state.lock();
        if let Some(tally) = self.tally.as_mut().filter(|_| self.leader.leads()) {
            tally.see(self.leader.log_ms(now), &state, &event);
        }
        if let Some(spans) = &mut self.spans {
            spans.see(self.leader.leads(), self.leader.log_ms(now), &state, &event);
        }
        self.leader.on_event(now, &state, event, effects);
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Propose(commands) => self.proposals.push(commands),
                Effect::Accept { session, tasks } => self.sessions.accept(session, tasks),
                Effect::Join { session, task, existing } => {
                    self.sessions.join(session, task, existing);
                }
                Effect::Reject { session, task, refusal } => {
                    self.sessions.reject(session, task, &refusal);
                }
                Effect::Deliver { session, outcomes } => self.sessions.deliver(session, outcomes),
                Effect::TellProgress { session, task, progress } => {
                    self.sessions.tell_progress(session, task, progress);
                }
                Effect::ConfirmRead { session, tasks } => {
                    self.proposals.confirm(Event::ReadConfirmed { session, tasks });
                }
                Effect::DenyKnowledge { session, tasks } => self.sessions.deny(session, tasks),
                Effect::OpenSession { member } => self.open_link(member),
                Effect::CloseSession { node } => {
                    self.links.remove(&node);
                }
                Effect::Assign { node, assignments } => self.send_assignments(node, assignments),
                Effect::Revoke { node, tasks } => self.say(node, Word::Revoke(tasks)),
                Effect::Kill { node, tasks } => self.say(node, Word::Kill(tasks)),
                Effect::Settle { node, tasks } => self.say(node, Word::Settle(tasks)),
                Effect::Record(record) => drop(self.history.push(record)),
                Effect::Run(assignment) => self.run_attempt(assignment),
                Effect::KillRunner { task, token } => self.kill_attempt(task, token),
                Effect::SendInventory { term, held } => {
                    let status = self.status();
                    if let Some(upstream) = &mut self.upstream {
                        upstream.inventory(term, self.me.incarnation, &held, &status);
                    }
                }
                Effect::SendReports { reports } => {
                    if let Some(upstream) = &mut self.upstream {
                        upstream.report(reports);
                    }
                }
                Effect::SendRelease { released, kept } => self.take_back(&[], released, kept),
                Effect::TakeBack { staged, released, kept } => {
                    self.take_back(&staged, released, kept);
                }
                Effect::AskForWork { free_slots } => {
                    if let Some(upstream) = &self.upstream {
                        let load = &self.measured.0;
                        let cpu_available = (load.cpu_available + load.tasks_cpu).min(1.0);
                        upstream.ask_for_work(free_slots, cpu_available);
                    }
                }
                // The stream of the old leader has been replaced already; its words end here.
                Effect::RefuseStaleLeader { .. } => {}
            }
        }
        self.start_attempts();
    }

    /// Several times within a lease, a node says how it is; a little early, if it is awake anyway.
    fn tell_status(&mut self, now: crate::core::Moment) {
        let period = (self.config.limits.worker_lease / 4).min(STATUS_EVERY);
        if now.after(period / 3) < self.next_status {
            return;
        }
        self.next_status = now.after(period);
        let mut status = self.status();
        if let Some(upstream) = &mut self.upstream {
            status.progress = self.hands.take_progress();
            upstream.status(&status);
        }
    }

    /// The voters changed.
    pub fn see_voters(&mut self, voters: BTreeSet<NodeId>) {
        self.members_changed |= self.voters != voters;
        self.voters = voters;
    }

    /// How this node is.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            score: self.measured.1,
            load: self.measured.0,
            queued: self.worker.queued() as u32,
            running: self.worker.running(),
            draining: self.worker.is_draining(),
            progress: Vec::new(),
        }
    }
}
