//! Nodes that keep the client protocol over real sockets and fail on command: each is its own runtime, so that killing
//! one closes its sockets without a goodbye. They share one task table, as a cluster does.

use bytes::Bytes;
use hustings::node::clock::{Clock, START};
use hustings::node::proto::client_service_server::{ClientService, ClientServiceServer};
use hustings::node::proto::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = UnboundedReceiverStream<Result<T, Status>>;

/// What the cluster knows and how it shall misbehave.
#[derive(Default)]
pub struct State {
    pub leader: Option<usize>,
    /// The leader's.
    pub term: u64,
    /// Who was asked to wait for a leader of a later term than which, for how long.
    pub questions: Vec<(usize, u64, Duration)>,
    pub addresses: Vec<String>,
    pub frozen: BTreeSet<usize>,
    /// Accept this many batches and break off before saying so.
    pub swallow_answers: u32,
    /// Do not answer batches at all.
    pub mute: bool,
    /// Refuse this many tasks.
    pub refuse: Vec<(Refusal, u32)>,
    /// Refuse this many tasks that were taken before.
    pub refuse_resent: Vec<(Refusal, u32)>,
    /// Accept, but keep outcomes back.
    pub hold: bool,
    pub tasks: BTreeMap<Bytes, TaskSpec>,
    pub order: Vec<Bytes>,
    pub duplicates: u32,
    pub finished: BTreeMap<Bytes, Outcome>,
    pub acknowledged: BTreeSet<Bytes>,
    pub followed: Vec<Bytes>,
    pub functions: Vec<String>,
    pub submit_streams: Vec<usize>,
    pub records: BTreeMap<usize, Vec<Record>>,
    pub watches: Vec<(usize, u64)>,
    listeners: BTreeMap<Bytes, mpsc::UnboundedSender<Result<OutcomesResponse, Status>>>,
    undelivered: BTreeMap<Bytes, Vec<Outcome>>,
}

impl State {
    fn finish(&mut self, session: &Bytes, id: &Bytes) {
        let body = self.tasks[id].payload.clone();
        let value = Payload { codec: Codec::Json.into(), body, blob: None };
        let result = Some(outcome::Result::Value(value));
        let outcome =
            Outcome { task_id: id.clone(), attempts: 1, node: 1, result, ..Default::default() };
        self.finished.insert(id.clone(), outcome.clone());
        self.deliver(session, outcome);
    }

    fn deliver(&mut self, session: &Bytes, outcome: Outcome) {
        let message = OutcomesResponse { outcomes: vec![outcome.clone()], ..Default::default() };
        let sent = self.listeners.get(session).is_some_and(|tx| tx.send(Ok(message)).is_ok());
        if !sent {
            self.undelivered.entry(session.clone()).or_default().push(outcome);
        }
    }

    fn take(&mut self, session: &Bytes, task: TaskSpec, answer: &mut SubmitResponse) {
        let id = task.task_id.clone();
        let taken = self.tasks.contains_key(&id);
        let refuse = if taken { &mut self.refuse_resent } else { &mut self.refuse };
        if let Some((refusal, left)) = refuse.last_mut() {
            let refusal = *refusal;
            *left -= 1;
            if *left == 0 {
                refuse.pop();
            }
            answer.rejected.push(Rejection {
                task_id: id,
                refusal: refusal.into(),
                message: "refused by the test".into(),
                retry_after_ms: 250,
                existing: Bytes::new(),
            });
            return;
        }
        answer.accepted.push(id.clone());
        if self.tasks.contains_key(&id) {
            self.duplicates += 1;
            // Its first answer was swallowed, and its outcome kept back with it.
            if !self.hold && self.swallow_answers == 0 && !self.finished.contains_key(&id) {
                self.finish(session, &id);
            }
            return;
        }
        self.order.push(id.clone());
        self.tasks.insert(id.clone(), task);
        if !self.hold && self.swallow_answers == 0 {
            self.finish(session, &id);
        }
    }
}

#[derive(Clone)]
struct Service {
    index: usize,
    state: Arc<Mutex<State>>,
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn thaw(&self) {
        if self.state().frozen.contains(&self.index) {
            std::future::pending::<()>().await;
        }
    }
}

