//! Nodes in the order in which they want work, and those that have work to give: kept up to date one change at a time,
//! so that nothing that is done for each task looks at every node.

use super::durations::Durations;
use super::reach::{Cell, Reach};
use super::roster::{Post, Roster};
use super::row::Row;
use super::stealing::waiting_us;
use crate::core::chance::Chance;
use crate::core::cluster::command::Member;
use crate::core::cluster::needs::Needs;
use crate::core::ids::NodeId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How much a node wants work: the first wants it most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The greatest share of a resource that is in use, in thousandths.
    scarce: u64,
    /// 0: it has an idle slot, as far as is known; 1: nothing waits there; 2: something does.
    tier: u8,
    /// How long its slots are busy.
    backlog_us: u64,
    /// The slower it is the greater.
    slowness: u32,
}

/// What a node offers: nodes that offer the same are interchangeable for what a task needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    slots: u32,
    labels: BTreeMap<String, String>,
    resources: BTreeMap<String, u64>,
}

impl Rank {
    /// Without resources in it: all nodes are compared by their backlog alone.
    fn plain(self) -> Self {
        Rank { scarce: 0, ..self }
    }
}

impl Offer {
    fn of(member: &Member) -> Self {
        Offer {
            slots: member.slots.max(1),
            labels: member.labels.clone(),
            resources: member.resources.clone(),
        }
    }

    fn is_of(&self, member: &Member) -> bool {
        self.slots == member.slots.max(1)
            && self.labels == member.labels
            && self.resources == member.resources
    }
}

/// Where a node stands in all of them.
#[derive(Clone, Debug, PartialEq)]
struct Seat {
    /// It may be given work.
    eligible: Option<(Arc<Offer>, Rank)>,
    /// It takes more, however much waits there.
    has_room: bool,
    /// It could be given work if the leader reached it.
    unreached: bool,
    /// It has work to give, so many microseconds of it.
    rich: Option<(Cell, u64)>,
}

/// Nodes that may be given work.
#[derive(Debug, Default)]
pub struct Pool {
    order: BTreeSet<(Rank, NodeId)>,
    /// Those with room for one more, in no order, to draw from.
    roomy: Vec<NodeId>,
    places: BTreeMap<NodeId, usize>,
}

impl Pool {
    /// Those that want work most come first.
    pub fn by_want(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.order.iter().map(|(_, node)| *node)
    }

    /// How many have room.
    pub fn roomy(&self) -> usize {
        self.roomy.len()
    }

    /// One of those with room.
    pub fn roomy_at(&self, at: usize) -> Option<NodeId> {
        self.roomy.get(at).copied()
    }

    fn seat(&mut self, node: NodeId, rank: Rank, has_room: bool) {
        self.order.insert((rank, node));
        self.note_room(node, has_room);
    }

    fn unseat(&mut self, node: NodeId, rank: Rank) {
        self.order.remove(&(rank, node));
        self.note_room(node, false);
    }

    fn move_to(&mut self, node: NodeId, from: Rank, to: Rank) {
        if from != to {
            self.order.remove(&(from, node));
            self.order.insert((to, node));
        }
    }

    fn note_room(&mut self, node: NodeId, has_room: bool) {
        if has_room {
            self.places.entry(node).or_insert_with(|| {
                self.roomy.push(node);
                self.roomy.len() - 1
            });
        } else if let Some(at) = self.places.remove(&node) {
            self.roomy.swap_remove(at);
            if let Some(moved) = self.roomy.get(at) {
                self.places.insert(*moved, at);
            }
        }
    }
}

/// All orders of all nodes.
#[derive(Debug, Default)]
pub struct Pools {
    seats: Row<NodeId, Box<Seat>>,
    all: Pool,
    /// Nodes by what they offer are told apart once a task asks for something.
    apart: bool,
    by_offer: BTreeMap<Arc<Offer>, Pool>,
    unreached: usize,
    slots: u64,
    rich: BTreeMap<Cell, BTreeSet<(Reverse<u64>, NodeId)>>,
    rich_count: usize,
    /// Counts how often what nodes offer has changed.
    offers_version: u64,
    /// Nodes that have more work to give than before.
    enriched: BTreeSet<NodeId>,
}

