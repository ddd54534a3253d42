//! Who is how far from whom, and whom the leader may assign to: at once, or along a chain of members.
//!
//! Distance limits the task plane only: words of Raft go to everybody.

use super::roster::Roster;
use crate::config::{Config, Distances, OutOfReach};
use crate::core::cluster::command::Member;
use crate::core::ids::NodeId;
use crate::core::load::Position;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A square of the plane; all of it where reach has no bound.
pub type Cell = (i64, i64);

/// The distances that count, and how far is too far.
#[derive(Clone, Debug)]
pub struct Reach {
    assign: f64,
    steal: f64,
    relays: bool,
    distances: Arc<Distances>,
}

impl Reach {
    /// As the knobs say.
    pub fn new(config: &Config) -> Self {
        Reach {
            assign: config.assign_reach,
            steal: config.steal.reach,
            relays: config.out_of_reach == OutOfReach::Relay,
            distances: config.distances.clone(),
        }
    }

    /// From one member to another: as given by name, else by their positions.
    pub fn distance(&self, from: &Member, to: &Member) -> f64 {
        if from.id == to.id {
            return 0.0;
        }
        let given = match self.distances.is_empty() {
            true => None,
            false => self.distances.between(&from.name, &to.name),
        };
        given.unwrap_or_else(|| from.position.distance(&to.position))
    }

    /// `from` may give `to` a task.
    pub fn may_assign(&self, from: &Member, to: &Member) -> bool {
        within(self.distance(from, to), self.assign)
    }

    /// `thief` may take from `victim`.
    pub fn may_steal(&self, victim: &Member, thief: &Member) -> bool {
        within(self.distance(victim, thief), self.steal)
    }

    /// Tasks for nodes out of the leader's reach go along a chain of members.
    pub fn relays(&self) -> bool {
        self.relays
    }

    /// Some distances are given by name.
    pub fn is_by_name(&self) -> bool {
        !self.distances.is_empty()
    }

    /// The cell of the plane that counts for steals.
    pub fn cell(&self, position: Position) -> Cell {
        match self.is_bounded() {
            true => cell(position, self.steal),
            false => (0, 0),
        }
    }

    /// Cells that hold everybody in reach of a thief in `cell`.
    pub fn cells_around(&self, (x, y): Cell) -> Vec<Cell> {
        if !self.is_bounded() {
            return vec![(0, 0)];
        }
        let near = |at: i64| [at.saturating_sub(1), at, at.saturating_add(1)];
        near(x).into_iter().flat_map(|x| near(y).map(|y| (x, y))).collect()
    }

    /// Positions alone decide, and they may be too far apart.
    fn is_bounded(&self) -> bool {
        self.steal.is_finite() && self.distances.is_empty()
    }

