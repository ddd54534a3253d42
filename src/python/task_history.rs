//! Histories of tasks as Python has them: dicts, one a row; and what the checker says of one.

use super::errors;
use crate::error::Error;
use crate::sim::diary::TaskRow;
use crate::sim::total_queue::{Flaw, Kind, Row, Verdict, judge};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

/// Rows one check reads at most.
const MAX_ROWS: usize = 50_000_000;

/// Judges a history of tasks: what was lost, doubled, invented, contradicted. Blocks without the GIL while it judges.
#[pyfunction]
#[pyo3(signature = (rows, whole=true))]
pub(super) fn check_history<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    whole: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let mut read = Vec::new();
    for row in rows.try_iter()? {
        if read.len() == MAX_ROWS {
            let problem = format!("more than {MAX_ROWS}; check it in parts, by task");
            return Err(errors::raise(py, Error::config("rows", problem)));
        }
        let row = row?;
        let row = row.cast::<PyMapping>().map_err(|_| {
            let problem = format!("row {} is no mapping", read.len());
            errors::raise(py, Error::config("rows", problem))
        })?;
        read.push(row_from(row, read.len())?);
    }
    let verdict = py.detach(|| judge(&read, whole));
    verdict_dict(py, &verdict)
}

fn row_from(row: &Bound<'_, PyMapping>, number: usize) -> PyResult<Row<String, String>> {
    let py = row.py();
    let wrong = |field: &str, problem: String| {
        errors::raise(py, Error::config(format!("rows[{number}].{field}"), problem))
    };
    let get = |field: &str| row.get_item(field).ok().filter(|value| !value.is_none());
    let text = |field: &str| -> PyResult<Option<String>> {
        let Some(value) = get(field) else { return Ok(None) };
        let text = value.extract();
        text.map(Some).map_err(|_| wrong(field, format!("{value} must be text")))
    };
    let number_of = |field: &str| -> PyResult<Option<u64>> {
        let Some(value) = get(field) else { return Ok(None) };
        let number = value.extract();
        number.map(Some).map_err(|_| {
            wrong(field, format!("{value} must be a whole number from 0 to 2**64 - 1"))
        })
    };
    let name = text("kind")?.ok_or_else(|| wrong("kind", "it is missing".into()))?;
    let kind = Kind::parse(&name).ok_or_else(|| wrong("kind", format!("{name:?} is none")))?;
    let (client, node) = (text("client")?, text("node")?);
    let is_client = client.is_some();
    let who = client.or(node).ok_or_else(|| wrong("node", "give node or client".into()))?;
    Ok(Row {
        at_us: number_of("at_us")?.ok_or_else(|| wrong("at_us", "it is missing".into()))?,
        kind,
        task: text("task")?.ok_or_else(|| wrong("task", "it is missing".into()))?,
        who,
        client: is_client,
        token: number_of("token")?.unwrap_or_default(),
        outcome: text("outcome")?.unwrap_or_default(),
    })
}

/// A row as a dict; absent parts are left out.
pub(super) fn task_row_dict<'py>(py: Python<'py>, row: &TaskRow) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("at_us", row.at_us)?;
    dict.set_item("kind", row.kind.as_str())?;
    dict.set_item("task", row.task.to_string())?;
    dict.set_item(if row.client { "client" } else { "node" }, &*row.who)?;
    if row.token != 0 {
        dict.set_item("token", row.token)?;
    }
    if !row.outcome.is_empty() {
        dict.set_item("outcome", &row.outcome)?;
    }
    Ok(dict)
}

/// A verdict as a dict: counts, and per flaw the tasks that have it with what was seen.
pub(super) fn verdict_dict<'py>(
    py: Python<'py>,
    verdict: &Verdict,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("submitted", verdict.submitted)?;
    dict.set_item("accepted", verdict.accepted)?;
    dict.set_item("outcomes", verdict.outcomes)?;
    dict.set_item("attempts", verdict.attempts)?;
    for flaw in [Flaw::Lost, Flaw::Double, Flaw::Invented, Flaw::Contradicting] {
        let found = verdict.findings.iter().filter(|finding| finding.flaw == flaw);
        let found: Vec<(&str, &str)> =
            found.map(|finding| (&*finding.task, &*finding.problem)).collect();
        dict.set_item(flaw.as_str(), found)?;
    }
    Ok(dict)
}
