//! Terms, keys and duplicates through the leader: a log that commits at once, nodes that are played by the test.

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
        let spec = TaskSpec {
            function: FunctionRef { name: function.name.clone(), hash: function.hash },
            ..spec
        };
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

#[test]
fn a_queue_timeout_goes_on_under_the_next_leader_however_wrong_its_clock() {
    for wall_ms in [NOON_MS, NOON_MS + HOUR_MS, NOON_MS - HOUR_MS] {
        let mut bench = Bench::new(0);
        bench.submit(with_terms(1, 0, 5_000, 0));
        bench.pass(3_000);
        bench.elect(wall_ms);
        bench.pass(1_900);
        assert_eq!(bench.outcome(1), None, "clock off by {} ms", wall_ms as i64 - NOON_MS as i64);
        assert_eq!(bench.why(1).0, "no_node");
        bench.pass(200);
        assert_eq!(bench.outcome(1), Some(Outcome::NeverStarted(5_000)));
    }
}

#[test]
fn after_all_were_down_the_wall_clock_says_how_long() {
    let mut bench = Bench::new(0);
    bench.submit(with_terms(1, 0, 0, HOUR_MS));
    let mut restarted = leader(3);
    let voters = BTreeSet::new();
    let gained = |wall_ms| Event::LeadershipGained { term: 9, wall_ms, followed: false, voters };
    restarted.on_event(Moment(5), &bench.state, gained(NOON_MS + 2 * HOUR_MS), &mut vec![]);
    bench.leader = restarted;
    bench.now = Moment(5);
    bench.pass(1);
    assert_eq!(bench.outcome(1), Some(Outcome::PastDeadline(HOUR_MS)));
}

#[test]
fn an_assigned_task_expires_only_if_its_node_says_that_it_has_not_started() {
    let mut bench = Bench::new(1);
    for id in [1, 2] {
        bench.submit(with_terms(id, 0, 1_000, 0));
        assert_eq!(bench.holder(id), Some(NodeId(1)));
    }
    bench.run(NodeId(1), 1);
    bench.pass(1_001);
    assert!(!bench.said(&Effect::Revoke { node: NodeId(1), tasks: vec![TaskId(1)] }), "it runs");
    assert!(bench.said(&Effect::Revoke { node: NodeId(1), tasks: vec![TaskId(2)] }));
    assert_eq!(bench.outcome(2), None);
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] });
    assert_eq!(bench.outcome(2), Some(Outcome::NeverStarted(1_000)));
    bench.pass(10_000);
    assert_eq!(bench.outcome(1), None);
    bench.report(1, value());
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
}

#[test]
fn a_deadline_kills_what_runs() {
    let mut bench = Bench::new(1);
    bench.submit(with_terms(1, 0, 0, 2_000));
    bench.run(NodeId(1), 1);
    let sent = bench.effects.iter().find_map(|effect| match effect {
        Effect::Assign { assignments, .. } => Some(assignments[0].end_by_ms),
        _ => None,
    });
    assert_eq!(sent, Some(NOON_MS + 2_000), "the callback is told");
    bench.pass(2_001);
    assert_eq!(bench.outcome(1), Some(Outcome::PastDeadline(2_000)));
    assert!(bench.said(&Effect::Kill { node: NodeId(1), tasks: vec![TaskId(1)] }));
    assert_eq!(bench.leader.next_deadline().map(|at| at > bench.now), Some(true));
}

#[test]
fn a_delayed_start_and_a_back_off_survive_a_change_of_leader() {
    let mut bench = Bench::new(1);
    bench.submit(with_terms(1, 3_000, 0, 0));
    bench.submit(spec(2));
    bench.report(2, failure());
    bench.pass(500);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, None));
    bench.elect(NOON_MS + HOUR_MS);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, None));
    assert_eq!(bench.why(1).0, "delayed");
    assert!(bench.why(2).1.contains("retry 1 of 3 comes in"), "{:?}", bench.why(2));
    bench.pass(1_000);
    assert_eq!((bench.holder(1), bench.holder(2)), (None, Some(NodeId(1))));
    bench.pass(1_500);
    assert_eq!(bench.holder(1), Some(NodeId(1)));
}

