//! A node that does not lead passes a client's calls on to the leader, unread.

use super::access::FORWARDED;
use super::client_service::Seat;
use super::succession;
use crate::core::ids::NodeId;
use crate::node::proto as pb;
use crate::node::proto::client_service_client::ClientServiceClient;
use crate::node::shared::Shared;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// How long a call waits for somebody to lead.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a call waits for this node to lead the term it is expected to lead, or for somebody to lead a later one.
const EXPECTED: Duration = Duration::from_millis(400);
/// How long the leader may take to answer the dial.
const CONNECT: Duration = Duration::from_millis(500);

/// Who serves a call.
pub enum Route {
    /// This node: it leads.
    Here,
    /// The leader.
    Leader(Way),
}

/// How to reach the leader.
pub struct Way {
    node: NodeId,
    channel: Channel,
}

/// Who passed a call on; node 0, which no fault concerns, if it came from the client itself.
pub fn origin(metadata: &MetadataMap) -> NodeId {
    let text = metadata.get(FORWARDED).and_then(|value| value.to_str().ok());
    NodeId(text.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0))
}

/// Decides who serves a call, waiting a while for a leader if there is none.
pub async fn route(shared: &Arc<Shared>, metadata: &MetadataMap) -> Result<Route, Status> {
    shared.gate.hear(origin(metadata)).await;
    if let Some(term) = succession::expected_in(metadata) {
        shared.wait_newer_leader(term.saturating_sub(1), EXPECTED).await;
    }
    if shared.leads() {
        return Ok(Route::Here);
    }
    if metadata.contains_key(FORWARDED) {
        return Err(Status::unavailable(format!("{} does not lead (any more)", shared.me.name)));
    }
    let Some(leader) = shared.wait_leader(PATIENCE).await else {
        let text =
            format!("{} knows no leader; a majority of the voters may be down", shared.me.name);
        return Err(Status::unavailable(text));
    };
    if leader.node == shared.me.id {
        return Ok(Route::Here);
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", leader.address))
        .map_err(|e| Status::internal(e.to_string()))?;
    let channel = shared.dialler.lazily(&endpoint.connect_timeout(CONNECT));
    Ok(Route::Leader(Way { node: leader.node, channel }))
}

/// A client of the leader with this node's message bounds.
fn client(shared: &Shared, channel: Channel) -> ClientServiceClient<Channel> {
    let bytes = shared.config.limits.message_bytes as usize;
    ClientServiceClient::new(channel)
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes)
}

/// A request that says who passed it on.
fn mark<T>(shared: &Shared, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(me) = MetadataValue::try_from(shared.me.id.to_string()) {
        request.metadata_mut().insert(FORWARDED, me);
    }
    request
}

/// Passes one question on.
pub async fn ask<M, T, F>(
    shared: &Shared,
    way: Way,
    message: M,
    call: impl FnOnce(ClientServiceClient<Channel>, Request<M>) -> F,
) -> Result<Response<T>, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    if !shared.gate.speak(way.node).await {
        return Err(unreachable(&way).await);
    }
    call(client(shared, way.channel), mark(shared, message)).await
}

async fn unreachable(way: &Way) -> Status {
    tokio::time::sleep(CONNECT).await;
    Status::unavailable(format!("the leader, {}, does not answer", way.node))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Passes a Submit stream on, both ways, until either end closes.
pub async fn submit(
    shared: &Shared,
    way: Way,
    requests: Streaming<pb::SubmitRequest>,
    seat: Seat,
) -> Result<Response<Answers<pb::SubmitResponse>>, Status> {
    if shared.gate.is_cut(way.node) {
        return Err(unreachable(&way).await);
    }
    let requests = shared.gate.spoken(way.node, until_broken(requests));
    let answers = client(shared, way.channel).submit(mark(shared, requests)).await?.into_inner();
    Ok(Response::new(hold(answers, seat)))
}

/// Passes an Outcomes stream on, both ways, until either end closes.
pub async fn outcomes(
    shared: &Shared,
    way: Way,
    requests: Streaming<pb::OutcomesRequest>,
    seat: Seat,
) -> Result<Response<Answers<pb::OutcomesResponse>>, Status> {
    if shared.gate.is_cut(way.node) {
        return Err(unreachable(&way).await);
    }
    let requests = shared.gate.spoken(way.node, until_broken(requests));
    let answers = client(shared, way.channel).outcomes(mark(shared, requests)).await?.into_inner();
    Ok(Response::new(hold(answers, seat)))
}

/// What the client says, until it ends or breaks off.
fn until_broken<T: Send + 'static>(requests: Streaming<T>) -> impl Stream<Item = T> + Send + Unpin {
    use std::future::ready;
    requests.take_while(|r| ready(r.is_ok())).filter_map(|r| ready(r.ok()))
}

/// Keeps the seat until the stream is dropped; whatever breaks the leader's side reads as "try again".
fn hold<T: Send + 'static>(answers: Streaming<T>, seat: Seat) -> Answers<T> {
    let moved = |status: Status| match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::ResourceExhausted => status,
        _ => Status::unavailable(format!("the leader's stream broke: {}", status.message())),
    };
    let answers = answers.map(move |answer| {
        let _held = &seat;
        answer.map_err(moved)
    });
    // A clean end of the leader's stream is a break as well: the client must look for the next leader.
    let end = futures::stream::once(async { Err(succession::moved(None)) });
    Box::pin(answers.chain(end))
}
