//! What the task loop does for the core beyond its own door: links to members, words on them, attempts in runners,
//! questions and wishes about single tasks.

use super::driver::{Input, LEAD_EVERY, TaskLoop};
use super::shared::Whereabouts;
use super::spans;
use super::transport::links::{self, Word};
use super::transport::peer_message_bytes;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Event};
use crate::core::cluster::command::{Codec, Failure, Function, FunctionSource, Member, Report};
use crate::core::ids::{FunctionHash, NodeId, TaskId, Token};
use crate::core::scheduling::cancellable;
use crate::core::scheduling::explanation::{self, Explanation};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

impl TaskLoop {
    /// Cancels what can be. Says which tasks that is, and which ids nobody knows; outcomes follow as any other.
    pub fn cancel(&mut self, tasks: &[TaskId], kill: bool) -> (Vec<TaskId>, Vec<TaskId>) {
        let (cancelled, unknown) = {
            let state = self.state.lock();
            let unknown = tasks.iter().filter(|task| !state.knows(**task)).copied().collect();
            (cancellable(&self.leader, &state, tasks, kill), unknown)
        };
        if !cancelled.is_empty() {
            let asked = Event::CancelAsked { tasks: cancelled.clone(), kill };
            let _ = self.inputs.send(Input::Core(asked));
        }
        (cancelled, unknown)
    }

    /// Why a task is where it is.
    pub fn explain(&self, task: TaskId) -> Explanation {
        let state = self.state.lock();
        explanation::explain(&self.leader, &state, self.clock.now(), task)
    }

    pub(super) fn open_link(&mut self, member: Member) {
        self.next_link += 1;
        let (link, inputs) = (self.next_link, self.inputs.clone());
        let (words, heard) = mpsc::unbounded_channel();
        self.links.insert(member.id, (link, words));
        self.members_changed = true;
        let speaker = links::Speaker {
            node: self.me.id,
            cluster_id: self.cluster_id.clone(),
            term: self.leader.term(),
            address: self.me.address.clone(),
            message_bytes: peer_message_bytes(&self.config.limits),
            clock: self.clock.clone(),
        };
        let report = Box::new(move |event| {
            let _ = inputs.send(Input::FromLink(link, event));
        });
        tokio::spawn(links::run(speaker, self.lines.clone(), member, heard, report));
    }

    pub(super) fn say(&self, node: NodeId, word: Word) {
        if let Some((_, words)) = self.links.get(&node) {
            let _ = words.send(word);
        }
    }

    pub(super) fn send_assignments(&self, node: NodeId, assignments: Vec<Assignment>) {
        let functions = {
            let state = self.state.lock();
            let mut wanted: Vec<FunctionHash> =
                assignments.iter().map(|a| a.spec.function.hash).collect();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.iter().filter_map(|hash| state.functions().get(hash).cloned()).collect()
        };
        self.say(node, Word::Assign(assignments, functions));
    }

    /// A leader as clients are told of it; one they cannot reach as far as is known here has no address.
    pub(super) fn as_clients_know(&self, leader: Whereabouts) -> Whereabouts {
        let state = self.state.lock();
        let address = match state.members().get(&leader.node) {
            Some(member) => member.address_for_clients().to_owned(),
            None if self.me.client_address.is_empty() => leader.address,
            None => String::new(),
        };
        Whereabouts { address, ..leader }
    }

    pub(super) fn tell_members(&mut self) {
        if !std::mem::take(&mut self.members_changed) || !self.leader.leads() {
            return;
        }
        let members: Vec<Member> = {
            let state = self.state.lock();
            let seated = |m: &Member| Member { voter: self.voters.contains(&m.id), ..m.clone() };
            state.members().values().map(seated).collect()
        };
        for (_, words) in self.links.values() {
            let _ = words.send(Word::Members(members.clone()));
        }
    }

    /// A leader that may dispatch says so once in a while: a node that is no voter hears it from nobody else.
    pub(super) fn tell_lead(&mut self, now: Moment) {
        if now < self.next_lead || !self.may_dispatch() {
            return;
        }
        self.next_lead = now.after(LEAD_EVERY);
        for (_, words) in self.links.values() {
            let _ = words.send(Word::Lead);
        }
    }

    /// Takes attempts back from the runners and says which of them were given up.
    pub(super) fn take_back(
        &mut self,
        staged: &[(TaskId, Token)],
        mut released: Vec<TaskId>,
        mut kept: Vec<TaskId>,
    ) {
        self.start_attempts();
        for &(task, token) in staged {
            if self.hands.take_back(task, token) {
                self.worker.on_taken_back(task, token);
                released.push(task);
            } else {
                kept.push(task);
            }
        }
        if let Some(upstream) = &mut self.upstream {
            upstream.release(&released, &kept);
        }
    }

    /// Gives the hands what has come together.
    pub(super) fn start_attempts(&mut self) {
        if !self.runs.is_empty() {
            self.hands.run(std::mem::take(&mut self.runs));
        }
    }

    pub(super) fn kill_attempt(&mut self, task: TaskId, token: Token) {
        self.start_attempts();
        self.hands.kill(task, token);
    }

    pub(super) fn run_attempt(&mut self, assignment: Assignment) {
        let spec = &assignment.spec;
        let function = self.functions.get(&spec.function.hash).cloned();
        let pickled = |f: &Arc<Function>| matches!(f.source, FunctionSource::Pickled(_));
        let refused = !self.allow_pickle
            && (spec.codec == Codec::Pickle || function.as_ref().is_some_and(pickled));
        let report = match function {
            Some(function) if !refused => {
                let assignment = match self.spans {
                    Some(_) => spans::within_run(assignment),
                    None => assignment,
                };
                return self.runs.push((assignment, function));
            }
            Some(_) => Report::Failure(Failure {
                type_name: "hustings.errors.CodecRefusedError".to_owned(),
                message: format!(
                    "node {} does not allow pickle; start it with allow_pickle=True (--allow-pickle)",
                    self.me.name
                ),
                traceback: String::new(),
                pickled: Bytes::new(),
            }),
            None => {
                Report::Crashed(format!("function {:?} never arrived here", spec.function.name))
            }
        };
        let (task, token) = (spec.id, assignment.token);
        let (output, duration) = (Bytes::new(), Duration::ZERO);
        let ended = Event::AttemptEnded { task, token, report, output, duration };
        let _ = self.inputs.send(Input::Core(ended));
    }
}

/// The node a link's event is about.
pub(super) fn node_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::InventoryArrived { node, .. }
        | Event::StatusArrived { node, .. }
        | Event::Reported { node, .. }
        | Event::Released { node, .. }
        | Event::Kept { node, .. }
        | Event::SessionBroken { node, .. } => Some(*node),
        _ => None,
    }
}