#[test]
fn a_duplicate_takes_nothing_from_the_task_that_is_there() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    bench.report(1, failure());
    for _ in 0..5 {
        bench.submit(spec(1));
    }
    bench.pass(2_000);
    assert_eq!(bench.holder(1), Some(NodeId(1)), "its retry came");
    for id in 2..8 {
        bench.submit(TaskSpec { id: TaskId(id), ..with_key(1, OnDuplicate::Join) });
    }
    let post = &bench.leader.roster()[&NodeId(1)];
    assert_eq!(
        (post.holds.coming(), post.holds.len()),
        (0, 2),
        "no place is lost to a joined task"
    );
    let joined = Effect::Join { session: SESSION, task: TaskId(3), existing: TaskId(2) };
    assert!(bench.said(&joined));
    bench.submit(with_key(9, OnDuplicate::Reject));
    assert_eq!(bench.leader.roster()[&NodeId(1)].holds.coming(), 0);
}

#[test]
fn an_old_id_is_refused_unless_its_task_is_known() {
    let mut bench = Bench::new(0);
    let id = u128::from(NOON_MS - 23 * HOUR_MS) << 80 | 0x7 << 76 | 0b10 << 62;
    bench.submit(spec(id));
    assert_eq!(bench.state.live().len(), 1);
    bench.pass(2 * HOUR_MS);
    bench.submit(spec(id));
    bench.submit(spec(id + 1));
    let refused =
        |task| Effect::Reject { session: SESSION, task: TaskId(task), refusal: Refusal::IdExpired };
    assert!(!bench.said(&refused(id)));
    assert!(bench.said(&refused(id + 1)));
}

#[test]
fn bounds_are_written_down_once_and_again_when_they_are_others() {
    let mut bench = Bench::new(1);
    let gain = |bench: &mut Bench| {
        bench.term += 1;
        let (term, wall_ms, before) = (bench.term, NOON_MS, bench.state.applied());
        let voters = BTreeSet::new();
        bench.tell(Event::LeadershipGained { term, wall_ms, followed: true, voters });
        bench.state.applied() > before
    };
    assert!(!gain(&mut bench), "the first leader of this cluster did it");
    let mut config = Config::default();
    config.limits.crash_budget += 1;
    bench.leader = Leader::new(NodeId(1), Arc::new(config), 0);
    assert!(gain(&mut bench), "this one has others");
    assert!(!gain(&mut bench));
}

#[test]
fn a_name_nobody_registered_is_refused_once_every_voter_was_heard_or_had_its_time() {
    let mut bench = Bench::new(1);
    bench.term += 1;
    let voters = BTreeSet::from([NodeId(1), NodeId(2)]);
    let (term, wall_ms) = (bench.term, NOON_MS);
    bench.tell(Event::LeadershipGained { term, wall_ms, followed: true, voters });
    let ask = |bench: &mut Bench, id| {
        let function = FunctionRef { name: "late.one".into(), hash: FunctionHash(0) };
        let tasks = vec![Arc::new(TaskSpec { function, ..spec(id) })];
        bench.tell(Event::Submitted { session: SESSION, functions: vec![], tasks });
    };
    let refused = |bench: &Bench, wanted: u128| {
        bench.effects.iter().find_map(|effect| match effect {
            Effect::Reject { task, refusal, .. } if *task == TaskId(wanted) => {
                Some(refusal.clone())
            }
            _ => None,
        })
    };
    ask(&mut bench, 1);
    assert_eq!(refused(&bench, 1), Some(Refusal::Gathering));
    bench.join(NodeId(2));
    ask(&mut bench, 2);
    assert!(matches!(refused(&bench, 2), Some(Refusal::UnknownFunction { .. })));
    // Another, of whose voters one never comes.
    let voters = BTreeSet::from([NodeId(1), NodeId(9)]);
    bench.tell(Event::LeadershipGained { term: term + 1, wall_ms, followed: true, voters });
    ask(&mut bench, 3);
    assert_eq!(refused(&bench, 3), Some(Refusal::Gathering));
    bench.pass(Config::default().limits.worker_lease.as_millis() as u64);
    ask(&mut bench, 4);
    assert!(matches!(refused(&bench, 4), Some(Refusal::UnknownFunction { .. })));
}

