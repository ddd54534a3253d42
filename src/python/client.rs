//! The client, as Python sees it: arguments in, dicts and futures out.

use super::arguments::{
    function_source, parse_claim, parse_codec, parse_hash, parse_id, parse_needs, parse_node,
    parse_trace,
};
use super::errors;
use super::faults::{self, Link};
use super::future::Future;
use super::records::{explanation_dict, record_dicts, status_dict, task_dict};
use super::runtime::{self, Live, Resident, parse_seconds, process};
use crate::core::cluster::command::{Codec, Terms};
use crate::core::ids::TaskId;
use crate::core::load::Position;
use crate::error::Error;
use crate::node::client::words;
use crate::node::client::{self, ClientOptions, Handle, INLINE, Submitted, TaskRequest};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long `Future.cancel` looks for somebody who can cancel.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// The native client with what its futures need to know.
pub(super) struct Home {
    pub client: Resident<client::Client>,
    pub allow_pickle: bool,
}

impl Live for Home {
    fn end(self: Arc<Self>) -> Pin<Box<dyn std::future::Future<Output = ()> + Send>> {
        Box::pin(async move { self.client.close().await })
    }
}

/// A connection to a cluster: follows the leader, reconnects, resubmits and resubscribes by itself.
#[pyclass(frozen, weakref, module = "hustings._core")]
pub(super) struct Client {
    home: Arc<Home>,
}

