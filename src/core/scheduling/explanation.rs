//! Why a task is where it is, in a sentence and as data, and what happened to it: read from the log and the leader's
//! view of its nodes, changing neither.

use super::leader::{Leader, Place};
use super::queue::Spot;
use super::survey::{Survey, lacking};
use crate::core::Moment;
use crate::core::cluster::command::Outcome;
use crate::core::cluster::live::{Holder, Live};
use crate::core::cluster::retention::Done;
use crate::core::cluster::state::ClusterState;
use crate::core::cluster::story::{StepKind, Story};
use crate::core::ids::{NodeId, TaskId};

/// Waiting tasks that are counted to find a task's place among them.
const MAX_COUNTED: usize = 10_000;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// One word: `finished`, `running`, `assigned`, `proposed`, `delayed`, `infeasible`, `out_of_reach`, `no_node`,
    /// `full`, `queued` or `unknown`.
    pub kind: &'static str,
    /// The same for people.
    pub sentence: String,
    /// What the sentence is made of.
    pub facts: Vec<(&'static str, Fact)>,
    /// What happened so far, oldest first.
    pub history: Vec<Told>,
    /// Steps left out of `history`.
    pub skipped: u32,
}

/// A value of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A name.
    Text(String),
    /// A count, or seconds.
    Number(f64),
}

/// A step of a task's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: &'static str,
    /// Where; 0: nowhere.
    pub node: NodeId,
    /// Its name, if it is known still.
    pub node_name: String,
    /// Which attempt; 0: none.
    pub attempt: u32,
}

/// Why `task` is where it is.
pub fn explain(leader: &Leader, state: &ClusterState, now: Moment, task: TaskId) -> Explanation {
    let ask = Question { leader, state, now };
    if let Some(live) = state.live().get(&task) {
        let mut answer = match live.holder {
            Some(holder) => ask.held(task, live, holder),
            None => ask.waiting(task, live),
        };
        ask.tell(&live.story, &mut answer);
        return answer;
    }
    match state.retention().get(task) {
        Some(done) => ask.finished(done),
        None if state.knows(task) => Explanation {
            kind: "unknown",
            sentence: "it has finished; its outcome is not kept any more".to_owned(),
            ..Explanation::default()
        },
        None => Explanation {
            kind: "unknown",
            sentence: "the cluster does not know it: it was never accepted, or is long forgotten"
                .to_owned(),
            ..Explanation::default()
        },
    }
}

struct Question<'a> {
    leader: &'a Leader,
    state: &'a ClusterState,
    now: Moment,
}