#[tonic::async_trait]
impl ClientService for Service {
    type SubmitStream = Answers<SubmitResponse>;
    type OutcomesStream = Answers<OutcomesResponse>;
    type WatchStream = Answers<WatchResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let mut batches = request.into_inner();
        let (tx, rx) = mpsc::unbounded_channel();
        self.state().submit_streams.push(self.index);
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                service.thaw().await;
                assert!(batch.tasks.len() <= 256);
                let mut state = service.state();
                state.functions.extend(batch.functions.iter().map(|f| f.name.clone()));
                if state.mute {
                    continue;
                }
                let mut answer = SubmitResponse::default();
                for task in batch.tasks {
                    state.take(&batch.session_id, task, &mut answer);
                }
                if state.swallow_answers > 0 {
                    state.swallow_answers -= 1;
                    let _ = tx.send(Err(Status::unavailable("broken off by the test")));
                    return;
                }
                let _ = tx.send(Ok(answer));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(rx)))
    }

    async fn outcomes(
        &self,
        request: Request<Streaming<OutcomesRequest>>,
    ) -> Result<Response<Self::OutcomesStream>, Status> {
        self.thaw().await;
        let mut messages = request.into_inner();
        let (tx, rx) = mpsc::unbounded_channel();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let mut state = service.state();
                let session = message.session_id.clone();
                state.listeners.insert(session.clone(), tx.clone());
                for outcome in state.undelivered.remove(&session).unwrap_or_default() {
                    state.deliver(&session, outcome);
                }
                state.acknowledged.extend(message.acknowledge);
                for id in message.follow {
                    state.followed.push(id.clone());
                    if let Some(outcome) = state.finished.get(&id).cloned() {
                        state.deliver(&session, outcome);
                    } else if !state.tasks.contains_key(&id) {
                        let unknown = OutcomesResponse { unknown: vec![id], ..Default::default() };
                        let _ = tx.send(Ok(unknown));
                    }
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(rx)))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        self.thaw().await;
        let state = self.state();
        let open = |id: &Bytes| state.tasks.contains_key(id) && !state.finished.contains_key(id);
        let cancelled = request.into_inner().task_ids.into_iter().filter(open).collect();
        Ok(Response::new(CancelResponse { cancelled, ..Default::default() }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.thaw().await;
        let StatusRequest { after_term, wait_ms } = request.into_inner();
        let wait = Duration::from_millis(wait_ms.into());
        let (clock, leader) = (Clock::start(), self.state().leader);
        if wait_ms > 0 {
            self.state().questions.push((self.index, after_term, wait));
        }
        let nothing = |state: &State| {
            let hears = state.leader.is_some() && state.term > after_term;
            state.leader == leader && leader != Some(self.index) && !hears
        };
        while clock.now().since(START) < wait && nothing(&self.state()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let state = self.state();
        let member = |i: usize| Member {
            id: i as u64 + 1,
            name: format!("n{}", i + 1),
            address: state.addresses[i].clone(),
            ..Member::default()
        };
        let leads = state.leader == Some(self.index);
        Ok(Response::new(StatusResponse {
            me: Some(member(self.index)),
            role: if leads { Role::Leader } else { Role::Follower }.into(),
            term: state.term,
            leader_node: state.leader.map_or(0, |l| l as u64 + 1),
            leader_address: state.leader.map(|l| state.addresses[l].clone()).unwrap_or_default(),
            leader_ready: leads,
            members: (0..state.addresses.len())
                .map(|i| MemberStatus { member: Some(member(i)), ..MemberStatus::default() })
                .collect(),
            ..StatusResponse::default()
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let (state, limit) = (self.state(), request.into_inner().limit as usize);
        let row = |id: &Bytes| TaskInfo { task_id: id.clone(), ..TaskInfo::default() };
        let tasks = state.order.iter().take(limit).map(row).collect();
        Ok(Response::new(ListTasksResponse { tasks, total: state.order.len() as u64 }))
    }

    async fn explain(
        &self,
        _: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        Ok(Response::new(ExplainResponse::default()))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut state = self.state();
        let after = request.into_inner().after_seq;
        state.watches.push((self.index, after));
        let rows = state.records.entry(self.index).or_default().clone();
        let records = rows.into_iter().filter(|row| row.seq > after).collect();
        let _ = tx.send(Ok(WatchResponse { records }));
        // The stream stays open for as long as its node lives.
        tokio::spawn(async move { tx.closed().await });
        Ok(Response::new(UnboundedReceiverStream::new(rx)))
    }

    async fn pull(&self, _: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        Ok(Response::new(PullResponse::default()))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        Ok(Response::new(DrainResponse { handed_back: 3 }))
    }

    async fn remove_member(
        &self,
        _: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        Err(Status::failed_precondition("the last voter"))
    }

    async fn move_member(
        &self,
        _: Request<MoveMemberRequest>,
    ) -> Result<Response<MoveMemberResponse>, Status> {
        Err(Status::failed_precondition("the last voter"))
    }

    async fn inject_faults(
        &self,
        _: Request<InjectFaultsRequest>,
    ) -> Result<Response<InjectFaultsResponse>, Status> {
        Err(Status::permission_denied("no fault calls"))
    }

    async fn handover(
        &self,
        request: Request<HandoverRequest>,
    ) -> Result<Response<HandoverResponse>, Status> {
        Ok(Response::new(HandoverResponse { to_node: request.into_inner().to_node }))
    }
}

/// A handful of nodes.
pub struct Cluster {
    pub state: Arc<Mutex<State>>,
    nodes: Vec<Option<tokio::runtime::Runtime>>,
}

impl Cluster {
    /// `n` nodes, the first of which leads.
    pub fn start(n: usize) -> Self {
        let state = Arc::new(Mutex::new(State { leader: Some(0), term: 1, ..State::default() }));
        let mut nodes = Vec::new();
        for index in 0..n {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            state.lock().unwrap().addresses.push(listener.local_addr().unwrap().to_string());
            let row = Record { seq: 1, node: index as u64 + 1, ..Record::default() };
            state.lock().unwrap().records.insert(index, vec![row]);
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let service = Service { index, state: state.clone() };
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let service = ClientServiceServer::new(service).max_decoding_message_size(4 << 20);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
            });
            nodes.push(Some(runtime));
        }
        Cluster { state, nodes }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn address(&self, index: usize) -> String {
        self.state().addresses[index].clone()
    }

    /// Ends a node as SIGKILL would: its sockets close, nothing is said.
    pub fn kill(&mut self, index: usize) {
        if let Some(runtime) = self.nodes[index].take() {
            runtime.shutdown_background();
        }
    }

    /// Finishes everything that is held back, for every session that listens.
    pub fn finish_held(&self) {
        let mut state = self.state();
        state.hold = false;
        let sessions: Vec<Bytes> = state.listeners.keys().cloned().collect();
        let open: Vec<Bytes> =
            state.tasks.keys().filter(|id| !state.finished.contains_key(*id)).cloned().collect();
        for (session, id) in sessions.iter().flat_map(|s| open.iter().map(move |id| (s, id))) {
            state.finish(session, id);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|index| self.kill(index));
    }
}