impl Pools {
    /// Follows what has changed of the roster.
    pub fn follow(
        &mut self,
        roster: &mut Roster,
        durations: &Durations,
        reach: &Reach,
        node_queue: u64,
    ) {
        for node in roster.take_changed() {
            let old = self.seats.get(node);
            let known = old.and_then(|seat| seat.eligible.as_ref()).map(|(offer, _)| offer);
            let new =
                roster.get(&node).map(|post| seat_of(post, known, durations, reach, node_queue));
            if old.map(|seat| &**seat) == new.as_ref() {
                continue;
            }
            let had = old.and_then(|seat| seat.rich).map(|(_, work_us)| work_us);
            match new {
                Some(seat) => {
                    let has = seat.rich.map(|(_, work_us)| work_us);
                    match has > had {
                        true => self.enriched.insert(node),
                        false => has.is_none() && self.enriched.remove(&node),
                    };
                    self.reseat(node, seat);
                }
                None => self.unseat(node),
            }
        }
    }

    /// From now on nodes are told apart by what they offer.
    pub fn tell_apart(&mut self) {
        if std::mem::replace(&mut self.apart, true) {
            return;
        }
        self.offers_version += 1;
        for (node, seat) in self.seats.iter() {
            if let Some((offer, rank)) = &seat.eligible {
                let pool = self.by_offer.entry(offer.clone()).or_default();
                pool.seat(node, *rank, seat.has_room);
            }
        }
    }

    /// All nodes that may be given work.
    pub fn all(&self) -> &Pool {
        &self.all
    }

    /// Pools whose nodes could run a task with those needs, if they were idle.
    pub fn meeting(&self, needs: &Needs) -> Vec<&Pool> {
        let meets = |offer: &Offer| {
            needs.slots <= offer.slots
                && needs.labels.iter().all(|(name, value)| offer.labels.get(name) == Some(value))
                && needs.resources.iter().all(|(name, amount)| {
                    offer.resources.get(name).is_some_and(|offered| offered >= amount)
                })
        };
        self.by_offer.iter().filter(|(offer, _)| meets(offer)).map(|(_, pool)| pool).collect()
    }

    /// Some node could be given work but for the leader's reach.
    pub fn has_unreached(&self) -> bool {
        self.unreached > 0
    }

    /// Slots of all nodes that may be given work.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Another number whenever a kind of offer came or went.
    pub fn offers_version(&self) -> u64 {
        self.offers_version
    }

