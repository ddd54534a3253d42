//! The node, as Python sees it: arguments in, dicts out.

use super::arguments::{function_source, parse_resources};
use super::config::config_from;
use super::errors;
use super::records::{record_dicts, status_dict, task_dict};
use super::runtime::{Live, Resident, check_fork, generation, parse_seconds, process};
use super::threads::NodeThreads;
use crate::core::load::{Load, Position};
use crate::error::Error;
use crate::node::client::words;
use crate::node::http::{Endpoint, Endpoints};
use crate::node::sampler::LoadSource;
use crate::node::storage::disk::Disk;
use crate::node::storage::folder::Folder;
use crate::node::{self, ClientDoor, Enrolment, Entry, NodeOptions};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// A node: election, scheduling and runners, all native. See `hustings.Node` for the documented face.
#[pyclass(frozen, weakref, module = "hustings._core")]
pub(super) struct Node {
    name: String,
    generation: u32,
    /// Taken by `bind`.
    options: Mutex<Option<NodeOptions>>,
    /// What was registered before `bind`.
    early: Mutex<Vec<(String, crate::core::cluster::command::FunctionSource)>>,
    running: OnceLock<Arc<Running>>,
}

/// The native node.
struct Running {
    node: Resident<Arc<node::Node>>,
}

impl Live for Running {
    fn end(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.node.abort() })
    }
}

impl Node {
    fn running(&self, py: Python<'_>) -> PyResult<&Arc<Running>> {
        check_fork(py, self.generation, "node")?;
        self.running.get().ok_or_else(|| {
            errors::raise(py, Error::NotStarted { what: format!("node {}", self.name) })
        })
    }
}

impl Node {
    fn of(name: String, options: NodeOptions) -> Self {
        let (generation, options) = (generation(), Mutex::new(Some(options)));
        Node { name, generation, options, early: Mutex::default(), running: OnceLock::new() }
    }
}

