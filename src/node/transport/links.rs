//! The leader's AssignTask streams: one task per member dials it, says hello, and pumps both ways.

use super::lines::{End, Lines};
use super::wire;
use crate::core::boundary::{Assignment, Event};
use crate::core::cluster::command::{Function, Member};
use crate::core::ids::{FunctionHash, NodeId, TaskId, Term};
use crate::node::clock::Clock;
use crate::node::proto as pb;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

/// Dials in a row that must be refused before a node counts as gone.
const REFUSALS: u32 = 3;
/// Wait between dials that were refused.
const REFUSED_WAIT: Duration = Duration::from_millis(10);
/// Wait between dials that failed otherwise.
const REDIAL_WAIT: Duration = Duration::from_millis(50);
/// How long a stream may take to open: a dial, and a second each way on a slow network.
const OPEN: Duration = Duration::from_millis(2_500);

/// What the leader says to a node. What waits here is bounded by what the node may hold (`limits.node_queue`).
#[derive(Debug)]
pub enum Word {
    /// Run these; the functions they need come along.
    Assign(Vec<Assignment>, Vec<Arc<Function>>),
    /// Give these back if they have not started.
    Revoke(Vec<TaskId>),
    /// Kill these.
    Kill(Vec<TaskId>),
    /// These reports are committed.
    Settle(Vec<TaskId>),
    /// The members changed.
    Members(Vec<Member>),
    /// This node still leads.
    Lead,
}

/// Who speaks: the head of every stream.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The leader.
    pub node: NodeId,
    /// Its cluster.
    pub cluster_id: bytes::Bytes,
    /// Its term.
    pub term: Term,
    /// Where it listens.
    pub address: String,
    /// Largest message either way.
    pub message_bytes: usize,
    /// Its clock.
    pub clock: Clock,
}

/// What a link tells the task loop; `link` tells a replaced link from its successor.
pub type Report = Box<dyn Fn(Event) + Send + Sync>;

/// Serves one member until its words end. Every break is reported; a node whose process is gone ends the link.
pub async fn run(
    speaker: Speaker,
    lines: Arc<dyn Lines>,
    member: Member,
    mut words: mpsc::UnboundedReceiver<Word>,
    report: Report,
) {
    let mut refusals = 0;
    loop {
        match serve(&speaker, lines.as_ref(), &member, &mut words, &report).await {
            End::Closed => return,
            End::Gone => refusals = REFUSALS,
            End::Refused => refusals += 1,
            End::Broken => refusals = 0,
        }
        if refusals >= REFUSALS {
            report(Event::SessionBroken { node: member.id, refused: true });
            return;
        }
        report(Event::SessionBroken { node: member.id, refused: false });
        let wait = if refusals > 0 { REFUSED_WAIT } else { REDIAL_WAIT };
        tokio::select! {
            biased;
            () = closed(&mut words) => return,
            () = speaker.clock.sleep(wait) => {}
        }
    }
}

/// Drops words nobody can hear (the next inventory shows what is missing) until the link is closed.
async fn closed(words: &mut mpsc::UnboundedReceiver<Word>) {
    while words.recv().await.is_some() {}
}

async fn serve(
    speaker: &Speaker,
    lines: &dyn Lines,
    member: &Member,
    words: &mut mpsc::UnboundedReceiver<Word>,
    report: &Report,
) -> End {
    let (outbox, requests) = mpsc::unbounded_channel();
    if outbox.send(hello(speaker, member)).is_err() {
        return End::Broken;
    }
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
    let within = speaker.clock.stretch(OPEN);
    let mut answers = match tokio::time::timeout(within, lines.open(member, requests)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(end)) => return end,
        Err(_) => return End::Broken,
    };
    let mut sent = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            word = words.recv() => {
                let Some(word) = word else { return End::Closed };
                for request in encode(word, speaker, &mut sent) {
                    if outbox.send(request).is_err() {
                        return End::Broken;
                    }
                }
            }
            answer = answers.next() => match answer {
                Some(Ok(answer)) => {
                    if hear(member.id, answer, report).is_err() {
                        return End::Broken;
                    }
                }
                Some(Err(end)) => return end,
                None => return End::Broken,
            },
        }
    }
}

