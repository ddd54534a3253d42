//! What clients ask of the leader: submit, follow, cancel; and what they are told.

use super::leader::Leader;
use crate::config::did_you_mean;
use crate::core::Moment;
use crate::core::boundary::{Effect, Event, Finished, Progress, Refusal};
use crate::core::cluster::command::{Command, Function, FunctionRef, TaskSpec};
use crate::core::cluster::live::spec_bytes;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Token};
use std::sync::Arc;
use std::time::Duration;

/// How soon a client may ask again when the queue is full.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Leader {
    /// A node that does not lead refuses; the client asks the leader.
    pub(super) fn refuse_all(&mut self, event: Event, out: &mut Vec<Effect>) {
        if let Event::Submitted { session, tasks, .. } = event {
            for spec in tasks {
                let refusal = Refusal::NotLeader;
                out.push(Effect::Reject { session, task: spec.id, refusal });
            }
        }
    }

    pub(super) fn on_submitted(
        &mut self,
        now: Moment,
        state: &ClusterState,
        session: SessionId,
        functions: &[Arc<Function>],
        tasks: Vec<Arc<TaskSpec>>,
        out: &mut Vec<Effect>,
    ) {
        let mut commands = self.register(state, functions);
        for spec in tasks {
            let task = spec.id;
            match self.admit(now, state, spec) {
                Ok(spec) => commands.push(self.submit(state, spec)),
                Err(refusal) => out.push(Effect::Reject { session, task, refusal }),
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    /// The commands that make unknown functions known.
    pub(super) fn register(
        &mut self,
        state: &ClusterState,
        functions: &[Arc<Function>],
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        for function in functions {
            let known = state.functions().contains_key(&function.hash)
                && state.newest(&function.name) == Some(function.hash);
            let room = (state.functions().len() + self.registering.len()) as u64
                <= self.config.limits.functions;
            if !known && room && !self.registering.contains_key(&function.hash) {
                self.registering.insert(function.hash, function.name.clone());
                commands.push(Command::Register(function.clone()));
            }
        }
        commands
    }

    /// Checks a task against the bounds and binds it to a function.
    fn admit(
        &self,
        now: Moment,
        state: &ClusterState,
        spec: Arc<TaskSpec>,
    ) -> Result<Arc<TaskSpec>, Refusal> {
        let limits = &self.config.limits;
        let oldest_ms = self.era.wall_ms(now).saturating_sub(limits.id_memory.as_millis() as u64);
        if spec.id.time_ms().is_some_and(|made| made < oldest_ms) && !state.knows(spec.id) {
            return Err(Refusal::IdExpired);
        }
        let tasks = state.live().len() as u64 + self.in_flight;
        let bytes = state.live_bytes() + self.in_flight_bytes;
        if tasks >= limits.queued_tasks || bytes + spec_bytes(&spec) > limits.queued_bytes {
            let detail = format!(
                "{tasks} tasks, {bytes} bytes; limits.queued_tasks={}, limits.queued_bytes={}",
                limits.queued_tasks, limits.queued_bytes
            );
            return Err(Refusal::QueueFull { detail, retry_after: RETRY_AFTER });
        }
        let hash = spec.function.hash;
        if hash != FunctionHash(0) {
            let known =
                state.functions().contains_key(&hash) || self.registering.contains_key(&hash);
            return if known {
                Ok(spec)
            } else {
                Err(self.unknown_function(now, state, &spec.function.name))
            };
        }
        let name = &spec.function.name;
        let newest = state
            .newest(name)
            .or_else(|| self.registering.iter().find(|(_, n)| *n == name).map(|(hash, _)| *hash));
        let Some(hash) = newest else { return Err(self.unknown_function(now, state, name)) };
        let function = FunctionRef { name: name.clone(), hash };
        Ok(Arc::new(TaskSpec { function, ..(*spec).clone() }))
    }

    /// What becomes of a task by a name nobody registered. A cluster that was founded this moment has heard of no
    /// function at all: each voter brings its own when it is admitted.
    fn unknown_function(&self, now: Moment, state: &ClusterState, name: &str) -> Refusal {
        let here = |voter| state.members().contains_key(voter) || state.is_expelled(*voter);
        if now < self.gathers_until && !self.voters.iter().all(here) {
            return Refusal::Gathering;
        }
        let hint = did_you_mean(name, state.function_names());
        Refusal::UnknownFunction { name: name.to_owned(), hint }
    }

    fn submit(&mut self, state: &ClusterState, spec: Arc<TaskSpec>) -> Command {
        self.in_flight += 1;
        self.in_flight_bytes += spec_bytes(&spec);
        // Those who wait go first: a newcomer is placed at once only when nobody does. A task that is there already
        // has its place, and one that is delayed wants none yet.
        let placed = state.knows(spec.id) || self.places.contains_key(&spec.id);
        let wanted = !placed && spec.terms.delay_ms == 0;
        let to = if wanted { self.place_at_once(&spec) } else { None };
        Command::Submit { spec, to }
    }

    /// Another submission of a task that is there: it is told the outcome as if it had been the first.
    pub(super) fn on_joined(
        &mut self,
        state: &ClusterState,
        session: SessionId,
        task: TaskId,
        existing: TaskId,
        out: &mut Vec<Effect>,
    ) {
        if existing == task {
            out.push(Effect::Accept { session, tasks: vec![task] });
        } else {
            self.withdraw(task);
            out.push(Effect::Join { session, task, existing });
        }
        // The log has told, so it needs no confirmation: an outcome that is forgotten is forgotten everywhere.
        self.follow_or_deny(state, session, vec![existing], out);
    }

    fn follow(&mut self, session: SessionId, task: TaskId) {
        let sessions = self.followers.entry(task).or_default();
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }

    pub(super) fn on_followed(
        &mut self,
        state: &ClusterState,
        session: SessionId,
        tasks: Vec<TaskId>,
        out: &mut Vec<Effect>,
    ) {
        let unknown = self.follow_known(state, session, tasks, out);
        if !unknown.is_empty() {
            out.push(Effect::ConfirmRead { session, tasks: unknown });
        }
    }

    /// As `on_followed`, where what this leader does not know nobody knows.
    pub(super) fn follow_or_deny(
        &mut self,
        state: &ClusterState,
        session: SessionId,
        tasks: Vec<TaskId>,
        out: &mut Vec<Effect>,
    ) {
        let unknown = self.follow_known(state, session, tasks, out);
        if !unknown.is_empty() {
            out.push(Effect::DenyKnowledge { session, tasks: unknown });
        }
    }

    /// Delivers what has an outcome and follows what is live; returns what is not known here.
    fn follow_known(
        &mut self,
        state: &ClusterState,
        session: SessionId,
        tasks: Vec<TaskId>,
        out: &mut Vec<Effect>,
    ) -> Vec<TaskId> {
        let (mut outcomes, mut unknown) = (Vec::new(), Vec::new());
        for task in tasks {
            if let Some(finished) = state.outcome(task) {
                outcomes.push(finished.clone());
            } else if state.live().contains_key(&task) || self.places.contains_key(&task) {
                self.follow(session, task);
            } else {
                unknown.push(task);
            }
        }
        if !outcomes.is_empty() {
            out.push(Effect::Deliver { session, outcomes });
        }
        unknown
    }

    pub(super) fn on_finished(
        &mut self,
        finished: &Arc<Finished>,
        session: SessionId,
        from: Option<NodeId>,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        use crate::core::cluster::command::Outcome;
        let task = finished.task;
        self.leave_queue(task);
        self.dues.forget(task);
        self.thefts.end(task, None);
        if let Some(node) = from {
            self.take_from(node, task, Some(token));
            let cut_short = matches!(
                finished.outcome,
                Outcome::Cancelled | Outcome::NeverStarted(_) | Outcome::PastDeadline(_)
            );
            if cut_short {
                out.push(Effect::Revoke { node, tasks: vec![task] });
                out.push(Effect::Kill { node, tasks: vec![task] });
            } else {
                self.settle.entry(node).or_default().push(task);
            }
        }
        let mut sessions = self.followers.remove(&task).unwrap_or_default();
        if !sessions.contains(&session) {
            sessions.push(session);
        }
        for session in sessions {
            out.push(Effect::Deliver { session, outcomes: vec![finished.clone()] });
        }
    }

    /// Tells whoever waits for tasks how far their live attempts are.
    pub(super) fn pass_on_progress(
        &self,
        state: &ClusterState,
        progress: Vec<(TaskId, Token, Progress)>,
        out: &mut Vec<Effect>,
    ) {
        for (task, token, progress) in progress {
            let Some(live) =
                state.live().get(&task).filter(|live| live.attempt_of(token).is_some())
            else {
                continue;
            };
            let followers = self.followers.get(&task).map_or(&[][..], Vec::as_slice);
            let others = followers.iter().filter(|session| **session != live.spec.session);
            for session in others.chain([&live.spec.session]).copied() {
                let progress = progress.clone();
                out.push(Effect::TellProgress { session, task, progress });
            }
        }
    }

    pub(super) fn on_session_closed(&mut self, session: SessionId) {
        self.followers.retain(|_, sessions| {
            sessions.retain(|s| *s != session);
            !sessions.is_empty()
        });
    }

    pub(super) fn on_cancel(
        &mut self,
        state: &ClusterState,
        tasks: &[TaskId],
        kill: bool,
        out: &mut Vec<Effect>,
    ) {
        let cancellable = cancellable(self, state, tasks, kill);
        if !cancellable.is_empty() {
            let commands = cancellable.into_iter().map(|task| Command::Cancel { task });
            out.push(Effect::Propose(commands.collect()));
        }
    }
}

/// Those of `tasks` that have no outcome and, unless `kill`, are not known to run.
pub fn cancellable(
    leader: &Leader,
    state: &ClusterState,
    tasks: &[TaskId],
    kill: bool,
) -> Vec<TaskId> {
    let runs = |task: &TaskId| {
        let holder = state.live().get(task).and_then(|live| live.holder);
        holder
            .and_then(|holder| leader.roster().get(&holder.node))
            .is_some_and(|post| post.status.running.contains(task))
    };
    tasks
        .iter()
        .filter(|task| state.live().contains_key(task) && (kill || !runs(task)))
        .copied()
        .collect()
}