    /// How many steps each member is from `leader`, none longer than the reach for assignments: one at most, unless
    /// tasks are relayed, then along members that answer. Those that are missing are out of reach.
    pub fn hops(&self, leader: &Member, roster: &Roster) -> BTreeMap<NodeId, u32> {
        let mut hops = BTreeMap::from([(leader.id, 1)]);
        if !self.relays || self.assign.is_infinite() {
            let near = roster.values().filter(|post| self.may_assign(leader, &post.member));
            hops.extend(near.map(|post| (post.member.id, 1)));
            return hops;
        }
        let ground = Ground::new(self, roster);
        let mut ring = vec![leader.clone()];
        for steps in 1.. {
            let mut next = Vec::new();
            for from in &ring {
                for node in ground.near(from) {
                    let Some(post) = roster.get(&node).filter(|post| post.answers()) else {
                        continue;
                    };
                    if !hops.contains_key(&node) && self.may_assign(from, &post.member) {
                        hops.insert(node, steps);
                        next.push(post.member.clone());
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            ring = next;
        }
        hops
    }
}

/// An infinite distance is too far for any reach.
fn within(distance: f64, reach: f64) -> bool {
    distance.is_finite() && distance <= reach
}

fn cell(position: Position, side: f64) -> Cell {
    // Out of bounds, the conversion saturates: such nodes share a cell at the edge.
    ((position.x / side).floor() as i64, (position.y / side).floor() as i64)
}

/// Who may be within one step of whom, without looking at everybody.
struct Ground {
    side: f64,
    cells: BTreeMap<Cell, Vec<NodeId>>,
    /// Those whose distance is given by name, both ways.
    named: BTreeMap<String, BTreeSet<NodeId>>,
}

impl Ground {
    fn new(reach: &Reach, roster: &Roster) -> Self {
        let mut cells: BTreeMap<Cell, Vec<NodeId>> = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for post in roster.values() {
            let at = cell(post.member.position, reach.assign);
            cells.entry(at).or_default().push(post.member.id);
            ids.insert(post.member.name.as_str(), post.member.id);
        }
        let mut named: BTreeMap<String, BTreeSet<NodeId>> = BTreeMap::new();
        for (from, to, _) in reach.distances.iter() {
            if let (Some(a), Some(b)) = (ids.get(from), ids.get(to)) {
                named.entry(from.to_owned()).or_default().insert(*b);
                named.entry(to.to_owned()).or_default().insert(*a);
            }
        }
        Ground { side: reach.assign, cells, named }
    }

    fn near(&self, from: &Member) -> Vec<NodeId> {
        let (x, y) = cell(from.position, self.side);
        let around = |at: i64| [at.saturating_sub(1), at, at.saturating_add(1)];
        let cells = around(x).into_iter().flat_map(|x| around(y).map(|y| (x, y)));
        let mut found: Vec<NodeId> =
            cells.filter_map(|cell| self.cells.get(&cell)).flatten().copied().collect();
        found.extend(self.named.get(&from.name).into_iter().flatten());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::roster::Post;
    use super::*;
    use crate::core::Moment;

    fn member(id: u64, x: f64, y: f64) -> Member {
        let position = Position { x, y };
        Member { id: NodeId(id), name: format!("n{id}"), position, ..Member::default() }
    }

    fn roster(members: &[Member]) -> Roster {
        let mut roster = Roster::default();
        for member in members {
            let mut post = Post::new(member.clone(), Moment(0));
            post.open = true;
            roster.insert(post);
        }
        roster
    }

    fn reach(assign: f64, relay: bool, distances: &str) -> Reach {
        let mut config = Config { assign_reach: assign, ..Config::default() };
        config.out_of_reach = if relay { OutOfReach::Relay } else { OutOfReach::Wait };
        config.distances = Arc::new(Distances::parse(distances).unwrap());
        Reach::new(&config)
    }

    #[test]
    fn positions_count_in_one_dimension_and_in_two_unless_a_distance_is_given() {
        let (a, b, c) = (member(1, 0.0, 0.0), member(2, 3.0, 4.0), member(3, 7.0, 0.0));
        let check = |distances: &str, from: &Member, to: &Member, expected: f64| {
            let got = reach(1.0, false, distances).distance(from, to);
            assert_eq!(got, expected, "{distances:?}");
        };
        check("", &a, &b, 5.0);
        check("", &a, &c, 7.0);
        check("n1\tn3\t2", &a, &c, 2.0);
        check("n1\tn3\t2", &c, &a, 2.0);
        check("n1\tn3\tinf", &a, &c, f64::INFINITY);
        check("n1\tn3\tinf", &a, &b, 5.0);
        check("n1\tn1x\t9", &a, &a, 0.0);
    }

    #[test]
    fn an_infinite_distance_is_never_in_reach() {
        let (a, b) = (member(1, 0.0, 0.0), member(2, 1.0, 0.0));
        assert!(reach(f64::INFINITY, false, "").may_assign(&a, &b));
        assert!(!reach(f64::INFINITY, false, "n1\tn2\tinf").may_assign(&a, &b));
    }

    #[test]
    fn without_relays_the_leader_reaches_one_step_far() {
        let members = [member(1, 0.0, 0.0), member(2, 2.0, 0.0), member(3, 4.0, 0.0)];
        let hops = reach(2.0, false, "").hops(&members[0], &roster(&members));
        assert_eq!(hops, BTreeMap::from([(NodeId(1), 1), (NodeId(2), 1)]));
    }

    #[test]
    fn a_relay_goes_along_members_that_answer_and_no_further() {
        let line: Vec<Member> = (1..=6).map(|id| member(id, 2.0 * id as f64, 0.0)).collect();
        let mut nodes = roster(&line);
        let relay = reach(2.0, true, "");
        let steps = |nodes: &Roster| relay.hops(&line[0], nodes).into_values().collect::<Vec<_>>();
        assert_eq!(steps(&nodes), [1, 1, 2, 3, 4, 5]);
        nodes.get_mut(&NodeId(4)).unwrap().open = false;
        assert_eq!(steps(&nodes), [1, 1, 2], "the chain is broken at the fourth");
        let bridged = reach(2.0, true, "n3\tn5\t1");
        let hops = bridged.hops(&line[0], &nodes);
        assert_eq!(hops.get(&NodeId(6)), Some(&4), "a given distance bridges it: {hops:?}");
    }

    #[test]
    fn whoever_is_in_reach_of_a_thief_is_in_a_cell_around_it() {
        let reach = Reach::new(&Config::default());
        for (x, y) in [(-2.0, 0.0), (1.4, 1.4), (2.0, 0.0), (0.0, -2.0), (-1.4, 1.4)] {
            for base in [-7.3, 0.0, 0.1, 1.99, 5e11] {
                let thief = Position { x: base, y: base };
                let victim = Position { x: base + x, y: base + y };
                let around = reach.cells_around(reach.cell(thief));
                assert!(around.contains(&reach.cell(victim)), "{thief:?} {victim:?}");
            }
        }
    }
}
