//! What is left when a majority of the voters is lost for ever, as the command line asks for it.

use super::errors;
use crate::core::ids::ClusterId;
use crate::error::{Error, Result};
use crate::node::storage::alone::{self, Survivor};
use crate::node::storage::disk::Disk;
use crate::node::storage::folder::Folder;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

/// Cluster, node, term and index of the last entry, and the voters (name, address), this node's own first.
type Told = (String, String, u64, u64, Vec<(String, String)>);

/// Makes the voter of a stopped node's directory the only one; without the cluster's id it only tells what is there.
#[pyfunction]
#[pyo3(signature = (data_dir, cluster=None))]
pub(super) fn force_new_cluster(
    py: Python<'_>,
    data_dir: PathBuf,
    cluster: Option<&str>,
) -> PyResult<Told> {
    let disk = Arc::new(Folder::new(&data_dir)) as Arc<dyn Disk>;
    let done = py.detach(|| match cluster {
        Some(text) => alone::force(&disk, parse(text)?),
        None => alone::examine(&disk),
    });
    done.map(told).map_err(|error| errors::raise(py, error))
}

fn parse(text: &str) -> Result<ClusterId> {
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    id.map(ClusterId).ok_or_else(|| {
        let problem = format!("{text:?} is no id of a cluster; give its 32 hexadecimal digits");
        Error::config("cluster", problem)
    })
}

fn told(survivor: Survivor) -> Told {
    let Survivor { cluster, node, term, last, voters } = survivor;
    let mut voters: Vec<_> = voters.into_iter().collect();
    voters.sort_by_key(|(id, voter)| (*id != node, voter.name.clone()));
    let voters = voters.into_iter().map(|(_, voter)| (voter.name, voter.address)).collect();
    (cluster.to_string(), node.to_string(), term, last, voters)
}
