//! Who may call what: one table, and the gate that asks it before any service hears of a call. What is not in the table
//! nobody may call.

use crate::core::ids::NodeId;
use crate::error::Error;
use crate::node::security::{Identity, Role};
use futures::future::{Either, Ready, ready};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::task::futures::TaskLocalFuture;
use tonic::Status;
use tonic::codegen::{Service, http};
use tower_layer::Layer;

/// Who has opened a connection.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Somebody on this machine, where there is no TLS.
    Local,
    /// The holder of a certificate of this cluster.
    Known(Arc<Identity>),
    /// Somebody inside TLS without an identity.
    Nobody,
}

/// What a role may do with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing.
    Never,
    /// Pass it on for whoever called it.
    PassedOn,
    /// Call it.
    Always,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The call's path, without the leading slash.
    pub rpc: &'static str,
    /// By role: peer, client, admin.
    pub grants: [Grant; 3],
}

use Grant::{Always, Never, PassedOn};

/// Nodes speak to nodes.
const PEER: [Grant; 3] = [Always, Never, Never];
/// Scripts and operators, through any node: one that does not lead passes their calls on.
const SCRIPT: [Grant; 3] = [PassedOn, Always, Always];
/// The same, at the node itself.
const SCRIPT_HERE: [Grant; 3] = [Never, Always, Always];
/// Whoever belongs to the cluster.
const MEMBER: [Grant; 3] = [Always, Always, Always];
/// Operators, through any node.
const OPERATOR: [Grant; 3] = [PassedOn, Never, Always];
/// Operators, at the node itself.
const OPERATOR_HERE: [Grant; 3] = [Never, Never, Always];

const fn row(rpc: &'static str, grants: [Grant; 3]) -> Row {
    Row { rpc, grants }
}

/// All of it.
pub const TABLE: &[Row] = &[
    row("hustings.v1.PeerService/RequestVote", PEER),
    row("hustings.v1.PeerService/Poll", PEER),
    row("hustings.v1.PeerService/Append", PEER),
    row("hustings.v1.PeerService/InstallSnapshot", PEER),
    row("hustings.v1.PeerService/TransferLeader", PEER),
    row("hustings.v1.PeerService/Heartbeat", PEER),
    row("hustings.v1.PeerService/Tether", PEER),
    row("hustings.v1.PeerService/Meet", PEER),
    row("hustings.v1.PeerService/Join", PEER),
    row("hustings.v1.PeerService/AssignTask", PEER),
    row("hustings.v1.PeerService/WorkRequest", PEER),
    row("hustings.v1.BlobService/Put", MEMBER),
    row("hustings.v1.BlobService/Get", MEMBER),
    row("hustings.v1.ClientService/Submit", SCRIPT),
    row("hustings.v1.ClientService/Outcomes", SCRIPT),
    row("hustings.v1.ClientService/Pull", SCRIPT_HERE),
    row("hustings.v1.ClientService/Cancel", SCRIPT),
    row("hustings.v1.ClientService/Status", SCRIPT_HERE),
    row("hustings.v1.ClientService/ListTasks", SCRIPT),
    row("hustings.v1.ClientService/Explain", SCRIPT),
    row("hustings.v1.ClientService/Watch", SCRIPT_HERE),
    row("hustings.v1.ClientService/Drain", OPERATOR_HERE),
    row("hustings.v1.ClientService/Handover", OPERATOR),
    row("hustings.v1.ClientService/RemoveMember", OPERATOR),
    row("hustings.v1.ClientService/MoveMember", OPERATOR),
    row("hustings.v1.ClientService/InjectFaults", OPERATOR_HERE),
    row("grpc.health.v1.Health/Check", MEMBER),
    row("grpc.health.v1.Health/List", MEMBER),
    row("grpc.health.v1.Health/Watch", MEMBER),
    row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", OPERATOR_HERE),
];

/// Marks a call that was passed on once, with the node that did; it is not passed on again.
pub const FORWARDED: &str = "hustings-forwarded";

/// What the table says to a call.
pub fn granted(role: Role, rpc: &str, passed_on: bool) -> bool {
    let column = match role {
        Role::Peer => 0,
        Role::Client => 1,
        Role::Admin => 2,
    };
    match TABLE.iter().find(|row| row.rpc == rpc).map(|row| row.grants[column]) {
        Some(Always) => true,
        Some(PassedOn) => passed_on,
        Some(Never) | None => false,
    }
}

