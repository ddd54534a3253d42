//! What a node says about itself, its cluster, its tasks and its history.

use super::wire;
use crate::core::cluster::command::{Member, Outcome};
use crate::core::cluster::live::Live;
use crate::core::cluster::retention::Done;
use crate::core::cluster::state::ClusterState;
use crate::core::election::RaftRole;
use crate::core::ids::{NodeId, TaskId, Term};
use crate::core::scheduling::explanation::{Explanation, Fact, Told};
use crate::core::scheduling::thefts::Thefts;
use crate::error::Error;
use crate::node::clock::START;
use crate::node::consensus::Voter;
use crate::node::driver::TaskLoop;
use crate::node::history::Stamped;
use crate::node::proto as pb;
use crate::node::shared::{Refusals, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::Status;

/// What a node answers who asks over the network: one that leads has its quorum confirm it first.
pub async fn confirmed(shared: &Arc<Shared>) -> Result<pb::StatusResponse, Status> {
    if shared.leads()
        && let Some(consensus) = &shared.consensus
        && consensus.confirm().await.is_err()
    {
        return view(shared, false).await;
    }
    of(shared).await
}

/// This node's own view; it says it leads on the strength of its lease.
pub async fn of(shared: &Arc<Shared>) -> Result<pb::StatusResponse, Status> {
    view(shared, shared.leads()).await
}

async fn view(shared: &Arc<Shared>, leads: bool) -> Result<pb::StatusResponse, Status> {
    let seen = shared.ask(look).await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut response = pb::StatusResponse {
        me: Some(wire::member_for_clients(&shared.member())),
        cluster_id: shared.cluster_bytes(),
        role: pb::Role::Worker as i32,
        leader_ready: leads,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        draining: seen.draining || shared.stopping.load(Ordering::Acquire),
        uptime_ms: shared.clock.now().since(START).as_millis() as u64,
        allow_pickle: shared.allow_pickle,
        allow_faults: shared.allow_faults,
        faults: super::fault_service::links_out(shared),
        clock_rate: shared.clock.rate(),
        removed: shared.removed.load(Ordering::Acquire),
        problem: shared.standing().fatal.as_ref().map(Error::to_string).unwrap_or_default(),
        refusals: Some(refusals(&shared.refusals)),
        payload_bytes: shared.config.limits.payload_bytes,
        ..seen.response
    };
    // Where it stands is what the cluster says, once it says it.
    let mut known = response.members.iter().filter_map(|m| m.member.as_ref());
    let standing = known.find(|m| m.id == shared.me.id.0).map(|m| (m.x, m.y));
    if let (Some(me), Some((x, y))) = (response.me.as_mut(), standing) {
        (me.x, me.y) = (x, y);
    }
    let mut leader = seen.leader;
    if let Some(consensus) = shared.consensus.as_ref().filter(|_| !response.removed) {
        let view = consensus.view();
        response.role = role_out(view.role, leads) as i32;
        response.term = view.term;
        response.last_log_index = view.last_log.1;
        response.voters = view.voters.len() as u32;
        response.voters_reachable = consensus.reachable_voters() as u32;
        let voters: BTreeSet<u64> = view.voters.keys().map(|voter| voter.0).collect();
        for member in response.members.iter_mut().filter_map(|m| m.member.as_mut()) {
            member.voter = voters.contains(&member.id) || (voters.is_empty() && member.voter);
        }
        let gone = gone_voters(shared, &view.voters, &response.members);
        response.members.extend(gone);
        // Whoever is in the group goes by the group, and names nobody rather than one it does not hear.
        if view.voters.contains_key(&shared.me.id) {
            let heard = consensus.heard_leader().filter(|_| view.role != RaftRole::Leader);
            leader = heard.map(|node| (view.term, node, view.leader_address));
        }
    }
    if leads {
        leader = Some((response.term, shared.me.id, shared.me.address.clone()));
    }
    if let Some((term, node, address)) = leader {
        response.leader_node = node.0;
        response.leader_address = address_told(shared, &response, node).unwrap_or(address);
        response.term = response.term.max(term);
    }
    Ok(response)
}

/// The voters that are no members: a node whose session is over is none any more, but its seat stays until it comes
/// back, another one takes it, or it is removed. Before anybody is a member, nobody is gone.
fn gone_voters(
    shared: &Shared,
    voters: &BTreeMap<NodeId, Voter>,
    members: &[pb::MemberStatus],
) -> Vec<pb::MemberStatus> {
    let known: BTreeSet<u64> =
        members.iter().filter_map(|m| m.member.as_ref()).map(|member| member.id).collect();
    let gone = voters.iter().filter(|(id, _)| !known.is_empty() && !known.contains(&id.0));
    let told = gone.map(|(id, voter)| {
        // Where clients have listeners of their own, this is not the one.
        let address =
            if shared.me.client_address.is_empty() { voter.address.clone() } else { String::new() };
        let member = pb::Member {
            id: id.0,
            name: voter.name.clone(),
            address,
            voter: true,
            ..Default::default()
        };
        pb::MemberStatus { member: Some(member), alive: false, ..Default::default() }
    });
    told.collect()
}

/// Where clients reach `node`, as far as it is known; where clients have listeners of their own and it is not, nowhere.
fn address_told(shared: &Shared, response: &pb::StatusResponse, node: NodeId) -> Option<String> {
    let mut known = response.members.iter().filter_map(|m| m.member.as_ref()).chain(&response.me);
    let told = known.find(|member| member.id == node.0).map(|member| member.address.clone());
    told.or_else(|| (!shared.me.client_address.is_empty()).then(String::new))
}

/// A leader that may not dispatch counts as one that is not elected yet.
fn role_out(role: RaftRole, leads: bool) -> pb::Role {
    match role {
        RaftRole::Leader if leads => pb::Role::Leader,
        RaftRole::Leader => pb::Role::Candidate,
        RaftRole::Candidate => pb::Role::Candidate,
        RaftRole::Follower => pb::Role::Follower,
        RaftRole::Learner => pb::Role::Worker,
    }
}

/// Why members were not changed, so that a client can tell what to do from what to wait for.
pub fn of_change(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::UnsafeMembershipChange { .. } => Status::failed_precondition(text),
        Error::MembershipChangeInProgress { .. } => Status::aborted(text),
        Error::Config { .. } => Status::not_found(text),
        Error::WaitTimeout { .. } => Status::deadline_exceeded(text),
        _ => Status::unavailable(text),
    }
}