impl Client {
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.home.client.check(py, "client")
    }

    /// Asks something of the cluster and waits, interruptibly.
    fn ask<T: Send + 'static, A>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(Arc<Home>) -> A,
    ) -> PyResult<T>
    where
        A: std::future::Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.check(py)?;
        process(py)?.block_on(py, question(self.home.clone()))
    }

    fn refuse_pickle(&self, py: Python<'_>) -> PyResult<()> {
        if self.home.allow_pickle {
            return Ok(());
        }
        let remedy = "this client does not allow it; connect with allow_pickle=True, or use importable functions and \
                      JSON arguments";
        Err(errors::raise(
            py,
            Error::CodecRefused { codec: "pickle".into(), remedy: remedy.into() },
        ))
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (addresses, *, allow_pickle=false, timeout=10.0, pinned=false, watch=true,
                        tls=None))]
    fn new(
        py: Python<'_>,
        addresses: Vec<String>,
        allow_pickle: bool,
        timeout: f64,
        pinned: bool,
        watch: bool,
        tls: Option<std::path::PathBuf>,
    ) -> PyResult<Self> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let process = process(py)?;
        let options = ClientOptions { pinned, timeout, watch, tls };
        let client = process
            .block_on(py, async move { client::Client::connect(&addresses, options).await })?;
        let client = Resident::new(client);
        let home = Arc::new(Home { client, allow_pickle });
        let live: Arc<dyn Live> = home.clone();
        process.register(Arc::downgrade(&live));
        Ok(Client { home })
    }

    /// The hash under which tasks may name this function.
    #[pyo3(signature = (name, reference=None, pickled=None))]
    fn function<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        reference: Option<String>,
        pickled: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.check(py)?;
        if pickled.is_some() {
            self.refuse_pickle(py)?;
        }
        let source = function_source(py, reference, pickled)?;
        let hash = self.home.client.function(name, source);
        Ok(PyBytes::new(py, &hash.map_err(|error| errors::raise(py, error))?.to_bytes()))
    }

    /// Queues a task and returns at once; a refusal arrives as the future's exception.
    #[pyo3(signature = (name, hash, codec, payload, *, retries=0, timeout_ms=0, backoff_ms=0,
                        priority=5, task_id=None, delay_ms=0, queue_timeout_ms=0, deadline_ms=0,
                        key=None, on_duplicate="join", slots=1, labels=None, resources=None,
                        idempotent=false, in_thread=false, traceparent=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn submit(
        &self,
        py: Python<'_>,
        name: &str,
        hash: Option<&[u8]>,
        codec: &str,
        payload: Bound<'_, PyBytes>,
        retries: u32,
        timeout_ms: u64,
        backoff_ms: u64,
        priority: u8,
        task_id: Option<&[u8]>,
        delay_ms: u64,
        queue_timeout_ms: u64,
        deadline_ms: u64,
        key: Option<&str>,
        on_duplicate: &str,
        slots: u32,
        labels: Option<BTreeMap<String, String>>,
        resources: Option<BTreeMap<String, f64>>,
        idempotent: bool,
        in_thread: bool,
        traceparent: Option<&str>,
    ) -> PyResult<Future> {
        self.check(py)?;
        let codec = parse_codec(py, codec)?;
        if codec == Codec::Pickle {
            self.refuse_pickle(py)?;
        }
        let hash = hash.map(|bytes| parse_hash(py, bytes)).transpose()?;
        let (payload, blob) = match payload.as_bytes().len() > INLINE {
            true => {
                // Not copied: the object of Python's lives until it is sent.
                let payload: Bytes = payload.extract()?;
                let put = |home: Arc<Home>| async move { home.client.put_blob(payload).await };
                (Bytes::new(), Some(self.ask(py, put)?))
            }
            false => (Bytes::copy_from_slice(payload.as_bytes()), None),
        };
        let request = TaskRequest {
            name: name.into(),
            hash,
            codec,
            payload,
            blob,
            retries,
            timeout_ms,
            backoff_ms,
            priority,
            terms: Terms { delay_ms, queue_timeout_ms, deadline_ms },
            claim: key.map(|key| parse_claim(py, key, on_duplicate)).transpose()?,
            needs: parse_needs(py, slots, labels, resources)?,
            idempotent,
            in_thread,
            trace: traceparent.map(|text| parse_trace(py, text)).transpose()?,
        };
        let id = task_id.map(|bytes| parse_id(py, bytes)).transpose()?;
        let handle = self.queue(py, request, id)?;
        Ok(Future::new(handle, self.home.clone(), key))
    }

    /// A handle on a task submitted earlier, by anybody.
    fn future(&self, py: Python<'_>, task_id: &[u8]) -> PyResult<Future> {
        self.check(py)?;
        let handle = self.home.client.future(parse_id(py, task_id)?);
        let handle = handle.map_err(|error| errors::raise(py, error))?;
        Ok(Future::new(handle, self.home.clone(), None))
    }

    /// Why a task is where it is, and what happened to it so far.
    #[pyo3(signature = (task_id, timeout=5.0))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        task_id: &[u8],
        timeout: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (id, timeout) = (parse_id(py, task_id)?, parse_seconds(py, "timeout", timeout)?);
        let told = self.ask(py, |home| async move { home.client.explain(id, timeout).await })?;
        explanation_dict(py, &told)
    }

    #[pyo3(signature = (task_ids, kill=false, timeout=10.0))]
    fn cancel<'py>(
        &self,
        py: Python<'py>,
        task_ids: Vec<Vec<u8>>,
        kill: bool,
        timeout: f64,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let ids: Vec<TaskId> =
            task_ids.iter().map(|bytes| parse_id(py, bytes)).collect::<PyResult<_>>()?;
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let cancelled =
            self.ask(py, |home| async move { home.client.cancel(&ids, kill, timeout).await })?;
        Ok(cancelled.iter().map(|id| PyBytes::new(py, &id.to_bytes())).collect())
    }

    /// The view of the node at `address`, or of the leader (or any node, if none leads).
    #[pyo3(signature = (address=None, timeout=5.0))]
    fn status<'py>(
        &self,
        py: Python<'py>,
        address: Option<String>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let status = self
            .ask(py, |home| async move { home.client.status(address.as_deref(), timeout).await })?;
        status_dict(py, &status)
    }

    #[pyo3(signature = (state=None, limit=1000, timeout=5.0))]
    fn tasks<'py>(
        &self,
        py: Python<'py>,
        state: Option<&str>,
        limit: u32,
        timeout: f64,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let wanted = state.map(words::state).transpose().map_err(|e| errors::raise(py, e))?;
        let listed =
            self.ask(py, |home| async move { home.client.tasks(wanted, limit, timeout).await })?;
        listed.tasks.iter().map(|task| task_dict(py, task)).collect()
    }

    #[pyo3(signature = (address, grace=30.0))]
    fn drain_node(&self, py: Python<'_>, address: String, grace: f64) -> PyResult<u32> {
        let grace = parse_seconds(py, "grace", grace)?;
        self.ask(py, |home| async move { home.client.drain(&address, grace).await })
    }

    #[pyo3(signature = (to=None, timeout=5.0))]
    fn handover(&self, py: Python<'_>, to: Option<&str>, timeout: f64) -> PyResult<String> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let to = to.map(|text| parse_node(py, "to", text)).transpose()?;
        let node = self.ask(py, |home| async move { home.client.handover(to, timeout).await })?;
        Ok(node.to_string())
    }

    /// Removes a member by its id; returns what is odd about the group that is left.
    #[pyo3(signature = (node, *, check_only=false, timeout=10.0))]
    fn remove_member(
        &self,
        py: Python<'_>,
        node: &str,
        check_only: bool,
        timeout: f64,
    ) -> PyResult<String> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let node = parse_node(py, "node", node)?;
        self.ask(
            py,
            |home| async move { home.client.remove_member(node, check_only, timeout).await },
        )
    }

    /// Says where a member, by its id, stands from now on; returns once that is committed.
    #[pyo3(signature = (node, position, timeout=10.0))]
    fn move_member(
        &self,
        py: Python<'_>,
        node: &str,
        position: (f64, f64),
        timeout: f64,
    ) -> PyResult<()> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let node = parse_node(py, "node", node)?;
        let position = Position { x: position.0, y: position.1 };
        self.ask(py, |home| async move { home.client.move_member(node, position, timeout).await })
    }

    /// Makes and mends faults at the node at `address`, which must be one end of each link.
    #[pyo3(signature = (address, links=vec![], *, heal=false, clock_rate=None, quiet=false, note="", timeout=2.0))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn inject_faults(
        &self,
        py: Python<'_>,
        address: String,
        links: Vec<Link>,
        heal: bool,
        clock_rate: Option<f64>,
        quiet: bool,
        note: &str,
        timeout: f64,
    ) -> PyResult<()> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let mut request = faults::request(py, links)?;
        (request.heal, request.clock_rate) = (heal, clock_rate);
        (request.quiet, request.note) = (quiet, note.to_owned());
        self.ask(
            py,
            |home| async move { home.client.inject_faults(&address, request, timeout).await },
        )
    }

    /// Records of all nodes as received so far, from position `after`; returns the next position and the rows.
    #[pyo3(signature = (after=0, limit=100_000, condensed=false))]
    fn records<'py>(
        &self,
        py: Python<'py>,
        after: u64,
        limit: usize,
        condensed: bool,
    ) -> PyResult<(u64, Vec<Bound<'py, PyDict>>)> {
        self.check(py)?;
        let (next, rows) = self.home.client.records(after, limit);
        Ok((next, record_dicts(py, &rows, condensed)?))
    }

    /// Blocks until a node leads with its quorum's lease; returns that node's status.
    fn wait_leader<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyDict>> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        let status = self.ask(py, |home| async move { home.client.wait_leader(timeout).await })?;
        status_dict(py, &status)
    }

    /// `wait_leader` for a coroutine: an awaitable of the same status.
    fn wait_leader_async<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let timeout = parse_seconds(py, "timeout", timeout)?;
        self.check(py)?;
        let home = self.home.clone();
        let wait = async move { home.client.wait_leader(timeout).await };
        process(py)?.awaitable(py, wait, |py, status| Ok(status_dict(py, &status)?.unbind().into()))
    }

    /// Futures of this client that have no outcome yet.
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        self.check(py)?;
        Ok(self.home.client.pending())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check(py)?;
        // After `shutdown` the client is closed already.
        let Ok(process) = process(py) else { return Ok(()) };
        let home = self.home.clone();
        process.block(py, async move { home.client.close().await })
    }

    #[getter]
    fn connected_to(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.check(py)?;
        Ok(self.home.client.connected_to())
    }

    #[getter]
    fn addresses(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.check(py)?;
        Ok(self.home.client.addresses())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.check(py)?;
        let where_to = self.home.client.connected_to();
        let where_to = where_to.map_or_else(|| "not connected".into(), |a| format!("at {a}"));
        Ok(format!("<Client {where_to}, {} pending>", self.home.client.pending()))
    }
}

impl Client {
    fn queue(
        &self,
        py: Python<'_>,
        mut request: TaskRequest,
        id: Option<TaskId>,
    ) -> PyResult<Arc<Handle>> {
        loop {
            let submitted = self.home.client.try_submit(request, id);
            match submitted.map_err(|error| errors::raise(py, error))? {
                Submitted::Queued(handle) => return Ok(handle),
                Submitted::Full(back) => request = back,
            }
            py.detach(|| self.home.client.wait_room(runtime::SLICE));
            py.check_signals()?;
        }
    }
}