/// For whom a listener is.
#[derive(Clone, Debug)]
pub enum Entrance {
    /// For nodes and clients: the table parts them.
    Common,
    /// For nodes.
    Nodes {
        /// Where clients reach this node.
        clients: Arc<str>,
    },
    /// For clients and admins.
    Clients {
        /// Where nodes reach this one.
        nodes: Arc<str>,
    },
}

impl Entrance {
    /// Sends whoever came to the wrong listener to the right one. Inside TLS the role decides; without, what is called.
    fn check(&self, caller: &Caller, rpc: &str, passed_on: bool) -> Result<(), Status> {
        let (service, _) = rpc.split_once('/').unwrap_or((rpc, ""));
        // Both need these: whoever asks after a node's health, and whoever brings or fetches a large payload.
        let common = matches!(service, "grpc.health.v1.Health" | "hustings.v1.BlobService");
        let from_node = match caller {
            Caller::Known(them) => them.role == Role::Peer,
            Caller::Local if common => return Ok(()),
            Caller::Local => service == "hustings.v1.PeerService" || passed_on,
            Caller::Nobody => return Ok(()), // It is refused for that.
        };
        let problem = match self {
            Entrance::Nodes { clients } if !from_node => {
                format!("this listener is for nodes; clients reach this node at {clients}")
            }
            Entrance::Clients { nodes } if from_node => {
                format!("this listener is for clients; nodes reach this one at {nodes}")
            }
            _ => return Ok(()),
        };
        tracing::warn!("refused a call: {problem}");
        Err(Status::permission_denied(Error::Auth { problem }.to_string()))
    }
}

fn check<B>(
    caller: &Caller,
    entrance: &Entrance,
    request: &http::Request<B>,
) -> Result<(), Status> {
    let rpc = request.uri().path().trim_start_matches('/');
    let passed_on = request.headers().contains_key(FORWARDED);
    entrance.check(caller, rpc, passed_on)?;
    let them = match caller {
        Caller::Local => return Ok(()),
        Caller::Nobody => {
            let problem = "the certificate says neither cluster nor role".to_owned();
            return Err(Status::unauthenticated(Error::Auth { problem }.to_string()));
        }
        Caller::Known(them) => them,
    };
    // A script that says a call was passed on would keep its node from passing it on.
    let pretends = passed_on && them.role != Role::Peer;
    if granted(them.role, rpc, passed_on) && !pretends {
        return Ok(());
    }
    let (role, name) = (them.role.as_str(), &them.name);
    let needed = Role::ALL.into_iter().filter(|role| granted(*role, rpc, false));
    let needed: Vec<&str> = needed.map(Role::as_str).collect();
    let rpc = rpc.rsplit('/').next().unwrap_or_default().escape_default();
    let who = match needed.is_empty() {
        true => "nobody may".to_owned(),
        false => format!("that needs one of: {}", needed.join(", ")),
    };
    let problem = format!(
        "{role} {name:?} may not call {rpc}; {who} (the role is in the certificate: hustings certs)"
    );
    tracing::warn!("refused a call: {problem}");
    Err(Status::permission_denied(Error::Auth { problem }.to_string()))
}

tokio::task_local! {
    static CALLER: Caller;
}

/// Who has made the call that this task serves.
pub fn caller() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or(Caller::Local)
}

/// Refuses a node that introduces itself under another name than its certificate's.
pub fn check_name(name: &str) -> Result<(), Status> {
    match caller() {
        Caller::Known(them) if them.name != name => Err(impostor(&them.name, name)),
        _ => Ok(()),
    }
}

fn impostor(theirs: &str, name: &str) -> Status {
    let problem = format!(
        "the certificate of node {theirs:?} cannot speak for node {name:?}; start it under its name"
    );
    tracing::warn!("refused a call: {problem}");
    Status::permission_denied(Error::Auth { problem }.to_string())
}

/// Nodes of which it is remembered under which name they speak.
const MAX_KNOWN: usize = 4_096;

/// Under which certificate each node speaks: by the log where it says so, else by the first that did.
#[derive(Debug, Default)]
pub struct Speakers(Mutex<BTreeMap<NodeId, String>>);

impl Speakers {
    /// Refuses a certificate that is not `node`'s.
    pub fn check(&self, node: NodeId, by_log: Option<&str>) -> Result<(), Status> {
        let Caller::Known(them) = caller() else { return Ok(()) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match by_log.or(known.get(&node).map(String::as_str)) {
            Some(name) if name == them.name => Ok(()),
            Some(name) => Err(impostor(&them.name, name)),
            None => {
                if known.len() >= MAX_KNOWN {
                    known.pop_first();
                }
                known.insert(node, them.name.clone());
                Ok(())
            }
        }
    }
}

/// Puts the gate before all services of a listener.
#[derive(Clone, Debug)]
pub struct GateLayer(pub Entrance);

impl<S> Layer<S> for GateLayer {
    type Service = Gatekeeper<S>;