struct Seen {
    response: pb::StatusResponse,
    leader: Option<(Term, NodeId, String)>,
    draining: bool,
}

fn look(task_loop: &mut TaskLoop) -> Seen {
    let (load, score) = task_loop.measured;
    let state = task_loop.state.lock();
    let known: Vec<Member> = if state.members().is_empty() {
        task_loop.told_members.clone()
    } else {
        state.members().values().cloned().collect()
    };
    let roster = task_loop.leader.roster();
    let members = known.iter().map(|member| match roster.get(&member.id) {
        Some(post) => pb::MemberStatus {
            member: Some(wire::member_for_clients(member)),
            alive: post.open && !post.lost,
            score: post.status.score,
            queued: post.queued() as u32,
            running: post.status.running.len() as u32,
            load: Some(wire::load_out(&post.status.load)),
            draining: post.status.draining,
        },
        // Only the leader hears from everybody; the others pass on what the log says.
        None => pb::MemberStatus {
            member: Some(wire::member_for_clients(member)),
            alive: true,
            ..Default::default()
        },
    });
    Seen {
        response: pb::StatusResponse {
            score,
            load: Some(wire::load_out(&load)),
            members: members.collect(),
            applied_index: state.applied(),
            counters: Some(counters(&state)),
            steals: task_loop.leader.leads().then(|| steals(task_loop.leader.thefts())),
            ..Default::default()
        },
        leader: task_loop.heard_leader(),
        draining: task_loop.worker.is_draining(),
    }
}

fn steals(thefts: &Thefts) -> pb::Steals {
    let refused =
        |(reason, count): (&str, u64)| pb::StealRefusals { reason: reason.to_owned(), count };
    pb::Steals {
        asked: thefts.asked(),
        granted: thefts.granted(),
        refused: thefts.refused().map(refused).collect(),
    }
}

fn refusals(refusals: &Refusals) -> pb::Refusals {
    pb::Refusals {
        wrong_cluster: refusals.wrong_cluster.load(Ordering::Relaxed),
        wrong_node: refusals.wrong_node.load(Ordering::Relaxed),
        strangers: refusals.strangers.load(Ordering::Relaxed),
    }
}

fn counters(state: &ClusterState) -> pb::Counters {
    let counts = state.counters();
    let assigned = state.live().values().filter(|live| live.holder.is_some()).count() as u64;
    pb::Counters {
        accepted: counts.accepted,
        succeeded: counts.succeeded,
        failed: counts.failed,
        cancelled: counts.cancelled,
        lost: counts.lost,
        retries: counts.retries,
        reassigned: counts.reassigned,
        steals: counts.steals,
        copies: counts.copies,
        copies_first: counts.copies_first,
        late_completions: counts.late_completions,
        duplicates: counts.duplicates,
        expired: counts.expired,
        pending: state.live().len() as u64 - assigned,
        assigned,
    }
}

