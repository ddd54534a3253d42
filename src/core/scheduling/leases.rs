//! When a node is given up: its lease ran out, its process is gone, or an operator says so.

use super::leader::Leader;
use crate::core::Moment;
use crate::core::boundary::Effect;
use crate::core::cluster::command::{Command, ReleaseCause};
use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use std::collections::BTreeSet;

/// When which node is looked at again. One that was heard meanwhile is only then put off: hearing costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    order: BTreeSet<(Moment, NodeId)>,
    watched: BTreeSet<NodeId>,
}

impl Leases {
    /// Looks at `node` at `due`, unless it is watched already.
    pub(super) fn watch(&mut self, node: NodeId, due: Moment) {
        if self.watched.insert(node) {
            self.order.insert((due, node));
        }
    }

    fn next(&self) -> Option<Moment> {
        self.order.first().map(|(due, _)| *due)
    }

    fn pop(&mut self, now: Moment) -> Option<NodeId> {
        let &(due, node) = self.order.first().filter(|(due, _)| *due <= now)?;
        self.order.remove(&(due, node));
        self.watched.remove(&node);
        Some(node)
    }
}

impl Leader {
    pub(super) fn next_lease(&self) -> Option<Moment> {
        self.leases.next()
    }

    pub(super) fn check_leases(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let lease = self.config.limits.worker_lease;
        while let Some(node) = self.leases.pop(now) {
            let Some(post) = self.roster.get(&node).filter(|post| !post.lost) else { continue };
            let due = post.heard.after(lease);
            if due > now {
                self.leases.watch(node, due);
            } else {
                self.give_up(now, Command::Remove { node }, node, "its lease ran out", out);
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
        self.thefts.forget_revocations(post);
        self.moved |= self.reach.relays();
        if refused {
            self.give_up(now, Command::Remove { node }, node, "its port answers no more", out);
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
    pub(super) fn give_up(
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
        self.moved |= self.reach.relays();
        let silence = now.since(post.heard).as_secs_f64();
        let record = Record::new(RecordKind::MemberLost)
            .subject(node)
            .value(silence)
            .detail(format!("{}: {why}", post.member.name));
        out.push(Effect::Record(record));
        let mut commands: Vec<Command> = post
            .holds
            .iter()
            .map(|(task, held)| {
                let started = post.status.running.contains(&task);
                let cause = match on_purpose {
                    true => ReleaseCause::HandedBack,
                    false => ReleaseCause::NodeLost { started },
                };
                Command::Release { task, replaces: held.token, cause }
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

    #[test]
    fn each_node_is_looked_at_when_it_is_due_and_watched_once() {
        let mut leases = Leases::default();
        for (node, due) in [(1, 30), (2, 10), (2, 5), (3, 20)] {
            leases.watch(NodeId(node), Moment(due));
        }
        assert_eq!(leases.next(), Some(Moment(10)));
        let mut order = Vec::new();
        while let Some(node) = leases.pop(Moment(20)) {
            order.push(node.0);
        }
        assert_eq!(order, [2, 3]);
        leases.watch(NodeId(2), Moment(40));
        assert_eq!((leases.pop(Moment(29)), leases.next()), (None, Some(Moment(30))));
    }
}
