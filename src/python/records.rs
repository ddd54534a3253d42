//! Protobuf messages as Python dicts: the one place where their shape is decided.

use crate::core::cluster::needs::THOUSANDTHS;
use crate::core::ids::ClusterId;
use crate::node::client::messages::{
    Counters, ExplainResponse, LinkFault, Load, Member, MemberStatus, Record, Refusals,
    StatusResponse, Steals, TaskEvent, TaskInfo, fact,
};
use crate::node::client::words::{condense, node_text, number, role_text, state_text, task_text};
use crate::sim::world::Row;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

macro_rules! dict {
    ($py:expr, { $($key:literal: $value:expr),+ $(,)? }) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(intern!($py, $key), $value)?;)+
        dict
    }};
}

/// A row of history.
pub(super) fn record_dict<'py>(py: Python<'py>, row: &Record) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py, {
        "seq": row.seq,
        "at_us": row.at_us,
        "node": node_text(row.node),
        "node_name": &row.node_name,
        "kind": &row.kind,
        "term": row.term,
        "subject": node_text(row.subject),
        "score": number(row.score),
        "rank": row.rank,
        "task_id": task_text(&row.task_id),
        "attempt": row.attempt,
        "value": number(row.value),
        "detail": &row.detail,
    }))
}

/// Rows of history; for a view, alike ones as one with a column `count` more.
pub(super) fn record_dicts<'py>(
    py: Python<'py>,
    rows: &[Record],
    condensed: bool,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    if !condensed {
        return rows.iter().map(|row| record_dict(py, row)).collect();
    }
    let counted = |(row, count): (&Record, u64)| {
        let dict = record_dict(py, row)?;
        dict.set_item(intern!(py, "count"), count)?;
        Ok(dict)
    };
    condense(rows).into_iter().map(counted).collect()
}

/// A row of a simulated history; the same columns.
pub(super) fn row_dict<'py>(py: Python<'py>, seq: u64, row: &Row) -> PyResult<Bound<'py, PyDict>> {
    let record = &row.record;
    Ok(dict!(py, {
        "seq": seq,
        "at_us": row.at_us,
        "node": node_text(row.node.0).unwrap_or_default(),
        "node_name": &*row.name,
        "kind": record.kind.as_str(),
        "term": record.term,
        "subject": node_text(record.subject.0),
        "score": number(record.score),
        "rank": record.rank,
        "task_id": record.task.map(|task| task.to_string()),
        "attempt": record.attempt,
        "value": number(record.value),
        "detail": &record.detail,
    }))
}

/// A task as the cluster lists it.
pub(super) fn task_dict<'py>(py: Python<'py>, task: &TaskInfo) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py, {
        "task_id": task_text(&task.task_id),
        "function": &task.function_name,
        "state": state_text(task.state()),
        "node": node_text(task.node),
        "attempt": task.attempt,
        "token": task.token,
        "key": (!task.key.is_empty()).then_some(&task.key),
    }))
}

/// Why a task is where it is.
pub(super) fn explanation_dict<'py>(
    py: Python<'py>,
    told: &ExplainResponse,
) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    for fact in &told.facts {
        match &fact.value {
            Some(fact::Value::Text(text)) => facts.set_item(&fact.name, text)?,
            Some(fact::Value::Number(number)) => facts.set_item(&fact.name, number)?,
            None => {}
        }
    }
    let event = |event: &TaskEvent| {
        Ok(dict!(py, {
            "at_ms": event.at_ms,
            "kind": &event.kind,
            "node": node_text(event.node),
            "node_name": (!event.node_name.is_empty()).then_some(&event.node_name),
            "attempt": event.attempt,
        }))
    };
    let history = told.history.iter().map(event).collect::<PyResult<Vec<_>>>()?;
    Ok(dict!(py, {
        "kind": &told.kind,
        "sentence": &told.sentence,
        "facts": facts,
        "history": history,
        "skipped": told.skipped,
    }))
}

fn load_dict<'py>(py: Python<'py>, load: Option<&Load>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(load) = load else { return Ok(None) };
    Ok(Some(dict!(py, {
        "cpu_available": number(load.cpu_available),
        "memory_available": number(load.memory_available),
        "uptime_s": number(load.uptime_s),
        "synthetic": load.synthetic,
    })))
}

