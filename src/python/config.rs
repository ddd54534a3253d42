//! Knobs as Python sees them: the table, a checked profile, and the way back.

use super::errors;
use crate::config::{CHOICES, Config, KNOBS};
use crate::error::Error;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

/// The knobs that are on or off.
const FLAGS: &[&str] = &["election.plain", "score.classic", "steal.random_victim", "speculate"];

/// Every numeric knob: `name`, `doc`, `min`, `max`, `default`. Does not block.
#[pyfunction]
pub(super) fn knobs(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let defaults = Config::default();
    let row = |knob: &crate::config::Knob| {
        let dict = PyDict::new(py);
        dict.set_item("name", knob.name)?;
        dict.set_item("doc", knob.doc)?;
        dict.set_item("min", knob.min)?;
        dict.set_item("max", knob.max)?;
        dict.set_item("default", (knob.get)(&defaults))?;
        Ok(dict)
    };
    KNOBS.iter().map(row).collect()
}

/// All knobs of `profile` with `overrides` applied and checked.
#[pyfunction]
pub(super) fn resolve_config<'py>(
    py: Python<'py>,
    profile: &str,
    overrides: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut config = Config::profile(profile).map_err(|e| errors::raise(py, e))?;
    apply(&mut config, overrides)?;
    let dict = PyDict::new(py);
    for knob in KNOBS {
        dict.set_item(knob.name, (knob.get)(&config))?;
    }
    for choice in CHOICES {
        dict.set_item(choice.name, (choice.get)(&config))?;
    }
    Ok(dict)
}

/// The configuration a mapping of knobs describes; knobs it does not name keep their defaults.
pub(super) fn config_from(overrides: Option<&Bound<'_, PyAny>>) -> PyResult<Config> {
    let mut config = Config::default();
    if let Some(overrides) = overrides {
        apply(&mut config, overrides)?;
    }
    Ok(config)
}

fn apply(config: &mut Config, overrides: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = overrides.py();
    for pair in overrides.call_method0("items")?.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        set(config, &name, &value)?.map_err(|error| errors::raise(py, error))?;
    }
    config.validate().map_err(|error| errors::raise(py, error))
}

fn set(config: &mut Config, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Result<(), Error>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(config.set_text(name, text.to_str()?));
    }
    let refuse = |what: String| Ok(Err(Error::config(name, what)));
    // The unknown name is the better complaint, whatever its value is.
    let choice = CHOICES.iter().any(|choice| choice.name == name);
    let known = choice || KNOBS.iter().any(|knob| knob.name == name);
    if value.is_instance_of::<PyBool>() && known && !FLAGS.contains(&name) {
        return refuse(format!("{value} is not a number"));
    }
    if choice {
        return refuse(format!("{} is not text", value.repr()?));
    }
    if known && !value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyFloat>() {
        return refuse(format!("{} is not a number", value.repr()?));
    }
    Ok(config.set(name, value.extract().unwrap_or(f64::NAN)))
}
