//! Simulations as Python asks for them: one run with its rows, or many runs on all cores with what they came to.

use super::config::config_from;
use super::errors;
use super::node::load_source;
use super::records::row_dict;
use super::task_history::{task_row_dict, verdict_dict};
use crate::error::Error;
use crate::node::faults::LinkFault;
use crate::sim::bugs::Bug;
use crate::sim::chronicle::Reign;
use crate::sim::failures::{FailureKind, Failures};
use crate::sim::loads::{Loads, Spikes};
use crate::sim::script::{Action, Step, Who};
use crate::sim::work::Work;
use crate::sim::{Run, Spec, simulate};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Runs of one sweep.
const MAX_RUNS: usize = 1_000_000;
/// Threads of one sweep.
const MAX_THREADS: usize = 256;

/// Runs one simulation; blocks without the GIL. `spec` is what `hustings.simulation` writes.
#[pyfunction]
pub(super) fn run_simulation<'py>(
    py: Python<'py>,
    spec: &Bound<'py, PyMapping>,
) -> PyResult<Bound<'py, PyDict>> {
    let spec = spec_from(spec)?;
    let run = py.detach(|| alone(spec)).map_err(|e| errors::raise(py, e))?;
    let dict = summary_dict(py, &run)?;
    let rows = PyList::empty(py);
    for (seq, row) in run.rows.iter().enumerate() {
        rows.append(row_dict(py, seq as u64 + 1, row)?)?;
    }
    dict.set_item("rows", rows)?;
    let task_rows: Vec<_> =
        run.task_rows.iter().map(|row| task_row_dict(py, row)).collect::<PyResult<_>>()?;
    dict.set_item("task_rows", task_rows)?;
    Ok(dict)
}

/// Runs `spec` once for every seed on `threads` threads; blocks without the GIL, obeys Ctrl-C between runs.
#[pyfunction]
pub(super) fn run_sweep<'py>(
    py: Python<'py>,
    spec: &Bound<'py, PyMapping>,
    seeds: Vec<u64>,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    check_sweep(seeds.len(), threads).map_err(|e| errors::raise(py, e))?;
    spec_from(spec)?;
    let (spec, next) = (spec.clone().unbind(), AtomicUsize::new(0));
    let finished = py.detach(|| {
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(seeds.len()) {
                let (sender, spec, next, seeds) = (sender.clone(), &spec, &next, &seeds);
                scope.spawn(move || work(spec, next, seeds, &sender));
            }
            drop(sender);
            let collected = collect(&receiver, seeds.len());
            // Whoever still works finds nothing more to do.
            next.store(seeds.len(), SeqCst);
            collected
        })
    })?;
    finished.iter().map(|run| summary_dict(py, run)).collect()
}

fn check_sweep(runs: usize, threads: usize) -> Result<(), Error> {
    let bound = |field: &str, value: usize, most: usize| {
        let problem = format!("{value} is out of bounds; it must lie in [1, {most}]");
        Err(Error::config(field, problem))
    };
    if runs == 0 || runs > MAX_RUNS {
        return bound("seeds", runs, MAX_RUNS);
    }
    if threads == 0 || threads > MAX_THREADS {
        return bound("threads", threads, MAX_THREADS);
    }
    Ok(())
}

fn work(
    spec: &Py<PyMapping>,
    next: &AtomicUsize,
    seeds: &[u64],
    sender: &mpsc::Sender<(usize, PyResult<Run>)>,
) {
    loop {
        let turn = next.fetch_add(1, SeqCst);
        let Some(seed) = seeds.get(turn) else { return };
        let made = Python::attach(|py| spec_from(spec.bind(py)));
        let ran = made.and_then(|mut spec| {
            spec.seed = *seed;
            if let Some(failures) = &mut spec.failures {
                failures.seed = *seed;
            }
            let run =
                simulate(spec).map(|run| Run { rows: Vec::new(), task_rows: Vec::new(), ..run });
            run.map_err(|e| Python::attach(|py| errors::raise(py, e)))
        });
        if sender.send((turn, ran)).is_err() {
            return;
        }
    }
}

fn collect(receiver: &mpsc::Receiver<(usize, PyResult<Run>)>, runs: usize) -> PyResult<Vec<Run>> {
    let mut done: Vec<(usize, Run)> = Vec::with_capacity(runs);
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok((turn, run)) => done.push((turn, run?)),
            Err(mpsc::RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals())?,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    done.sort_by_key(|(turn, _)| *turn);
    Ok(done.into_iter().map(|(_, run)| run).collect())
}

