//! What happens to a simulated cluster: faults and requests at given times, or drawn as time passes.

use super::disk::ImaginedDisk;
use super::loads::{exponential, unit};
use super::nodes::Nodes;
use super::world::World;
use crate::core::chance::Chance;
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
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

/// Failures that come by chance: a node fails after an exponential time and is mended after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Failures {
    /// Mean time between failures of one node.
    pub mtbf: Duration,
    /// Mean time to repair.
    pub mttr: Duration,
    /// What fails; drawn evenly.
    pub kinds: Vec<FailureKind>,
    /// Whether a majority is always left alone.
    pub spare_majority: bool,
    /// Draws from here.
    pub seed: u64,
}

/// What fails by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The process dies and is started again.
    Kill,
    /// The process is stopped for a while.
    Freeze,
    /// The node is cut off, both ways.
    Partition,
    /// The node cannot be heard, but hears; or the reverse.
    OneWay,
    /// Its messages are lost, a tenth to a half of them.
    Loss,
    /// Its messages are late, by up to a heartbeat or by up to half a second.
    Delay,
    /// Its clock runs at half or double speed.
    Clock,
    /// Leadership is handed over, whatever the scores say.
    Handover,
    /// The power of all voters goes at once.
    PowerCut,
    /// The node's own power goes: what was not synced is gone, or there, or torn.
    Torn,
    /// The node goes down, and a bit on its disk turns over.
    Rot,
    /// Its disk is full.
    Full,
    /// A sync of its disk fails, once.
    SyncError,
    /// Its disk takes 50 to 500 ms for what it makes durable.
    SlowDisk,
}

impl FailureKind {
    /// It befalls a disk, so there must be some.
    pub fn needs_disk(self) -> bool {
        use FailureKind as K;
        matches!(self, K::PowerCut | K::Torn | K::Rot | K::Full | K::SyncError | K::SlowDisk)
    }
}

/// The kinds with the names scripts use.
pub const FAILURE_KINDS: &[(&str, FailureKind)] = &[
    ("kill", FailureKind::Kill),
    ("freeze", FailureKind::Freeze),
    ("partition", FailureKind::Partition),
    ("one_way", FailureKind::OneWay),
    ("loss", FailureKind::Loss),
    ("delay", FailureKind::Delay),
    ("clock", FailureKind::Clock),
    ("handover", FailureKind::Handover),
    ("power_cut", FailureKind::PowerCut),
    ("torn", FailureKind::Torn),
    ("rot", FailureKind::Rot),
    ("full", FailureKind::Full),
    ("sync_error", FailureKind::SyncError),
    ("slow_disk", FailureKind::SlowDisk),
];

/// How often one voter in so many rounds takes all others with it: a power cut stops everything.
const POWER_CUT_ONE_IN: usize = 4;

impl FailureKind {
    /// The kind called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        let found = FAILURE_KINDS.iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = FAILURE_KINDS.iter().map(|(name, _)| *name).collect();
            let problem = format!("{name:?} cannot fail; choose from {}", names.join(", "));
            Error::config("failures.kinds", problem)
        })
    }
}

/// Carries out steps and failures on the nodes of one world.
#[derive(Clone)]
pub(super) struct Director {
    pub(super) nodes: Nodes,
}

