//! What the leader does about each consequence of a committed entry; the log has decided, this follows.

use super::leader::{Leader, Place};
use super::roster::Post;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Change, Effect, RequeueReason};
use crate::core::cluster::command::{AssignCause, Command, Member, ReleaseCause, TaskSpec};
use crate::core::cluster::live::{Holder, Live, spec_bytes};
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use crate::core::record::{Record, RecordKind};
use std::sync::Arc;
use std::time::Duration;

impl Leader {
    /// Takes one consequence of a committed entry.
    pub(super) fn on_change(
        &mut self,
        now: Moment,
        state: &ClusterState,
        change: Change,
        out: &mut Vec<Effect>,
    ) {
        match change {
            Change::Submitted { spec } => self.on_accepted(now, state, &spec, out),
            Change::Joined { session, task, existing, bytes } => {
                self.land(bytes);
                self.on_joined(state, session, task, existing, out);
            }
            Change::Refused { session, task, bytes, refusal } => {
                self.land(bytes);
                if !state.knows(task) {
                    self.withdraw(task);
                }
                out.push(Effect::Reject { session, task, refusal });
            }
            Change::Assigned { spec, to, from, token, attempt, cause } => {
                self.on_assigned(now, state, spec, to, from, token, attempt, cause, out);
            }
            Change::Requeued { spec, from, token, attempt, delay, reason } => {
                self.on_requeued(now, state, &spec, from, token, delay, reason);
                self.watch_terms(now, state, spec.id);
                out.push(Effect::Record(requeue_record(&spec, from, attempt, reason)));
            }
            Change::Finished { finished, session, from, token, loser } => {
                self.on_finished(&finished, session, from, token, out);
                self.end_loser(finished.task, loser, out);
            }
            Change::Narrowed { spec, from, token, attempt, reason } => {
                self.on_narrowed(now, state, &spec, from, token, reason);
                out.push(Effect::Record(requeue_record(&spec, from, attempt, reason)));
            }
            Change::LateCompletion { task, node, token: _ } => {
                self.settle.entry(node).or_default().push(task);
                let record = Record::new(RecordKind::LateCompletion).subject(node).task(task, 0);
                out.push(Effect::Record(record));
            }
            Change::Repeated { task, node } => self.settle.entry(node).or_default().push(task),
            Change::AssignmentVoid { task, to } => {
                self.unburden(to, task);
                self.copies.void(task, to);
                self.requeue_proposed(state, task, to);
                self.release_abandoned(state, task, out);
            }
            Change::Registered { function } => {
                self.registering.remove(&function.hash);
            }
            Change::Admitted { member } => self.on_admitted(now, member, out),
            Change::Removed { member } => self.on_removed(member.id, out),
        }
    }

    fn on_removed(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        // Assignments that entered the log after the node was given up and before it was removed.
        if let Some(mut post) = self.roster.remove(&node) {
            self.thefts.forget_revocations(&mut post);
            self.bids.forget(node);
            for (task, held) in post.holds.iter() {
                self.take_from_stranger(task, held.token, out);
            }
        }
        self.moved |= self.reach.relays();
        out.push(Effect::CloseSession { node });
    }

    fn on_accepted(
        &mut self,
        now: Moment,
        state: &ClusterState,
        spec: &TaskSpec,
        out: &mut Vec<Effect>,
    ) {
        let (session, task) = (spec.session, spec.id);
        self.land(spec_bytes(spec));
        self.leave_queue(task);
        if let Some(live) = state.live().get(&task) {
            self.watch_terms(now, state, task);
            self.enqueue_when_ready(now, task, live);
        }
        out.push(Effect::Accept { session, tasks: vec![task] });
    }

    fn on_admitted(&mut self, now: Moment, member: Member, out: &mut Vec<Effect>) {
        let known = self.roster.get(&member.id).filter(|post| post.open);
        if let Some(known) = known
            && known.member == (Member { position: known.member.position, ..member.clone() })
        {
            return self.on_moved(member, out);
        }
        let record = Record::new(RecordKind::MemberJoined).subject(member.id).detail(&member.name);
        out.push(Effect::Record(record));
        let mut post = Post::new(member.clone(), now);
        if let Some(mut known) = self.roster.remove(&member.id) {
            self.thefts.forget_revocations(&mut known);
            (post.holds, post.speed) = (known.holds, known.speed);
        }
        self.seat(post);
        out.push(Effect::OpenSession { member });
    }

    /// A member stands elsewhere, if it does; nothing else about it is new.
    fn on_moved(&mut self, member: Member, out: &mut Vec<Effect>) {
        let Some(post) = self.roster.get_mut(&member.id) else { return };
        if post.member.position == member.position {
            return;
        }
        let (node, position) = (member.id, member.position);
        post.member = member;
        let record = Record::new(RecordKind::MemberMoved)
            .subject(node)
            .detail(format!("({}, {})", position.x, position.y));
        out.push(Effect::Record(record));
        self.moved = true;
    }

