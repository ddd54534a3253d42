//! The leader and its nodes: sessions, inventories, reports, steals, and when a node is given up.

use super::leader::Leader;
use super::roster::Post;
use super::stealing::plan_steal;
use crate::core::Moment;
use crate::core::boundary::{Assignment, Effect, NodeStatus};
use crate::core::cluster::command::{AssignCause, Command, Function, Member, ReleaseCause, Report};
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{NodeId, TaskId, Token};
use crate::core::record::{Record, RecordKind};
use crate::error::Error;
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
        post.revoking.clear();
        let missing =
            post.assigned.iter().filter(|(task, token)| !held.contains(&(**task, **token)));
        let missing: Vec<(TaskId, Token)> = missing.map(|(task, token)| (*task, *token)).collect();
        let stale: Vec<TaskId> = held
            .iter()
            .filter(|(task, token)| post.assigned.get(task) != Some(token))
            .map(|(task, _)| *task)
            .collect();
        let again = |(task, token): (TaskId, Token)| {
            let live = state.live().get(&task)?;
            let (spec, attempt, end_by_ms) =
                (live.spec.clone(), live.attempt, self.end_by(Some(live)));
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

    pub(super) fn on_status(&mut self, now: Moment, node: NodeId, status: NodeStatus) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.heard = now;
            post.status = status;
        }
    }

    pub(super) fn on_reported(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        reports: Vec<(TaskId, Token, Report)>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.heard = now;
        }
        let mut commands = Vec::with_capacity(reports.len());
        for (task, token, report) in reports {
            let repeated = state.retention().get(task).is_some_and(|done| done.reported == token);
            if repeated {
                self.settle.entry(node).or_default().push(task);
            } else {
                commands.push(Command::Complete { task, token, node, report });
            }
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    pub(super) fn on_work_asked(
        &mut self,
        now: Moment,
        state: &ClusterState,
        thief: NodeId,
        free_slots: u32,
        cpu_available: f64,
        out: &mut Vec<Effect>,
    ) {
        if let Some(post) = self.roster.get_mut(&thief) {
            post.heard = now;
        }
        let policy = &self.config.steal;
        let Some(steal) = plan_steal(&self.roster, state, thief, free_slots, cpu_available, policy)
        else {
            return;
        };
        let Some(victim) = self.roster.get_mut(&steal.victim) else { return };
        victim.revoking.extend(steal.tasks.iter().map(|task| (*task, Some(thief))));
        out.push(Effect::Revoke { node: steal.victim, tasks: steal.tasks });
    }

    pub(super) fn on_released(
        &mut self,
        now: Moment,
        state: &ClusterState,
        node: NodeId,
        tasks: Vec<TaskId>,
        out: &mut Vec<Effect>,
    ) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        post.heard = now;
        let mut returned = Vec::with_capacity(tasks.len());
        for task in tasks {
            let thief = post.revoking.remove(&task).flatten();
            // Not assigned there any more: the log has moved on, and the release changes nothing.
            if let Some(token) = post.assigned.get(&task).copied() {
                returned.push((task, token, thief));
            }
        }
        let mut commands = Vec::with_capacity(returned.len());
        for (task, replaces, thief) in returned {
            let ready =
                thief.filter(|thief| self.roster.get(thief).is_some_and(|post| post.eligible()));
            commands.push(match ready.filter(|_| state.live().contains_key(&task)) {
                Some(to) => {
                    if let Some(post) = self.roster.get_mut(&to) {
                        post.incoming += 1;
                    }
                    Command::Assign { task, to, cause: AssignCause::Stolen, replaces }
                }
                None => Command::Release { task, replaces, cause: ReleaseCause::HandedBack },
            });
        }
        if !commands.is_empty() {
            out.push(Effect::Propose(commands));
        }
    }

    pub(super) fn on_kept(&mut self, now: Moment, node: NodeId, tasks: &[TaskId]) {
        if let Some(post) = self.roster.get_mut(&node) {
            post.heard = now;
            for task in tasks {
                post.revoking.remove(task);
            }
        }
    }

    pub(super) fn on_broken(
        &mut self,
        now: Moment,
        node: NodeId,
        refused: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(post) = self.roster.get_mut(&node) else { return };
        post.open = false;
        post.revoking.clear();
        if refused {
            self.give_up(now, Command::Remove { node }, node, "its port answers no more", out);
        }
    }

    pub(super) fn next_lease(&self) -> Option<Moment> {
        let lease = self.config.limits.worker_lease;
        let others = self.roster.values().filter(|post| !post.lost && post.member.id != self.me);
        others.map(|post| post.heard.after(lease)).min()
    }

    pub(super) fn check_leases(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let lease = self.config.limits.worker_lease;
        let expired: Vec<NodeId> = self
            .roster
            .values()
            .filter(|post| {
                !post.lost && post.member.id != self.me && post.heard.after(lease) <= now
            })
            .map(|post| post.member.id)
            .collect();
        for node in expired {
            self.give_up(now, Command::Remove { node }, node, "its lease ran out", out);
        }
    }

    /// An operator removes the node, whether it is there or not.
    pub(super) fn on_removal_asked(&mut self, now: Moment, node: NodeId, out: &mut Vec<Effect>) {
        let expel = Command::Expel { node };
        if self.roster.get(&node).is_none_or(|post| post.lost) {
            out.push(Effect::Propose(vec![expel]));
        } else {
            self.give_up(now, expel, node, "removed", out);
        }
    }

    /// The node is gone, as `last` says to the log: its tasks wait again.
    fn give_up(
        &mut self,
        now: Moment,
        last: Command,
        node: NodeId,
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let on_purpose = matches!(last, Command::Expel { .. });
        let Some(post) = self.roster.get_mut(&node).filter(|post| !post.lost) else { return };
        post.lost = true;
        post.open = false;
        let silence = now.since(post.heard).as_secs_f64();
        let record = Record::new(RecordKind::MemberLost)
            .subject(node)
            .value(silence)
            .detail(format!("{}: {why}", post.member.name));
        out.push(Effect::Record(record));
        let mut commands: Vec<Command> = post
            .assigned
            .iter()
            .map(|(task, token)| {
                let started = post.status.running.contains(task);
                let cause = match on_purpose {
                    true => ReleaseCause::HandedBack,
                    false => ReleaseCause::NodeLost { started },
                };
                Command::Release { task: *task, replaces: *token, cause }
            })
            .collect();
        commands.push(last);
        out.push(Effect::CloseSession { node });
        out.push(Effect::Propose(commands));
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
        leader.roster.insert(NodeId(1), post);
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