/// The tasks the log holds: those `wanted`, or all.
pub fn tasks(
    task_loop: &mut TaskLoop,
    filter: pb::TaskState,
    wanted: &[TaskId],
    limit: usize,
) -> pb::ListTasksResponse {
    let state = task_loop.state.lock();
    let (live, done) = (state.live(), state.retention().done());
    let chosen =
        |info: &pb::TaskInfo| filter == pb::TaskState::Unspecified || info.state == filter as i32;
    let total = (live.len() + done.len()) as u64;
    let tasks = if wanted.is_empty() {
        let live = live.values().map(|live| live_out(&state, live));
        live.chain(done.values().map(|done| done_out(done))).filter(chosen).take(limit).collect()
    } else {
        let find = |id: &TaskId| {
            live.get(id)
                .map(|live| live_out(&state, live))
                .or_else(|| done.get(id).map(|done| done_out(done)))
        };
        wanted.iter().filter_map(find).filter(chosen).take(limit).collect()
    };
    pb::ListTasksResponse { tasks, total }
}

fn live_out(state: &ClusterState, live: &Live) -> pb::TaskInfo {
    let holder = live.holder.and_then(|holder| state.members().get(&holder.node));
    pb::TaskInfo {
        task_id: wire::id_bytes(live.spec.id.to_bytes()),
        function_name: live.spec.function.name.clone(),
        state: match live.holder {
            Some(_) => pb::TaskState::Assigned as i32,
            None => pb::TaskState::Pending as i32,
        },
        node: live.holder.map_or(0, |holder| holder.node.0),
        attempt: live.attempt,
        token: live.token().0,
        key: live.spec.claim.as_ref().map(|claim| claim.key.clone()).unwrap_or_default(),
        node_address: holder
            .map_or_else(String::new, |member| member.address_for_clients().to_owned()),
    }
}

fn done_out(done: &Done) -> pb::TaskInfo {
    pb::TaskInfo {
        task_id: wire::id_bytes(done.finished.task.to_bytes()),
        function_name: done.function.clone(),
        state: match done.finished.outcome {
            Outcome::Value(_) => pb::TaskState::Succeeded as i32,
            Outcome::Failure(_) | Outcome::TimedOut(_) => pb::TaskState::Failed as i32,
            Outcome::Cancelled => pb::TaskState::Cancelled as i32,
            Outcome::NeverStarted(_) | Outcome::PastDeadline(_) => pb::TaskState::Expired as i32,
            Outcome::Lost(_) => pb::TaskState::Quarantined as i32,
        },
        node: done.finished.node.0,
        attempt: done.finished.attempts,
        token: done.token.0,
        key: String::new(),
        node_address: String::new(),
    }
}

/// Why a task is where it is, into a message.
pub fn explanation_out(explanation: Explanation) -> pb::ExplainResponse {
    let fact = |(name, fact): (&str, Fact)| pb::Fact {
        name: name.to_owned(),
        value: Some(match fact {
            Fact::Text(text) => pb::fact::Value::Text(text),
            Fact::Number(number) => pb::fact::Value::Number(number),
        }),
    };
    let event = |told: Told| pb::TaskEvent {
        at_ms: told.at_ms,
        kind: told.kind.to_owned(),
        node: told.node.0,
        node_name: told.node_name,
        attempt: told.attempt,
    };
    pb::ExplainResponse {
        kind: explanation.kind.to_owned(),
        sentence: explanation.sentence,
        facts: explanation.facts.into_iter().map(fact).collect(),
        history: explanation.history.into_iter().map(event).collect(),
        skipped: explanation.skipped,
    }
}

/// A row of history into a message.
pub fn record_out(row: &Stamped) -> pb::Record {
    let record = &row.record;
    pb::Record {
        seq: row.seq,
        at_us: row.at_us,
        node: row.node.0,
        node_name: row.node_name.to_string(),
        kind: record.kind.as_str().to_owned(),
        term: record.term,
        subject: record.subject.0,
        score: record.score,
        rank: record.rank,
        task_id: record.task.map_or_else(Default::default, |task| wire::id_bytes(task.to_bytes())),
        attempt: record.attempt,
        value: record.value,
        detail: record.detail.clone(),
    }
}
