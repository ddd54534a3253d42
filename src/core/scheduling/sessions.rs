//! The leader and its nodes: who may come, what each says it holds, how it is, what ended there, and where it stands.

use super::leader::Leader;
use super::roster::Post;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Effect, Ended, NodeStatus};
use crate::core::cluster::command::{Command, Function, Member, Report};
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use crate::core::load::Position;
use crate::error::Error;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Leader {
    /// Why `newcomer` may not be admitted: it was removed, it is an older self of a member, it has the name or id of a
    /// member that lives elsewhere, or there is no room.
    pub fn refuse_newcomer(&self, state: &ClusterState, newcomer: &Member) -> Option<Error> {
        if state.is_expelled(newcomer.id) {
            return Some(Error::Removed { node: newcomer.name.clone() });
        }
        if let Some(post) = self.roster.get(&newcomer.id) {
            let (known, given) = (post.member.incarnation, newcomer.incarnation);
            if known > given {
                return Some(Error::incarnation_mismatch(newcomer.id, known, given));
            }
            if !post.lost && post.member.address != newcomer.address {
                return Some(Error::node_id_in_use(newcomer.id, &post.member.address));
            }
        }
        let rival = self.roster.values().filter(|post| !post.lost).find(|post| {
            post.member.name == newcomer.name
                && post.member.id != newcomer.id
                && post.member.address != newcomer.address
        });
        if let Some(rival) = rival {
            let (name, address) = (newcomer.name.clone(), rival.member.address.clone());
            return Some(Error::NodeNameInUse { name, address });
        }
        let max = self.config.limits.members;
        let full = self.roster.len() as u64 >= max && !self.roster.contains_key(&newcomer.id);
        full.then(|| Error::InvalidPeers {
            problem: format!("the cluster has {max} members, its limit (limits.members)"),
        })
    }

    pub(super) fn on_join(
        &mut self,
        state: &ClusterState,
        member: Member,
        functions: Vec<Arc<Function>>,
        out: &mut Vec<Effect>,
    ) {
        let mut commands = self.register(state, &functions);
        // It moved while it ran: where it stood when it was started is no news.
        let member = match state.members().get(&member.id) {
            Some(known)
                if (known.incarnation, &known.address) == (member.incarnation, &member.address) =>
            {
                Member { position: known.position, ..member }
            }
            _ => member,
        };
        // Whoever listened at this address before is gone: two processes cannot share a port.
        let previous: Vec<NodeId> = state
            .members()
            .values()
            .filter(|m| m.address == member.address && m.id != member.id)
            .map(|m| m.id)
            .collect();
        for node in previous {
            let gone = Command::Remove { node };
            self.give_up(Moment(0), gone, node, "its address was taken over", out);
        }
        // What it held when it was started the last time, it has forgotten.
        let known = state.members().get(&member.id);
        if known.is_some_and(|known| known.incarnation < member.incarnation) {
            let gone = Command::Remove { node: member.id };
            self.give_up(Moment(0), gone, member.id, "it was started again", out);
        }
        if state.members().get(&member.id) == Some(&member) {
            // Admitted already; its session may have been given up, so open it again.
            if self.roster.get(&member.id).is_some_and(|post| !post.open && !post.lost) {
                out.push(Effect::OpenSession { member });
            }
        } else {
            commands.push(Command::Admit(member));
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    pub(super) fn on_inventory(
        &mut self,
        now: Moment,
        state: &ClusterState,
        (node, incarnation): (NodeId, u64),
        held: &[(TaskId, Token)],
        out: &mut Vec<Effect>,
    ) {
        // What a node lacks that was started again, it may have begun before: those attempts end when it is admitted as
        // what it is now, and then its session opens anew. Until then it is given nothing.
        let is_known = |post: &&mut Post| !post.lost && post.member.incarnation == incarnation;
        let Some(post) = self.roster.get_mut(&node).filter(is_known) else { return };
        post.heard = now;
        post.open = true;
        self.thefts.forget_revocations(post);
        self.moved |= self.reach.relays();
        let there: BTreeSet<(TaskId, Token)> = held.iter().copied().collect();
        // What it gave up is on its way elsewhere: sent again, it would run at both.
        let live = post.holds.iter().filter(|(_, held)| !held.leaving);
        let live = live.map(|(task, held)| (task, held.token));
        let missing: Vec<(TaskId, Token)> = live.filter(|pair| !there.contains(pair)).collect();
        let stale: Vec<TaskId> = held
            .iter()
            .filter(|(task, token)| post.holds.token(*task) != Some(*token))
            .map(|(task, _)| *task)
            .collect();
        let again = |(task, token): (TaskId, Token)| {
            let live = state.live().get(&task)?;
            let attempt = live.attempt_of(token)?.attempt;
            let (spec, end_by_ms) = (live.spec.clone(), self.end_by(Some(live)));
            Some(Assignment { spec, token, attempt, end_by_ms })
        };
        let assignments: Vec<Assignment> = missing.into_iter().filter_map(again).collect();
        // They leave with the rest of this step, if this node may dispatch.
        if !assignments.is_empty() {
            self.dispatch.entry(node).or_default().extend(assignments);
        }
        if !stale.is_empty() {
            out.push(Effect::Revoke { node, tasks: stale });
        }
    }

    /// A node says how it is, and how far its tasks are.
    pub(super) fn hear(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        mut status: NodeStatus,
        out: &mut Vec<Effect>,
    ) {
        self.pass_on_progress(state, std::mem::take(&mut status.progress), out);
        self.on_status(now, state, node, status);
    }

    pub(super) fn on_status(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        status: NodeStatus,
    ) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        post.heard = now;
        let speed = post.speed.ratio();
        let begun = post.holds.note_running(now, &status.running, &self.durations, speed);
        post.status = status;
        for task in begun {
            if let Some(live) = state.live().get(&task) {
                self.watch_attempt(now, live);
            }
        }
    }

    pub(super) fn on_reported(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        reports: Vec<Ended>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.heard = now;
        }
        let mut commands = Vec::with_capacity(reports.len());
        for ended in reports {
            let (task, token) = (ended.task, ended.token);
            let repeated = state.retention().get(task).is_some_and(|done| done.reported == token);
            if repeated {
                self.settle.entry(node).or_default().push(task);
            } else {
                self.learn(now, node, &ended);
                self.note_end(now, state, node);
                let Ended { report, output, .. } = ended;
                commands.push(Command::Complete { task, token, node, report, output });
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    /// An attempt ended there, so that another one begins, for all that is known.
    fn note_end(&mut self, now: Moment, state: &ClusterState, node: NodeId) {
        let next = self.roster.get_mut(&node).and_then(|post| post.note_end(now));
        if let Some(live) = next.and_then(|task| state.live().get(&task)) {
            self.watch_attempt(now, live);
        }
    }

    /// How long a task took says what its kind takes, and how fast its node is.
    fn learn(&mut self, now: Moment, node: NodeId, ended: &Ended) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        let Some(held) = post.holds.get(ended.task).filter(|held| held.token == ended.token) else {
            return;
        };
        // A node cannot have worked on it for longer than it has had it.
        let took = ended.took.min(now.since(held.since));
        let whole = matches!(ended.report, Report::Value(_) | Report::Failure(_));
        if !whole || took.is_zero() {
            return;
        }
        let kind = held.charge.kind;
        if let Some(usual_us) = self.durations.known_us(kind) {
            post.speed.learn(usual_us, took);
        }
        if self.durations.learn(kind, took) {
            self.queue.set_length(kind, self.durations.length(kind));
        }
    }

    /// An operator says where a member stands.
    pub(super) fn on_move_asked(
        &mut self,
        state: &ClusterState,
        node: NodeId,
        position: Position,
        out: &mut Vec<Effect>,
    ) {
        if let Some(member) = state.members().get(&node) {
            let member = Member { position, ..member.clone() };
            out.push(Effect::Propose(vec![Command::Admit(member)]));
        }
    }

    /// A member, or what is newly known of it, enters the roster.
    pub(super) fn seat(&mut self, mut post: Post) {
        let node = post.member.id;
        let me = self.roster.get(&self.me).map(|post| &post.member);
        match me.filter(|_| node != self.me && !self.reach.relays()) {
            Some(me) => post.hops = self.reach.may_assign(me, &post.member).then_some(1),
            None => self.moved = true,
        }
        if node != self.me {
            let due = post.heard.after(self.config.limits.worker_lease);
            self.leases.watch(node, due);
        }
        self.roster.insert(post);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::scheduling::roster::Post;

    fn member(id: u64, name: &str, address: &str) -> Member {
        let (name, address) = (name.to_owned(), address.to_owned());
        Member { id: NodeId(id), name, address, ..Member::default() }
    }

    fn check(newcomer: &Member, lost: bool, max: f64, expected: Option<&str>) {
        let mut config = Config::default();
        config.set("limits.members", max).unwrap();
        let mut leader = Leader::new(NodeId(1), Arc::new(config), 0);
        let mut post = Post::new(member(1, "a", "h:1"), Moment(0));
        post.lost = lost;
        leader.roster.insert(post);
        let state = ClusterState::default();
        let refused = leader.refuse_newcomer(&state, newcomer).map(|e| e.to_string());
        match (refused, expected) {
            (None, None) => {}
            (Some(text), Some(part)) => assert!(text.contains(part), "{text}"),
            other => panic!("{newcomer:?}: {other:?}"),
        }
    }

    #[test]
    fn a_newcomer_is_refused_for_a_taken_name_or_id_and_for_lack_of_room() {
        check(&member(2, "b", "h:2"), false, 2.0, None);
        check(&member(2, "a", "h:2"), false, 2.0, Some("in use"));
        check(&member(1, "b", "h:2"), false, 2.0, Some("is alive at h:1"));
        check(&member(1, "a", "h:2"), false, 2.0, Some("is alive at h:1"));
        check(&member(2, "b", "h:2"), false, 1.0, Some("limits.members"));
        // The same node again, its successor at the same address, and the name of one that is gone.
        check(&member(1, "a", "h:1"), false, 1.0, None);
        check(&member(2, "a", "h:1"), false, 2.0, None);
        check(&member(2, "a", "h:2"), true, 2.0, None);
    }
}
