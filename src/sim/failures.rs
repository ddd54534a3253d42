//! Failures that come by chance, to every node by itself, and how each is mended.

use super::loads::{exponential, unit};
use super::script::{Action, Director, Who};
use crate::core::chance::Chance;
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use crate::node::faults::LinkFault;
use std::sync::Arc;
use std::time::Duration;

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

impl Director {
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
}