#[test]
fn why_says_who_is_full_who_runs_and_how_it_ended() {
    let mut bench = Bench::new(2);
    for id in 1..=5 {
        bench.submit(spec(id));
    }
    bench.pass(3_200);
    assert_eq!(
        bench.why(5),
        ("full", "all 2 nodes in reach are full: queue 1, oldest 3.2 s, 0 ahead of it".to_owned())
    );
    let node = bench.holder(1).unwrap();
    assert_eq!(bench.why(1).0, "assigned");
    bench.run(node, 1);
    let words = format!("it runs on n{}, attempt 1, given there 3.2 s ago", node.0);
    assert_eq!(bench.why(1), ("running", words));
    bench.report(1, value());
    assert_eq!(
        bench.why(1),
        ("finished", format!("succeeded on n{} 0.0 s ago, after 1 attempt", node.0))
    );
    assert_eq!(bench.why(77).0, "unknown");
    let told = explain(&bench.leader, &bench.state, bench.now, TaskId(1));
    let kinds: Vec<&str> = told.history.iter().map(|step| step.kind).collect();
    assert_eq!(kinds, ["accepted", "assigned", "succeeded"]);
    assert_eq!(told.history[2].at_ms, NOON_MS + 3_200);
}

#[test]
fn a_node_that_was_started_again_begins_no_attempt_under_an_old_token() {
    let mut bench = Bench::new(1);
    let node = NodeId(1);
    bench.submit(spec(1));
    let old = bench.state.live()[&TaskId(1)].token();
    assert_ne!(old, Token(0));
    bench.effects.clear();
    // The leader's link finds it before it was admitted as what it is now.
    bench.tell(Event::SessionBroken { node, refused: false });
    bench.tell(Event::InventoryArrived { node, incarnation: 1, held: vec![] });
    let sent = |effect: &Effect| matches!(effect, Effect::Assign { .. });
    assert!(!bench.effects.iter().any(sent), "{:?}", bench.effects);
    let again = Member { incarnation: 1, ..bench.state.members()[&node].clone() };
    bench.tell(Event::JoinAsked { member: again, functions: vec![] });
    bench.tell(Event::InventoryArrived { node, incarnation: 1, held: vec![] });
    bench.tell(Event::TimerFired);
    let live = &bench.state.live()[&TaskId(1)];
    assert!(live.token() > old && live.attempt == 2, "{live:?}");
    assert!(bench.effects.iter().any(sent));
}

fn needing(id: u128, needs: Needs) -> TaskSpec {
    TaskSpec { needs: Some(Arc::new(needs)), ..spec(id) }
}

fn gpus(amount: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("gpu".to_owned(), amount * 1_000)])
}

fn at(x: f64) -> Member {
    Member { slots: 1, position: Position { x, y: 0.0 }, ..Member::default() }
}

#[test]
fn a_task_nobody_could_run_says_so_at_once_holds_up_no_other_and_runs_when_a_node_comes() {
    let mut bench = Bench::new(2);
    let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    bench.submit(needing(1, Needs { labels, resources: gpus(2), ..Needs::default() }));
    bench.submit(needing(2, Needs { slots: 3, ..Needs::default() }));
    for id in 3..=6 {
        bench.submit(spec(id));
        assert!(bench.holder(id).is_some(), "{id} waits behind one that cannot run");
    }
    let words = "no member could run it, however idle: it needs gpu=2 (0 of 2 offer so much, the most \
                 is 0) and label zone=\"eu\" (0 of 2 have it)";
    assert_eq!(bench.why(1), ("infeasible", words.to_owned()));
    assert!(bench.why(2).1.contains("cpu=3 (0 of 2 have so many slots, the most is 1)"));
    let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    bench.join_as(NodeId(3), Member { slots: 4, labels, resources: gpus(2), ..Member::default() });
    assert_eq!((bench.holder(1), bench.holder(2)), (Some(NodeId(3)), Some(NodeId(3))));
}

