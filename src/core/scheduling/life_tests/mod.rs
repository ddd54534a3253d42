//! Terms, keys and duplicates through the leader: a log that commits at once, nodes that are played by the test.

mod attempts;
mod copies;
mod identity;
mod needs;
mod steals;
mod stories;
mod times;

use super::Leader;
use super::explanation::explain;
use crate::config::{Config, OutOfReach, Placement};
use crate::core::Moment;
use crate::core::boundary::{Effect, Ended, Event, NodeStatus, Progress, Refusal};
use crate::core::cluster::command::{
    AssignCause, Batch, Claim, Codec, Command, Failure, Function, FunctionRef, FunctionSource,
    Member, OnDuplicate, Outcome, Payload, ReleaseCause, Report, TaskSpec, Terms,
};
use crate::core::cluster::needs::Needs;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Token};
use crate::core::load::Position;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const SESSION: SessionId = SessionId(1);
const HOUR_MS: u64 = 3_600_000;
/// The wall clock of the first leader when it begins.
const NOON_MS: u64 = 1_800_000_000_000;

struct Bench {
    leader: Leader,
    /// Follows, and leads next.
    successor: Leader,
    state: ClusterState,
    now: Moment,
    term: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(nodes: u64) -> Self {
        Bench::with(Config::default(), nodes)
    }

    fn with(config: Config, nodes: u64) -> Self {
        let config = Arc::new(config);
        let mut bench = Bench {
            leader: Leader::new(NodeId(1), config.clone(), 7),
            successor: Leader::new(NodeId(1), config, 8),
            state: ClusterState::default(),
            now: Moment(1_000_000),
            term: 0,
            effects: Vec::new(),
        };
        bench.elect(NOON_MS);
        for id in 1..=nodes {
            bench.join(NodeId(id));
        }
        bench
    }

    /// A new leader begins, which followed the last one and has its own idea of the time of day.
    fn elect(&mut self, wall_ms: u64) {
        self.term += 1;
        self.leader = std::mem::replace(&mut self.successor, leader(self.term));
        let (term, followed) = (self.term, self.term > 1);
        let voters = BTreeSet::new();
        self.tell(Event::LeadershipGained { term, wall_ms, followed, voters });
        let members: Vec<NodeId> = self.state.members().keys().copied().collect();
        for node in members {
            let held = self.held(node);
            let incarnation = self.state.members()[&node].incarnation;
            self.tell(Event::InventoryArrived { node, incarnation, held });
        }
    }

    fn join(&mut self, id: NodeId) {
        self.join_as(id, Member { slots: 1, ..Member::default() });
    }

    fn join_as(&mut self, id: NodeId, like: Member) {
        let (name, address) = (format!("n{}", id.0), id.to_string());
        let member = Member { id, name, address, ..like };
        self.tell(Event::JoinAsked { member, functions: vec![] });
        self.tell(Event::InventoryArrived { node: id, incarnation: 0, held: vec![] });
    }

    fn held(&self, node: NodeId) -> Vec<(TaskId, Token)> {
        let here = |token: &Token| *token != Token(0);
        let live = self.state.live().iter();
        let all = live.flat_map(|(task, live)| {
            live.holder.into_iter().chain(live.copy).map(|holder| (*task, holder))
        });
        all.filter(|(_, holder)| holder.node == node)
            .map(|(task, holder)| (task, holder.token))
            .filter(|(_, token)| here(token))
            .collect()
    }

    /// Feeds one event; whatever is proposed enters the log at once.
    fn tell(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.leader.on_event(self.now, &self.state, event, &mut effects);
        self.leader.flush(self.now, &self.state, &mut effects);
        for effect in effects {
            match effect {
                Effect::Propose(commands) => self.commit(commands),
                other => self.effects.push(other),
            }
        }
    }

