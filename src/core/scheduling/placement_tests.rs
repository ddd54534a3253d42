//! Each policy on a roster made by hand.

use super::super::durations::tests::spec;
use super::super::reach::Reach;
use super::*;
use crate::config::Config;
use crate::core::Moment;
use crate::core::cluster::command::Member;
use crate::core::cluster::needs::Needs;
use crate::core::ids::{TaskId, Token};
use std::sync::Arc;
use std::time::Duration;

/// Nodes with two slots each, and what the leader derives from them.
struct Field {
    config: Config,
    roster: Roster,
    pools: Pools,
    durations: Durations,
}

impl Field {
    /// A node per burden: so many tasks of the kind `f`.
    fn new(placement: Placement, burdens: &[usize]) -> Self {
        let mut field = Field {
            config: Config { placement, ..Config::default() },
            roster: Roster::default(),
            pools: Pools::default(),
            durations: Durations::default(),
        };
        for (i, burden) in burdens.iter().enumerate() {
            let member = Member { id: NodeId(i as u64 + 1), slots: 2, ..Member::default() };
            field.add(member, *burden, "f");
        }
        field
    }

    fn add(&mut self, member: Member, burden: usize, name: &str) {
        let id = member.id;
        let mut post = Post::new(member, Moment(0));
        (post.open, post.hops) = (true, Some(1));
        for task in 0..burden {
            let (kind, needs) = (self.durations.kind_of(&spec(name, 0)), None);
            let task = TaskId(u128::from(id.0) * 1_000 + task as u128);
            post.holds.hold(Moment(0), task, Token(1), Charge { kind, needs });
        }
        self.roster.insert(post);
    }

    fn change(&mut self, node: u64, change: impl FnOnce(&mut Post)) {
        self.roster.get_mut(&NodeId(node)).map(change).unwrap();
    }

    /// A task of that name ended, so its kind is known.
    fn learn(&mut self, name: &str, took_us: u64) {
        let kind = self.durations.kind_of(&spec(name, 0));
        self.durations.learn(kind, Duration::from_micros(took_us));
    }

    fn choose(&mut self, name: &str, needs: Option<Needs>, chance: &mut Chance) -> Option<u64> {
        let reach = Reach::new(&self.config);
        let cap = self.config.limits.node_queue;
        self.pools.tell_apart();
        self.pools.follow(&mut self.roster, &self.durations, &reach, cap);
        let charge =
            Charge { kind: self.durations.kind_of(&spec(name, 0)), needs: needs.map(Arc::new) };
        let from = Candidates::new(&self.roster, &self.pools, &self.durations, &charge, cap);
        let policy = policy(self.config.placement, self.pools.has_unreached());
        policy.choose(&from, chance).map(|node| node.0)
    }

    fn check(&mut self, name: &str, expected: Option<u64>) {
        let got = self.choose(name, None, &mut Chance::seeded(1));
        assert_eq!(got, expected, "{name:?} {:?}", self.config.placement);
    }

    /// How often each node is chosen.
    fn hits(&mut self, rounds: usize) -> Vec<usize> {
        let mut chance = Chance::seeded(7);
        let mut hits = vec![0; self.roster.len() + 1];
        for _ in 0..rounds {
            hits[self.choose("f", None, &mut chance).unwrap() as usize] += 1;
        }
        hits
    }
}

#[test]
fn a_window_takes_the_emptiest_node_and_stops_at_slots_plus_one() {
    let check = |burdens: &[usize], expected: Option<u64>| {
        Field::new(Placement::Window, burdens).check("f", expected);
    };
    check(&[1, 0, 2], Some(2));
    check(&[2, 2, 1], Some(3));
    check(&[2, 3, 3], Some(1));
    check(&[3, 3, 3], None);
    check(&[], None);
}

#[test]
fn a_window_is_counted_in_time_so_that_short_tasks_stream_and_long_ones_bind_late() {
    let mut field = Field::new(Placement::Window, &[3, 3]);
    field.learn("f", 100);
    field.check("f", Some(1));
    // Two slots, 5 ms each, of tasks of 0.1 ms.
    let mut field = Field::new(Placement::Window, &[99, 100]);
    field.learn("f", 100);
    field.check("f", Some(1));
    field.check("unknown", None);
    let mut field = Field::new(Placement::Window, &[100, 100]);
    field.learn("f", 100);
    field.check("f", None);
    // One that is known to take a second is the one more than slots; a shorter one does not pass it for ever.
    let mut field = Field::new(Placement::Window, &[2]);
    field.learn("long", 1_000_000);
    field.check("long", Some(1));
    let mut field = Field::new(Placement::Window, &[3]);
    field.learn("long", 1_000_000);
    field.check("long", None);
}

#[test]
fn a_window_never_exceeds_the_queue_of_a_node() {
    let mut field = Field::new(Placement::Window, &[3]);
    field.config.limits.node_queue = 3;
    field.learn("f", 1);
    field.check("f", None);
}

