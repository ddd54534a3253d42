//! How the cluster begins, what can happen next, and what each step does to leader, log and wires.

use super::*;

impl Model {
    /// All tasks are at the first node, one runs; the others have just come and are idle.
    pub(super) fn new(size: Size) -> Self {
        let mut config = Config { placement: Placement::Random, ..Config::default() };
        config.steal.cpu_floor = 0.0;
        config.steal.profit = 0.0;
        config.steal.reach = f64::INFINITY;
        config.limits.crash_budget = 100;
        config.limits.worker_lease = Duration::from_secs(3_600);
        let mut model = Model {
            size,
            left: size.budget,
            now: Moment(1_000_000),
            term: 0,
            leader: Leader::new(LEADER, Arc::new(config), 1),
            state: ClusterState::default(),
            wishes: VecDeque::new(),
            hands: BTreeMap::new(),
            seen: Seen::default(),
            steals: 0,
            copies: 0,
            disturbed: 0,
        };
        model.elect();
        model.join(NodeId(1));
        model.settle();
        if size.budget.waits > 0 {
            model.teach();
        }
        for id in 1..=size.tasks {
            model.submit(id);
        }
        model.settle();
        assert_eq!(model.hands[&NodeId(1)].running.len(), 1);
        for node in 2..=size.nodes {
            model.join(NodeId(node));
        }
        model.settle();
        model
    }

    /// What tasks usually take is known.
    pub(super) fn teach(&mut self) {
        for id in 101..=103 {
            self.submit(id);
            self.settle();
            self.now = self.now.after(Duration::from_millis(100));
            let running = self.hands[&NodeId(1)].running.first().copied();
            let (task, token) = running.expect("it was given to the only node");
            self.finish(NodeId(1), task, token);
            self.settle();
        }
        self.seen = Seen::default();
    }

    /// Everything under way arrives, nothing ends.
    pub(super) fn settle(&mut self) {
        while let Some(step) = self.steps().into_iter().find(|step| {
            matches!(step, Step::Hear(_) | Step::Tell(_) | Step::Call(_) | Step::CommitAll)
        }) {
            self.take(step);
        }
    }

    pub(super) fn join(&mut self, id: NodeId) {
        let hand = Hand {
            worker: Worker::new(1, Duration::ZERO),
            alive: true,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            calls: VecDeque::new(),
            running: BTreeSet::new(),
        };
        self.hands.insert(id, hand);
        let member = Member { id, slots: 1, address: id.to_string(), ..Member::default() };
        self.tell(vec![Event::JoinAsked { member, functions: vec![] }]);
    }

    pub(super) fn submit(&mut self, id: u128) {
        let function = Function::new("f".into(), FunctionSource::Reference("m:f".into()));
        let spec = TaskSpec {
            idempotent: self.size.budget.waits > 0,
            ..TaskSpec::new(TaskId(id), SESSION, function.to_ref())
        };
        let (functions, tasks) = (vec![Arc::new(function)], vec![Arc::new(spec)]);
        self.tell(vec![Event::Submitted { session: SESSION, functions, tasks }]);
    }

