//! A cluster's answers as JSON, in the shape in which `src/python/records.rs` gives them to Python: a test of the page
//! holds the two together.

use crate::core::cluster::needs::THOUSANDTHS;
use crate::core::ids::ClusterId;
use crate::node::client::messages::{
    Counters, ExplainResponse, LinkFault, Load, Member, MemberStatus, Record, Refusals,
    StatusResponse, Steals, TaskEvent, TaskInfo, fact,
};
use crate::node::client::words::{node_text, number, role_text, state_text, task_text};
use serde_json::{Map, Value, json};

fn text(value: &str) -> Option<&str> {
    Some(value).filter(|text| !text.is_empty())
}

/// A row of history that stands for `count` alike.
pub fn record(row: &Record, count: u64) -> Value {
    json!({
        "seq": row.seq,
        "at_us": row.at_us,
        "node": node_text(row.node),
        "node_name": row.node_name,
        "kind": row.kind,
        "term": row.term,
        "subject": node_text(row.subject),
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
        "node": node_text(task.node),
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
            "node": node_text(event.node),
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
        ("id", json!(node_text(member.id))),
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
        ("draining", json!(status.draining)),
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
        "source": node_text(fault.from_node),
        "target": node_text(fault.to_node),
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
        "role": role_text(status.role()),
        "term": status.term,
        "leader_node": node_text(status.leader_node),
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