#[test]
fn resources_are_held_from_assignment_to_outcome() {
    let mut bench = Bench::new(0);
    bench.join_as(NodeId(1), Member { slots: 8, resources: gpus(2), ..Member::default() });
    for id in 1..=3 {
        bench.submit(needing(id, Needs { resources: gpus(1), ..Needs::default() }));
    }
    assert_eq!((bench.holder(2), bench.holder(3)), (Some(NodeId(1)), None));
    assert_eq!(bench.why(3).0, "full");
    bench.report(1, value());
    assert_eq!(bench.holder(3), Some(NodeId(1)));
    bench.elect(NOON_MS);
    bench.submit(needing(4, Needs { resources: gpus(1), ..Needs::default() }));
    assert_eq!(bench.holder(4), None, "the next leader knows what is taken");
    bench.report(2, value());
    assert_eq!(bench.holder(4), Some(NodeId(1)));
}

#[test]
fn a_task_out_of_reach_waits_until_its_node_moves_or_is_relayed() {
    let config = |out_of_reach| Config { assign_reach: 2.0, out_of_reach, ..Config::default() };
    let needs = || Needs { resources: gpus(1), ..Needs::default() };
    let far = || Member { resources: gpus(1), ..at(4.0) };
    let mut bench = Bench::with(config(OutOfReach::Wait), 1);
    bench.join_as(NodeId(2), at(2.0));
    bench.join_as(NodeId(3), far());
    bench.submit(needing(1, needs()));
    let (kind, words) = bench.why(1);
    assert_eq!(kind, "out_of_reach");
    assert!(
        words.contains("1 are out of reach") && words.contains("out_of_reach = wait"),
        "{words}"
    );
    bench.submit(spec(2));
    assert!(bench.holder(2).is_some_and(|node| node != NodeId(3)));
    bench.tell(Event::MoveAsked { node: NodeId(3), position: Position { x: 1.0, y: 1.0 } });
    assert_eq!(bench.holder(1), Some(NodeId(3)));
    let mut bench = Bench::with(config(OutOfReach::Relay), 1);
    bench.join_as(NodeId(3), far());
    bench.submit(needing(1, needs()));
    assert_eq!(bench.why(1).0, "out_of_reach");
    assert!(bench.why(1).1.contains("no chain of members"), "{:?}", bench.why(1));
    bench.join_as(NodeId(2), at(2.0));
    assert_eq!(bench.holder(1), Some(NodeId(3)), "by way of the second");
}

#[test]
fn a_leader_that_moves_reaches_others_and_a_move_outlives_a_new_session() {
    let mut bench = Bench::with(Config { assign_reach: 1.0, ..Config::default() }, 1);
    bench.join_as(NodeId(2), Member { slots: 4, ..at(9.0) });
    bench.submit(spec(1));
    assert_eq!(bench.holder(1), Some(NodeId(1)));
    bench.effects.clear();
    let position = Position { x: 9.0, y: 0.0 };
    bench.tell(Event::MoveAsked { node: NodeId(1), position });
    let opened = |effect: &Effect| matches!(effect, Effect::OpenSession { .. });
    assert!(!bench.effects.iter().any(opened), "nobody is dialled for it");
    for id in 2..=4 {
        bench.submit(spec(id));
        assert_eq!(bench.holder(id), Some(NodeId(2)), "{id}");
    }
    let known = bench.state.members()[&NodeId(1)].clone();
    bench.tell(Event::SessionBroken { node: NodeId(1), refused: false });
    let again = Member { position: Position::default(), ..known };
    bench.tell(Event::JoinAsked { member: again, functions: vec![] });
    assert_eq!(bench.state.members()[&NodeId(1)].position, position, "it still stands there");
}

