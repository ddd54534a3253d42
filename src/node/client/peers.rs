//! Which nodes this client knows, how it calls them, and which of them it should be connected to.

use super::found::{Found, Respondent, leader_in, leads, own_id, quorum_of};
use super::identity::Backoff;
use super::refused::NOT_ADMITTED;
use super::table::MAX_BODY;
use super::{Shared, lock};
use crate::core::ids::NodeId;
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use crate::node::proto::client_service_client::ClientServiceClient;
use crate::node::proto::{self, StatusResponse};
use crate::node::transport::dialling::Dialler;
use crate::node::transport::socket::distrust_in;
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};

pub(super) type Grpc = ClientServiceClient<Channel>;

/// Members whose addresses are remembered.
const MAX_MEMBERS: usize = 1_000;
/// Nodes asked at once.
const ASKED_AT_ONCE: usize = 16;
/// A node that does not take a connection within this time is tried later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that does not say how it is within this time is passed over.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a node keeps the question who leads next before it is asked again.
const ROUND: Duration = Duration::from_millis(100);
/// Once most nodes have answered, the others are given so long when a leader is looked for.
const STRAGGLERS: Duration = Duration::from_millis(20);
/// After this long without a leader any node that answers will do: it forwards once one leads.
const LEADERLESS_PATIENCE: Duration = Duration::from_millis(300);
/// Greatest message this client takes: the upper bound of `limits.message_bytes`.
const MAX_MESSAGE: usize = 32 * MAX_BODY;
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Addresses and the channels to them.
pub(super) struct Peers {
    seeds: Vec<String>,
    dialler: Dialler,
    known: Mutex<Known>,
    channels: Mutex<HashMap<String, Channel>>,
    /// Who does not let this client in, and why.
    refusals: Mutex<BTreeMap<String, String>>,
    refused: Notify,
}

#[derive(Default)]
struct Known {
    members: Vec<String>,
    leader: Option<String>,
    turn: usize,
}

impl Peers {
    pub fn new(seeds: Vec<String>, dialler: Dialler) -> Self {
        Peers {
            seeds,
            dialler,
            known: Mutex::default(),
            channels: Mutex::default(),
            refusals: Mutex::default(),
            refused: Notify::new(),
        }
    }

    /// How connections are opened.
    pub fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    /// Why some node does not let this client in, or this client does not trust it.
    pub fn refusal(&self) -> Option<Error> {
        let refusals = lock(&self.refusals);
        let (address, why) = refusals.iter().next()?;
        Some(Error::Auth { problem: format!("{address}: {why}") })
    }

    /// Returns once none of the nodes that were named lets this client in.
    pub async fn refused_by_all(&self) -> Error {
        loop {
            let all = {
                let refusals = lock(&self.refusals);
                self.seeds.iter().all(|seed| refusals.contains_key(seed))
            };
            if let Some(error) = self.refusal().filter(|_| all) {
                return error;
            }
            self.refused.notified().await;
        }
    }

