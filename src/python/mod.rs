//! **Speaks.** pyo3: converts and forwards, nothing else.

mod arguments;
mod awaitable;
mod certs;
mod client;
mod completion;
mod config;
mod errors;
mod faults;
mod future;
mod logs;
mod node;
mod outcome;
mod outlet;
mod records;
mod recovery;
mod resolver;
mod runner;
mod runtime;
mod safe;
mod shop;
mod simulation;
mod stream;
mod task_history;
mod threads;

use pyo3::prelude::*;

/// The native classes of hustings; `_core.pyi` is their reference.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::arguments::check_traceparent;
    #[pymodule_export]
    use super::certs::{certs_enrol, certs_init, certs_issue, certs_read, certs_token};
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::completion::CompletionQueue;
    #[pymodule_export]
    use super::config::{knobs, resolve_config};
    #[pymodule_export]
    use super::future::Future;
    #[pymodule_export]
    use super::node::Node;
    #[pymodule_export]
    use super::outcome::set_codec_hooks;
    #[pymodule_export]
    use super::recovery::force_new_cluster;
    #[pymodule_export]
    use super::resolver::_drain;
    #[pymodule_export]
    use super::runner::run_runner;
    #[pymodule_export]
    use super::safe::{safe_dumps, safe_dumps_call, safe_loads};
    #[pymodule_export]
    use super::shop::run_shop;
    #[pymodule_export]
    use super::simulation::{run_simulation, run_sweep};
    #[pymodule_export]
    use super::stream::ItemReader;
    #[pymodule_export]
    use super::task_history::check_history;
    #[pymodule_export]
    use super::{on_fork_child, shutdown};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::runtime::watch_forks();
        module.add("VIEW_MODULE", crate::node::http::MODULE)?;
        module.add("VIEW_STYLE", crate::node::http::STYLE)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Marks every live object as unusable in a forked child. Registered with `os.register_at_fork`.
#[pyfunction]
fn on_fork_child() {
    runtime::forget_parent();
}

/// Stops all nodes, clients and threads of this process. Registered with `atexit`; safe to call twice.
#[pyfunction]
fn shutdown(py: Python<'_>) {
    runtime::shut_down(py);
}