    /// What can happen here.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (&node, hand) in &self.hands {
            if !hand.outbox.is_empty() {
                steps.push(Step::Tell(node));
            }
            if !hand.calls.is_empty() {
                steps.push(Step::Call(node));
            }
            if !hand.alive {
                if self.state.members().contains_key(&node) && self.knows(node) {
                    steps.push(Step::Notice(node));
                }
                continue;
            }
            if !hand.inbox.is_empty() {
                steps.push(Step::Hear(node));
            }
            steps
                .extend(hand.running.iter().map(|(task, token)| Step::Finish(node, *task, *token)));
            if self.left.asks > 0 && hand.worker.next_deadline().is_some() {
                steps.push(Step::Ask(node));
            }
            if self.left.deaths > 0 && self.alive() > 1 {
                steps.push(Step::Die(node));
            }
            if self.left.breaks > 0 && self.knows(node) {
                steps.push(Step::Break(node));
            }
        }
        if !self.wishes.is_empty() {
            steps.push(Step::CommitAll);
            if self.wishes.len() > 1 {
                steps.push(Step::Commit);
            }
        }
        if self.left.elections > 0 {
            steps.push(Step::Elect);
        }
        if self.left.waits > 0 {
            steps.push(Step::Wait);
        }
        steps
    }

    pub(super) fn alive(&self) -> usize {
        self.hands.values().filter(|hand| hand.alive).count()
    }

    /// The leader has a session with it, or wants one.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.leader.roster().get(&node).is_some_and(|post| !post.lost)
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Hear(node) => {
                let event = self.hands.get_mut(&node).and_then(|hand| hand.inbox.pop_front());
                self.work(node, event);
            }
            Step::Tell(node) => {
                let event = self.hands.get_mut(&node).and_then(|hand| hand.outbox.pop_front());
                self.tell(event.into_iter().collect());
            }
            Step::Call(node) => {
                let event = self.hands.get_mut(&node).and_then(|hand| hand.calls.pop_front());
                self.tell(event.into_iter().collect());
            }
            Step::Commit => self.commit(1),
            Step::CommitAll => self.commit(self.wishes.len()),
            Step::Finish(node, task, token) => self.finish(node, task, token),
            Step::Ask(node) => self.ask(node),
            Step::Die(node) => self.die(node),
            Step::Notice(node) => self.notice(node),
            Step::Break(node) => self.break_session(node),
            Step::Wait => {
                self.left.waits -= 1;
                self.now = self.now.after(Duration::from_secs(1));
                self.tell(vec![Event::TimerFired]);
            }
            Step::Elect => {
                self.left.elections -= 1;
                self.note_disturbance(None);
                self.elect();
            }
        }
        self.check();
    }

    pub(super) fn tell(&mut self, events: Vec<Event>) {
        let mut effects = Vec::new();
        for event in events {
            self.leader.on_event(self.now, &self.state, event, &mut effects);
        }
        self.leader.flush(self.now, &self.state, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        let term = self.term;
        match effect {
            Effect::Propose(commands) => self.wishes.extend(commands),
            Effect::OpenSession { member } => self.open(member.id),
            Effect::CloseSession { node } => self.cut(node),
            Effect::Assign { node, assignments } => {
                self.post(node, Event::TasksAssigned { term, assignments });
            }
            Effect::Revoke { node, tasks } => self.post(node, Event::TasksRevoked { term, tasks }),
            Effect::Kill { node, tasks } => self.post(node, Event::TasksKilled { term, tasks }),
            Effect::Settle { node, tasks } => {
                self.post(node, Event::ReportsSettled { term, tasks });
            }
            Effect::Deliver { outcomes, .. } => {
                for finished in outcomes {
                    let earlier = self.seen.delivered.insert(finished.task, finished.clone());
                    assert!(earlier.is_none_or(|earlier| earlier == finished), "two outcomes");
                }
            }
            _ => {}
        }
    }

    pub(super) fn post(&mut self, node: NodeId, event: Event) {
        if let Some(hand) = self.hands.get_mut(&node).filter(|hand| hand.alive) {
            hand.inbox.push_back(event);
        }
    }

    /// Whatever is under way to and from a node is lost, but a call that is on no stream.
    pub(super) fn cut(&mut self, node: NodeId) {
        if let Some(hand) = self.hands.get_mut(&node) {
            hand.inbox.clear();
            hand.outbox.clear();
            hand.worker.on_disconnected();
        }
    }

    pub(super) fn open(&mut self, node: NodeId) {
        self.cut(node);
        self.post(node, Event::LeaderConnected { term: self.term, leader: LEADER });
    }

    pub(super) fn elect(&mut self) {
        self.term += 1;
        self.wishes.clear();
        let nodes: Vec<NodeId> = self.hands.keys().copied().collect();
        for node in nodes {
            self.cut(node);
            // The caller calls the leader it knows.
            self.hands.entry(node).and_modify(|hand| hand.calls.clear());
        }
        if self.leader.leads() {
            self.tell(vec![Event::LeadershipLost]);
        }
        let (term, wall_ms, voters) = (self.term, self.now.0 / 1_000, BTreeSet::new());
        self.tell(vec![Event::LeadershipGained { term, wall_ms, followed: true, voters }]);
    }

    pub(super) fn commit(&mut self, count: usize) {
        let commands: Vec<Command> = self.wishes.drain(..count).collect();
        let (index, at_ms) = (self.state.applied() + 1, self.leader.log_ms(self.now));
        let changes = self.state.apply(index, &Batch { at_ms, commands });
        for change in &changes {
            match change {
                Change::Finished { finished, .. } => {
                    assert!(self.seen.finished.insert(finished.task), "finished twice");
                }
                Change::Assigned { cause: AssignCause::Stolen, .. } => self.steals += 1,
                Change::Assigned { cause: AssignCause::Copied, .. } => self.copies += 1,
                Change::LateCompletion { .. } => self.seen.late += 1,
                _ => {}
            }
        }
        self.tell(vec![Event::Applied { index, changes }]);
    }
}
