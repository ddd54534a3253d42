//! A fault call out of Python's arguments.

use super::arguments::parse_node;
use crate::node::client::messages::{InjectFaultsRequest, LinkFault};
use pyo3::prelude::*;

/// `(source, target, cut, drop, delay_s, jitter_s)`.
pub(super) type Link = (String, String, bool, f64, f64, f64);

/// The links of a call; bounds are the node's to check.
pub(super) fn request(py: Python<'_>, links: Vec<Link>) -> PyResult<InjectFaultsRequest> {
    let link = |(source, target, cut, drop_ratio, delay_s, jitter_s): Link| {
        Ok(LinkFault {
            from_node: parse_node(py, "source", &source)?.0,
            to_node: parse_node(py, "target", &target)?.0,
            cut,
            drop_ratio,
            delay_s,
            jitter_s,
        })
    };
    let links = links.into_iter().map(link).collect::<PyResult<_>>()?;
    Ok(InjectFaultsRequest { links, ..Default::default() })
}