#[test]
fn the_leader_learns_what_tasks_take_and_streams_short_ones() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    bench.pass(10);
    bench.report(1, value());
    for id in 2..=20 {
        bench.submit(spec(id));
    }
    let held = bench.leader.roster()[&NodeId(1)].holds.len();
    assert_eq!(held, 5, "5 ms of tasks of 1 ms");
    // A node that says it takes no time is believed as far as it can be true.
    let took = Duration::from_secs(3_600);
    let holder = bench.state.live()[&TaskId(2)].holder.unwrap();
    let (token, output) = (holder.token, Bytes::new());
    let ended = Ended { task: TaskId(2), token, report: value(), output, took };
    bench.pass(1);
    bench.tell(Event::Reported { node: NodeId(1), reports: vec![ended] });
    assert!(bench.leader.roster()[&NodeId(1)].speed.ratio() > 0.9);
}

#[test]
fn steals_are_counted_by_what_became_of_them() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    for id in 1..=6 {
        bench.submit(spec(id));
    }
    bench.join(NodeId(2));
    let ask = |bench: &mut Bench, cpu_available| {
        bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available });
    };
    let count = |bench: &Bench, why: &str| {
        bench.leader.thefts().refused().find(|(reason, _)| *reason == why).unwrap().1
    };
    ask(&mut bench, 0.1);
    ask(&mut bench, 1.0);
    let asked = bench.effects.iter().find_map(|effect| match effect {
        Effect::Revoke { node: NodeId(1), tasks } => Some(tasks.clone()),
        _ => None,
    });
    assert_eq!(asked, Some(vec![TaskId(6), TaskId(5), TaskId(4)]));
    ask(&mut bench, 1.0);
    assert_eq!((count(&bench, "cpu_floor"), count(&bench, "not_idle")), (1, 1));
    bench.tell(Event::Kept { node: NodeId(1), tasks: vec![TaskId(6)] });
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(5), TaskId(4)] });
    assert_eq!((count(&bench, "started"), bench.leader.thefts().granted()), (1, 2));
    assert_eq!((bench.holder(4), bench.holder(6)), (Some(NodeId(2)), Some(NodeId(1))));
    assert_eq!(bench.leader.thefts().asked(), 3);
    // Stolen and finished meanwhile: the answer to an old revocation changes nothing.
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(4)] });
    assert_eq!(bench.holder(4), Some(NodeId(2)));
}

#[test]
fn a_thief_that_drains_gets_nothing_and_what_was_given_up_waits_for_others() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    for id in 1..=4 {
        bench.submit(spec(id));
    }
    bench.join(NodeId(2));
    bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available: 1.0 });
    let status = NodeStatus { draining: true, ..NodeStatus::default() };
    bench.tell(Event::StatusArrived { node: NodeId(2), status });
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(4)] });
    let refused: BTreeMap<&str, u64> = bench.leader.thefts().refused().collect();
    assert_eq!(refused["thief_gone"], 1);
    assert_eq!(bench.holder(4), Some(NodeId(1)), "it was placed again");
}

#[test]
fn progress_of_the_live_attempt_is_told_to_who_submitted_and_who_follows() {
    let mut bench = Bench::new(1);
    bench.submit(spec(1));
    let follower = SessionId(9);
    bench.tell(Event::Followed { session: follower, tasks: vec![TaskId(1)] });
    let how = |done| Progress { done, total: 4.0, note: "half".into() };
    let live = bench.state.live()[&TaskId(1)].token();
    let progress = vec![
        (TaskId(1), live, how(2.0)),
        (TaskId(1), Token(live.0 + 1), how(3.0)),
        (TaskId(7), live, how(4.0)),
    ];
    bench.effects.clear();
    let status = NodeStatus { progress, ..NodeStatus::default() };
    bench.tell(Event::StatusArrived { node: NodeId(1), status });
    let told = |session| Effect::TellProgress { session, task: TaskId(1), progress: how(2.0) };
    bench.effects.retain(|effect| matches!(effect, Effect::TellProgress { .. }));
    assert_eq!(bench.effects, [told(follower), told(SESSION)]);
}

