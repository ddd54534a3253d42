//! Every metric by name: its kind, its meaning and where its value comes from.

use super::elections::{self, ElectionTally, Hearsay};
use super::exposition::{Exposition, Kind};
use super::gather::{Gathered, Opinion};
use super::tasks::{OUTCOMES, PLACES, REASONS, TaskTally};

/// The text of one scrape. `hearsay`: of a node without a log.
pub(super) fn write(
    gathered: &Gathered,
    elections: &ElectionTally,
    hearsay: Option<&Hearsay>,
    now_us: u64,
) -> String {
    let mut text = Exposition::default();
    node(&mut text, gathered);
    leadership(&mut text, gathered, elections, hearsay, now_us);
    fitness(&mut text, gathered);
    if let Some(tally) = &gathered.seen.tally {
        tasks(&mut text, tally);
    }
    runners(&mut text, gathered);
    opinion(&mut text, gathered.seen.opinion.as_ref());
    if let Some(counts) = &gathered.spans {
        let help = "Spans of traced tasks: sent to a collector, without room, not taken by it.";
        text.family("spans_total", Kind::Counter, help);
        for (fate, count) in
            [("sent", counts.sent), ("dropped", counts.dropped), ("failed", counts.failed)]
        {
            text.sample(&[("fate", fate)], count as f64);
        }
    }
    let help = "Lines of the log that found no room since this process started.";
    text.single("log_dropped_total", Kind::Counter, help, gathered.log_dropped as f64);
    text.into_text()
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn node(text: &mut Exposition, gathered: &Gathered) {
    let labels = [
        ("node", gathered.node.as_str()),
        ("id", &gathered.id),
        ("cluster", &gathered.cluster),
        ("version", env!("CARGO_PKG_VERSION")),
        ("seat", if gathered.votes { "voter" } else { "worker" }),
    ];
    text.family("node_info", Kind::Gauge, "Who this node is; always 1.").sample(&labels, 1.0);
}

fn leadership(
    text: &mut Exposition,
    gathered: &Gathered,
    elections: &ElectionTally,
    hearsay: Option<&Hearsay>,
    now_us: u64,
) {
    let help = "Whether this node leads and has its quorum's lease.";
    text.single("is_leader", Kind::Gauge, help, flag(gathered.leads));
    text.single("term", Kind::Gauge, "The highest term this node knows.", gathered.term as f64);
    if let Some((voters, reachable)) = gathered.voters {
        text.single("voters", Kind::Gauge, "Voters of the cluster.", voters as f64);
        let help = "Voters within this node's reach, itself included.";
        text.single("voters_reachable", Kind::Gauge, help, reachable as f64);
    }
    let (changes, leaderless_s) = match hearsay {
        Some(heard) => (heard.leader_changes, heard.leaderless_s),
        None => (elections.leader_changes, elections.leaderless_s(now_us)),
    };
    let help = "How often this node saw another leader than before.";
    text.single("leader_changes_total", Kind::Counter, help, changes as f64);
    let help = "Seconds in which this node knew no leader.";
    text.single("leaderless_seconds_total", Kind::Counter, help, leaderless_s);
    let help =
        "Elections this node began, by how they ended; called_off: its poll found no majority.";
    text.family("elections_total", Kind::Counter, help);
    for (outcome, count) in elections::OUTCOMES.iter().zip(elections.ended) {
        text.sample(&[("outcome", outcome)], count as f64);
    }
    let help = "From this node's suspicion to the next leader.";
    text.family("election_duration_seconds", Kind::Histogram, help)
        .histogram(&[], &elections.durations);
    if let Some((trips, commits)) = &gathered.times {
        let help = "From a leader's table of scores to a voter's answer; counted by the leader.";
        text.family("heartbeat_rtt_seconds", Kind::Histogram, help).histogram(&[], trips);
        let help = "From an entry's proposal to its commit; counted by the leader.";
        text.family("commit_seconds", Kind::Histogram, help).histogram(&[], commits);
    }
}

fn fitness(text: &mut Exposition, gathered: &Gathered) {
    let (load, score) = (&gathered.seen.load, gathered.seen.score);
    text.single(
        "node_score",
        Kind::Gauge,
        "This node's smoothed score; higher leads sooner.",
        score,
    );
    let help = "Idle share of the processor this node may use.";
    text.single("cpu_available_ratio", Kind::Gauge, help, load.cpu_available);
    let help = "Available memory: 1 at a quarter free, 0 at 3 percent.";
    text.single("memory_available_ratio", Kind::Gauge, help, load.memory_available);
}

fn tasks(text: &mut Exposition, tally: &TaskTally) {
    let help = "Tasks accepted, by function; counted by who leads.";
    text.family("tasks_submitted_total", Kind::Counter, help);
    for function in tally.functions() {
        text.sample(&[("task", &function.name)], function.submitted as f64);
    }
    let help = "Tasks with their outcome, by function; counted by who leads.";
    text.family("tasks_completed_total", Kind::Counter, help);
    for function in tally.functions() {
        for (outcome, count) in OUTCOMES.iter().zip(function.completed) {
            text.sample(&[("task", &function.name), ("outcome", outcome)], count as f64);
        }
    }
    let help = "How long attempts ran, by function; counted by who leads.";
    text.family("task_duration_seconds", Kind::Histogram, help);
    for function in tally.functions() {
        text.histogram(&[("task", &function.name)], &function.durations);
    }
    let help = "From acceptance to the first start, as far as the first attempt was reported.";
    text.family("queue_wait_seconds", Kind::Histogram, help).histogram(&[], &tally.waits);
    text.family("payload_bytes", Kind::Histogram, "Sizes of the arguments of accepted tasks.")
        .histogram(&[], &tally.payloads);
    let help = "Attempts by what made them necessary; counted by who leads.";
    text.family("task_attempts_total", Kind::Counter, help);
    for (reason, count) in REASONS.iter().zip(tally.attempts) {
        text.sample(&[("reason", reason)], count as f64);
    }
    let help = "What came twice and counted once, by where; counted by who leads.";
    text.family("tasks_duplicate_total", Kind::Counter, help);
    for (place, count) in PLACES.iter().zip(tally.duplicates) {
        text.sample(&[("where", place)], count as f64);
    }
}

fn runners(text: &mut Exposition, gathered: &Gathered) {
    let running = gathered.seen.running as f64;
    text.single("tasks_running", Kind::Gauge, "Tasks that run on this node.", running);
    let help = "Tasks that were given to this node and have not started.";
    text.single("tasks_waiting", Kind::Gauge, help, gathered.seen.waiting as f64);
}

/// The families are there on every node, their samples only on the one that leads.
fn opinion(text: &mut Exposition, opinion: Option<&Opinion>) {
    let help = "Members as the leader sees them; told by the leader only.";
    text.family("members", Kind::Gauge, help);
    if let Some(seen) = opinion {
        let states = [("alive", seen.alive), ("draining", seen.draining), ("gone", seen.gone)];
        for (state, count) in states {
            text.sample(&[("state", state)], count as f64);
        }
    }
    let help = "Tasks without a node, by priority; told by the leader only.";
    text.family("queue_depth", Kind::Gauge, help);
    for (priority, depth) in opinion.iter().flat_map(|seen| seen.depths.iter().enumerate()) {
        text.sample(&[("priority", &priority.to_string())], *depth as f64);
    }
    let help = "How long the oldest task without a node waits; told by the leader only.";
    text.family("queue_oldest_age_seconds", Kind::Gauge, help);
    if let Some(seen) = opinion {
        text.sample(&[], seen.oldest_s);
    }
    let help =
        "Tasks moved to idle nodes, and requests that came to nothing, since this node leads.";
    text.family("steals_total", Kind::Counter, help);
    if let Some(seen) = opinion {
        text.sample(&[("outcome", "granted"), ("reason", "")], seen.granted as f64);
        for (reason, count) in &seen.refused {
            text.sample(&[("outcome", "refused"), ("reason", reason)], *count as f64);
        }
    }
}