    /// Remembers who does not let this client in.
    fn heed(&self, address: &str, status: &tonic::Status) {
        let text = describe(status);
        let why = match status.code() {
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
                Some(text.strip_prefix(NOT_ADMITTED).unwrap_or(&text))
            }
            _ => distrust_in(&text),
        };
        let Some(why) = why else { return };
        let mut refusals = lock(&self.refusals);
        if refusals.len() < 2 * MAX_MEMBERS || refusals.contains_key(address) {
            refusals.insert(address.to_owned(), why.to_owned());
        }
        drop(refusals);
        self.refused.notify_one();
    }

    /// All addresses, the likeliest leader first, then members, then those given at the start.
    pub fn candidates(&self) -> Vec<String> {
        let known = lock(&self.known);
        let mut list = Vec::with_capacity(known.members.len() + self.seeds.len() + 1);
        for address in known.leader.iter().chain(&known.members).chain(&self.seeds) {
            if !list.contains(address) {
                list.push(address.clone());
            }
        }
        list
    }

    /// As given at the start first, in that order: what `pinned` means.
    fn pinned_candidates(&self) -> Vec<String> {
        let mut list = self.seeds.clone();
        list.extend(self.candidates().into_iter().filter(|a| !self.seeds.contains(a)));
        list
    }

    /// Another node than `address`, a different one each time.
    pub fn another(&self, address: &str) -> Option<String> {
        let mut list = self.candidates();
        list.retain(|candidate| candidate != address);
        let mut known = lock(&self.known);
        known.turn = known.turn.wrapping_add(1);
        (!list.is_empty()).then(|| list.swap_remove(known.turn % list.len()))
    }

    /// Remembers the members and the leader a node names.
    pub fn learn(&self, status: &StatusResponse) {
        let mut known = lock(&self.known);
        let addresses = status.members.iter().filter_map(|m| m.member.as_ref()).map(|m| &m.address);
        let members: Vec<String> =
            addresses.filter(|a| !a.is_empty()).take(MAX_MEMBERS).cloned().collect();
        if !members.is_empty() {
            known.members = members;
        }
        if !status.leader_address.is_empty() {
            known.leader = Some(status.leader_address.clone());
        }
    }

    /// A client for `address`; it dials when it is used and again after a break.
    pub fn grpc(&self, address: &str) -> Result<Grpc> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(address) {
            return Ok(speak(channel.clone()));
        }
        if channels.len() >= 2 * MAX_MEMBERS {
            channels.clear();
        }
        let channel = self.dialler.lazily(&endpoint(address)?);
        channels.insert(address.into(), channel.clone());
        Ok(speak(channel))
    }

    /// How the node at `address` is.
    pub async fn status(&self, address: &str, most: Duration) -> Result<StatusResponse, String> {
        self.ask_status(address, proto::StatusRequest::default(), most).await
    }

    /// How the node at `address` is once it leads, or hears a leader of a term after `term`, or after `wait`.
    pub async fn await_leader(
        &self,
        address: &str,
        term: u64,
        wait: Duration,
    ) -> Result<StatusResponse, String> {
        let wait_ms = wait.as_millis() as u32;
        let question = proto::StatusRequest { after_term: term, wait_ms };
        self.ask_status(address, question, wait + STATUS_TIMEOUT).await
    }

    async fn ask_status(
        &self,
        address: &str,
        question: proto::StatusRequest,
        most: Duration,
    ) -> Result<StatusResponse, String> {
        let mut grpc = self.grpc(address).map_err(|e| e.to_string())?;
        match tokio::time::timeout(most, grpc.status(question)).await {
            Ok(Ok(response)) => {
                let status = response.into_inner();
                self.learn(&status);
                lock(&self.refusals).remove(address);
                Ok(status)
            }
            Ok(Err(status)) => {
                self.heed(address, &status);
                Err(describe(&status))
            }
            Err(_) => Err(format!("no answer within {most:?}")),
        }
    }

    /// Asks everybody; ends early at a node that leads. The rest: who answered, who did not and why.
    pub async fn ask_all(&self) -> (Option<Respondent>, Vec<Respondent>, String) {
        let ask = |address: String| async move { self.status(&address, STATUS_TIMEOUT).await };
        let pick = |answer: &Respondent| leads(&answer.status).then_some(());
        let (leader, others, silent) = self.gather(ask, STATUS_TIMEOUT, pick).await;
        (leader.map(|((), answer)| answer), others, silent)
    }

    /// The same, for whoever looks for a leader: with a term they answer when they hear a newer one, or after a round;
    /// and once most have answered, the others are not waited for.
    async fn ask_hastily(&self, after: Option<u64>) -> (Option<Found>, Vec<Respondent>, String) {
        let ask = |address: String| async move {
            match after {
                Some(after) => self.await_leader(&address, after, ROUND).await,
                None => self.status(&address, STATUS_TIMEOUT).await,
            }
        };
        let pick = |answer: &Respondent| leader_in(answer, after);
        let (leader, others, silent) = self.gather(ask, STRAGGLERS, pick).await;
        (leader.map(|(found, _)| found), others, silent)
    }

    /// Asks everybody until `pick` takes an answer; once most have answered, the others have `stragglers` left.
    async fn gather<T, F>(
        &self,
        ask: impl Fn(String) -> F,
        stragglers: Duration,
        pick: impl Fn(&Respondent) -> Option<T>,
    ) -> (Option<(T, Respondent)>, Vec<Respondent>, String)
    where
        F: Future<Output = Result<StatusResponse, String>>,
    {
        let candidates = self.candidates();
        let most = candidates.len() / 2;
        let mut answers = stream::iter(candidates)
            .map(|address| async { (address.clone(), ask(address).await) })
            .buffer_unordered(ASKED_AT_ONCE);
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        loop {
            let next = answers.next();
            let next = match found.len() > most {
                true => tokio::time::timeout(stragglers, next).await.unwrap_or(None),
                false => next.await,
            };
            match next {
                Some((address, Ok(status))) => {
                    let respondent = Respondent { address, status };
                    match pick(&respondent) {
                        Some(picked) => {
                            return (Some((picked, respondent)), found, silent.join("; "));
                        }
                        None => found.push(respondent),
                    }
                }
                Some((address, Err(problem))) => silent.push(format!("{address}: {problem}")),
                None => break,
            }
        }
        silent.truncate(8);
        (None, found, silent.join("; "))
    }
}

