//! Outcomes as Python values and exceptions, by the hooks `hustings.codec` sets.

use super::errors;
use crate::core::cluster::command::{Codec, Failure, Outcome, Payload};
use crate::core::cluster::output;
use crate::core::ids::{NodeId, TaskId};
use crate::error::Error;
use crate::node::client::words::node_text;
use crate::node::client::{Refusal, Settled, lock};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::{Arc, Mutex};

struct Hooks {
    decode: Py<PyAny>,
    rebuild: Py<PyAny>,
}

/// Only locked by attached threads for the time of a pointer's copy.
static HOOKS: Mutex<Option<Arc<Hooks>>> = Mutex::new(None);

/// Sets how results and failures become Python objects; called once by `hustings` itself.
#[pyfunction]
pub(super) fn set_codec_hooks(decode: Bound<'_, PyAny>, rebuild: Bound<'_, PyAny>) -> PyResult<()> {
    for (name, hook) in [("decode", &decode), ("rebuild", &rebuild)] {
        if !hook.is_callable() {
            return Err(PyTypeError::new_err(format!("{name}={}: not callable", hook.repr()?)));
        }
    }
    let hooks = Hooks { decode: decode.unbind(), rebuild: rebuild.unbind() };
    *lock(&HOOKS) = Some(Arc::new(hooks));
    Ok(())
}

fn hooks() -> PyResult<Arc<Hooks>> {
    let hooks = lock(&HOOKS).clone();
    hooks.ok_or_else(|| PyRuntimeError::new_err("import hustings before its native half"))
}

/// What a future returns or raises.
pub(super) enum Decoded {
    Value(Py<PyAny>),
    Raised(Py<PyAny>),
}

/// Decodes the final word on `task`.
pub(super) fn decode(
    py: Python<'_>,
    task: TaskId,
    settled: &Settled,
    allow_pickle: bool,
) -> PyResult<Decoded> {
    let story = match settled {
        Settled::Outcome { outcome: Outcome::Value(value), .. } => {
            return decode_value(py, value, allow_pickle).map(Decoded::Value);
        }
        Settled::Failed(error) => {
            let raised = errors::raise(py, error.clone());
            return Ok(Decoded::Raised(raised.into_value(py).into_any()));
        }
        Settled::Outcome { outcome, attempts, node, output } => {
            let story = failed(py, outcome, *attempts, *node, allow_pickle)?;
            let said = String::from_utf8_lossy(output::last(output));
            story.set_item(intern!(py, "output"), said)?;
            story
        }
        Settled::Refused { refusal: Refusal::DuplicateKey, message, existing, .. } => {
            let existing = existing.map(|id| id.to_string()).unwrap_or_default();
            let error = Error::DuplicateTask { existing, problem: message.clone() };
            return Ok(Decoded::Raised(errors::raise(py, error).into_value(py).into_any()));
        }
        Settled::Refused { refusal: Refusal::IdExpired, .. } => {
            let error = Error::TaskIdExpired { task: task.to_string() };
            return Ok(Decoded::Raised(errors::raise(py, error).into_value(py).into_any()));
        }
        Settled::Refused { refusal, message, retry_after, .. } => {
            let story = blank(py, "rejected", message)?;
            story.set_item(intern!(py, "refusal"), refusal_text(*refusal))?;
            story.set_item(intern!(py, "retry_after_s"), retry_after.as_secs_f64())?;
            story
        }
    };
    story.set_item(intern!(py, "task_id"), task.to_string())?;
    let raised = hooks()?.rebuild.call1(py, (story,))?;
    Ok(Decoded::Raised(raised))
}

pub(super) fn decode_value(
    py: Python<'_>,
    value: &Payload,
    allow_pickle: bool,
) -> PyResult<Py<PyAny>> {
    let codec = match value.codec {
        Codec::Json => intern!(py, "json"),
        Codec::Safe => intern!(py, "safe"),
        Codec::Pickle if allow_pickle => intern!(py, "pickle"),
        Codec::Pickle => {
            let remedy =
                "connect with allow_pickle=True if you trust the cluster; this client does not";
            let error = Error::CodecRefused { codec: "pickle".into(), remedy: remedy.into() };
            return Err(errors::raise(py, error));
        }
    };
    hooks()?.decode.call1(py, (codec, PyBytes::new(py, &value.body)))
}

fn blank<'py>(py: Python<'py>, kind: &str, message: &str) -> PyResult<Bound<'py, PyDict>> {
    let story = PyDict::new(py);
    story.set_item(intern!(py, "kind"), kind)?;
    story.set_item(intern!(py, "type_name"), "")?;
    story.set_item(intern!(py, "message"), message)?;
    story.set_item(intern!(py, "traceback"), "")?;
    story.set_item(intern!(py, "pickled"), PyBytes::new(py, b""))?;
    story.set_item(intern!(py, "attempts"), 0)?;
    story.set_item(intern!(py, "node"), py.None())?;
    Ok(story)
}

fn failed<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    attempts: u32,
    node: NodeId,
    allow_pickle: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let story = match outcome {
        Outcome::Failure(failure) => raised(py, failure, allow_pickle)?,
        Outcome::Lost(reason) => blank(py, "lost", reason)?,
        Outcome::TimedOut(ms) => {
            let limit = *ms as f64 / 1_000.0;
            blank(py, "timeout", &format!("the task ran longer than its timeout of {limit} s"))?
        }
        Outcome::NeverStarted(ms) => {
            let limit = *ms as f64 / 1_000.0;
            let text = format!("the task never started: it waited {limit} s, its queue_timeout");
            blank(py, "timeout", &text)?
        }
        Outcome::PastDeadline(ms) => {
            let limit = *ms as f64 / 1_000.0;
            let text = format!(
                "the task had no outcome after {limit} s, its deadline; attempts: {attempts}"
            );
            blank(py, "timeout", &text)?
        }
        Outcome::Cancelled | Outcome::Value(_) => blank(py, "cancelled", "")?,
    };
    story.set_item(intern!(py, "attempts"), attempts)?;
    story.set_item(intern!(py, "node"), node_text(node.0))?;
    Ok(story)
}

fn raised<'py>(
    py: Python<'py>,
    failure: &Failure,
    allow_pickle: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let story = blank(py, "failure", &failure.message)?;
    story.set_item(intern!(py, "type_name"), &failure.type_name)?;
    story.set_item(intern!(py, "traceback"), &failure.traceback)?;
    if allow_pickle {
        story.set_item(intern!(py, "pickled"), PyBytes::new(py, &failure.pickled))?;
    }
    Ok(story)
}

fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unspecified => "unknown",
        Refusal::Invalid => "invalid",
        Refusal::NotLeader => "not_leader",
        Refusal::QueueFull => "queue_full",
        Refusal::IdConflict => "id_conflict",
        Refusal::UnknownFunction => "unknown_function",
        Refusal::PayloadTooLarge => "payload_too_large",
        Refusal::Codec => "codec",
        Refusal::Stopping => "stopping",
        Refusal::InvalidId => "invalid_id",
        Refusal::IdExpired => "id_expired",
        Refusal::DuplicateKey => "duplicate_key",
        Refusal::Gathering => "gathering",
    }
}