#[pymethods]
impl Node {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "one per keyword")]
    #[pyo3(signature = (*, name, listen="127.0.0.1:0", advertise=None,
                        clients=None,
                        position=(0.0, 0.0), slots=1, labels=None,
                        resources=None, allow_pickle=false, allow_threads=false,
                        allow_faults=false, load=None, config=None, may_vote=true, data_dir=None,
                        runner_argv=vec![], runner_env=None, metrics=None,
                        http=None, http_tls=None, tls=None, enrolment=None, otlp=None))]
    fn new(
        py: Python<'_>,
        name: String,
        listen: &str,
        advertise: Option<String>,
        clients: Option<(String, Option<String>)>,
        position: (f64, f64),
        slots: i64,
        labels: Option<BTreeMap<String, String>>,
        resources: Option<BTreeMap<String, f64>>,
        allow_pickle: bool,
        allow_threads: bool,
        allow_faults: bool,
        load: Option<&Bound<'_, PyMapping>>,
        config: Option<&Bound<'_, PyAny>>,
        may_vote: bool,
        data_dir: Option<PathBuf>,
        runner_argv: Vec<String>,
        runner_env: Option<BTreeMap<String, String>>,
        metrics: Option<(String, bool)>,
        http: Option<(String, bool)>,
        http_tls: Option<PathBuf>,
        tls: Option<PathBuf>,
        enrolment: Option<(String, PathBuf)>,
        otlp: Option<String>,
    ) -> PyResult<Self> {
        let config = config_from(config)?;
        let threads = allow_threads.then(|| NodeThreads::shared(&name, &config, allow_pickle));
        let options = NodeOptions {
            name: name.clone(),
            listen: listen.to_owned(),
            advertise,
            clients: clients.map(|(listen, advertise)| ClientDoor { listen, advertise }),
            tls,
            enrolment: enrolment.map(Enrolment::from),
            position: Position { x: position.0, y: position.1 },
            slots: parse_slots(py, slots)?,
            labels: labels.unwrap_or_default(),
            resources: parse_resources(py, resources.unwrap_or_default())?,
            allow_pickle,
            threads,
            allow_faults,
            load: load.map(load_source).transpose()?,
            config,
            may_vote,
            disk: data_dir.map(|path| Arc::new(Folder::new(&path)) as Arc<dyn Disk>),
            runner_argv,
            runner_env: runner_env.unwrap_or_default().into_iter().collect(),
            endpoints: Endpoints {
                metrics: metrics.map(Endpoint::from),
                page: http.map(Endpoint::from),
                page_tls: http_tls,
            },
            otlp,
        };
        Ok(Node::of(name, options))
    }

    /// Makes a function known to this node; told to the cluster when it joins.
    #[pyo3(signature = (name, reference=None, pickled=None))]
    fn register(
        &self,
        py: Python<'_>,
        name: String,
        reference: Option<String>,
        pickled: Option<&[u8]>,
    ) -> PyResult<()> {
        check_fork(py, self.generation, "node")?;
        let source = function_source(py, reference, pickled)?;
        match self.running.get() {
            Some(running) => {
                running.node.register(name, source).map_err(|error| errors::raise(py, error))
            }
            None => {
                crate::node::client::lock(&self.early).push((name, source));
                Ok(())
            }
        }
    }

    /// Starts to listen and returns the address.
    fn bind(&self, py: Python<'_>) -> PyResult<String> {
        check_fork(py, self.generation, "node")?;
        let Some(options) = crate::node::client::lock(&self.options).take() else {
            let what = format!("node {} was started before and", self.name);
            return Err(errors::raise(py, Error::Stopped { what }));
        };
        let process = process(py)?;
        let node = process.block_on(py, node::Node::bind(options))?;
        for (name, source) in std::mem::take(&mut *crate::node::client::lock(&self.early)) {
            node.register(name, source).map_err(|error| errors::raise(py, error))?;
        }
        let address = node.address().to_owned();
        let running = Arc::new(Running { node: Resident::new(node) });
        let live: Arc<dyn Live> = running.clone();
        process.register(Arc::downgrade(&live));
        // The options could be taken only once, so nobody else has been here.
        let _ = self.running.set(running);
        Ok(address)
    }

    /// Founds a cluster with `founders`, or joins one through `join`; returns at once.
    #[pyo3(signature = (*, founders=vec![], join=vec![], voter=false))]
    fn enter(
        &self,
        py: Python<'_>,
        founders: Vec<String>,
        join: Vec<String>,
        voter: bool,
    ) -> PyResult<()> {
        let entry = Entry { founders, join, voter };
        self.running(py)?.node.enter(entry).map_err(|error| errors::raise(py, error))
    }

    /// Blocks until this node is a member and knows a leader.
    fn wait_ready(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let running = self.running(py)?.clone();
        process(py)?.block_on(py, async move { running.node.wait_ready(timeout).await })
    }

    /// `wait_ready` for a coroutine.
    fn wait_ready_async<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let running = self.running(py)?.clone();
        let wait = async move { running.node.wait_ready(timeout).await };
        process(py)?.awaitable(py, wait, |py, ()| Ok(py.None()))
    }

    /// Hands over, hands back, finishes up to `grace` seconds. True if nothing was cut off.
    #[pyo3(signature = (grace=30.0))]
    fn stop(&self, py: Python<'_>, grace: f64) -> PyResult<bool> {
        let grace = parse_seconds(py, "grace", grace)?;
        let running = self.running(py)?.clone();
        process(py)?.block(py, async move { running.node.stop(grace).await })
    }

    /// `stop` for a coroutine. Cancelled, it leaves the node half stopped: `abort` it.
    #[pyo3(signature = (grace=30.0))]
    fn stop_async<'py>(&self, py: Python<'py>, grace: f64) -> PyResult<Bound<'py, PyAny>> {
        let grace = parse_seconds(py, "grace", grace)?;
        let running = self.running(py)?.clone();
        let stop = async move { Ok(running.node.stop(grace).await) };
        process(py)?.awaitable(py, stop, |py, whole| whole.into_py_any(py))
    }

    /// Ends at once without a goodbye, as a crash would, and kills its runners.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running(py)?;
        py.detach(|| running.node.abort());
        Ok(())
    }

    /// Stops all of it, runners excepted, as SIGSTOP would stop a process.
    fn freeze(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running(py)?;
        py.detach(|| running.node.freeze()).map_err(|error| errors::raise(py, error))
    }

    /// Lets a frozen node go on.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py)?.node.resume();
        Ok(())
    }

    /// Hands leadership and unstarted work over and finishes running work; the node stays up, idle.
    fn drain(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let running = self.running(py)?.clone();
        process(py)?.block_on(py, async move { running.node.drain(timeout).await })
    }

    /// This node's own view; same shape as `Client.status`.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let running = self.running(py)?.clone();
        let status = process(py)?.block_on(py, async move { running.node.status().await })?;
        status_dict(py, &status)
    }

    /// Tasks as this node knows them.
    #[pyo3(signature = (state=None, limit=1000))]
    fn tasks<'py>(
        &self,
        py: Python<'py>,
        state: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let running = self.running(py)?.clone();
        let state = state.map(words::state).transpose().map_err(|e| errors::raise(py, e))?;
        let ask = async move { running.node.tasks(state, limit).await };
        process(py)?.block_on(py, ask)?.tasks.iter().map(|task| task_dict(py, task)).collect()
    }

    /// This node's records after `after_seq`.
    #[pyo3(signature = (after_seq=0))]
    fn records<'py>(&self, py: Python<'py>, after_seq: u64) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let rows = self.running(py)?.node.records_after(after_seq);
        record_dicts(py, &rows, false)
    }

    /// Writes a zero byte to `descriptor`, a pipe, when the node ends by itself.
    fn notify_failure(&self, py: Python<'_>, descriptor: i32) -> PyResult<()> {
        if descriptor < 0 {
            let problem = format!("{descriptor} is not an open file descriptor");
            return Err(errors::raise(py, Error::config("descriptor", problem)));
        }
        // SAFETY: it is only borrowed to be duplicated; a closed one makes that fail.
        let owned = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
        self.running(py)?.node.on_failure(move || {
            // Nobody reads: then nobody wants to know.
            let _ = File::from(owned).write_all(&[0]);
        });
        Ok(())
    }

    /// The error by which it ended by itself.
    #[getter]
    fn failure(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        let error = self.running.get()?.node.failure()?.clone();
        Some(errors::raise(py, error).into_value(py))
    }

    /// Whether it has a log with voters in it: after `bind`, whether it came back with its data.
    #[getter]
    fn founded(&self) -> bool {
        self.running.get().is_some_and(|running| running.node.is_founded())
    }

    #[getter]
    fn address(&self) -> Option<String> {
        self.running.get().map(|running| running.node.address().to_owned())
    }

    /// Where clients reach it.
    #[getter]
    fn client_address(&self) -> Option<String> {
        self.running.get().map(|running| running.node.client_address().to_owned())
    }

    /// Where Prometheus reads its metrics; `None`: nowhere.
    #[getter]
    fn metrics_address(&self) -> Option<String> {
        self.running.get()?.node.served().metrics.clone()
    }

    /// Where its page is; `None`: nowhere.
    #[getter]
    fn http_address(&self) -> Option<String> {
        self.running.get()?.node.served().page.clone()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn id(&self) -> String {
        self.running.get().map(|running| running.node.id().to_string()).unwrap_or_default()
    }

    fn __repr__(&self) -> String {
        let place = match self.running.get() {
            None => "not started".to_owned(),
            Some(running) if running.node.is_stopped() => "stopped".to_owned(),
            Some(running) => running.node.address().to_owned(),
        };
        format!("<hustings._core.Node {} {place}>", self.name)
    }
}