#[test]
fn a_lease_is_looked_at_once_in_a_while_and_still_ends_on_time() {
    let mut bench = Bench::new(3);
    let lease_ms = Config::default().limits.worker_lease.as_millis() as u64;
    let lost = |bench: &Bench| bench.leader.roster().values().filter(|p| p.lost).count();
    bench.now = bench.now.after(Duration::from_millis(lease_ms - 1));
    bench.leader.on_status(bench.now, &bench.state, NodeId(2), NodeStatus::default());
    bench.tell(Event::TimerFired);
    assert_eq!((lost(&bench), bench.leader.roster().len()), (0, 3));
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 2, "the third was not heard of");
    bench.now = bench.now.after(Duration::from_millis(lease_ms - 2));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 2);
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.tell(Event::TimerFired);
    assert_eq!(bench.leader.roster().len(), 1, "nor the second any more");
}

#[test]
fn an_assignment_that_did_not_enter_the_log_is_not_proposed_again_at_once() {
    let (node, task) = (NodeId(1), TaskId(1));
    let mut bench = Bench::new(0);
    bench.submit(spec(1));
    bench.join(node);
    let replaces = bench.state.live()[&task].token();
    let cause = ReleaseCause::HandedBack;
    bench.commit(vec![Command::Release { task, replaces, cause }]);
    let (to, cause) = (node, AssignCause::Placed);
    let failed = Command::Assign { task, to, cause, replaces: Token(0) };
    bench.tell(Event::ProposalFailed { commands: vec![failed] });
    bench.submit(spec(2));
    assert_eq!(bench.holder(2), None);
    let due = bench.leader.next_deadline().expect("it leads");
    assert!(due > bench.now && due <= bench.now.after(Duration::from_millis(20)));
    bench.pass(20);
    assert_eq!(bench.holder(2), Some(node));
}

fn idempotent(id: u128) -> TaskSpec {
    TaskSpec { idempotent: true, ..spec(id) }
}

#[test]
fn one_that_takes_too_long_gets_a_copy_and_the_first_to_end_counts() {
    let mut bench = Bench::new(3);
    bench.teach();
    bench.submit(idempotent(1));
    let first = bench.holder(1).unwrap();
    bench.pass(200);
    assert_eq!(bench.copy(1), None, "it is not late yet");
    bench.pass(100);
    let copy = bench.copy(1).unwrap();
    assert_ne!(copy, first);
    let (kind, why) = bench.why(1);
    assert!(kind == "running" && why.contains("has a copy, attempt 2"), "{why}");
    bench.pass(10_000);
    assert_eq!(bench.state.counters().copies, 1, "one is enough");
    let token = bench.state.live()[&TaskId(1)].copy.unwrap().token;
    let took = Duration::from_millis(1);
    let reports =
        vec![Ended { task: TaskId(1), token, report: value(), took, output: Default::default() }];
    bench.tell(Event::Reported { node: copy, reports });
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
    assert!(bench.said(&Effect::Kill { node: first, tasks: vec![TaskId(1)] }));
    assert!(!bench.said(&Effect::Kill { node: copy, tasks: vec![TaskId(1)] }));
    assert_eq!(bench.state.counters().copies_first, 1);
    assert!(bench.leader.roster().values().all(|post| post.holds.is_empty()));
}

#[test]
fn nothing_is_copied_that_may_not_be_or_that_nobody_has_room_for() {
    let check = |config: Config, nodes: u64, taught: bool, task: TaskSpec| {
        let mut bench = Bench::with(config, nodes);
        if taught {
            bench.teach();
        }
        let id = task.id.0;
        bench.submit(task);
        for _ in 0..20 {
            bench.pass(300);
        }
        assert!(bench.holder(id).is_some());
        bench.copy(id)
    };
    assert!(check(Config::default(), 2, true, idempotent(1)).is_some());
    assert_eq!(check(Config::default(), 2, true, spec(1)), None, "it may not run twice");
    assert_eq!(check(Config::default(), 1, true, idempotent(1)), None, "nobody else is there");
    assert_eq!(check(Config::default(), 2, false, idempotent(1)), None, "its kind is not known");
    let off = Config { speculate: false, ..Config::default() };
    assert_eq!(check(off, 2, true, idempotent(1)), None);
}