    fn layer(&self, inner: S) -> Gatekeeper<S> {
        Gatekeeper { inner, entrance: self.0.clone() }
    }
}

/// Lets through what the table grants.
#[derive(Clone, Debug)]
pub struct Gatekeeper<S> {
    inner: S,
    entrance: Entrance,
}

type Answered<R, E> = Ready<Result<http::Response<R>, E>>;

impl<S, B, R> Service<http::Request<B>> for Gatekeeper<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Answered<R, S::Error>, TaskLocalFuture<Caller, S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Nobody);
        match check(&caller, &self.entrance, &request) {
            Ok(()) => Either::Right(CALLER.scope(caller, self.inner.call(request))),
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What `proto/` has, by path.
    fn declared() -> BTreeSet<String> {
        let files = [
            include_str!("../../../proto/hustings/v1/peer.proto"),
            include_str!("../../../proto/hustings/v1/client.proto"),
            include_str!("../../../proto/hustings/v1/blob.proto"),
        ];
        let mut found = BTreeSet::new();
        for text in files {
            let mut service = "";
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.split(' ').next().unwrap();
                } else if let Some(rest) = line.strip_prefix("rpc ") {
                    let name = rest.split('(').next().unwrap();
                    found.insert(format!("hustings.v1.{service}/{name}"));
                }
            }
        }
        found
    }

    #[test]
    fn the_table_has_every_call_once_and_no_other() {
        let ours = TABLE.iter().map(|row| row.rpc).filter(|rpc| !rpc.starts_with("grpc."));
        let ours: Vec<String> = ours.map(str::to_owned).collect();
        assert_eq!(ours.iter().cloned().collect::<BTreeSet<_>>(), declared());
        assert_eq!(ours.len(), declared().len());
    }

    #[test]
    fn what_is_not_in_the_table_nobody_may_call() {
        for role in Role::ALL {
            for rpc in ["", "hustings.v1.PeerService/Reset", "hustings.v1.EnrolmentService/Enrol"] {
                assert!(!granted(role, rpc, false) && !granted(role, rpc, true), "{role:?} {rpc}");
            }
        }
    }

    #[test]
    fn each_listener_takes_its_own_callers_and_sends_the_others_on() {
        let nodes = Entrance::Nodes { clients: "here:2".into() };
        let clients = Entrance::Clients { nodes: "here:1".into() };
        let known = |role: Role| {
            let name = "x".to_owned();
            Caller::Known(Arc::new(Identity { cluster: Default::default(), role, name }))
        };
        let append = "hustings.v1.PeerService/Append";
        let submit = "hustings.v1.ClientService/Submit";
        for (caller, rpc, passed_on, is_node) in [
            (known(Role::Peer), append, false, true),
            (known(Role::Peer), submit, true, true),
            (known(Role::Client), submit, false, false),
            (known(Role::Admin), "hustings.v1.BlobService/Put", false, false),
            (Caller::Local, append, false, true),
            (Caller::Local, submit, true, true),
            (Caller::Local, submit, false, false),
        ] {
            let words = |entrance: &Entrance| match entrance.check(&caller, rpc, passed_on) {
                Ok(()) => String::new(),
                Err(status) => status.message().to_owned(),
            };
            assert_eq!(words(&nodes).is_empty(), is_node, "{caller:?} {rpc}");
            assert_eq!(words(&clients).is_empty(), !is_node, "{caller:?} {rpc}");
            let told = if is_node { words(&clients) } else { words(&nodes) };
            assert!(told.ends_with(if is_node { "at here:1" } else { "at here:2" }), "{told}");
            assert!(words(&Entrance::Common).is_empty());
        }
        for rpc in ["grpc.health.v1.Health/Check", "hustings.v1.BlobService/Get"] {
            assert!(nodes.check(&Caller::Local, rpc, false).is_ok(), "{rpc}");
            assert!(clients.check(&Caller::Local, rpc, false).is_ok(), "{rpc}");
        }
    }

    #[test]
    fn no_call_of_an_operator_is_open_to_a_script() {
        let operators = ["Drain", "Handover", "RemoveMember", "MoveMember", "InjectFaults"];
        for call in operators {
            let rpc = format!("hustings.v1.ClientService/{call}");
            assert!(!granted(Role::Client, &rpc, false) && !granted(Role::Client, &rpc, true));
            assert!(!granted(Role::Peer, &rpc, false), "{call}");
            assert!(granted(Role::Admin, &rpc, false));
        }
    }
}