    /// Nodes that have more work to give than when they were last asked for.
    pub fn take_enriched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.enriched)
    }

    /// How many nodes have work to give.
    pub fn rich_count(&self) -> usize {
        self.rich_count
    }

    /// Nodes with work to give around `cells`, the richest of each cell first, at most `most` of each.
    pub fn rich_around<'a>(
        &'a self,
        cells: &'a [Cell],
        most: usize,
    ) -> impl Iterator<Item = (u64, NodeId)> + 'a {
        let here = cells.iter().filter_map(|cell| self.rich.get(cell));
        here.flat_map(move |rich| rich.iter().take(most))
            .map(|(Reverse(work_us), node)| (*work_us, *node))
    }

    /// The node has that seat from now on; what is as before is not touched.
    fn reseat(&mut self, node: NodeId, seat: Seat) {
        let Some(old) = self.seats.get(node) else { return self.seat(node, seat) };
        let (Some((was, from)), Some((is, to))) = (&old.eligible, &seat.eligible) else {
            self.unseat(node);
            return self.seat(node, seat);
        };
        if was != is || old.unreached != seat.unreached {
            self.unseat(node);
            return self.seat(node, seat);
        }
        let turns = old.has_room != seat.has_room;
        self.all.move_to(node, from.plain(), to.plain());
        if turns {
            self.all.note_room(node, seat.has_room);
        }
        if let Some(pool) = self.by_offer.get_mut(is) {
            pool.move_to(node, *from, *to);
            if turns {
                pool.note_room(node, seat.has_room);
            }
        }
        let rich = old.rich;
        if rich != seat.rich {
            self.unlist(node, rich);
            self.list(node, seat.rich);
        }
        if let Some(old) = self.seats.get_mut(node) {
            **old = seat;
        }
    }

    fn seat(&mut self, node: NodeId, seat: Seat) {
        if let Some((offer, rank)) = &seat.eligible {
            self.slots += u64::from(offer.slots);
            self.all.seat(node, rank.plain(), seat.has_room);
            if self.apart {
                if !self.by_offer.contains_key(offer) {
                    self.offers_version += 1;
                }
                self.by_offer.entry(offer.clone()).or_default().seat(node, *rank, seat.has_room);
            }
        }
        self.unreached += usize::from(seat.unreached);
        self.list(node, seat.rich);
        self.seats.insert(node, Box::new(seat));
    }

    fn unseat(&mut self, node: NodeId) {
        let Some(seat) = self.seats.remove(node) else { return };
        if let Some((offer, rank)) = &seat.eligible {
            self.slots -= u64::from(offer.slots);
            self.all.unseat(node, rank.plain());
            if let Some(pool) = self.by_offer.get_mut(offer) {
                pool.unseat(node, *rank);
                if pool.order.is_empty() {
                    self.by_offer.remove(offer);
                    self.offers_version += 1;
                }
            }
        }
        self.unreached -= usize::from(seat.unreached);
        self.unlist(node, seat.rich);
    }

    fn list(&mut self, node: NodeId, rich: Option<(Cell, u64)>) {
        if let Some((cell, work_us)) = rich {
            self.rich.entry(cell).or_default().insert((Reverse(work_us), node));
            self.rich_count += 1;
        }
    }

    fn unlist(&mut self, node: NodeId, rich: Option<(Cell, u64)>) {
        if let Some((cell, work_us)) = rich
            && let Some(there) = self.rich.get_mut(&cell)
        {
            self.rich_count -= usize::from(there.remove(&(Reverse(work_us), node)));
            if there.is_empty() {
                self.rich.remove(&cell);
            }
        }
    }
}

fn seat_of(
    post: &Post,
    known: Option<&Arc<Offer>>,
    durations: &Durations,
    reach: &Reach,
    node_queue: u64,
) -> Seat {
    let reached = post.hops.is_some();
    let backlog_us = post.backlog_us(durations);
    let eligible = (post.eligible() && reached).then(|| {
        let member = &post.member;
        let offer = match known.filter(|offer| offer.is_of(member)) {
            Some(offer) => offer.clone(),
            None => Arc::new(Offer::of(member)),
        };
        let rank = Rank {
            scarce: post.holds.taken().dominant_share(member),
            tier: tier(post),
            backlog_us,
            slowness: (1_000.0 / post.speed.ratio()) as u32,
        };
        (offer, rank)
    });
    let rich = (post.answers() && post.queued() > 0).then(|| {
        let waiting_us = post.time_us(waiting_us(post, durations) / post.slots());
        (reach.cell(post.member.position), waiting_us)
    });
    Seat {
        eligible,
        has_room: (post.burden() as u64) < node_queue,
        unreached: post.eligible() && !reached,
        rich,
    }
}

fn tier(post: &Post) -> u8 {
    let (busy, slots) = (post.holds.slots(), post.slots());
    if busy < slots {
        0
    } else if busy == slots {
        1
    } else {
        2
    }
}