    fn commit(&mut self, commands: Vec<Command>) {
        let index = self.state.applied() + 1;
        let at_ms = self.leader.log_ms(self.now);
        let changes = self.state.apply(index, &Batch { at_ms, commands });
        let heard = Event::Applied { index, changes: changes.clone() };
        self.successor.on_event(self.now, &self.state, heard, &mut Vec::new());
        self.tell(Event::Applied { index, changes });
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        for node in self.state.members().keys().copied().collect::<Vec<_>>() {
            // Nobody's lease runs out; what runs is said by `run`.
            let post = self.leader.roster().get(&node);
            let status = post.map(|post| post.status.clone()).unwrap_or_default();
            self.leader.on_status(self.now, &self.state, node, status);
        }
        self.tell(Event::TimerFired);
    }

    fn submit(&mut self, spec: TaskSpec) {
        let function = Function::new("f".into(), FunctionSource::Reference("m:f".into()));
        let spec = TaskSpec { function: function.to_ref(), ..spec };
        let functions = vec![Arc::new(function)];
        let tasks = vec![Arc::new(spec)];
        self.tell(Event::Submitted { session: SESSION, functions, tasks });
    }

    fn run(&mut self, node: NodeId, task: u128) {
        let running = vec![TaskId(task)];
        let status = NodeStatus { running, ..NodeStatus::default() };
        self.tell(Event::StatusArrived { node, status });
    }

    fn report(&mut self, task: u128, report: Report) {
        let holder = self.state.live()[&TaskId(task)].holder.unwrap();
        let took = Duration::from_millis(1);
        let reports = vec![Ended {
            task: TaskId(task),
            token: holder.token,
            report,
            output: Bytes::new(),
            took,
        }];
        self.tell(Event::Reported { node: holder.node, reports });
    }

    /// Where its copy runs.
    fn copy(&self, task: u128) -> Option<NodeId> {
        self.state.live().get(&TaskId(task))?.copy.map(|copy| copy.node)
    }

    /// Three tasks of the one kind have run for a moment.
    fn teach(&mut self) {
        for id in 1_001..=1_003 {
            self.submit(spec(id));
            self.pass(1);
            self.report(id, value());
        }
    }

    fn outcome(&self, task: u128) -> Option<Outcome> {
        self.state.outcome(TaskId(task)).map(|finished| finished.outcome.clone())
    }

    fn holder(&self, task: u128) -> Option<NodeId> {
        self.state.live()[&TaskId(task)].holder.map(|holder| holder.node)
    }

    /// The word why `task` is where it is.
    fn why(&self, task: u128) -> (&'static str, String) {
        let told = explain(&self.leader, &self.state, self.now, TaskId(task));
        (told.kind, told.sentence)
    }

    fn said(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }
}

fn leader(seed: u64) -> Leader {
    Leader::new(NodeId(1), Arc::new(Config::default()), seed)
}

fn spec(id: u128) -> TaskSpec {
    TaskSpec {
        id: TaskId(id),
        session: SESSION,
        function: FunctionRef { name: String::new(), hash: Default::default() },
        codec: Codec::Json,
        blob: None,
        payload: Default::default(),
        retries: 3,
        timeout_ms: 0,
        priority: 5,
        backoff_ms: 1_000,
        terms: Terms::default(),
        claim: None,
        needs: None,
        idempotent: false,
        in_thread: false,
        trace: None,
    }
}

fn with_terms(id: u128, delay_ms: u64, queue_timeout_ms: u64, deadline_ms: u64) -> TaskSpec {
    TaskSpec { terms: Terms { delay_ms, queue_timeout_ms, deadline_ms }, ..spec(id) }
}

fn with_key(id: u128, on_duplicate: OnDuplicate) -> TaskSpec {
    let claim = Some(Box::new(Claim { key: "k".into(), on_duplicate }));
    TaskSpec { claim, ..spec(id) }
}

fn value() -> Report {
    Report::Value(Payload::inline(Codec::Json, "1".into()))
}

fn failure() -> Report {
    let (type_name, message) = ("ValueError".into(), "no".into());
    Report::Failure(Failure { type_name, message, traceback: String::new(), pickled: "".into() })
}
