//! Plans of steals on nodes made by hand, each with one slot unless it says otherwise.

use super::super::durations::tests::spec;
use super::super::holdings::Charge;
use super::*;
use crate::config::{Config, Distances};
use crate::core::Moment;
use crate::core::cluster::command::{AssignCause, Batch, Command, Member, TaskSpec};
use crate::core::cluster::needs::Needs;
use crate::core::load::Position;
use std::sync::Arc;
use std::time::Duration;

struct Field {
    config: Config,
    roster: Roster,
    pools: Pools,
    state: ClusterState,
    durations: Durations,
    next_task: u128,
}

impl Field {
    fn new() -> Self {
        let mut config = Config::default();
        config.steal.reach = 2.0;
        Field {
            config,
            roster: Roster::default(),
            pools: Pools::default(),
            state: ClusterState::default(),
            durations: Durations::default(),
            next_task: 0,
        }
    }

    /// Nodes 1, 2, ... in a row, one apart, with so many tasks of a second each.
    fn line(burdens: &[usize]) -> Self {
        let mut field = Field::new();
        for (i, burden) in burdens.iter().enumerate() {
            let position = Position { x: i as f64, y: 0.0 };
            let id = NodeId(i as u64 + 1);
            let name = format!("n{}", id.0);
            field.add(Member { id, name, position, slots: 1, ..Member::default() });
            field.give(id, *burden, None);
        }
        field.learn("f", 1_000_000);
        field
    }

    fn add(&mut self, member: Member) {
        let admitted = member.clone();
        self.commit(vec![Command::Admit(admitted)]);
        let mut post = Post::new(member, Moment(0));
        (post.open, post.hops) = (true, Some(1));
        self.roster.insert(post);
    }

    fn give(&mut self, node: NodeId, count: usize, needs: Option<Needs>) {
        for _ in 0..count {
            self.next_task += 1;
            let needs = needs.clone().map(Arc::new);
            let id = TaskId(self.next_task);
            let spec = Arc::new(TaskSpec { id, needs: needs.clone(), ..spec("f", 0) });
            let charge = Charge { kind: self.durations.kind_of(&spec), needs };
            self.commit(vec![Command::Submit { spec, to: Some(node) }]);
            let token = self.state.live()[&id].token();
            let post = self.roster.get_mut(&node).unwrap();
            post.holds.hold(Moment(0), id, token, charge);
        }
    }

    fn commit(&mut self, commands: Vec<Command>) {
        self.state.apply(self.state.applied() + 1, &Batch { at_ms: 1, commands });
    }

    fn change(&mut self, node: u64, change: impl FnOnce(&mut Post)) {
        self.roster.get_mut(&NodeId(node)).map(change).unwrap();
    }

    fn learn(&mut self, name: &str, took_us: u64) {
        let kind = self.durations.kind_of(&spec(name, 0));
        self.durations.learn(kind, Duration::from_micros(took_us));
    }

    fn plan_with(&mut self, thief: u64, cpu: f64, seed: u64) -> Result<Steal, StealRefusal> {
        let reach = Reach::new(&self.config);
        self.pools.follow(&mut self.roster, &self.durations, &reach, 1_024);
        let market = Market {
            now: Moment(0),
            roster: &self.roster,
            pools: &self.pools,
            state: &self.state,
            durations: &self.durations,
            reach: &reach,
            policy: &self.config.steal,
            cost_us: 5_000,
        };
        market.plan(NodeId(thief), 8, cpu, &mut Chance::seeded(seed))
    }

    fn plan(&mut self, thief: u64) -> Result<Steal, StealRefusal> {
        self.plan_with(thief, 1.0, 1)
    }

    /// The victim of `thief` and how many tasks it shall give.
    fn check(&mut self, thief: u64, expected: Result<(u64, usize), StealRefusal>) {
        let got = self.plan(thief).map(|steal| (steal.victim.0, steal.tasks.len()));
        assert_eq!(got, expected, "thief {thief}");
    }
}

#[test]
fn the_richest_within_reach_yields_half_the_newest_first() {
    let mut field = Field::line(&[9, 4, 6, 0]);
    field.check(4, Ok((3, 3)));
    let Ok(steal) = field.plan(4) else { panic!("a victim is in reach") };
    assert_eq!(steal.tasks, [TaskId(19), TaskId(18), TaskId(17)]);
}

#[test]
fn the_share_follows_the_speeds_and_free_slots_of_both() {
    let mut field = Field::line(&[12, 0]);
    for _ in 0..2_000 {
        field.change(2, |post| post.speed.learn(1_000, Duration::from_micros(333)));
    }
    // One runs there and eleven wait.
    field.check(2, Ok((1, 8)));
    let mut field = Field::line(&[12, 0]);
    field.change(1, |post| post.member.slots = 3);
    // A quarter of the nine that wait.
    field.check(2, Ok((1, 2)));
    let mut field = Field::line(&[200, 0]);
    field.check(2, Ok((1, 64)));
    field.config.steal.batch = 1;
    field.check(2, Ok((1, 1)));
}

#[test]
fn a_node_with_a_free_slot_is_idle_enough() {
    let mut field = Field::line(&[8, 1]);
    field.check(2, Err(StealRefusal::NotIdle));
    field.change(2, |post| post.member.slots = 2);
    field.check(2, Ok((1, 4)));
    // Neither is one that is told something else about its slots.
    field.change(2, |post| post.holds.expect(TaskId(999), Charge::default()));
    field.check(2, Err(StealRefusal::NotIdle));
}