/// On a thread of its own: the caller's may belong to a runtime, and its randomness stays its own.
fn alone(spec: Spec) -> Result<Run, Error> {
    let slot = Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let run = simulate(spec);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        });
    });
    let ran = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    ran.unwrap_or_else(|| Err(Error::Consensus { problem: "the simulation died".into() }))
}

fn summary_dict<'py>(py: Python<'py>, run: &Run) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let reigns: Vec<_> =
        run.reigns.iter().map(|reign| reign_dict(py, run, reign)).collect::<PyResult<_>>()?;
    dict.set_item("reigns", reigns)?;
    let violations: Vec<_> =
        run.violations.iter().map(|v| (v.promise, v.at.as_secs_f64(), v.problem.clone())).collect();
    dict.set_item("violations", violations)?;
    dict.set_item("trace", format!("{:016x}", run.trace))?;
    dict.set_item("facts", run.facts)?;
    dict.set_item("messages", run.messages)?;
    dict.set_item("dropped", run.dropped)?;
    dict.set_item("faults", run.faults.clone())?;
    dict.set_item("writes", run.writes)?;
    dict.set_item("duration_s", run.duration.as_secs_f64())?;
    dict.set_item("healed_s", run.healed.map(|d| d.as_secs_f64()))?;
    dict.set_item("drained_s", run.drained.map(|d| d.as_secs_f64()))?;
    dict.set_item("tasks", verdict_dict(py, &run.verdict)?)?;
    Ok(dict)
}

fn reign_dict<'py>(py: Python<'py>, run: &Run, reign: &Reign) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let since = |end: Duration| reign.lost.map(|lost| end.saturating_sub(lost).as_secs_f64());
    dict.set_item("term", reign.term)?;
    dict.set_item("leader", &*reign.name)?;
    dict.set_item("cause", reign.cause.as_str())?;
    dict.set_item("at_s", reign.began.as_secs_f64())?;
    dict.set_item("duration_s", since(reign.began))?;
    dict.set_item("accepted_s", reign.accepted.and_then(since))?;
    let best = reign.best.and_then(|best| run.names.get(&best));
    dict.set_item("best", best.map(|name| &**name))?;
    dict.set_item("terms", reign.terms)?;
    Ok(dict)
}

pub(super) fn seconds(spec: &Bound<'_, PyMapping>, name: &str) -> PyResult<Duration> {
    let value: f64 = spec.get_item(name)?.extract()?;
    duration(spec.py(), name, value)
}

fn duration(py: Python<'_>, name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|e| {
        errors::raise(py, Error::config(name, format!("{value} is out of bounds: {e}")))
    })
}

fn spec_from(spec: &Bound<'_, PyMapping>) -> PyResult<Spec> {
    let py = spec.py();
    let loads = spec.get_item("loads")?.try_iter()?;
    let loads = loads.map(|load| loads_from(load?.cast::<PyMapping>()?));
    let script = spec.get_item("script")?.try_iter()?.map(|step| step_from(&step?));
    let failures = spec.get_item("failures")?;
    let failures = match failures.is_none() {
        true => None,
        false => Some(failures_from(failures.cast::<PyMapping>()?)?),
    };
    let bug: Option<String> = spec.get_item("bug")?.extract()?;
    let bug = bug.map(|name| Bug::parse(&name)).transpose().map_err(|e| errors::raise(py, e))?;
    let (least, most): (f64, f64) = spec.get_item("latency_s")?.extract()?;
    Ok(Spec {
        nodes: spec.get_item("nodes")?.extract()?,
        seed: spec.get_item("seed")?.extract()?,
        duration: seconds(spec, "seconds")?,
        config: config_from(Some(&spec.get_item("config")?))?,
        loads: loads.collect::<PyResult<_>>()?,
        latency: (duration(py, "latency_s", least)?, duration(py, "latency_s", most)?),
        writes: spec.get_item("writes_per_s")?.extract()?,
        reads: spec.get_item("reads_per_s")?.extract()?,
        script: script.collect::<PyResult<_>>()?,
        failures,
        workers: spec.get_item("workers")?.extract()?,
        work: work_from(spec)?,
        disk: spec.get_item("disk")?.extract()?,
        storage: spec.get_item("storage")?.extract()?,
        heal: spec.get_item("heal")?.extract()?,
        bug,
        stop_at_violation: spec.get_item("stop_at_violation")?.extract()?,
    })
}

/// What clients ask for, if they ask for anything.
fn work_from(spec: &Bound<'_, PyMapping>) -> PyResult<Option<Work>> {
    let per_s: f64 = spec.get_item("tasks_per_s")?.extract()?;
    let workers: usize = spec.get_item("workers")?.extract()?;
    let work = Work { per_s, mean: seconds(spec, "task_s")?, ..Work::default() };
    Ok((per_s > 0.0 || workers > 0).then_some(work))
}