#[test]
fn among_idle_nodes_the_fastest_is_first() {
    let mut field = Field::new(Placement::Window, &[0, 0, 0]);
    field.learn("f", 1_000);
    for _ in 0..100 {
        field.change(2, |post| post.speed.learn(1_000, Duration::from_micros(500)));
    }
    field.check("f", Some(2));
}

#[test]
fn a_straggler_makes_its_node_look_as_busy_as_it_is() {
    let mut field = Field::new(Placement::P2c, &[1, 2]);
    field.learn("f", 1_000);
    let (task, now) = (TaskId(1_000), Moment(60_000_000));
    let durations = std::mem::take(&mut field.durations);
    field.change(1, |post| {
        post.holds.note_running(Moment(0), &[task], &durations, 1.0);
        post.holds.note_running(now, &[task], &durations, 1.0);
    });
    field.durations = durations;
    let hits = field.hits(1_000);
    assert!(hits[2] > 700, "it has run for a minute: {hits:?}");
}

#[test]
fn random_is_uniform_over_the_eligible_and_never_picks_the_draining() {
    let mut field = Field::new(Placement::Random, &[5, 0, 0, 0]);
    field.change(3, |post| post.status.draining = true);
    let hits = field.hits(3_000);
    assert_eq!(hits[3], 0);
    for node in [1, 2, 4] {
        assert!((850..1150).contains(&hits[node]), "{hits:?}");
    }
}

#[test]
fn of_two_draws_the_one_that_finishes_sooner() {
    let hits = Field::new(Placement::P2c, &[9, 9, 9, 0]).hits(4_000);
    // The idle one is chosen whenever it is drawn: 7 of 16 times.
    assert!((1_600..1_900).contains(&hits[4]), "{hits:?}");
    let mut field = Field::new(Placement::P2c, &[2, 2]);
    field.learn("f", 1_000);
    for _ in 0..500 {
        field.change(2, |post| post.speed.learn(1_000, Duration::from_micros(250)));
    }
    let hits = field.hits(1_000);
    assert!(hits[2] > 700, "the faster one finishes sooner: {hits:?}");
}

#[test]
fn auto_is_a_window_while_all_are_in_reach_and_pushes_when_one_is_not() {
    let mut field = Field::new(Placement::Auto, &[3, 3]);
    field.check("f", None);
    field.change(2, |post| post.hops = None);
    field.check("f", Some(1));
    // One that takes no work anyway is nobody to push for.
    field.change(2, |post| post.status.draining = true);
    field.check("f", None);
}

#[test]
fn nobody_out_of_reach_is_given_work() {
    for placement in [Placement::Window, Placement::Random, Placement::P2c, Placement::Lpt] {
        let mut field = Field::new(placement, &[0, 0]);
        field.change(1, |post| post.hops = None);
        field.check("f", Some(2));
        field.change(2, |post| post.hops = None);
        field.check("f", None);
    }
}

#[test]
fn what_a_task_needs_is_no_preference() {
    let gpus = |gpu: u64| [("gpu".to_owned(), gpu)].into_iter().collect();
    for placement in [Placement::Window, Placement::Random, Placement::P2c, Placement::Lpt] {
        let mut field = Field::new(placement, &[0, 0]);
        for id in [3, 4] {
            let labels = [("zone".to_owned(), if id == 3 { "eu" } else { "us" }.to_owned())];
            let member = Member {
                id: NodeId(id),
                slots: 2,
                labels: labels.into_iter().collect(),
                resources: gpus(1_000),
                ..Member::default()
            };
            field.add(member, 2, "f");
        }
        let eu = || Needs {
            labels: [("zone".to_owned(), "eu".to_owned())].into_iter().collect(),
            ..Needs::default()
        };
        let gpu = || Needs { resources: gpus(1_000), ..Needs::default() };
        let mut chance = Chance::seeded(3);
        for _ in 0..20 {
            assert_eq!(field.choose("f", Some(eu()), &mut chance), Some(3));
            let got = field.choose("f", Some(gpu()), &mut chance);
            assert!(matches!(got, Some(3 | 4)), "{got:?}");
        }
        let big = Needs { slots: 3, ..Needs::default() };
        assert_eq!(field.choose("f", Some(big), &mut chance), None);
        // Its only one is taken, also by a task that is only on its way.
        let charge = Charge { needs: Some(Arc::new(gpu())), ..Charge::default() };
        field.change(3, |post| post.holds.expect(TaskId(7), charge));
        for _ in 0..20 {
            assert_eq!(field.choose("f", Some(gpu()), &mut chance), Some(4));
        }
        field.change(3, |post| post.holds.give_up_on(TaskId(7)));
        field.change(4, |post| post.open = false);
        assert_eq!(field.choose("f", Some(gpu()), &mut chance), Some(3));
    }
}