#[test]
fn whoever_may_not_is_refused_by_reason() {
    let mut field = Field::line(&[0, 0]);
    field.check(1, Err(StealRefusal::NoVictim));
    field.check(77, Err(StealRefusal::NotEligible));
    let mut field = Field::line(&[5, 0, 0, 0]);
    field.check(4, Err(StealRefusal::OutOfReach));
    for cpu in [0.69, f64::NAN, -1.0] {
        assert_eq!(field.plan_with(2, cpu, 1), Err(StealRefusal::CpuFloor), "{cpu}");
    }
    field.change(2, |post| post.status.draining = true);
    field.check(2, Err(StealRefusal::NotEligible));
}

#[test]
fn running_tasks_and_those_asked_back_already_stay() {
    let mut field = Field::line(&[3, 0]);
    field.change(1, |post| {
        post.status.running = vec![TaskId(3)];
        post.revoking.insert(TaskId(2), None);
    });
    let Ok(steal) = field.plan(2) else { panic!("one is left") };
    assert_eq!(steal.tasks, [TaskId(1)]);
    field.change(1, |post| post.status.running.push(TaskId(1)));
    field.check(2, Err(StealRefusal::NoVictim));
}

#[test]
fn a_steal_must_spare_a_multiple_of_its_cost() {
    let mut field = Field::line(&[4, 0]);
    for (took_us, expected) in [(1_000, Err(StealRefusal::NoProfit)), (5_000, Ok((1, 2)))] {
        field.durations = Durations::default();
        field.learn("f", took_us);
        field.change(1, |_| {});
        field.check(2, expected);
    }
    field.durations = Durations::default();
    field.learn("f", 1_000);
    field.config.steal.profit = 0.0;
    field.change(1, |_| {});
    field.check(2, Ok((1, 2)));
}

#[test]
fn a_task_is_stolen_so_often_and_no_more() {
    let mut field = Field::line(&[1, 0]);
    field.give(NodeId(1), 1, None);
    field.config.steal.per_task = 1;
    let task = TaskId(2);
    let replaces = field.state.live()[&task].token();
    let (to, cause) = (NodeId(1), AssignCause::Stolen);
    field.commit(vec![Command::Assign { task, to, cause, replaces }]);
    let Ok(steal) = field.plan(2) else { panic!("one was never stolen") };
    assert_eq!(steal.tasks, [TaskId(1)]);
    field.config.steal.per_task = 0;
    field.check(2, Err(StealRefusal::StolenTooOften));
}

#[test]
fn where_the_richest_has_nothing_for_a_thief_the_next_one_yields() {
    // The fourth has most, but nothing of it may move again.
    let mut field = Field::line(&[3, 0, 0, 0]);
    field.config.steal.per_task = 1;
    field.give(NodeId(4), 6, None);
    for task in (4..=9).map(TaskId) {
        let replaces = field.state.live()[&task].token();
        let (to, cause) = (NodeId(4), AssignCause::Stolen);
        field.commit(vec![Command::Assign { task, to, cause, replaces }]);
    }
    field.check(3, Ok((1, 1)));
    // The first is out of the reach of this one: it hears of the richest.
    field.change(2, |post| post.member.position.x = 4.0);
    field.check(2, Err(StealRefusal::StolenTooOften));
}

#[test]
fn a_thief_takes_only_what_it_could_run() {
    let mut field = Field::line(&[0, 0]);
    let gpus = |gpu: u64| [("gpu".to_owned(), gpu)].into_iter().collect();
    let needs = Needs { resources: gpus(1_000), ..Needs::default() };
    field.change(1, |post| post.member.resources = gpus(8_000));
    field.give(NodeId(1), 4, Some(needs));
    field.check(2, Err(StealRefusal::NeedsUnmet));
    field.change(2, |post| post.member.resources = gpus(1_000));
    field.check(2, Ok((1, 1)));
    field.change(2, |post| post.member.resources = gpus(9_000));
    field.check(2, Ok((1, 2)));
}

#[test]
fn the_classic_thief_takes_one_from_anybody_in_reach() {
    let mut field = Field::line(&[9, 1, 0, 3, 4, 9]);
    field.config.steal = Config::profile("classic").unwrap().steal;
    let mut seen = [0; 7];
    for seed in 0..400 {
        let steal = field.plan_with(3, 1.0, seed).expect("three are in reach");
        assert_eq!(steal.tasks.len(), 1);
        seen[steal.victim.0 as usize] += 1;
    }
    // The second has one task, which runs.
    assert_eq!((seen[2], seen[3], seen[6]), (0, 0, 0), "{seen:?}");
    for victim in [1, 4, 5] {
        assert!((95..170).contains(&seen[victim]), "{seen:?}");
    }
}

#[test]
fn distances_given_by_name_count_for_thieves_too() {
    let mut field = Field::line(&[5, 0, 0, 0]);
    field.config.distances = Arc::new(Distances::parse("n1\tn4\t1\nn1\tn2\t9\n").unwrap());
    field.check(4, Ok((1, 2)));
    field.check(2, Err(StealRefusal::OutOfReach));
}