impl Director {
    fn world(&self) -> &Arc<World> {
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
    fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
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

    /// Lets one node fail by chance, again and again, until `until`.
    pub(super) async fn fail_by_chance(self, name: Arc<str>, failures: Failures, until: Duration) {
        let salt = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
        let mut chance = Chance::seeded(failures.seed ^ salt);
        let world = self.world().clone();
        while world.elapsed() < until {
            world.clock.sleep(exponential(&mut chance, failures.mtbf)).await;
            if world.elapsed() >= until {
                return;
            }
            let kind = failures.kinds.get(chance.below(failures.kinds.len()));
            let Some(kind) = kind else { return };
            let harmless = matches!(kind, FailureKind::Handover | FailureKind::Clock);
            // What a majority of disks loses is lost by right.
            let spared = failures.spare_majority || *kind == FailureKind::Rot;
            if !harmless && spared && !self.majority_stays_without(&name) {
                continue;
            }
            if *kind == FailureKind::PowerCut
                && (failures.spare_majority || chance.below(POWER_CUT_ONE_IN) > 0)
            {
                continue;
            }
            if self.world().post(&name).is_none() && (harmless || kind.needs_disk()) {
                continue;
            }
            self.fail(&name, *kind, &mut chance).await;
            let repair = exponential(&mut chance, failures.mttr);
            world.clock.sleep(repair.min(failures.mttr * 10)).await;
            self.mend(&name, *kind).await;
        }
    }

    /// Whether the voters that are well, `name` left aside, are a majority. One that came back empty counts once it has
    /// its seat again: what it lost is safe with the others until then.
    fn majority_stays_without(&self, name: &Arc<str>) -> bool {
        let (world, posts) = (self.world(), self.world().posts());
        if !posts.iter().any(|(voter, _)| voter == name) {
            return true;
        }
        let whole = |id: NodeId| {
            let faults = posts.iter().map(|(_, other)| world.board.fault(id, other.id));
            faults.into_iter().all(|fault| fault == LinkFault::default())
        };
        let well = posts.iter().filter(|(other, post)| {
            let runs = !post.life.has_ended() && !post.life.is_frozen();
            let seated = || post.consensus.voters().contains_key(&post.id);
            other != name && runs && whole(post.id) && seated()
        });
        well.count() > posts.len() / 2
    }

    async fn fail(&self, name: &Arc<str>, kind: FailureKind, chance: &mut Chance) {
        let who = Who::Named(name.clone());
        let ms = Duration::from_millis;
        let none = LinkFault::default();
        let action = match kind {
            FailureKind::Kill => Action::Kill(who),
            FailureKind::Freeze => Action::Freeze(who),
            FailureKind::Partition => Action::Isolate(who),
            FailureKind::OneWay => {
                let fault = LinkFault { cut: true, ..none };
                match chance.below(2) {
                    0 => Action::Link(Some(who), None, fault),
                    _ => Action::Link(None, Some(who), fault),
                }
            }
            FailureKind::Loss => {
                let fault = LinkFault { drop_ratio: 0.1 + 0.4 * unit(chance), ..none };
                Action::Link(Some(who), None, fault)
            }
            FailureKind::Delay => {
                let most = [ms(20), ms(500)][chance.below(2)];
                let fault = LinkFault { delay: most / 10, jitter: most, ..none };
                Action::Link(Some(who), None, fault)
            }
            FailureKind::Clock => Action::ClockRate(who, [0.5, 2.0][chance.below(2)]),
            FailureKind::Handover => Action::Handover(None),
            FailureKind::PowerCut => Action::PowerCut(None),
            FailureKind::Torn => Action::PowerCut(Some(who)),
            FailureKind::Rot => Action::Rot(who),
            FailureKind::Full => Action::Full(who),
            FailureKind::SyncError => Action::SyncError(who),
            FailureKind::SlowDisk => Action::SlowDisk(who, ms(50) + ms(450).mul_f64(unit(chance))),
        };
        self.perform(action).await;
    }

    async fn mend(&self, name: &Arc<str>, kind: FailureKind) {
        let who = Who::Named(name.clone());
        match kind {
            FailureKind::Kill => self.perform(Action::Restart(who)).await,
            FailureKind::Freeze => self.perform(Action::Resume(who)).await,
            FailureKind::Clock => self.perform(Action::ClockRate(who, 1.0)).await,
            FailureKind::Handover => {}
            FailureKind::Torn
            | FailureKind::Rot
            | FailureKind::Full
            | FailureKind::SyncError
            | FailureKind::SlowDisk => {
                self.mend_disk(name);
                self.perform(Action::Restart(who)).await;
            }
            FailureKind::PowerCut => {
                for (name, _) in self.world().posts() {
                    self.perform(Action::Restart(Who::Named(name))).await;
                }
            }
            FailureKind::Partition
            | FailureKind::OneWay
            | FailureKind::Loss
            | FailureKind::Delay => self.mend_links(name),
        }
    }

    fn mend_disk(&self, name: &str) {
        if let Some((id, disk)) = self.nodes.disk(name) {
            disk.mend();
            self.world().record_fault(id, id, "disk mended", 0.0);
        }
    }

    fn mend_links(&self, name: &Arc<str>) {
        let Some((id, ..)) = self.world().soul(name) else { return };
        for other in self.ids() {
            for (from, to) in [(id, other), (other, id)] {
                // Ending a fault is never refused.
                let _ = self.world().board.set(from, to, LinkFault::default());
            }
        }
        self.world().record_fault(id, id, "healed", 0.0);
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
