//! Who gets a waiting task: `window` (late binding) and `random` (the mission's policy).

use super::roster::{Post, Roster};
use crate::config::{Config, Placement};
use crate::core::chance::Chance;
use crate::core::ids::NodeId;
use crate::core::load::Position;

/// The node that should run the next task, or `None`: it waits.
pub fn plan_placement(
    roster: &Roster,
    origin: Position,
    config: &Config,
    chance: &mut Chance,
) -> Option<NodeId> {
    let within = |post: &&Post| {
        post.eligible() && post.member.position.distance(&origin) <= config.assign_reach
    };
    let eligible = roster.values().filter(within);
    match config.placement {
        Placement::Window => eligible
            .map(|post| (post.burden(), post.window(config.limits.node_queue), post))
            .filter(|(burden, window, _)| burden < window)
            // The emptiest window relative to its size; a / b < c / d without division.
            .min_by(|(a, b, x), (c, d, y)| {
                (a * d).cmp(&(c * b)).then(x.member.id.cmp(&y.member.id))
            })
            .map(|(_, _, post)| post.member.id),
        Placement::Random => {
            let room = |post: &&Post| (post.burden() as u64) < config.limits.node_queue;
            let count = eligible.clone().filter(room).count();
            if count == 0 {
                return None;
            }
            eligible.filter(room).nth(chance.below(count)).map(|post| post.member.id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Moment;
    use crate::core::cluster::command::Member;
    use crate::core::ids::TaskId;
    use crate::core::ids::Token;

    fn roster(burdens: &[usize]) -> Roster {
        let post = |(i, burden): (usize, &usize)| {
            let id = NodeId(i as u64 + 1);
            let position = Position { x: i as f64, y: 0.0 };
            let member = Member { id, slots: 2, position, ..Member::default() };
            let mut post = Post::new(member, Moment(0));
            post.open = true;
            post.assigned = (0..*burden).map(|t| (TaskId(t as u128), Token(1))).collect();
            (id, post)
        };
        burdens.iter().enumerate().map(post).collect()
    }

    fn check(burdens: &[usize], config: &Config, expected: Option<u64>) {
        let mut chance = Chance::seeded(1);
        let got = plan_placement(&roster(burdens), Position::default(), config, &mut chance);
        assert_eq!(got, expected.map(NodeId), "{burdens:?}");
    }

    #[test]
    fn a_window_takes_the_emptiest_node_and_stops_at_slots_plus_one() {
        let config = Config::default();
        check(&[1, 0, 2], &config, Some(2));
        check(&[2, 2, 1], &config, Some(3));
        check(&[3, 3, 3], &config, None);
    }

    #[test]
    fn nobody_out_of_reach_is_given_work() {
        let config = Config { assign_reach: 0.5, ..Config::default() };
        check(&[3, 0, 0], &config, None);
        check(&[0, 0, 0], &config, Some(1));
    }

    #[test]
    fn random_is_uniform_over_the_eligible_and_never_picks_the_draining() {
        let config = Config { placement: Placement::Random, ..Config::default() };
        let mut nodes = roster(&[5, 0, 0, 0]);
        if let Some(post) = nodes.get_mut(&NodeId(3)) {
            post.status.draining = true;
        }
        let mut chance = Chance::seeded(7);
        let mut hits = [0usize; 5];
        for _ in 0..3_000 {
            let node = plan_placement(&nodes, Position::default(), &config, &mut chance);
            hits[node.expect("three are eligible").0 as usize] += 1;
        }
        assert_eq!(hits[3], 0);
        for node in [1, 2, 4] {
            assert!((850..1150).contains(&hits[node]), "{hits:?}");
        }
    }
}