impl Question<'_> {
    fn held(&self, task: TaskId, live: &Live, holder: Holder) -> Explanation {
        let name = self.name(holder.node);
        let given_ms = live.story.steps.last().map_or(live.story.submitted_ms, |s| s.at_ms);
        let since = self.seconds_since(given_ms);
        let post = self.leader.roster().get(&holder.node);
        let running = post.is_some_and(|post| post.status.running.contains(&task));
        let attempt = holder.attempt;
        let mut facts = vec![
            ("node", Fact::Text(name.clone())),
            ("attempt", Fact::Number(attempt.into())),
            ("since_s", Fact::Number(since)),
        ];
        if let Some(copy) = live.copy {
            let other = self.name(copy.node);
            facts.push(("copy_node", Fact::Text(other.clone())));
            facts.push(("copy_attempt", Fact::Number(copy.attempt.into())));
            let sentence = format!(
                "it takes longer than it should on {name}, attempt {attempt}: since {since:.1} s {other} has a copy, \
                 attempt {}; whichever ends first counts",
                copy.attempt
            );
            return Explanation { kind: "running", sentence, facts, ..Explanation::default() };
        }
        if running {
            let sentence =
                format!("it runs on {name}, attempt {attempt}, given there {since:.1} s ago");
            return Explanation { kind: "running", sentence, facts, ..Explanation::default() };
        }
        let (queued, busy) = post.map_or((0, 0), |p| (p.queued(), p.status.running.len()));
        facts.push(("queued_there", Fact::Number(queued as f64)));
        facts.push(("running_there", Fact::Number(busy as f64)));
        let open = post.is_some_and(|post| post.open && !post.lost);
        let state = match open {
            true => format!("{busy} run there and {queued} wait"),
            false => "it is not connected; unless it comes back the task goes elsewhere".to_owned(),
        };
        let sentence = format!(
            "it was given to {name} {since:.1} s ago, attempt {attempt}, and is not known to run: {state}"
        );
        Explanation { kind: "assigned", sentence, facts, ..Explanation::default() }
    }

    fn waiting(&self, task: TaskId, live: &Live) -> Explanation {
        match self.leader.places.get(&task) {
            Some(Place::Proposed(node)) => {
                let name = self.name(*node);
                Explanation {
                    kind: "proposed",
                    sentence: format!(
                        "it goes to {name} as soon as a majority has written that down"
                    ),
                    facts: vec![("node", Fact::Text(name))],
                    ..Explanation::default()
                }
            }
            Some(Place::Delayed(due)) => delayed(live, due.since(self.now).as_secs_f64()),
            Some(Place::Queued(spot)) => self.queued(live, *spot),
            // The log is a moment ahead of the leader's view.
            None => Explanation {
                kind: "queued",
                sentence: "it was accepted, or given back, this moment".to_owned(),
                ..Explanation::default()
            },
        }
    }

    fn queued(&self, live: &Live, spot: Spot) -> Explanation {
        let nodes = Survey::new(self.leader, &live.spec);
        let queue = &self.leader.queue;
        let ahead = queue.ahead(spot, MAX_COUNTED);
        let oldest = queue.oldest().and_then(|first| self.state.live().get(&first));
        let oldest = oldest.map_or(0.0, |live| self.seconds_since(live.story.submitted_ms));
        let waited = self.seconds_since(live.story.submitted_ms);
        let facts = [
            ("queued", queue.len() as f64),
            ("ahead", ahead as f64),
            ("oldest_s", oldest),
            ("waited_s", waited),
            ("members", nodes.members as f64),
            ("unmet", nodes.unmet as f64),
            ("silent", nodes.silent as f64),
            ("draining", nodes.draining as f64),
            ("out_of_reach", nodes.out_of_reach as f64),
            ("full", nodes.full as f64),
            ("free", nodes.free as f64),
        ];
        let more = if ahead == MAX_COUNTED { "or more " } else { "" };
        let line =
            format!("queue {}, oldest {oldest:.1} s, {ahead} {more}ahead of it", queue.len());
        let (kind, sentence) = match (&live.spec.needs, nodes.full, nodes.free) {
            (Some(needs), ..) if nodes.is_infeasible() => {
                ("infeasible", lacking(self.leader, needs))
            }
            (_, 0, 0) => {
                let kind = if nodes.out_of_reach > 0 { "out_of_reach" } else { "no_node" };
                (kind, nodes.why_none(self.leader.config.out_of_reach))
            }
            (_, full, 0) => ("full", format!("all {full} nodes in reach are full: {line}")),
            (_, _, free) => {
                ("queued", format!("it is about to be placed on one of {free} nodes: {line}"))
            }
        };
        let facts = facts.into_iter().map(|(name, value)| (name, Fact::Number(value))).collect();
        Explanation { kind, sentence, facts, ..Explanation::default() }
    }

    fn finished(&self, done: &Done) -> Explanation {
        let word = outcome_word(&done.finished.outcome);
        let (attempts, ago) = (done.finished.attempts, self.seconds_since(done.finished_ms));
        let node = self.name(done.finished.node);
        let place = if done.finished.node.0 == 0 { String::new() } else { format!(" on {node}") };
        let tries = if attempts == 1 { "attempt" } else { "attempts" };
        let last = done.story.steps.last().map(|step| step.kind);
        let why = match &done.finished.outcome {
            Outcome::Failure(failure) => format!(": {}", failure.type_name),
            Outcome::Lost(text) => format!(": {text}"),
            Outcome::TimedOut(ms) => format!(": it ran longer than {} s", seconds(*ms)),
            Outcome::NeverStarted(ms) => format!(": it never started within {} s", seconds(*ms)),
            Outcome::PastDeadline(ms) => format!(": its deadline of {} s passed", seconds(*ms)),
            Outcome::Cancelled if last == Some(StepKind::Replaced) => {
                ": another task took its key".to_owned()
            }
            Outcome::Cancelled | Outcome::Value(_) => String::new(),
        };
        let mut answer = Explanation {
            kind: "finished",
            sentence: format!("{word}{place} {ago:.1} s ago, after {attempts} {tries}{why}"),
            facts: vec![
                ("outcome", Fact::Text(word.to_owned())),
                ("attempts", Fact::Number(attempts.into())),
                ("ago_s", Fact::Number(ago)),
            ],
            ..Explanation::default()
        };
        self.tell(&done.story, &mut answer);
        answer.history.push(Told {
            at_ms: self.leader.era.on_the_wall(done.finished_ms),
            kind: word,
            node: done.finished.node,
            node_name: node,
            attempt: done.attempt,
        });
        answer
    }

    fn tell(&self, story: &Story, answer: &mut Explanation) {
        let at = |at_ms| self.leader.era.on_the_wall(at_ms);
        answer.history.push(Told {
            at_ms: at(story.submitted_ms),
            kind: "accepted",
            node: NodeId(0),
            node_name: String::new(),
            attempt: 0,
        });
        answer.history.extend(story.steps.iter().map(|step| Told {
            at_ms: at(step.at_ms),
            kind: step.kind.as_str(),
            node: step.node,
            node_name: self.name(step.node),
            attempt: step.attempt,
        }));
        answer.skipped = story.skipped;
    }

    fn name(&self, node: NodeId) -> String {
        match node.0 {
            0 => String::new(),
            _ => self.leader.name_of(node),
        }
    }

    fn seconds_since(&self, at_ms: u64) -> f64 {
        seconds(self.leader.log_ms(self.now).saturating_sub(at_ms))
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn delayed(live: &Live, left: f64) -> Explanation {
    let (failures, _) = live.mishaps();
    let sentence = match live.attempt {
        0 => format!("its start is delayed: it may start in {left:.1} s"),
        attempt => format!(
            "attempt {attempt} failed; retry {failures} of {} comes in {left:.1} s",
            live.spec.retries
        ),
    };
    let facts = vec![
        ("left_s", Fact::Number(left)),
        ("attempt", Fact::Number(live.attempt.into())),
        ("failures", Fact::Number(failures.into())),
    ];
    Explanation { kind: "delayed", sentence, facts, ..Explanation::default() }
}

/// An outcome in one word.
pub fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Value(_) => "succeeded",
        Outcome::Failure(_) | Outcome::TimedOut(_) => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::NeverStarted(_) | Outcome::PastDeadline(_) => "expired",
        Outcome::Lost(_) => "quarantined",
    }
}
