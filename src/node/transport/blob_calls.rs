//! Blobs over the network, seen from who calls: in pieces, on a connection of their own, checked where they arrive.

use super::dialling::Dialler;
use crate::core::ids::{BlobId, BlobRef};
use crate::node::blobs::name;
use crate::node::proto as pb;
use crate::node::proto::blob_service_client::BlobServiceClient;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Bytes of one piece.
pub const PIECE: usize = 256 << 10;
/// How long a node may take to answer the dial.
const CONNECT: Duration = Duration::from_secs(1);
/// What a transfer is given, beside the time its bytes take at the slowest rate that is borne.
const LEAST: Duration = Duration::from_secs(5);
/// Bytes per second below which a transfer is given up.
const SLOWEST: u64 = 4 << 20;
const WINDOW: u32 = 4 << 20;

/// How long a transfer of `blob` may take.
pub fn patience(blob: BlobRef) -> Duration {
    LEAST + Duration::from_millis(blob.size * 1_000 / SLOWEST)
}

/// A blob's name out of a message.
pub fn blob_in(blob: &pb::Blob) -> Result<BlobRef, Status> {
    let id: [u8; 32] = blob.id.as_ref().try_into().map_err(|_| {
        Status::invalid_argument(format!("blob.id: {} bytes; it must be 32", blob.id.len()))
    })?;
    Ok(BlobRef { id: BlobId(id), size: blob.size })
}

/// A blob's name into a message.
pub fn blob_out(blob: BlobRef) -> pb::Blob {
    pb::Blob { id: Bytes::copy_from_slice(&blob.id.0), size: blob.size }
}

/// `content` in pieces, without a copy.
pub fn pieces(content: Bytes) -> impl Iterator<Item = Bytes> + Send {
    let count = content.len().div_ceil(PIECE);
    (0..count).map(move |i| content.slice(i * PIECE..((i + 1) * PIECE).min(content.len())))
}

/// What the pieces make, if it is `blob`.
pub async fn collect(
    blob: BlobRef,
    mut pieces: impl Stream<Item = Result<Bytes, Status>> + Unpin,
) -> Result<Bytes, Status> {
    let mut content = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if (content.len() + piece.len()) as u64 > blob.size {
            let text = format!("blob: more than the {} bytes that were announced", blob.size);
            return Err(Status::data_loss(text));
        }
        content.extend_from_slice(&piece);
    }
    let content = content.freeze();
    let name = name(&content);
    if name != blob {
        let text = format!(
            "blob: {} bytes with hash {} came, {} bytes with {} were announced",
            name.size, name.id, blob.size, blob.id
        );
        return Err(Status::data_loss(text));
    }
    Ok(content)
}

/// Gives `content` to the voter at `address`; with `spread`, a majority holds it when this returns.
pub async fn put(
    dialler: &Dialler,
    address: &str,
    cluster: Bytes,
    blob: BlobRef,
    content: Bytes,
    spread: bool,
) -> Result<u32, Status> {
    let head = pb::PutHead { cluster_id: cluster, blob: Some(blob_out(blob)), spread };
    let first = pb::PutRequest { head: Some(head), piece: Bytes::new() };
    let rest = pieces(content).map(|piece| pb::PutRequest { head: None, piece });
    let messages = stream::iter(std::iter::once(first).chain(rest));
    let mut service = dial(dialler, address).await?;
    bounded(blob, service.put(messages)).await.map(|answer| answer.into_inner().holders)
}

/// The content of `blob` from the node at `address`.
pub async fn get(
    dialler: &Dialler,
    address: &str,
    cluster: Bytes,
    blob: BlobRef,
) -> Result<Bytes, Status> {
    let request = pb::GetRequest { cluster_id: cluster, blob: Some(blob_out(blob)) };
    let mut service = dial(dialler, address).await?;
    let transfer = async {
        let answers = service.get(request).await?.into_inner();
        collect(blob, answers.map(|answer| answer.map(|answer| answer.piece))).await
    };
    bounded(blob, transfer).await
}

async fn dial(dialler: &Dialler, address: &str) -> Result<BlobServiceClient<Channel>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(error.to_string()))?
        .connect_timeout(CONNECT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let channel = dialler.connect(&endpoint).await;
    channel.map(BlobServiceClient::new).map_err(|error| Status::unavailable(error.to_string()))
}

async fn bounded<T>(
    blob: BlobRef,
    transfer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let most = patience(blob);
    tokio::time::timeout(most, transfer).await.unwrap_or_else(|_| {
        let text = format!("a blob of {} bytes was not transferred within {most:?}", blob.size);
        Err(Status::deadline_exceeded(text))
    })
}
