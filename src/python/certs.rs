//! The authority and its certificates, as the command line asks for them.

use super::errors;
use super::runtime::process;
use crate::error::{Error, Result};
use crate::node::security::authority::{Authority, Subject, hex};
use crate::node::security::{Identity, Role, Tls, tokens};
use crate::node::transport::enrolling;
use pyo3::prelude::*;
use std::path::PathBuf;

fn told<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| errors::raise(py, error))
}

/// Makes an authority; returns the id of its cluster and its fingerprint.
#[pyfunction]
pub(super) fn certs_init(py: Python<'_>, folder: PathBuf) -> PyResult<(String, String)> {
    told(py, || {
        let made = Authority::create(&folder)?;
        Ok((made.cluster().to_owned(), hex(&made.fingerprint())))
    })
}

/// Issues a certificate into `out`; returns the identity in it.
#[pyfunction]
pub(super) fn certs_issue(
    py: Python<'_>,
    authority: PathBuf,
    out: PathBuf,
    role: &str,
    name: &str,
    hosts: Vec<String>,
    days: u64,
) -> PyResult<String> {
    told(py, || {
        let known = Role::parse(role);
        let role = known.ok_or_else(|| Error::config("role", format!("{role:?} is none")))?;
        let subject = Subject::new(role, name, &hosts, days)?;
        Ok(Authority::open(&authority)?.issue(&subject, &out)?.uri())
    })
}

/// Makes a join token for a node of that name and addresses.
#[pyfunction]
pub(super) fn certs_token(
    py: Python<'_>,
    authority: PathBuf,
    name: &str,
    hosts: Vec<String>,
    days: u64,
) -> PyResult<String> {
    told(py, || {
        let subject = Subject::new(Role::Peer, name, &hosts, days)?;
        Ok(tokens::create(&Authority::open(&authority)?, &subject, tokens::LIFE)?.reveal())
    })
}

/// Cluster, role and name in the certificate of `folder`, which is checked as a node or client would.
#[pyfunction]
pub(super) fn certs_read(py: Python<'_>, folder: PathBuf) -> PyResult<(String, String, String)> {
    let Identity { cluster, role, name } =
        told(py, || Ok(Tls::open(&folder)?.current().me.clone()))?;
    Ok((cluster, role.as_str().to_owned(), name))
}

/// Gets a certificate for a token from the node at `address`; blocks for at most a minute.
#[pyfunction]
pub(super) fn certs_enrol(
    py: Python<'_>,
    address: String,
    token: String,
    out: PathBuf,
) -> PyResult<()> {
    process(py)?.block_on(py, async move { enrolling::enrol(&address, &token, &out).await })
}
