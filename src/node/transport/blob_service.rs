//! The server side of `blob.proto`.

use super::blob_calls::{blob_in, collect, pieces};
use crate::core::ids::{BlobRef, ClusterId};
use crate::error::Error;
use crate::node::blobs::carrier;
use crate::node::proto as pb;
use crate::node::proto::blob_service_server::BlobService;
use crate::node::shared::Shared;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Response, Status, Streaming};

/// Blobs that are received at once from clients and workers, to be spread; each may be in memory as a whole.
const SPREAD_AT_ONCE: usize = 4;
/// Blobs received at once from other voters. Room of their own, or two voters that spread would wait for each other.
const KEPT_AT_ONCE: usize = 4;
/// Blobs given at once.
const GIVEN_AT_ONCE: usize = 16;

/// Serves blobs.
pub struct Blobs {
    shared: Arc<Shared>,
    spreading: Arc<Semaphore>,
    keeping: Arc<Semaphore>,
    giving: Arc<Semaphore>,
}

impl Blobs {
    /// Serves those of `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        let room = |at_once| Arc::new(Semaphore::new(at_once));
        let (spreading, keeping) = (room(SPREAD_AT_ONCE), room(KEPT_AT_ONCE));
        Blobs { shared, spreading, keeping, giving: room(GIVEN_AT_ONCE) }
    }

    /// The name, if it is one this node takes from a caller of `cluster` (empty: a client).
    fn check(&self, cluster: &[u8], blob: Option<&pb::Blob>) -> Result<BlobRef, Status> {
        let ours = self.shared.standing().cluster;
        if !cluster.is_empty() && ClusterId::from_bytes(cluster) != ours {
            return Err(Status::failed_precondition("cluster_id: another cluster"));
        }
        let blob = blob_in(blob.ok_or_else(|| Status::invalid_argument("blob: missing"))?)?;
        let limit = self.shared.config.limits.blob_bytes;
        if blob.size > limit {
            let text = format!("{} bytes, the limit is {limit} (limits.blob_bytes)", blob.size);
            let limit = Bytes::copy_from_slice(&limit.to_be_bytes());
            return Err(Status::with_details(Code::OutOfRange, text, limit));
        }
        Ok(blob)
    }
}

async fn take(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    let taken = room.clone().acquire_owned().await;
    taken.map_err(|_| Status::unavailable("this node is stopping"))
}

#[tonic::async_trait]
impl BlobService for Blobs {
    async fn put(
        &self,
        request: Request<Streaming<pb::PutRequest>>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        let head = first.head.ok_or_else(|| Status::invalid_argument("head: missing"))?;
        let blob = self.check(&head.cluster_id, head.blob.as_ref())?;
        let _room = take(if head.spread { &self.spreading } else { &self.keeping }).await?;
        let rest = requests.map(|request| request.map(|request| request.piece));
        let all = stream::iter([Ok(first.piece)]).chain(rest);
        let content = collect(blob, Box::pin(all)).await?;
        let shared = &self.shared;
        let holders = match head.spread {
            true => carrier::spread(shared, blob, content).await,
            false => carrier::keep(shared, blob, content).await.map(|()| 1),
        };
        Ok(Response::new(pb::PutResponse { holders: holders.map_err(|error| refusal(&error))? }))
    }

    type GetStream = Pin<Box<dyn Stream<Item = Result<pb::GetResponse, Status>> + Send>>;

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let blob = self.check(&request.cluster_id, request.blob.as_ref())?;
        let room = take(&self.giving).await?;
        let content = self.shared.blobs.get(blob.id).await.map_err(|error| refusal(&error))?;
        let Some(content) = content else {
            return Err(Status::not_found(format!("{} does not hold it", self.shared.me.name)));
        };
        let answers = pieces(content).map(move |piece| {
            let _held = &room;
            Ok(pb::GetResponse { piece })
        });
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }
}

fn refusal(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::QueueFull { .. } => Status::resource_exhausted(text),
        Error::NoQuorum { .. } => Status::unavailable(text),
        _ => Status::internal(text),
    }
}
