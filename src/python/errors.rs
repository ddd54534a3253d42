//! Every native error as the exception of `hustings.errors` that a script can catch.

use crate::error::Error;
use crate::node::client::Phase;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for `error`.
pub(super) fn raise(py: Python<'_>, error: Error) -> PyErr {
    match build(py, &error) {
        Ok(exception) => PyErr::from_value(exception),
        // Only while `hustings.errors` itself cannot be imported.
        Err(cause) => {
            let plain = PyRuntimeError::new_err(error.to_string());
            plain.set_cause(py, Some(cause));
            plain
        }
    }
}

fn build<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("hustings.errors")?.getattr(class_name(error))?;
    let exception = class.call1((error.to_string(),))?;
    for (name, value) in attributes(py, error)?.iter() {
        exception.setattr(name.extract::<String>()?.as_str(), value)?;
    }
    Ok(exception)
}

fn class_name(error: &Error) -> &'static str {
    match error {
        Error::Config { .. } => "ConfigError",
        Error::InvalidAddress { .. } => "InvalidAddressError",
        Error::InsecureBind { .. } => "InsecureBindError",
        Error::TlsConfig { .. } => "TlsConfigError",
        Error::Auth { .. } => "AuthError",
        Error::Bind { .. } => "BindError",
        Error::NoQuorum { .. } => "NoQuorumError",
        Error::QueueFull { .. } => "QueueFullError",
        Error::WaitTimeout { .. } => "WaitTimeoutError",
        Error::TaskIdConflict { .. } => "TaskIdConflictError",
        Error::InvalidTaskId { .. } => "InvalidTaskIdError",
        Error::TaskIdExpired { .. } => "TaskIdExpiredError",
        Error::DuplicateTask { .. } => "DuplicateTaskError",
        Error::TaskNotRegistered { .. } => "TaskNotRegisteredError",
        Error::TaskNotFound { .. } => "TaskNotFoundError",
        Error::PayloadTooLarge { .. } => "PayloadTooLargeError",
        Error::Stream { .. } => "StreamError",
        Error::CodecRefused { .. } => "CodecRefusedError",
        Error::VersionMismatch { .. } => "VersionMismatchError",
        Error::WrongCluster { .. } => "WrongClusterError",
        Error::WrongNode { .. } => "WrongNodeError",
        Error::NodeNameInUse { .. } => "NodeNameInUseError",
        Error::InvalidPeers { .. } => "InvalidPeersError",
        Error::UnsafeMembershipChange { .. } => "UnsafeMembershipChangeError",
        Error::MembershipChangeInProgress { .. } => "MembershipChangeInProgressError",
        Error::Removed { .. } => "RemovedError",
        Error::FaultInjectionDisabled { .. } => "FaultInjectionDisabledError",
        Error::Stopped { .. } | Error::NotStarted { .. } => "StoppedError",
        Error::Forked { .. } => "ForkedProcessError",
        Error::Runner { .. } => "RunnerError",
        Error::Storage { .. } => "StorageError",
        Error::CorruptLog { .. } => "CorruptLogError",
        Error::DataDirLocked { .. } => "DataDirLockedError",
        Error::NodeIdInUse { .. } => "NodeIdInUseError",
        Error::IncarnationMismatch { .. } => "IncarnationMismatchError",
        Error::Consensus { .. } => "ConsensusError",
    }
}

/// What a program may want to act on without reading the text.
fn attributes<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match error {
        Error::Config { field, .. } => dict.set_item("field", field)?,
        Error::QueueFull { retry_after, .. } => {
            dict.set_item("retry_after_s", retry_after.as_secs_f64())?;
        }
        Error::PayloadTooLarge { size, limit, .. } => {
            dict.set_item("size", size)?;
            dict.set_item("limit", limit)?;
        }
        Error::TaskIdConflict { task }
        | Error::TaskIdExpired { task }
        | Error::TaskNotFound { task } => dict.set_item("task_id", task)?,
        Error::DuplicateTask { existing, .. } => dict.set_item("task_id", existing)?,
        Error::Storage { path, .. } => dict.set_item("path", path)?,
        Error::CorruptLog { file, place, .. } => {
            dict.set_item("path", file)?;
            dict.set_item("place", place)?;
        }
        Error::DataDirLocked { path, pid } => {
            dict.set_item("path", path)?;
            dict.set_item("pid", pid)?;
        }
        _ => {}
    }
    Ok(dict)
}

/// A wait for a task ended first. If nobody led meanwhile and nothing was accepted, that is the news.
pub(super) fn wait_timeout(
    task: &str,
    phase: Phase,
    trouble: &str,
    leaderless: Option<String>,
    waited: std::time::Duration,
) -> Error {
    if let (Phase::Submitted, Some(quorum)) = (phase, leaderless) {
        let detail = format!("{quorum}; task {task} was not accepted within {waited:?}");
        return Error::NoQuorum { detail };
    }
    let why = match phase {
        Phase::Submitted if trouble.is_empty() => "not accepted yet".to_owned(),
        Phase::Submitted => format!("not accepted yet; last trouble: {trouble}"),
        _ => "accepted, no outcome yet".to_owned(),
    };
    Error::WaitTimeout { what: format!("task {task} ({why})"), waited }
}
