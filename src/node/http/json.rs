//! A cluster's answers as JSON, in the shape in which `src/python/records.rs` gives them to Python: a test of the page
//! holds the two together.

use crate::core::cluster::needs::THOUSANDTHS;
use crate::core::ids::{ClusterId, NodeId, TaskId};
use crate::node::client::messages::{
    Counters, ExplainResponse, LinkFault, Load, Member, MemberStatus, Record, Refusals, Role,
    StatusResponse, Steals, TaskEvent, TaskInfo, TaskState, fact,
};
use serde_json::{Map, Value, json};

fn node(id: u64) -> Option<String> {
    (id != 0).then(|| NodeId(id).to_string())
}

fn task_text(id: &[u8]) -> Option<String> {
    TaskId::from_bytes(id).map(|id| id.to_string())
}

fn text(value: &str) -> Option<&str> {
    Some(value).filter(|text| !text.is_empty())
}

/// JSON has no NaN: it would become null.
fn number(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value + 0.0 }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Worker => "worker",
    }
}

fn state_text(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unknown",
        TaskState::Pending => "pending",
        TaskState::Assigned => "assigned",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Quarantined => "quarantined",
        TaskState::Expired => "expired",
    }
}

/// The state called `word`.
pub fn state(word: &str) -> Option<TaskState> {
    let states = (1..=7).filter_map(|n| TaskState::try_from(n).ok());
    states.into_iter().find(|state| state_text(*state) == word)
}

/// A row of history that stands for `count` alike.
pub fn record(row: &Record, count: u64) -> Value {
    json!({
        "seq": row.seq,
        "at_us": row.at_us,
        "node": node(row.node),
        "node_name": row.node_name,
        "kind": row.kind,
        "term": row.term,
        "subject": node(row.subject),
        "score": number(row.score),
        "rank": row.rank,
        "task_id": task_text(&row.task_id),
        "attempt": row.attempt,
        "value": number(row.value),
        "detail": row.detail,
        "count": count,
    })
}

/// A task as the cluster lists it.
pub fn task(task: &TaskInfo) -> Value {
    json!({
        "task_id": task_text(&task.task_id),
        "function": task.function_name,
        "state": state_text(task.state()),
        "node": node(task.node),
        "attempt": task.attempt,
        "token": task.token,
        "key": text(&task.key),
    })
}

/// Why a task is where it is.
pub fn explanation(told: &ExplainResponse) -> Value {
    let fact = |fact: &fact::Value| match fact {
        fact::Value::Text(text) => json!(text),
        fact::Value::Number(number) => json!(number),
    };
    let facts = told.facts.iter().filter_map(|f| Some((f.name.clone(), fact(f.value.as_ref()?))));
    let event = |event: &TaskEvent| {
        json!({
            "at_ms": event.at_ms,
            "kind": event.kind,
            "node": node(event.node),
            "node_name": text(&event.node_name),
            "attempt": event.attempt,
        })
    };
    json!({
        "kind": told.kind,
        "sentence": told.sentence,
        "facts": facts.collect::<Map<String, Value>>(),
        "history": told.history.iter().map(event).collect::<Vec<_>>(),
        "skipped": told.skipped,
    })
}

fn load(load: Option<&Load>) -> Value {
    load.map_or(Value::Null, |load| {
        json!({
            "cpu_available": number(load.cpu_available),
            "memory_available": number(load.memory_available),
            "uptime_s": number(load.uptime_s),
            "synthetic": load.synthetic,
        })
    })
}

fn me(member: &Member) -> Map<String, Value> {
    let labels = member.labels.iter().map(|label| (label.name.clone(), json!(label.value)));
    let amount = |thousandths: u64| thousandths as f64 / THOUSANDTHS as f64;
    let resources = member.resources.iter().map(|r| (r.name.clone(), json!(amount(r.thousandths))));
    let fields = [
        ("id", json!(node(member.id))),
        ("name", json!(member.name)),
        ("address", json!(member.address)),
        ("slots", json!(member.slots)),
        ("x", json!(number(member.x))),
        ("y", json!(number(member.y))),
        ("voter", json!(member.voter)),
        ("pid", json!(member.pid)),
        ("labels", Value::Object(labels.collect())),
        ("resources", Value::Object(resources.collect())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn member(status: &MemberStatus) -> Value {
    let mut fields = me(status.member.as_ref().unwrap_or(&Member::default()));
    let rest = [
        ("alive", json!(status.alive)),
        ("score", json!(number(status.score))),
        ("queued", json!(status.queued)),
        ("running", json!(status.running)),
        ("load", load(status.load.as_ref())),
    ];
    fields.extend(rest.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(fields)
}

fn counters(c: &Counters) -> Value {
    json!({
        "accepted": c.accepted,
        "succeeded": c.succeeded,
        "failed": c.failed,
        "cancelled": c.cancelled,
        "expired": c.expired,
        "lost": c.lost,
        "retries": c.retries,
        "reassigned": c.reassigned,
        "steals": c.steals,
        "copies": c.copies,
        "copies_first": c.copies_first,
        "late_completions": c.late_completions,
        "duplicates": c.duplicates,
        "pending": c.pending,
        "assigned": c.assigned,
    })
}

fn refusals(refusals: &Refusals) -> Value {
    json!({
        "wrong_cluster": refusals.wrong_cluster,
        "wrong_node": refusals.wrong_node,
        "strangers": refusals.strangers,
    })
}

fn steals(steals: Option<&Steals>) -> Value {
    let Some(steals) = steals else { return Value::Null };
    let refused = steals.refused.iter().map(|r| (r.reason.clone(), json!(r.count)));
    json!({
        "asked": steals.asked,
        "granted": steals.granted,
        "refused": refused.collect::<Map<String, Value>>(),
    })
}

fn fault(fault: &LinkFault) -> Value {
    json!({
        "source": node(fault.from_node),
        "target": node(fault.to_node),
        "cut": fault.cut,
        "drop": number(fault.drop_ratio),
        "delay_s": number(fault.delay_s),
        "jitter_s": number(fault.jitter_s),
    })
}

/// A node's view of itself and its cluster.
pub fn status(status: &StatusResponse) -> Value {
    json!({
        "me": status.me.as_ref().map(me),
        "cluster_id": ClusterId::from_bytes(&status.cluster_id).map(|id| id.to_string()),
        "role": role(status.role()),
        "term": status.term,
        "leader_node": node(status.leader_node),
        "leader_address": text(&status.leader_address),
        "leader_ready": status.leader_ready,
        "score": number(status.score),
        "load": load(status.load.as_ref()),
        "last_log_index": status.last_log_index,
        "applied_index": status.applied_index,
        "members": status.members.iter().map(member).collect::<Vec<_>>(),
        "voters": status.voters,
        "voters_reachable": status.voters_reachable,
        "counters": counters(status.counters.as_ref().unwrap_or(&Counters::default())),
        "version": status.version,
        "draining": status.draining,
        "uptime_s": status.uptime_ms as f64 / 1_000.0,
        "allow_pickle": status.allow_pickle,
        "allow_faults": status.allow_faults,
        "faults": status.faults.iter().map(fault).collect::<Vec<_>>(),
        "clock_rate": number(status.clock_rate),
        "removed": status.removed,
        "problem": text(&status.problem),
        "refusals": refusals(status.refusals.as_ref().unwrap_or(&Refusals::default())),
        "steals": steals(status.steals.as_ref()),
    })
}