impl Shared {
    /// Finds the node to be connected to; tries until there is one. With `after`, a leader of a later term is taken as
    /// soon as one node has heard of it.
    pub async fn find_node(&self, after: Option<u64>) -> Found {
        let mut backoff = Backoff::new();
        let clock = Clock::start();
        let began = clock.now();
        let mut term = after;
        loop {
            let (asked, asked_term) = (clock.now(), term);
            let found = if self.options.pinned {
                self.find_pinned().await
            } else {
                let patient = clock.now().since(began) < LEADERLESS_PATIENCE;
                self.find_leader(patient, &mut term).await
            };
            match found {
                Ok(found) => return found,
                Err(problem) => *lock(&self.trouble) = problem,
            }
            // Whoever answered keeps the next question until there is something to say. If none did keep it, wait here.
            let kept = clock.now().since(asked) >= ROUND / 2;
            if term.is_none() || (term == asked_term && !kept) {
                let wait = lock(&self.identity).jitter(backoff.step());
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn find_pinned(&self) -> Result<Found, String> {
        let mut silent = Vec::new();
        for address in self.peers.pinned_candidates() {
            match self.peers.status(&address, STATUS_TIMEOUT).await {
                Ok(status) => return Ok((&Respondent { address, status }).into()),
                Err(problem) => silent.push(format!("{address}: {problem}")),
            }
        }
        silent.truncate(8);
        Err(silent.join("; "))
    }

    /// `term`: the highest one known to those that answered, once there are any.
    async fn find_leader(&self, patient: bool, term: &mut Option<u64>) -> Result<Found, String> {
        let (leader, mut found, silent) = self.peers.ask_hastily(*term).await;
        *term = found.iter().map(|f| f.status.term).max();
        *lock(&self.leaderless) = match &leader {
            Some(_) => None,
            None => Some(quorum_of(found.iter().map(|f| &f.status))),
        };
        if let Some(leader) = leader {
            return Ok(leader);
        }
        // A leader we cannot reach ourselves: somebody who can will forward.
        let answered: Vec<NodeId> = found.iter().map(|f| own_id(&f.status)).collect();
        let elsewhere = |f: &Respondent| {
            f.status.leader_node != 0 && !answered.contains(&NodeId(f.status.leader_node))
        };
        let choice =
            found.iter().position(|f| !patient && elsewhere(f)).or((!patient).then_some(0));
        match choice.filter(|&i| i < found.len()) {
            Some(i) => Ok((&found.swap_remove(i)).into()),
            None if found.is_empty() => Err(silent),
            None => Err(format!("{} nodes answer, none leads; {silent}", found.len())),
        }
    }
}

fn endpoint(address: &str) -> Result<Endpoint> {
    let uri = format!("http://{address}");
    let endpoint = Endpoint::from_shared(uri).map_err(|error| Error::InvalidAddress {
        value: address.into(),
        problem: error.to_string(),
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

fn speak(channel: Channel) -> Grpc {
    ClientServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// The innermost cause: what a person can act on ("Connection refused"), not the layers around it.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match error.downcast_ref::<tonic::Status>() {
        Some(status) if std::ptr::addr_eq(inner, error) => status.message().to_string(),
        _ => inner.to_string(),
    }
}
