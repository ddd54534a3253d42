//! Who led when, how the change came about, how long it took, and whether the best that could win did.

use super::world::{Post, World};
use crate::core::ids::{NodeId, Term};
use crate::core::record::{Record, RecordKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Why a reign began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first of all.
    Founding,
    /// The leader before had handed over.
    Handover,
    /// The leader before was lost.
    Failover,
    /// The leader before was well: nobody knows why it was replaced.
    Needless,
}

impl Cause {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Founding => "founding",
            Cause::Handover => "handover",
            Cause::Failover => "failover",
            Cause::Needless => "needless",
        }
    }
}

/// One leader's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Reign {
    /// Its term.
    pub term: Term,
    /// Who.
    pub leader: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// When it began, in virtual time.
    pub began: Duration,
    /// When its first write was acknowledged.
    pub accepted: Option<Duration>,
    /// Why it began.
    pub cause: Cause,
    /// When the leader before was lost, or began to hand over.
    pub lost: Option<Duration>,
    /// The best-ranked voter that could win when the leader before was lost; `None` where the survivors did not agree.
    pub best: Option<NodeId>,
    /// Terms that passed since the reign before.
    pub terms: u64,
}

/// The present leader's end, as far as it has come.
#[derive(Clone, Copy, Debug)]
struct Loss {
    at: Duration,
    best: Option<NodeId>,
    planned: bool,
}

/// Writes the reigns down as they come.
#[derive(Default)]
pub struct Chronicle {
    reigns: Vec<Reign>,
    loss: Option<Loss>,
}

impl Chronicle {
    /// A row of history was written.
    pub(super) fn on_record(&mut self, world: &World, node: NodeId, record: &Record) {
        match record.kind {
            RecordKind::BecameLeader => self.on_leader(world, node, record.term),
            RecordKind::HandoverStarted => {
                let at = world.elapsed();
                self.loss = Some(Loss { at, best: Some(record.subject), planned: true });
            }
            RecordKind::Fault => self.on_fault(world),
            _ => {}
        }
    }

    pub(super) fn on_accepted(&mut self, at: Duration, term: Term) {
        if let Some(reign) = self.reigns.iter_mut().rev().find(|reign| reign.term == term) {
            reign.accepted.get_or_insert(at);
        }
    }

    pub(super) fn take_reigns(&mut self) -> Vec<Reign> {
        std::mem::take(&mut self.reigns)
    }

    fn on_leader(&mut self, world: &World, leader: NodeId, term: Term) {
        let before = self.reigns.last();
        if before.is_some_and(|reign| reign.term >= term) {
            return;
        }
        let loss = self.loss.take();
        let cause = match (before, loss) {
            (None, _) => Cause::Founding,
            (Some(_), Some(Loss { planned: true, .. })) => Cause::Handover,
            (Some(_), Some(Loss { planned: false, .. })) => Cause::Failover,
            (Some(_), None) => Cause::Needless,
        };
        let terms = term - before.map_or(0, |reign| reign.term);
        self.reigns.push(Reign {
            term,
            leader,
            name: world.name_of(leader),
            began: world.elapsed(),
            accepted: None,
            cause,
            lost: loss.map(|loss| loss.at),
            best: loss.and_then(|loss| loss.best),
            terms,
        });
    }

    fn on_fault(&mut self, world: &World) {
        let Some(reign) = self.reigns.last() else { return };
        let leads = world.holder(reign.leader).is_some_and(|post| reaches_majority(world, &post));
        if leads {
            self.loss = self.loss.filter(|loss| loss.planned);
        } else if self.loss.is_none_or(|loss| loss.planned) {
            let best = best_survivor(world, reign.leader);
            self.loss = Some(Loss { at: world.elapsed(), best, planned: false });
        }
    }
}

fn well(post: &Post) -> bool {
    !post.life.has_ended() && !post.life.is_frozen()
}

fn in_touch(world: &World, a: NodeId, b: NodeId) -> bool {
    !world.board.fault(a, b).cut && !world.board.fault(b, a).cut
}

/// The well voters that `post` hears and that hear it, itself included.
fn companions(world: &World, post: &Post) -> Vec<Post> {
    let voters = post.consensus.voters();
    let mut found = world.living();
    found.retain(|(_, other)| {
        let near = other.id == post.id || in_touch(world, post.id, other.id);
        voters.contains_key(&other.id) && well(other) && near
    });
    found.into_iter().map(|(_, post)| post).collect()
}

fn reaches_majority(world: &World, post: &Post) -> bool {
    well(post) && companions(world, post).len() > post.consensus.voters().len() / 2
}

/// Whether enough voters could grant `post` their votes now.
fn can_win(world: &World, post: &Post) -> bool {
    let mine = post.consensus.view().last_log;
    let companions = companions(world, post);
    let granting = companions.iter().filter(|other| other.consensus.view().last_log <= mine);
    well(post) && granting.count() > post.consensus.voters().len() / 2
}

/// Whom a majority of the survivors' tables rank first among those that can win.
fn best_survivor(world: &World, lost: NodeId) -> Option<NodeId> {
    let survivors: Vec<Post> = world
        .living()
        .into_iter()
        .map(|(_, post)| post)
        .filter(|post| post.id != lost && reaches_majority(world, post))
        .collect();
    let able: Vec<NodeId> =
        survivors.iter().filter(|post| can_win(world, post)).map(|post| post.id).collect();
    let mut firsts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for post in &survivors {
        let table = post.consensus.table();
        let first = table.iter().find(|row| row.caught_up && able.contains(&row.node));
        if let Some(first) = first {
            *firsts.entry(first.node).or_default() += 1;
        }
    }
    firsts.into_iter().find(|(_, count)| *count > survivors.len() / 2).map(|(node, _)| node)
}