fn hello(speaker: &Speaker, member: &Member) -> pb::AssignTaskRequest {
    pb::AssignTaskRequest {
        envelope: Some(pb::Envelope {
            cluster_id: speaker.cluster_id.clone(),
            from_node: speaker.node.0,
            to_node: member.id.0,
            ..Default::default()
        }),
        term: speaker.term,
        leader_address: speaker.address.clone(),
        ..Default::default()
    }
}

fn encode(
    word: Word,
    speaker: &Speaker,
    sent: &mut BTreeSet<FunctionHash>,
) -> Vec<pb::AssignTaskRequest> {
    let blank = || pb::AssignTaskRequest { term: speaker.term, ..Default::default() };
    match word {
        Word::Lead => vec![blank()],
        Word::Revoke(tasks) => {
            vec![pb::AssignTaskRequest { revoked: wire::task_ids_out(&tasks), ..blank() }]
        }
        Word::Kill(tasks) => {
            vec![pb::AssignTaskRequest { killed: wire::task_ids_out(&tasks), ..blank() }]
        }
        Word::Settle(tasks) => {
            vec![pb::AssignTaskRequest { settled: wire::task_ids_out(&tasks), ..blank() }]
        }
        Word::Members(members) => {
            let members = members.iter().map(wire::member_out).collect();
            vec![pb::AssignTaskRequest { members, ..blank() }]
        }
        Word::Assign(assignments, functions) => {
            let mut requests = vec![blank()];
            let mut bytes = 0;
            // Half of what a message may hold: the envelope and the framing need room too.
            let full = speaker.message_bytes / 2;
            for function in functions.iter().filter(|f| sent.insert(f.hash)) {
                let size = function.source.size();
                if bytes > 0 && bytes + size > full {
                    requests.push(blank());
                    bytes = 0;
                }
                bytes += size + 64;
                if let Some(request) = requests.last_mut() {
                    request.functions.push(wire::function_out(function));
                }
            }
            for assignment in &assignments {
                let size = assignment.spec.payload.len();
                if bytes > 0 && bytes + size > full {
                    requests.push(blank());
                    bytes = 0;
                }
                bytes += size + 160;
                if let Some(request) = requests.last_mut() {
                    request.assignments.push(wire::assignment_out(assignment));
                }
            }
            requests
        }
    }
}

/// Passes a node's answer on, in the order in which the leader must hear its parts.
fn hear(node: NodeId, answer: pb::AssignTaskResponse, report: &Report) -> Result<(), Status> {
    // Whoever drains is given nothing, however much its inventory leaves free: its status comes first.
    if let Some(status) = answer.status {
        report(Event::StatusArrived { node, status: wire::status_in(status)? });
    }
    if let Some(inventory) = answer.inventory {
        let held = inventory
            .held
            .iter()
            .map(|held| Ok((wire::task_id(&held.task_id)?, crate::core::ids::Token(held.token))))
            .collect::<Result<Vec<_>, Status>>()?;
        let incarnation = inventory.incarnation;
        report(Event::InventoryArrived { node, incarnation, held });
    }
    if !answer.reports.is_empty() {
        let reports =
            answer.reports.into_iter().map(wire::report_in).collect::<Result<Vec<_>, _>>()?;
        report(Event::Reported { node, reports });
    }
    if !answer.released.is_empty() {
        report(Event::Released { node, tasks: wire::task_ids(&answer.released)? });
    }
    if !answer.kept.is_empty() {
        report(Event::Kept { node, tasks: wire::task_ids(&answer.kept)? });
    }
    Ok(())
}
