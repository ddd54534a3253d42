//! Python arguments as core types, with an error that names the argument where they are none.

use super::errors;
use crate::core::cluster::command::{Claim, Codec, FunctionSource, OnDuplicate};
use crate::core::cluster::needs::{Needs, THOUSANDTHS};
use crate::core::ids::{FunctionHash, NodeId, TaskId};
use crate::core::trace::TraceContext;
use crate::error::Error;
use bytes::Bytes;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A function's source out of the two keyword arguments, of which exactly one is given.
pub(super) fn function_source(
    py: Python<'_>,
    reference: Option<String>,
    pickled: Option<&[u8]>,
) -> PyResult<FunctionSource> {
    match (reference, pickled) {
        (Some(text), None) => Ok(FunctionSource::Reference(text)),
        (None, Some(body)) => Ok(FunctionSource::Pickled(Bytes::copy_from_slice(body))),
        _ => {
            let problem = "give either `reference` (module:qualname) or `pickled`";
            Err(errors::raise(py, Error::config("function", problem)))
        }
    }
}

pub(super) fn parse_codec(py: Python<'_>, name: &str) -> PyResult<Codec> {
    match name {
        "json" => Ok(Codec::Json),
        "pickle" => Ok(Codec::Pickle),
        "safe" => Ok(Codec::Safe),
        other => {
            let problem = format!("{other:?} is not a codec; choose safe, json or pickle");
            Err(errors::raise(py, Error::config("codec", problem)))
        }
    }
}

pub(super) fn parse_claim(py: Python<'_>, key: &str, on_duplicate: &str) -> PyResult<Box<Claim>> {
    let on_duplicate = match on_duplicate {
        "join" => OnDuplicate::Join,
        "reject" => OnDuplicate::Reject,
        "replace" => OnDuplicate::Replace,
        other => {
            let problem = format!("{other:?} is not a choice; give join, reject or replace");
            return Err(errors::raise(py, Error::config("on_duplicate", problem)));
        }
    };
    Ok(Box::new(Claim { key: key.to_owned(), on_duplicate }))
}

/// Amounts in thousandths, so that they add up exactly; the core checks their bounds.
pub(super) fn parse_resources(
    py: Python<'_>,
    resources: BTreeMap<String, f64>,
) -> PyResult<BTreeMap<String, u64>> {
    let amount = |(name, amount): (String, f64)| {
        if !amount.is_finite() || amount < 0.0 {
            let problem = format!("{name}={amount} is not an amount; give a number above 0");
            return Err(errors::raise(py, Error::config("resources", problem)));
        }
        Ok((name, (amount * THOUSANDTHS as f64).round() as u64))
    };
    resources.into_iter().map(amount).collect()
}

/// What a node must have; `None` if that is only a slot.
pub(super) fn parse_needs(
    py: Python<'_>,
    slots: u32,
    labels: Option<BTreeMap<String, String>>,
    resources: Option<BTreeMap<String, f64>>,
) -> PyResult<Option<Arc<Needs>>> {
    let needs = Needs {
        slots,
        labels: labels.unwrap_or_default(),
        resources: parse_resources(py, resources.unwrap_or_default())?,
    };
    Ok((!needs.is_plain()).then(|| Arc::new(needs)))
}

pub(super) fn parse_hash(py: Python<'_>, bytes: &[u8]) -> PyResult<FunctionHash> {
    FunctionHash::from_bytes(bytes).ok_or_else(|| {
        let problem = format!("{} bytes; use what `function` returned, 16 bytes", bytes.len());
        errors::raise(py, Error::config("hash", problem))
    })
}

pub(super) fn parse_id(py: Python<'_>, bytes: &[u8]) -> PyResult<TaskId> {
    let id = TaskId::from_bytes(bytes).filter(|id| id.0 != 0);
    id.ok_or_else(|| {
        let problem = format!("{} bytes given; an id is a UUID's 16 bytes, not all 0", bytes.len());
        errors::raise(py, Error::InvalidTaskId { problem })
    })
}

pub(super) fn parse_trace(py: Python<'_>, text: &str) -> PyResult<Box<TraceContext>> {
    let trace = TraceContext::parse(text).map(Box::new);
    trace.map_err(|problem| errors::raise(py, Error::config("traceparent", problem)))
}

/// Refuses what is no trace context, before a task is made with it.
#[pyfunction]
pub(super) fn check_traceparent(py: Python<'_>, text: &str) -> PyResult<()> {
    parse_trace(py, text).map(drop)
}

pub(super) fn parse_node(py: Python<'_>, field: &str, text: &str) -> PyResult<NodeId> {
    let id = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.filter(|id| *id != 0).map(NodeId).ok_or_else(|| {
        let problem = format!("{text:?} is not a node's id; ids have 16 hexadecimal digits");
        errors::raise(py, Error::config(field, problem))
    })
}