fn loads_from(load: &Bound<'_, PyMapping>) -> PyResult<Loads> {
    let py = load.py();
    let number = |name: &str| load.get_item(name)?.extract::<f64>();
    let kind: String = load.get_item("kind")?.extract()?;
    let loads = match kind.as_str() {
        "noise" => {
            Loads::noise(number("mean")?, number("deviation")?, load.get_item("seed")?.extract()?)
        }
        "wandering" => {
            let spikes = Spikes {
                per_minute: number("spikes_per_minute")?,
                mean: seconds(load, "spike_s")?,
                depth: number("spike_depth")?,
            };
            let pull = seconds(load, "pull_s")?;
            let seed = load.get_item("seed")?.extract()?;
            Loads::wandering(number("level")?, number("deviation")?, pull, spikes, seed)
        }
        "claims" => Ok(Loads::Claims(number("score")?)),
        _ => return load_source(load).map(Loads::Given),
    };
    loads.map_err(|e| errors::raise(py, e))
}

fn failures_from(failures: &Bound<'_, PyMapping>) -> PyResult<Failures> {
    let py = failures.py();
    let kinds: Vec<String> = failures.get_item("kinds")?.extract()?;
    let kinds: Result<Vec<_>, Error> = kinds.iter().map(|kind| FailureKind::parse(kind)).collect();
    Ok(Failures {
        mtbf: seconds(failures, "mtbf_s")?,
        mttr: seconds(failures, "mttr_s")?,
        kinds: kinds.map_err(|e| errors::raise(py, e))?,
        spare_majority: failures.get_item("spare_majority")?.extract()?,
        seed: failures.get_item("seed")?.extract()?,
    })
}

fn who(name: String) -> Who {
    match name.as_str() {
        "leader" => Who::Leader,
        "best" => Who::Best,
        _ => Who::Named(name.into()),
    }
}

/// The node that is meant, or none.
fn maybe_given(arguments: &Bound<'_, PyAny>) -> PyResult<Option<Who>> {
    Ok(arguments.get_item(0)?.extract::<Option<String>>()?.map(who))
}

/// `(seconds, action, arguments)`, checked by `hustings.simulation`.
fn step_from(step: &Bound<'_, PyAny>) -> PyResult<Step> {
    let py = step.py();
    let (at, name, arguments): (f64, String, Bound<'_, PyAny>) = step.extract()?;
    let one = || arguments.get_item(0)?.extract::<String>().map(who);
    let maybe =
        |n: usize| Ok::<_, PyErr>(arguments.get_item(n)?.extract::<Option<String>>()?.map(who));
    let number = |n: usize| arguments.get_item(n)?.extract::<f64>();
    let none = LinkFault::default();
    let action = match name.as_str() {
        "kill" => Action::Kill(one()?),
        "restart" => Action::Restart(one()?),
        "freeze" => Action::Freeze(one()?),
        "resume" => Action::Resume(one()?),
        "isolate" => Action::Isolate(one()?),
        "partition" => {
            let groups: Vec<Vec<String>> = arguments.extract()?;
            let groups = groups.into_iter().map(|group| group.into_iter().map(who).collect());
            Action::Partition(groups.collect())
        }
        "cut" => Action::Link(maybe(0)?, maybe(1)?, LinkFault { cut: true, ..none }),
        "delay" => {
            let delay = duration(py, "delay", number(2)?)?;
            let jitter = duration(py, "jitter", number(3)?)?;
            Action::Link(maybe(0)?, maybe(1)?, LinkFault { delay, jitter, ..none })
        }
        "drop" => Action::Link(maybe(0)?, maybe(1)?, LinkFault { drop_ratio: number(2)?, ..none }),
        "clock_rate" => Action::ClockRate(one()?, number(1)?),
        "handover" => Action::Handover(maybe(0)?),
        "unseat" => Action::Unseat(one()?),
        "seat" => Action::Seat(one()?),
        "power_cut" => Action::PowerCut(maybe_given(&arguments)?),
        "rot" => Action::Rot(one()?),
        "full" => Action::Full(one()?),
        "sync_error" => Action::SyncError(one()?),
        "slow_disk" => Action::SlowDisk(one()?, duration(py, "slow_disk", number(1)?)?),
        "heal" => Action::Heal,
        other => {
            let error = Error::config("script", format!("{other:?} is no action"));
            return Err(errors::raise(py, error));
        }
    };
    Ok(Step { at: duration(py, "script", at)?, action })
}
