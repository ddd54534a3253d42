//! What a node is made of.

use super::execution::seat::Threads;
use super::http;
use super::sampler::LoadSource;
use super::storage::disk::Disk;
use crate::config::Config;
use crate::core::load::Position;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a node is made of.
pub struct NodeOptions {
    /// For people; unique in the cluster.
    pub name: String,
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// `host:port` under which others reach it, if that is not where it listens.
    pub advertise: Option<String>,
    /// A listener for clients alone; `None`: they share that of the nodes.
    pub clients: Option<ClientDoor>,
    /// The folder with its certificate: all its connections are inside TLS; `None`: in the clear, on loopback only.
    pub tls: Option<PathBuf>,
    /// Where it admits nodes that have a token, and the folder of the authority.
    pub enrolment: Option<Enrolment>,
    /// Where it stands.
    pub position: Position,
    /// How many callbacks it runs at once.
    pub slots: u32,
    /// What it says of itself, for tasks to ask for.
    pub labels: BTreeMap<String, String>,
    /// What it offers besides slots, in thousandths.
    pub resources: BTreeMap<String, u64>,
    /// Whether pickled functions and payloads may run here.
    pub allow_pickle: bool,
    /// Who runs callbacks in threads of this process that may run there; `None`: they run like all others.
    pub threads: Option<Arc<dyn Threads>>,
    /// Whether it takes fault calls: never where its work matters.
    pub allow_faults: bool,
    /// What it says about its resources; `None`: it measures.
    pub load: Option<LoadSource>,
    /// The knobs.
    pub config: Config,
    /// May hold a voter's seat; a node that may not needs no log.
    pub may_vote: bool,
    /// Where its log, vote and snapshots are kept; `None`: in memory, gone when it stops.
    pub disk: Option<Arc<dyn Disk>>,
    /// The command that starts a runner.
    pub runner_argv: Vec<String>,
    /// What the runner's environment has besides this process' own.
    pub runner_env: Vec<(String, String)>,
    /// Where it can be looked at.
    pub endpoints: http::Endpoints,
    /// Which collector is sent the spans of traced tasks; `None`: the one of the environment, if that names one.
    pub otlp: Option<String>,
}

/// Where clients come in that have a listener of their own.
#[derive(Clone, Debug)]
pub struct ClientDoor {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// `host:port` under which clients reach it, if that is not where it listens.
    pub advertise: Option<String>,
}

/// How a node admits others that have a token and no certificate yet.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// `host:port` of the listener for it.
    pub listen: String,
    /// The authority's folder, with its key.
    pub authority: PathBuf,
}

impl From<(String, PathBuf)> for Enrolment {
    fn from((listen, authority): (String, PathBuf)) -> Self {
        Enrolment { listen, authority }
    }
}
