//! Looks into the nodes now and then: whether each state holds what was accepted, and how much waits where.

use super::invariants::{Fact, TaskFact};
use super::world::World;
use crate::core::ids::TaskId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Audits until the world ends.
pub(super) async fn run(world: Arc<World>) {
    loop {
        world.clock.sleep(EVERY).await;
        let open: BTreeSet<TaskId> = world.diary(|diary| diary.open().clone());
        for place in world.places().into_iter().filter(|place| !place.life.has_ended()) {
            let Some(queued) = place.ask(|task_loop| task_loop.worker.queued() as u64).await else {
                continue;
            };
            let Some(consensus) = &place.consensus else { continue };
            let (node, state) = (place.member.id, consensus.state());
            let state = state.lock();
            let missing = |task: &&TaskId| {
                !state.live().contains_key(task) && state.retention().fingerprint(**task).is_none()
            };
            let tasks: Vec<TaskId> = open.iter().filter(missing).copied().collect();
            let (live, bytes) = (state.live().len() as u64, state.live_bytes());
            let outcomes = state.retention().done().len() as u64;
            let index = state.applied();
            world.note(Fact::Task(TaskFact::Missing { node, index, tasks }));
            world.note(Fact::Task(TaskFact::Waiting { node, live, bytes, queued, outcomes }));
        }
    }
}
