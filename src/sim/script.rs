//! What happens to a simulated cluster: faults and requests, at given times or as failures come by chance.

use super::disk::ImaginedDisk;
use super::nodes::Nodes;
use super::world::World;
use crate::core::ids::NodeId;
use crate::node::consensus::runtime::random_u64;
use crate::node::faults::LinkFault;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Whom an action means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads when it happens.
    Leader,
    /// The best-ranked live other voter when it happens.
    Best,
    /// By name.
    Named(Arc<str>),
}

/// One fault, its end, or a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ends a node without a goodbye.
    Kill(Who),
    /// Starts a dead node again.
    Restart(Who),
    /// Stops a node.
    Freeze(Who),
    /// Lets a frozen node go on.
    Resume(Who),
    /// Cuts all links between groups.
    Partition(Vec<Vec<Who>>),
    /// Cuts a node off from all others.
    Isolate(Who),
    /// What words from one node to another suffer; `None`: of all, to all.
    Link(Option<Who>, Option<Who>, LinkFault),
    /// A node's clock runs this much faster or slower.
    ClockRate(Who, f64),
    /// Leadership moves to this voter, or to the best other one.
    Handover(Option<Who>),
    /// Whoever leads takes a node's voter's seat.
    Unseat(Who),
    /// Whoever leads gives a node a voter's seat.
    Seat(Who),
    /// The power of these nodes goes at the same moment; `None`: of all voters.
    PowerCut(Option<Who>),
    /// A node goes down, and one bit on its disk turns over meanwhile.
    Rot(Who),
    /// Nothing more fits on a node's disk.
    Full(Who),
    /// The next sync of a node's disk fails.
    SyncError(Who),
    /// A node's disk takes so long for what it makes durable; zero: as long as it should.
    SlowDisk(Who, Duration),
    /// Ends all faults of links.
    Heal,
}

/// An action and when it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Virtual time since the start.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// Carries out steps and failures on the nodes of one world.
#[derive(Clone)]
pub(super) struct Director {
    pub(super) nodes: Nodes,
}

impl Director {
    pub(super) fn world(&self) -> &Arc<World> {
        &self.nodes.world
    }

    /// Plays `steps`, in order of time.
    pub(super) async fn play(self, mut steps: Vec<Step>) {
        steps.sort_by_key(|step| step.at);
        for step in steps {
            let now = self.world().elapsed();
            self.world().clock.sleep(step.at.saturating_sub(now)).await;
            self.perform(step.action).await;
        }
    }

    fn name(&self, who: &Who) -> Option<Arc<str>> {
        let living = self.world().living();
        let leader = living
            .iter()
            .filter(|(_, post)| post.consensus.view().leader == Some(post.id))
            .max_by_key(|(_, post)| post.consensus.view().term);
        match who {
            Who::Named(name) => Some(name.clone()),
            Who::Leader => leader.map(|(name, _)| name.clone()),
            Who::Best => {
                let (_, leader) = leader?;
                let table = leader.consensus.table();
                let best = table.iter().map(|row| row.node).find(|node| {
                    *node != leader.id && living.iter().any(|(_, post)| post.id == *node)
                });
                best.map(|node| self.world().name_of(node))
            }
        }
    }

    fn id(&self, who: &Who) -> Option<NodeId> {
        self.world().soul(&self.name(who)?).map(|(id, ..)| id)
    }

    pub(super) async fn perform(&self, action: Action) {
        let world = self.world();
        match action {
            Action::Kill(who) => {
                if let Some(name) = self.name(&who) {
                    self.nodes.kill(&name).await;
                }
            }
            Action::Restart(who) => {
                if let Some(name) = self.name(&who) {
                    // A node that cannot start is judged as one that stays dead.
                    let _ = self.nodes.restart(&name).await;
                }
            }
            Action::Freeze(who) => {
                self.name(&who).map(|name| self.nodes.freeze(&name));
            }
            Action::Resume(who) => {
                self.name(&who).map(|name| self.nodes.resume(&name));
            }
            Action::Partition(groups) => self.partition(&groups),
            Action::Isolate(who) => self.isolate(&who),
            Action::Link(from, to, fault) => self.set_links(from.as_ref(), to.as_ref(), fault),
            Action::ClockRate(who, rate) => self.set_rate(&who, rate),
            Action::Handover(to) => self.hand_over(to.as_ref()),
            Action::Unseat(who) => self.change_seat(&who, false),
            Action::Seat(who) => self.change_seat(&who, true),
            Action::PowerCut(who) => self.cut_power(who.as_ref()).await,
            Action::Rot(who) => {
                if let Some(name) = self.name(&who)
                    && self.nodes.kill(&name).await
                    && let Some((id, disk)) = self.nodes.disk(&name)
                {
                    disk.rot(random_u64());
                    world.record_fault(id, id, "rot", 0.0);
                }
            }
            Action::Full(who) => self.with_disk(&who, "full", 0.0, |disk| disk.set_full(true)),
            Action::SyncError(who) => {
                self.with_disk(&who, "sync error", 0.0, ImaginedDisk::fail_sync);
            }
            Action::SlowDisk(who, slow) => {
                let value = slow.as_secs_f64();
                self.with_disk(&who, "slow disk", value, |disk| {
                    disk.set_slow((!slow.is_zero()).then_some(slow));
                });
            }
            Action::Heal => {
                world.board.heal();
                world.record_fault(NodeId(0), NodeId(0), "healed", 0.0);
            }
        }
    }