#[test]
fn copies_take_no_more_than_their_share_and_no_slot_that_others_wait_for() {
    let mut config = Config::default();
    config.limits.copies_ratio = 0.25;
    let mut bench = Bench::with(config, 8);
    bench.teach();
    for id in 1..=4 {
        bench.submit(idempotent(id));
    }
    let copies = |bench: &Bench| (1..=4).filter(|id| bench.copy(*id).is_some()).count();
    bench.pass(300);
    assert_eq!(copies(&bench), 2, "a quarter of eight slots");
    let done = (1..=4).find(|id| bench.copy(*id).is_some()).unwrap();
    bench.report(done, value());
    bench.pass(200);
    assert_eq!(copies(&bench), 2, "there is room for another one");
    let mut bench = Bench::new(2);
    bench.teach();
    for id in [1, 2] {
        bench.submit(idempotent(id));
    }
    bench.pass(300);
    assert_eq!(bench.state.counters().copies, 0, "both slots are taken");
    bench.report(2, value());
    bench.pass(200);
    assert!(bench.copy(1).is_some());
}

#[test]
fn a_copy_survives_its_leader_and_the_node_beside_which_it_runs() {
    let mut bench = Bench::new(2);
    bench.teach();
    bench.submit(idempotent(1));
    let first = bench.holder(1).unwrap();
    bench.pass(300);
    let copy = bench.copy(1).unwrap();
    bench.elect(NOON_MS + 1_000);
    let held = |bench: &Bench, node| bench.leader.roster()[&node].holds.len();
    assert_eq!((held(&bench, first), held(&bench, copy)), (1, 1));
    bench.tell(Event::SessionBroken { node: first, refused: true });
    assert_eq!((bench.holder(1), bench.copy(1)), (Some(copy), None));
    bench.pass(10_000);
    bench.report(1, value());
    assert!(matches!(bench.outcome(1), Some(Outcome::Value(_))));
    assert_eq!(bench.state.counters().reassigned, 0);
}

/// The leader's node, and a second one it may not give anything, which may steal from the first.
fn thief_out_of_reach() -> Bench {
    let mut config = Config { assign_reach: 1.0, ..Config::default() };
    config.steal.cpu_floor = 0.0;
    let mut bench = Bench::with(config, 1);
    let position = Position { x: 1.5, y: 0.0 };
    bench.join_as(NodeId(2), Member { slots: 1, position, ..Member::default() });
    bench
}

fn ask(bench: &mut Bench) {
    bench.tell(Event::WorkAsked { thief: NodeId(2), free_slots: 1, cpu_available: 1.0 });
}

fn revoked(bench: &Bench) -> Vec<TaskId> {
    let revoked = bench.effects.iter().filter_map(|effect| match effect {
        Effect::Revoke { node: NodeId(1), tasks } => Some(tasks.clone()),
        _ => None,
    });
    revoked.flatten().collect()
}

#[test]
fn a_thief_that_asked_in_vain_is_served_as_soon_as_a_node_in_its_reach_has_work() {
    let mut bench = thief_out_of_reach();
    ask(&mut bench);
    bench.submit(spec(1));
    assert!(revoked(&bench).is_empty(), "one task for one slot");
    bench.run(NodeId(1), 1);
    bench.submit(spec(2));
    assert_eq!(revoked(&bench), [TaskId(2)], "nobody asked again");
    bench.submit(spec(3));
    assert_eq!(revoked(&bench).len(), 1, "it is being served");
    bench.tell(Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] });
    assert_eq!(bench.holder(2), Some(NodeId(2)));
    assert_eq!(revoked(&bench).len(), 1, "it has work now");
    // A request holds for half a second.
    let mut bench = thief_out_of_reach();
    ask(&mut bench);
    bench.pass(600);
    for id in 1..=3 {
        bench.submit(spec(id));
    }
    assert!(revoked(&bench).is_empty());
}