    #[allow(clippy::too_many_arguments, reason = "one per field of the change")]
    fn on_assigned(
        &mut self,
        now: Moment,
        state: &ClusterState,
        spec: Arc<TaskSpec>,
        to: NodeId,
        from: Option<NodeId>,
        token: Token,
        attempt: u32,
        cause: AssignCause,
        out: &mut Vec<Effect>,
    ) {
        let task = spec.id;
        self.leave_queue(task);
        if let Some(from) = from {
            self.take_from(from, task, None);
        }
        if let (AssignCause::Stolen, Some(victim)) = (cause, from) {
            self.thefts.note_logged(now, task);
            let victim = self.name_of(victim);
            let record =
                Record::new(RecordKind::Stolen).subject(to).task(task, attempt).detail(victim);
            out.push(Effect::Record(record));
        }
        if cause == AssignCause::Copied {
            self.copies.note(task, to);
            let holder = state.live().get(&task).and_then(|live| live.holder);
            let beside = holder.map_or_else(String::new, |holder| self.name_of(holder.node));
            let record =
                Record::new(RecordKind::Copied).subject(to).task(task, attempt).detail(beside);
            out.push(Effect::Record(record));
        }
        self.bids.forget(to);
        let charge = self.charge_of(&spec);
        let Some(post) = self.roster.get_mut(&to) else { return };
        post.holds.hold(now, task, token, charge);
        if post.holds.slots() <= post.slots() {
            // A slot is free for it there.
            post.holds.begin(now, task);
        }
        if let Some(live) = state.live().get(&task).filter(|live| live.token() == token) {
            self.watch_attempt(now, live);
        }
        let Some(post) = self.roster.get(&to) else { return };
        // Without an open session the inventory will show that it is missing, and it is sent then.
        if post.open {
            let end_by_ms = self.end_by(state.live().get(&task));
            let assignment = Assignment { spec, token, attempt, end_by_ms };
            self.dispatch.entry(to).or_default().push(assignment);
        }
    }

    /// An attempt ended without an outcome; a node that reported it is told that it was heard.
    fn take_ended(&mut self, from: NodeId, task: TaskId, token: Token, reason: RequeueReason) {
        self.take_from(from, task, Some(token));
        if !matches!(reason, RequeueReason::HandedBack | RequeueReason::NodeLost) {
            self.settle.entry(from).or_default().push(task);
        }
    }

    /// One of two attempts ended without an outcome: the other one may get another copy.
    fn on_narrowed(
        &mut self,
        now: Moment,
        state: &ClusterState,
        spec: &TaskSpec,
        from: NodeId,
        token: Token,
        reason: RequeueReason,
    ) {
        self.take_ended(from, spec.id, token, reason);
        self.copies.forget(spec.id);
        if let Some(live) = state.live().get(&spec.id) {
            self.watch_attempt(now, live);
        }
    }

    /// The attempt that came second is taken back, or killed.
    fn end_loser(&mut self, task: TaskId, loser: Option<Holder>, out: &mut Vec<Effect>) {
        self.copies.forget(task);
        if let Some(Holder { node, token, .. }) = loser {
            self.take_from(node, task, Some(token));
            out.push(Effect::Revoke { node, tasks: vec![task] });
            out.push(Effect::Kill { node, tasks: vec![task] });
        }
    }

    /// Its node gave it up and nobody else gets it: it waits again.
    fn release_abandoned(&self, state: &ClusterState, task: TaskId, out: &mut Vec<Effect>) {
        let Some(holder) = state.live().get(&task).and_then(|live| live.holder) else { return };
        let held = self.roster.get(&holder.node).and_then(|post| post.holds.get(task));
        if held.is_some_and(|held| held.leaving && held.token == holder.token) {
            let (replaces, cause) = (holder.token, ReleaseCause::HandedBack);
            out.push(Effect::Propose(vec![Command::Release { task, replaces, cause }]));
        }
    }

    /// The task's deadline as its callback reads it; 0: none.
    pub(super) fn end_by(&self, live: Option<&Live>) -> u64 {
        let by = live.and_then(Live::end_by_ms);
        by.map_or(0, |by| self.era.on_the_wall(by))
    }

    #[allow(clippy::too_many_arguments, reason = "one per field of the change")]
    fn on_requeued(
        &mut self,
        now: Moment,
        state: &ClusterState,
        spec: &TaskSpec,
        from: NodeId,
        token: Token,
        delay: Duration,
        reason: RequeueReason,
    ) {
        self.take_ended(from, spec.id, token, reason);
        self.leave_queue(spec.id);
        self.copies.forget(spec.id);
        let Some(live) = state.live().get(&spec.id) else { return };
        if delay.is_zero() {
            self.enqueue(spec.id, live);
        } else {
            let due = now.after(delay);
            self.delayed.insert((due, spec.id));
            self.places.insert(spec.id, Place::Delayed(due));
        }
    }
}

fn requeue_record(spec: &TaskSpec, from: NodeId, attempt: u32, reason: RequeueReason) -> Record {
    let (kind, detail) = match reason {
        RequeueReason::Failed => (RecordKind::Retried, "raised"),
        RequeueReason::TimedOut => (RecordKind::Retried, "timed out"),
        RequeueReason::Crashed => (RecordKind::Retried, "its runner died"),
        RequeueReason::HandedBack => (RecordKind::Reassigned, "handed back"),
        RequeueReason::NodeLost => (RecordKind::Reassigned, "its node died"),
    };
    Record::new(kind).subject(from).task(spec.id, attempt).detail(detail)
}