fn me_dict<'py>(py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyDict>> {
    let (labels, resources) = (PyDict::new(py), PyDict::new(py));
    for label in &member.labels {
        labels.set_item(&label.name, &label.value)?;
    }
    for resource in &member.resources {
        let amount = resource.thousandths as f64 / THOUSANDTHS as f64;
        resources.set_item(&resource.name, amount)?;
    }
    Ok(dict!(py, {
        "id": node_text(member.id),
        "name": &member.name,
        "address": &member.address,
        "slots": member.slots,
        "x": number(member.x),
        "y": number(member.y),
        "voter": member.voter,
        "pid": member.pid,
        "labels": labels,
        "resources": resources,
    }))
}

fn member_dict<'py>(py: Python<'py>, status: &MemberStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = me_dict(py, status.member.as_ref().unwrap_or(&Member::default()))?;
    let rest = dict!(py, {
        "alive": status.alive,
        "draining": status.draining,
        "score": number(status.score),
        "queued": status.queued,
        "running": status.running,
        "load": load_dict(py, status.load.as_ref())?,
    });
    dict.update(rest.as_mapping())?;
    Ok(dict)
}

fn counters_dict<'py>(py: Python<'py>, c: &Counters) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py, {
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
    }))
}

fn refusals_dict<'py>(py: Python<'py>, refusals: &Refusals) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py, {
        "wrong_cluster": refusals.wrong_cluster,
        "wrong_node": refusals.wrong_node,
        "strangers": refusals.strangers,
    }))
}

/// Steals since the node leads, or `None`.
fn steals_dict<'py>(
    py: Python<'py>,
    steals: Option<&Steals>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(steals) = steals else { return Ok(None) };
    let refused = PyDict::new(py);
    for refusals in &steals.refused {
        refused.set_item(&refusals.reason, refusals.count)?;
    }
    Ok(Some(dict!(py, {
        "asked": steals.asked,
        "granted": steals.granted,
        "refused": refused,
    })))
}

fn fault_dict<'py>(py: Python<'py>, fault: &LinkFault) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py, {
        "source": node_text(fault.from_node),
        "target": node_text(fault.to_node),
        "cut": fault.cut,
        "drop": number(fault.drop_ratio),
        "delay_s": number(fault.delay_s),
        "jitter_s": number(fault.jitter_s),
    }))
}

/// A node's view of itself and its cluster.
pub(super) fn status_dict<'py>(
    py: Python<'py>,
    status: &StatusResponse,
) -> PyResult<Bound<'py, PyDict>> {
    let members: Vec<_> =
        status.members.iter().map(|member| member_dict(py, member)).collect::<PyResult<_>>()?;
    let me = status.me.as_ref().map(|me| me_dict(py, me)).transpose()?;
    let counters = counters_dict(py, status.counters.as_ref().unwrap_or(&Default::default()))?;
    let faults: Vec<_> =
        status.faults.iter().map(|fault| fault_dict(py, fault)).collect::<PyResult<_>>()?;
    Ok(dict!(py, {
        "me": me,
        "cluster_id": ClusterId::from_bytes(&status.cluster_id).map(|id| id.to_string()),
        "role": role_text(status.role()),
        "term": status.term,
        "leader_node": node_text(status.leader_node),
        "leader_address": Some(&status.leader_address).filter(|a| !a.is_empty()),
        "leader_ready": status.leader_ready,
        "score": number(status.score),
        "load": load_dict(py, status.load.as_ref())?,
        "last_log_index": status.last_log_index,
        "applied_index": status.applied_index,
        "members": members,
        "voters": status.voters,
        "voters_reachable": status.voters_reachable,
        "counters": counters,
        "version": &status.version,
        "draining": status.draining,
        "uptime_s": status.uptime_ms as f64 / 1_000.0,
        "allow_pickle": status.allow_pickle,
        "allow_faults": status.allow_faults,
        "faults": faults,
        "clock_rate": number(status.clock_rate),
        "removed": status.removed,
        "problem": Some(&status.problem).filter(|text| !text.is_empty()),
        "refusals": refusals_dict(py, status.refusals.as_ref().unwrap_or(&Default::default()))?,
        "steals": steals_dict(py, status.steals.as_ref())?,
    }))
}