    /// The ids of all nodes.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        let names = self.world().names().into_iter();
        names.filter_map(|name| self.world().soul(&name).map(|(id, ..)| id))
    }

    fn partition(&self, groups: &[Vec<Who>]) {
        let ids: Vec<Vec<NodeId>> = groups
            .iter()
            .map(|group| group.iter().filter_map(|who| self.id(who)).collect())
            .collect();
        let names = |group: &Vec<NodeId>| {
            let names: Vec<Arc<str>> = group.iter().map(|id| self.world().name_of(*id)).collect();
            names.join(" ")
        };
        let words: Vec<String> = ids.iter().map(names).collect();
        if self.world().board.partition(&ids).is_ok() {
            let detail = format!("partitioned: {}", words.join(" | "));
            self.world().record_fault(NodeId(0), NodeId(0), &detail, 0.0);
        }
    }

    fn isolate(&self, who: &Who) {
        let Some(name) = self.name(who) else { return };
        let others = self.world().names().into_iter();
        let others = others.filter(|other| *other != name).map(Who::Named).collect();
        self.partition(&[vec![Who::Named(name)], others]);
    }

    fn set_links(&self, from: Option<&Who>, to: Option<&Who>, fault: LinkFault) {
        let all = || self.ids().collect();
        let ids = |who: Option<&Who>| -> BTreeSet<NodeId> {
            who.map_or_else(all, |who| self.id(who).into_iter().collect())
        };
        let (speakers, listeners) = (ids(from), ids(to));
        for speaker in &speakers {
            for listener in listeners.iter().filter(|listener| *listener != speaker) {
                if self.world().board.set(*speaker, *listener, fault).is_ok() {
                    let (detail, value) = describe(&fault);
                    self.world().record_fault(*speaker, *listener, detail, value);
                }
            }
        }
    }

    fn set_rate(&self, who: &Who, rate: f64) {
        let Some(post) = self.name(who).and_then(|name| self.world().post(&name)) else { return };
        post.clock.set_rate(rate);
        self.name(who).iter().for_each(|name| self.nodes.nudge(name));
        self.world().record_fault(post.id, post.id, "clock", rate);
    }

    async fn cut_power(&self, who: Option<&Who>) {
        let all = || self.world().posts().into_iter().map(|(name, _)| name).collect();
        let names: Vec<Arc<str>> = who.map_or_else(all, |who| self.name(who).into_iter().collect());
        // All lives end before anything else happens.
        for (_, post) in self.world().living() {
            if names.len() > 1 {
                self.world().record_fault(post.id, post.id, "power cut", 0.0);
            }
        }
        for name in names {
            self.nodes.cut_power(&name, random_u64()).await;
        }
    }

    fn with_disk(&self, who: &Who, what: &str, value: f64, act: impl FnOnce(&ImaginedDisk)) {
        let found = self.name(who).and_then(|name| self.nodes.disk(&name));
        if let Some((id, disk)) = found {
            act(&disk);
            self.world().record_fault(id, id, what, value);
        }
    }

    fn change_seat(&self, who: &Who, seated: bool) {
        if let Some(name) = self.name(who) {
            self.nodes.change_seat(&name, seated);
        }
    }

    fn hand_over(&self, to: Option<&Who>) {
        let to = to.and_then(|who| self.id(who));
        let leader = self.name(&Who::Leader).and_then(|name| self.world().post(&name));
        if let Some(leader) = leader {
            tokio::spawn(async move {
                // Whether it went well is seen by who leads afterwards.
                let _ = leader.consensus.transfer_leader(to).await;
            });
        }
    }

    pub(super) fn mend_disk(&self, name: &str) {
        if let Some((id, disk)) = self.nodes.disk(name) {
            disk.mend();
            self.world().record_fault(id, id, "disk mended", 0.0);
        }
    }

    /// Ends every fault there is.
    pub(super) async fn mend_all(&self) {
        self.perform(Action::Heal).await;
        for name in self.world().names() {
            self.nodes.resume(&name);
            self.mend_disk(&name);
            if let Some((_, _, clock)) = self.world().soul(&name) {
                clock.set_rate(1.0);
            }
            self.nodes.nudge(&name);
            // A node that cannot start shows as one that never catches up.
            let _ = self.nodes.restart(&name).await;
        }
    }
}

/// A link's fault as a row of history has it.
fn describe(fault: &LinkFault) -> (&'static str, f64) {
    match fault {
        LinkFault { cut: true, .. } => ("cut", 0.0),
        LinkFault { drop_ratio, .. } if *drop_ratio > 0.0 => ("lossy", *drop_ratio),
        LinkFault { delay, jitter, .. } if !(*delay + *jitter).is_zero() => {
            ("delayed", (*delay + *jitter / 2).as_secs_f64())
        }
        _ => ("healed", 0.0),
    }
}