/// What `load=` describes: `{"kind": "measured", "own_process": ...}`, `{"kind": "constant", ...}` or
/// `{"kind": "trace", "times": [...], "values": [...]}` with one CPU availability per time, and perhaps one of memory
/// (`"memories"`).
pub(super) fn load_source(load: &Bound<'_, PyMapping>) -> PyResult<LoadSource> {
    let py = load.py();
    let kind: String = load.get_item("kind")?.extract()?;
    let source = match kind.as_str() {
        "measured" => {
            let own_process = load.get_item("own_process")?.extract()?;
            Ok(LoadSource::measured(Duration::ZERO, own_process))
        }
        "constant" => LoadSource::constant(one_load(load)?),
        "trace" => {
            let times_s: Vec<f64> = load.get_item("times")?.extract()?;
            let values: Vec<f64> = load.get_item("values")?.extract()?;
            let at_rest = one_load(load)?;
            let memories: Vec<f64> = match load.contains("memories")? {
                true => load.get_item("memories")?.extract()?,
                false => vec![at_rest.memory_available; values.len()],
            };
            if memories.len() != values.len() {
                let problem = format!("{} entries for {} values", memories.len(), values.len());
                return Err(errors::raise(py, Error::config("load.memories", problem)));
            }
            let points = values.into_iter().zip(memories);
            let loads = points.map(|(cpu_available, memory_available)| Load {
                cpu_available,
                memory_available,
                cpu_percent: 100.0 * (1.0 - cpu_available),
                ..at_rest
            });
            LoadSource::trace(times_s, loads.collect(), true)
        }
        other => {
            let kinds = "\"measured\", \"constant\" or \"trace\"";
            Err(Error::config("load.kind", format!("{other:?} is not {kinds}")))
        }
    };
    source.map_err(|error| errors::raise(py, error))
}

fn one_load(load: &Bound<'_, PyMapping>) -> PyResult<Load> {
    let number =
        |name: &str, default: f64| Ok::<f64, PyErr>(optional(load, name)?.unwrap_or(default));
    let cpu_available = number("cpu", 1.0)?;
    Ok(Load {
        cpu_available,
        memory_available: number("memory", 1.0)?,
        uptime_s: number("uptime_s", 0.0)?,
        cpu_percent: number("cpu_percent", 100.0 * (1.0 - cpu_available))?,
        available_mb: number("available_mb", 0.0)?,
        synthetic: true,
        tasks_cpu: 0.0,
    })
}

fn optional(load: &Bound<'_, PyMapping>, name: &str) -> PyResult<Option<f64>> {
    if !load.contains(name)? {
        return Ok(None);
    }
    load.get_item(name)?.extract::<Option<f64>>()
}

fn parse_slots(py: Python<'_>, slots: i64) -> PyResult<u32> {
    u32::try_from(slots).map_err(|_| {
        let problem = format!("{slots} is out of bounds; it must lie in [1, 4096]");
        errors::raise(py, Error::config("slots", problem))
    })
}
