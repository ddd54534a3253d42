//! Shops as Python asks for them: one run with its figures, and with its rows where they are wanted.

use super::config::config_from;
use super::errors;
use super::records::row_dict;
use super::simulation::seconds;
use super::task_history::{task_row_dict, verdict_dict};
use crate::core::load::Position;
use crate::error::Error;
use crate::sim::shop::workload::{Knowledge, Sizes, Workload};
use crate::sim::shop::{Churn, Figures, ShopRun, ShopSpec, Stays, run};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};
use std::time::Duration;

/// Runs one shop; blocks without the GIL. `spec` is what `hustings.task_simulation` writes.
#[pyfunction]
pub(super) fn run_shop<'py>(
    py: Python<'py>,
    spec: &Bound<'py, PyMapping>,
) -> PyResult<Bound<'py, PyDict>> {
    let wanted: bool = spec.get_item("rows")?.extract()?;
    let spec = spec_from(spec)?;
    let ran = py.detach(|| run(&spec)).map_err(|e| errors::raise(py, e))?;
    let dict = figures_dict(py, &ran.figures)?;
    dict.set_item("began_us", ran.began_us)?;
    dict.set_item("checked", verdict_dict(py, &ran.verdict)?)?;
    let (rows, task_rows) = (PyList::empty(py), PyList::empty(py));
    if wanted {
        fill(py, &ran, &rows, &task_rows)?;
    }
    dict.set_item("rows", rows)?;
    dict.set_item("task_rows", task_rows)?;
    Ok(dict)
}

fn fill<'py>(
    py: Python<'py>,
    ran: &ShopRun,
    rows: &Bound<'py, PyList>,
    task_rows: &Bound<'py, PyList>,
) -> PyResult<()> {
    for (seq, row) in ran.rows.iter().enumerate() {
        rows.append(row_dict(py, seq as u64 + 1, row)?)?;
    }
    for row in &ran.task_rows {
        task_rows.append(task_row_dict(py, row)?)?;
    }
    Ok(())
}

fn stays_tuple(stays: &Stays) -> (f64, f64, f64, f64) {
    let Stays { mean, p50, p99, max } = stays;
    (mean.as_secs_f64(), p50.as_secs_f64(), p99.as_secs_f64(), max.as_secs_f64())
}

fn figures_dict<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("tasks", figures.tasks)?;
    dict.set_item("finished", figures.finished)?;
    dict.set_item("failed", figures.failed)?;
    dict.set_item("makespan_s", figures.makespan.map(|d| d.as_secs_f64()))?;
    dict.set_item("bound_s", figures.bound.as_secs_f64())?;
    dict.set_item("stays", stays_tuple(&figures.stays))?;
    dict.set_item("ideal", stays_tuple(&figures.ideal))?;
    dict.set_item("steals", figures.steals)?;
    dict.set_item("copies", figures.copies)?;
    dict.set_item("calls", figures.calls)?;
    dict.set_item("refused", figures.refused.clone())?;
    dict.set_item("spells", figures.spells)?;
    dict.set_item("spell", stays_tuple(&figures.spell))?;
    dict.set_item("idle_s", figures.idle.as_secs_f64())?;
    dict.set_item("busy_s", figures.busy.as_secs_f64())?;
    dict.set_item("entries", figures.entries)?;
    dict.set_item("late", figures.late)?;
    dict.set_item("deaths", figures.deaths)?;
    Ok(dict)
}

fn named<T: Copy>(
    py: Python<'_>,
    field: &str,
    name: &str,
    known: &[(&'static str, T)],
) -> PyResult<T> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let problem = format!("{name:?} is none of {}", names.join(", "));
        errors::raise(py, Error::config(field, problem))
    })
}

fn workload_from(spec: &Bound<'_, PyMapping>) -> PyResult<Workload> {
    let py = spec.py();
    let text = |name: &str| spec.get_item(name)?.extract::<String>();
    Ok(Workload {
        tasks: spec.get_item("tasks")?.extract()?,
        sizes: named(py, "workload.sizes", &text("sizes")?, Sizes::ALL)?,
        mean: seconds(spec, "mean_s")?,
        straggling: spec.get_item("straggling")?.extract()?,
        slow_spells: spec.get_item("slow_spells")?.extract()?,
        knowledge: named(py, "workload.knowledge", &text("knowledge")?, Knowledge::ALL)?,
        idempotent: spec.get_item("idempotent")?.extract()?,
        pile_up: spec.get_item("pile_up")?.extract()?,
        rho: spec.get_item("rho")?.extract()?,
    })
}

fn spec_from(spec: &Bound<'_, PyMapping>) -> PyResult<ShopSpec> {
    let positions: Vec<(f64, f64)> = spec.get_item("positions")?.extract()?;
    let churn: Option<(f64, f64)> = spec.get_item("churn")?.extract()?;
    let pair = |name: &str| -> PyResult<(Duration, Duration)> {
        let (least, most): (f64, f64) = spec.get_item(name)?.extract()?;
        Ok((Duration::from_secs_f64(least), Duration::from_secs_f64(most)))
    };
    let deaths: Vec<f64> = spec.get_item("leader_dies_at_s")?.extract()?;
    Ok(ShopSpec {
        machines: spec.get_item("workers")?.extract()?,
        slots: spec.get_item("slots")?.extract()?,
        speeds: spec.get_item("speeds")?.extract()?,
        positions: positions.into_iter().map(|(x, y)| Position { x, y }).collect(),
        workload: workload_from(spec.get_item("workload")?.cast::<PyMapping>()?)?,
        config: config_from(Some(&spec.get_item("config")?))?,
        seed: spec.get_item("seed")?.extract()?,
        latency: pair("latency_s")?,
        commit: pair("commit_s")?,
        cpu_available: spec.get_item("cpu_available")?.extract()?,
        churn: churn.map(|(mtbf, mttr)| Churn {
            mtbf: Duration::from_secs_f64(mtbf),
            mttr: Duration::from_secs_f64(mttr),
        }),
        elections: deaths.into_iter().map(Duration::from_secs_f64).collect(),
        detail: true,
    })
}