#[test]
fn a_thief_whose_loot_had_started_gets_something_else_until_nothing_is_left() {
    let mut bench = thief_out_of_reach();
    for id in 1..=4 {
        bench.submit(spec(id));
    }
    bench.run(NodeId(1), 1);
    ask(&mut bench);
    let mut kept = BTreeSet::new();
    for _ in 0..10 {
        let asked: Vec<TaskId> =
            revoked(&bench).into_iter().filter(|task| !kept.contains(task)).collect();
        kept.extend(asked.iter().copied());
        if asked.is_empty() {
            break;
        }
        bench.tell(Event::Kept { node: NodeId(1), tasks: asked });
    }
    assert_eq!(kept, (2..=4).map(TaskId).collect(), "each is asked back once");
    assert_eq!(revoked(&bench).len(), 3);
}

#[test]
fn a_thief_for_whom_nothing_was_worth_it_is_served_when_what_runs_there_takes_too_long() {
    let mut bench = thief_out_of_reach();
    bench.teach();
    bench.submit(spec(1));
    bench.run(NodeId(1), 1);
    bench.submit(spec(2));
    ask(&mut bench);
    assert!(revoked(&bench).is_empty(), "it would be done as soon where it is");
    // Nobody says anything meanwhile.
    for _ in 0..10 {
        bench.now = bench.leader.next_deadline().unwrap().max(bench.now);
        bench.tell(Event::TimerFired);
    }
    assert_eq!(revoked(&bench), [TaskId(2)]);
}

#[test]
fn the_next_in_a_nodes_queue_begins_when_the_one_before_it_has_ended() {
    let mut bench = Bench::with(Config { placement: Placement::Random, ..Config::default() }, 1);
    (1..=3).for_each(|id| bench.submit(spec(id)));
    let started = |bench: &Bench, task| {
        let held = bench.leader.roster()[&NodeId(1)].holds.get(TaskId(task)).cloned();
        held.and_then(|held| held.started)
    };
    assert!(started(&bench, 1).is_some() && started(&bench, 2).is_none());
    bench.pass(5);
    bench.report(1, value());
    assert_eq!((started(&bench, 2), started(&bench, 3)), (Some(bench.now), None));
}

#[test]
fn what_a_node_gave_up_is_not_sent_there_again_before_the_log_has_moved_it() {
    let mut bench = thief_out_of_reach();
    for id in 1..=2 {
        bench.submit(spec(id));
    }
    bench.run(NodeId(1), 1);
    ask(&mut bench);
    assert_eq!(revoked(&bench), [TaskId(2)]);
    let held: Vec<_> = bench.held(NodeId(1)).into_iter().filter(|(id, _)| id.0 == 1).collect();
    let mut effects = Vec::new();
    let released = Event::Released { node: NodeId(1), tasks: vec![TaskId(2)] };
    let broken = Event::SessionBroken { node: NodeId(1), refused: false };
    let back = Event::InventoryArrived { node: NodeId(1), incarnation: 0, held };
    for event in [released, broken, back] {
        bench.leader.on_event(bench.now, &bench.state, event, &mut effects);
        bench.leader.flush(bench.now, &bench.state, &mut effects);
    }
    let sent = effects.iter().any(|effect| matches!(effect, Effect::Assign { .. }));
    assert!(!sent, "{effects:?}");
    let commands = effects.into_iter().filter_map(|effect| match effect {
        Effect::Propose(commands) => Some(commands),
        _ => None,
    });
    let commands: Vec<Command> = commands.flatten().collect();
    // Its thief is gone by the time this enters the log: it waits again, and nobody is stuck with it.
    bench.state.apply(
        bench.state.applied() + 1,
        &Batch { at_ms: 0, commands: vec![Command::Remove { node: NodeId(2) }] },
    );
    bench.commit(commands);
    assert_eq!(bench.holder(2), Some(NodeId(1)), "it was placed anew");
    let again = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Assign { node: NodeId(1), assignments } => Some(assignments[0].attempt),
        _ => None,
    });
    assert_eq!(again, Some(2));
}
