//! The server side of `client.proto`: serves clients where this node leads, forwards them to the leader where not.

use super::client_streams::{read_submissions, read_wishes};
use super::forward::{self, Route};
use super::sessions::{OUTBOX, OUTCOMES_OUTBOX};
use super::wire_needs::check_position;
use super::{fault_service, status, stream_service, wire};
use crate::core::ids::NodeId;
use crate::core::load::Position;
use crate::node::proto as pb;
use crate::node::proto::client_service_client::ClientServiceClient;
use crate::node::proto::client_service_server::ClientService;
use crate::node::shared::Shared;
use crate::node::{departure, relocation};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What calls are passed on with.
type Leader = ClientServiceClient<Channel>;

/// Records in one Watch message.
const RECORDS_PER_MESSAGE: usize = 1_024;
/// How long a question about the next leader may wait for its answer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Most tasks one ListTasks returns.
const MAX_LISTED: u32 = 10_000;

/// Answers scripts.
pub struct Client {
    shared: Arc<Shared>,
}

/// Counts a client's stream while it is open.
pub struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Client {
    /// A service for that node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Client { shared }
    }

    fn take_seat(&self) -> Result<Seat, Status> {
        let max = 2 * self.shared.config.limits.sessions as usize;
        if self.shared.streams.fetch_add(1, Ordering::AcqRel) >= max {
            self.shared.streams.fetch_sub(1, Ordering::AcqRel);
            let text =
                format!("this node serves {} sessions, its limit (limits.sessions)", max / 2);
            return Err(Status::resource_exhausted(text));
        }
        Ok(Seat(self.shared.clone()))
    }

    /// An answer to whoever passed the call on, as far as its words reach.
    async fn answer<T>(&self, to: NodeId, answer: T) -> Result<Response<T>, Status> {
        self.shared.gate.answer(to).await;
        Ok(Response::new(answer))
    }

    fn answers<T: Send + 'static>(
        &self,
        to: NodeId,
        answers: mpsc::Receiver<Result<T, Status>>,
    ) -> Response<Answers<T>> {
        Response::new(Box::pin(self.shared.gate.spoken(to, ReceiverStream::new(answers))))
    }

    /// What is read now is no older than this question: a quorum says that this node still leads.
    async fn confirm(&self) -> Result<(), Status> {
        let Some(consensus) = &self.shared.consensus else { return Ok(()) };
        consensus.confirm().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn refuse_when_stopping(&self) -> Result<(), Status> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Status::unavailable(format!(
                "node {} is stopping; use another",
                self.shared.me.name
            )));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ClientService for Client {
    type SubmitStream = Answers<pb::SubmitResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<pb::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        self.refuse_when_stopping()?;
        let seat = self.take_seat()?;
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            return forward::submit(&self.shared, way, request.into_inner(), seat).await;
        }
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let (shared, from) = (self.shared.clone(), forward::origin(request.metadata()));
        tokio::spawn(async move {
            let _seat = seat;
            let requests = shared.gate.heard(from, request.into_inner());
            read_submissions(&shared, requests, outbox).await;
        });
        Ok(self.answers(from, answers))
    }

    type OutcomesStream = Answers<pb::OutcomesResponse>;

    async fn outcomes(
        &self,
        request: Request<Streaming<pb::OutcomesRequest>>,
    ) -> Result<Response<Self::OutcomesStream>, Status> {
        let seat = self.take_seat()?;
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            return forward::outcomes(&self.shared, way, request.into_inner(), seat).await;
        }
        let (outbox, answers) = mpsc::channel(OUTCOMES_OUTBOX);
        let (shared, from) = (self.shared.clone(), forward::origin(request.metadata()));
        tokio::spawn(async move {
            let _seat = seat;
            let requests = shared.gate.heard(from, request.into_inner());
            read_wishes(&shared, requests, outbox).await;
        });
        Ok(self.answers(from, answers))
    }

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<pb::PullResponse>, Status> {
        let _seat = self.take_seat()?;
        stream_service::pull(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call = |mut leader: Leader, request| async move { leader.cancel(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let request = request.into_inner();
        let tasks = wire::task_ids(&request.task_ids)?;
        let asked = ask(&self.shared, move |l| l.cancel(&tasks, request.kill)).await?;
        let (cancelled, unknown) = (wire::task_ids_out(&asked.0), wire::task_ids_out(&asked.1));
        self.answer(from, pb::CancelResponse { cancelled, unknown }).await
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let pb::StatusRequest { after_term, wait_ms } = request.into_inner();
        if wait_ms > 0 {
            let _seat = self.take_seat()?;
            let patience = Duration::from_millis(wait_ms.into()).min(MAX_WAIT);
            self.shared.wait_newer_leader(after_term, patience).await;
            return Ok(Response::new(status::of(&self.shared).await?));
        }
        Ok(Response::new(status::confirmed(&self.shared).await?))
    }

    async fn list_tasks(
        &self,
        request: Request<pb::ListTasksRequest>,
    ) -> Result<Response<pb::ListTasksResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call =
                |mut leader: Leader, request| async move { leader.list_tasks(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let request = request.into_inner();
        let limit = if request.limit == 0 { 1_000 } else { request.limit.min(MAX_LISTED) } as usize;
        let wanted = wire::task_ids(&request.task_ids)?;
        let filter = request.state();
        self.confirm().await?;
        let listed = ask(&self.shared, move |l| status::tasks(l, filter, &wanted, limit)).await?;
        self.answer(from, listed).await
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call = |mut leader: Leader, request| async move { leader.explain(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let task = wire::task_id(&request.into_inner().task_id)?;
        self.confirm().await?;
        let explanation = ask(&self.shared, move |l| l.explain(task)).await?;
        self.answer(from, status::explanation_out(explanation)).await
    }

    type WatchStream = Answers<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let seat = self.take_seat()?;
        let (outbox, answers) = mpsc::channel(4);
        let history = self.shared.history.clone();
        let mut after = request.into_inner().after_seq;
        tokio::spawn(async move {
            let _seat = seat;
            loop {
                let (rows, next) = history.after(after, RECORDS_PER_MESSAGE);
                after = next;
                if rows.is_empty() {
                    tokio::select! {
                        biased;
                        () = outbox.closed() => return,
                        () = history.grown(after) => continue,
                    }
                }
                let records = rows.iter().map(|row| status::record_out(row)).collect();
                if outbox.send(Ok(pb::WatchResponse { records })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::DrainResponse>, Status> {
        let grace = Duration::from_millis(request.into_inner().grace_ms.min(3_600_000));
        let handed_back = ask(&self.shared, |l| l.worker.queued() as u32).await?;
        if !crate::node::shutdown::drain(&self.shared, grace).await {
            let text = format!("still running after {grace:?}; drain again, or stop the node");
            return Err(Status::deadline_exceeded(text));
        }
        Ok(Response::new(pb::DrainResponse { handed_back }))
    }

    async fn handover(
        &self,
        request: Request<pb::HandoverRequest>,
    ) -> Result<Response<pb::HandoverResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call = |mut leader: Leader, request| async move { leader.handover(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let Some(consensus) = self.shared.consensus.clone() else {
            return Err(Status::failed_precondition("this node is a worker, it cannot lead"));
        };
        let to = NodeId(request.into_inner().to_node);
        let to = consensus.transfer_leader((to.0 != 0).then_some(to)).await;
        let to = to.map_err(|e| Status::failed_precondition(e.to_string()))?;
        self.answer(from, pb::HandoverResponse { to_node: to.0 }).await
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call =
                |mut leader: Leader, request| async move { leader.remove_member(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let request = request.into_inner();
        let node = NodeId(request.node);
        let warning = match request.check_only {
            true => departure::check(&self.shared, node).await,
            false => departure::remove(&self.shared, node).await,
        };
        let warning = warning.map_err(status::of_change)?;
        let warning = warning.unwrap_or_default();
        self.answer(from, pb::RemoveMemberResponse { warning }).await
    }

    async fn move_member(
        &self,
        request: Request<pb::MoveMemberRequest>,
    ) -> Result<Response<pb::MoveMemberResponse>, Status> {
        if let Route::Leader(way) = forward::route(&self.shared, request.metadata()).await? {
            let call =
                |mut leader: Leader, request| async move { leader.move_member(request).await };
            return forward::ask(&self.shared, way, request.into_inner(), call).await;
        }
        let from = forward::origin(request.metadata());
        let pb::MoveMemberRequest { node, x, y } = request.into_inner();
        let position = Position { x, y };
        check_position(position).map_err(Status::invalid_argument)?;
        let moved = relocation::relocate(&self.shared, NodeId(node), position).await;
        moved.map_err(status::of_change)?;
        self.answer(from, pb::MoveMemberResponse {}).await
    }

    async fn inject_faults(
        &self,
        request: Request<pb::InjectFaultsRequest>,
    ) -> Result<Response<pb::InjectFaultsResponse>, Status> {
        fault_service::inject(&self.shared, request.into_inner())?;
        Ok(Response::new(pb::InjectFaultsResponse {}))
    }
}

async fn ask<T: Send + 'static>(
    shared: &Shared,
    look: impl FnOnce(&mut crate::node::driver::TaskLoop) -> T + Send + 'static,
) -> Result<T, Status> {
    shared.ask(look).await.map_err(|e| Status::unavailable(e.to_string()))
}
