//! What one scrape takes from the node, in one look between two steps of its task loop.

use super::histogram::Histogram;
use super::tasks::TaskTally;
use crate::core::ids::NodeId;
use crate::core::load::Load;
use crate::error::Result;
use crate::node::driver::TaskLoop;
use crate::node::logbook::LOGBOOK;
use crate::node::shared::Shared;
use crate::node::spans::SpanCounts;
use std::collections::BTreeSet;
use std::sync::Arc;

/// All of it.
pub(super) struct Gathered {
    pub node: String,
    pub id: String,
    pub cluster: String,
    pub votes: bool,
    pub leads: bool,
    pub term: u64,
    /// Voters, and those of them within reach; `None` on a node without a log.
    pub voters: Option<(usize, usize)>,
    /// Round trips, and commits.
    pub times: Option<(Histogram, Histogram)>,
    pub log_dropped: u64,
    /// Where spans are sent anywhere.
    pub spans: Option<SpanCounts>,
    pub seen: Seen,
}

/// What the task loop knows.
pub(super) struct Seen {
    pub load: Load,
    pub score: f64,
    pub running: usize,
    pub waiting: usize,
    pub tally: Option<TaskTally>,
    /// While it leads.
    pub opinion: Option<Opinion>,
}

/// What only a leader knows.
pub(super) struct Opinion {
    /// The members.
    known: BTreeSet<NodeId>,
    pub alive: usize,
    /// Members that do not answer, and voters that are no members any more: they keep their seats.
    pub gone: usize,
    pub draining: usize,
    /// Tasks without a node by priority, from 0 to 9.
    pub depths: [usize; 10],
    /// How long the oldest of them waits, in seconds.
    pub oldest_s: f64,
    pub granted: u64,
    pub refused: Vec<(&'static str, u64)>,
}

pub(super) async fn gather(shared: &Arc<Shared>) -> Result<Gathered> {
    let mut seen = shared.ask(look).await?;
    let view = shared.consensus.as_ref().map(|consensus| {
        let view = consensus.view();
        if let Some(opinion) = seen.opinion.as_mut() {
            let strangers = view.voters.keys().filter(|voter| !opinion.known.contains(voter));
            opinion.gone += strangers.count();
        }
        let times = (consensus.round_trips(), consensus.commit_times());
        (view.term, (view.voters.len(), consensus.reachable_voters()), times)
    });
    let heard = shared.leader().map_or(0, |leader| leader.term);
    let cluster = shared.standing().cluster.map(|id| id.to_string()).unwrap_or_default();
    Ok(Gathered {
        node: shared.me.name.clone(),
        id: shared.me.id.to_string(),
        cluster,
        votes: shared.member().voter,
        leads: shared.leads(),
        term: view.as_ref().map_or(heard, |(term, ..)| *term),
        voters: view.as_ref().map(|(_, voters, _)| *voters),
        times: view.map(|(.., times)| times),
        log_dropped: LOGBOOK.dropped_in_all(),
        spans: shared.spans.get().map(|queue| queue.counts()),
        seen,
    })
}

fn look(task_loop: &mut TaskLoop) -> Seen {
    let (load, score) = task_loop.measured;
    Seen {
        load,
        score,
        running: task_loop.worker.running().len(),
        waiting: task_loop.worker.queued(),
        tally: task_loop.tally.as_deref().cloned(),
        opinion: task_loop.leader.leads().then(|| opinion(task_loop)),
    }
}

fn opinion(task_loop: &TaskLoop) -> Opinion {
    let (leader, now) = (&task_loop.leader, task_loop.clock.now());
    let (mut alive, mut gone, mut draining) = (0, 0, 0);
    for post in leader.roster().values() {
        match (post.answers(), post.status.draining) {
            (false, _) => gone += 1,
            (true, true) => draining += 1,
            (true, false) => alive += 1,
        }
    }
    let log_ms = leader.log_ms(now);
    let oldest = leader.waiting().oldest_ms();
    let thefts = leader.thefts();
    Opinion {
        known: leader.roster().keys().collect(),
        alive,
        gone,
        draining,
        depths: leader.waiting().depths(),
        oldest_s: oldest.map_or(0.0, |since| log_ms.saturating_sub(since) as f64 / 1_000.0),
        granted: thefts.granted(),
        refused: thefts.refused().collect(),
    }
}
