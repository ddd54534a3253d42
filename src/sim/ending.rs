//! How a run ends: everything was mended, so the cluster serves again, and what was accepted comes out.

use super::clients::Crowd;
use super::workload::{self, Ledger};
use super::world::World;
use std::sync::Arc;
use std::time::Duration;

/// After the faults are mended the cluster must serve within this many of its longest suspicions.
const HEALING_SUSPICIONS: u32 = 10;
/// How often a healed cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Once it serves, every accepted task must have its outcome within this time: leases of lost nodes run out, and the
/// longest task may begin anew a few times.
const DRAINING: Duration = Duration::from_secs(180);

/// G16: with a majority up and in touch, somebody leads soon, writes are acknowledged, and everybody catches up.
pub(super) async fn serve_again(
    world: &Arc<World>,
    ledger: &Arc<Ledger>,
    suspicion_max: Duration,
) -> Option<Duration> {
    let (began, limit) = (world.elapsed(), suspicion_max * HEALING_SUSPICIONS);
    let mut written = None;
    while world.elapsed() < began + limit {
        world.clock.sleep(LOOK_EVERY).await;
        let living = world.living();
        let leader = living.iter().find(|(_, post)| post.consensus.view().ready);
        let Some((_, leader)) = leader else { continue };
        if written.is_none()
            && workload::write_once(world.clone(), ledger.clone(), leader.clone()).await
        {
            written = Some(ledger.known());
        }
        let caught_up = |index| living.iter().all(|(_, post)| post.consensus.applied().1 >= index);
        if written.is_some_and(caught_up) {
            return Some(world.elapsed() - began);
        }
    }
    let views: Vec<String> = world
        .living()
        .iter()
        .map(|(name, post)| {
            let view = post.consensus.view();
            format!("{name}: {:?} of term {}, applied {}", view.role, view.term, view.applied.1)
        })
        .collect();
    let problem =
        format!("not serving {limit:?} after everything was mended: {}", views.join("; "));
    world.broken("G16", problem);
    None
}

/// G7: no client submits any more, and everything accepted has its outcome, which whoever waits for it is told.
pub(super) async fn drain(world: &World, crowd: &Crowd) -> Option<Duration> {
    crowd.close();
    let began = world.elapsed();
    let mut left = String::new();
    while world.elapsed() < began + DRAINING {
        world.clock.sleep(LOOK_EVERY).await;
        let open = world.diary(|diary| diary.open().len());
        let live = world.living().into_iter().map(|(name, post)| {
            let state = post.consensus.state();
            let state = state.lock();
            (name, state.live().len())
        });
        let live: Vec<_> = live.filter(|(_, live)| *live > 0).collect();
        if open == 0 && live.is_empty() && crowd.unfinished() == 0 {
            return Some(world.elapsed() - began);
        }
        left = format!("{open} accepted, {} awaited, live {live:?}", crowd.unfinished());
    }
    left += &stuck(world).await;
    world.broken("G7", format!("not drained {DRAINING:?} after everything was mended: {left}"));
    None
}

/// Where some of the tasks stand that never ended.
async fn stuck(world: &World) -> String {
    let mut found = String::new();
    for (_, post) in world.living() {
        let state = post.consensus.state();
        let state = state.lock();
        for (task, live) in state.live().iter().take(3) {
            let holder = live.holder.map(|holder| (world.name_of(holder.node), holder.token));
            found += &format!("; {task} attempt {} at {holder:?}", live.attempt);
        }
    }
    for place in world.places() {
        let held = place.ask(|task_loop| {
            let worker = &task_loop.worker;
            let upstream = task_loop.upstream.as_ref().map(|upstream| upstream.term);
            (upstream, worker.queued(), worker.running().len(), worker.is_idle())
        });
        found += &format!("; {} {:?}", place.member.name, held.await);
    }
    found
}