/// The node at a random place of all `pools` together.
pub fn draw(pools: &[&Pool], chance: &mut Chance) -> Option<NodeId> {
    let total = pools.iter().map(|pool| pool.roomy()).sum();
    let mut at = if total == 0 { return None } else { chance.below(total) };
    for pool in pools {
        match at.checked_sub(pool.roomy()) {
            Some(rest) => at = rest,
            None => return pool.roomy_at(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::holdings::Charge;
    use super::*;
    use crate::config::Config;
    use crate::core::Moment;
    use crate::core::ids::{TaskId, Token};
    use crate::core::load::Position;

    /// What [`Pools`] should say, found by looking at everybody.
    fn check(pools: &Pools, roster: &Roster, durations: &Durations) {
        let mut wanting: Vec<&Post> =
            roster.values().filter(|post| post.eligible() && post.hops.is_some()).collect();
        wanting.sort_by_key(|post| (tier(post), post.backlog_us(durations), post.member.id));
        let wanting: Vec<NodeId> = wanting.iter().map(|post| post.member.id).collect();
        assert_eq!(pools.all().by_want().collect::<Vec<_>>(), wanting);
        let mut roomy: Vec<NodeId> =
            (0..pools.all().roomy()).filter_map(|at| pools.all().roomy_at(at)).collect();
        roomy.sort_unstable();
        let room = |node: &&NodeId| roster[*node].burden() < 5;
        let mut expected: Vec<NodeId> = wanting.iter().filter(room).copied().collect();
        expected.sort_unstable();
        assert_eq!(roomy, expected);
        let rich = roster.values().filter(|post| post.answers() && post.queued() > 0).count();
        assert_eq!(pools.rich_count(), rich);
        let unreached = roster.values().any(|post| post.eligible() && post.hops.is_none());
        assert_eq!(pools.has_unreached(), unreached);
        let mut apart: Vec<NodeId> = pools.by_offer.values().flat_map(Pool::by_want).collect();
        apart.sort_unstable();
        let mut eligible = wanting;
        eligible.sort_unstable();
        assert_eq!(apart, if pools.apart { eligible } else { Vec::new() });
        let room = pools.by_offer.values().map(Pool::roomy).sum::<usize>();
        assert_eq!(room, if pools.apart { roomy.len() } else { 0 });
    }

    #[test]
    fn after_any_change_the_orders_are_those_of_a_fresh_look() {
        let (durations, reach) = (Durations::default(), Reach::new(&Config::default()));
        let (mut pools, mut roster) = (Pools::default(), Roster::default());
        let mut chance = Chance::seeded(5);
        for round in 0..5_000u128 {
            if round == 1_000 {
                pools.tell_apart();
            }
            let id = NodeId(chance.below(12) as u64 + 1);
            let task = TaskId(chance.below(9) as u128 + 1);
            match (chance.below(9), roster.get_mut(&id)) {
                (0, _) => {
                    let position = Position { x: id.0 as f64, y: 0.0 };
                    let slots = 1 + (id.0 % 3) as u32;
                    let member = Member { id, slots, position, ..Member::default() };
                    let mut post = Post::new(member, Moment(0));
                    (post.open, post.hops) = (true, Some(1));
                    roster.insert(post);
                }
                (1, _) => drop(roster.remove(&id)),
                (2, Some(post)) => post.open = !post.open,
                (3, Some(post)) => post.status.draining = !post.status.draining,
                (4, Some(post)) => post.hops = post.hops.xor(Some(1)),
                (5, Some(post)) => post.holds.expect(task, Charge::default()),
                (6, Some(post)) => {
                    post.holds.hold(Moment(0), task, Token(round as u64), Charge::default());
                }
                (7, Some(post)) => drop(post.holds.let_go(task)),
                (8, Some(post)) => post.holds.give_up_on(task),
                _ => {}
            }
            pools.follow(&mut roster, &durations, &reach, 5);
            check(&pools, &roster, &durations);
        }
    }
}
