//! Large arguments on their way into the cluster, and large results on their way out.

use super::exchange::{Fetch, settle_all};
use super::handle::Settled;
use super::{Client, Shared, lock};
use crate::core::cluster::command::{Outcome, Payload};
use crate::core::ids::BlobRef;
use crate::error::{Error, Result};
use crate::node::blobs::name;
use crate::node::clock::Clock;
use crate::node::transport::blob_calls;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// Arguments up to this size travel in the log: the default of `limits.payload_bytes`.
pub const INLINE: usize = 64 << 10;
/// The greatest value of `limits.blob_bytes`.
pub const MAX_BLOB: usize = 1 << 30;
/// Results fetched at once.
pub(super) const FETCHED_AT_ONCE: usize = 4;
/// How long a voter is looked for that takes or gives a blob.
const PATIENCE: Duration = Duration::from_secs(30);
const ROUND: Duration = Duration::from_millis(100);

impl Client {
    /// Brings `content` to a majority of the voters; then tasks may name it.
    pub async fn put_blob(&self, content: Bytes) -> Result<BlobRef> {
        if content.len() > MAX_BLOB {
            return Err(too_large("the arguments", content.len(), MAX_BLOB));
        }
        let blob = name(&content);
        let put = |address: String| {
            let content = content.clone();
            let dialler = self.shared.peers.dialler();
            let nobody = Bytes::new();
            async move { blob_calls::put(dialler, &address, nobody, blob, content, true).await }
        };
        self.check_open()?;
        try_all(&self.shared, "the arguments", content.len(), put).await?;
        Ok(blob)
    }
}

/// Tries every node in turn until one does it. What is refused for good is an error at once.
async fn try_all<T, F>(
    shared: &Shared,
    what: &str,
    size: usize,
    call: impl Fn(String) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let clock = Clock::start();
    let mut problem = String::new();
    loop {
        for address in shared.peers.candidates() {
            match call(address.clone()).await {
                Ok(done) => return Ok(done),
                Err(status) if status.code() == Code::OutOfRange => {
                    let limit = status.details().try_into().map_or(0, u64::from_be_bytes);
                    return Err(too_large(what, size, limit as usize));
                }
                Err(status) if status.code() == Code::ResourceExhausted => {
                    let detail = format!("{address}: {}", status.message());
                    return Err(Error::QueueFull { detail, retry_after: Duration::from_secs(1) });
                }
                Err(status) => problem = format!("{address}: {}", status.message()),
            }
        }
        if clock.now().since(crate::node::clock::START) > PATIENCE {
            return Err(Error::NoQuorum { detail: format!("waited for {what}; {problem}") });
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn too_large(what: &str, size: usize, limit: usize) -> Error {
    Error::PayloadTooLarge { what: what.to_owned(), size, limit, knob: "limits.blob_bytes" }
}

/// Fetches a large result and settles whoever waits for it. Only if it came may the cluster forget it.
pub(super) async fn fetch_and_settle(shared: Arc<Shared>, wanted: Fetch) {
    let Fetch { task, blob, codec, attempts, node, output, handles } = wanted;
    let fetched = fetch(&shared, blob).await;
    let settled = || match &fetched {
        Ok(body) => {
            let outcome = Outcome::Value(Payload::inline(codec, body.clone()));
            Settled::Outcome { outcome, attempts, node, output: output.clone() }
        }
        Err(error) => Settled::Failed(error.clone()),
    };
    settle_all(handles.into_iter().map(|handle| (handle, settled())).collect());
    if fetched.is_ok() {
        lock(&shared.table).acknowledge.push(task);
        shared.ids_ready.notify_one();
    }
}

async fn fetch(shared: &Arc<Shared>, blob: BlobRef) -> Result<Bytes> {
    let get = |address: String| async move {
        blob_calls::get(shared.peers.dialler(), &address, Bytes::new(), blob).await
    };
    let fetch = async {
        let _room = shared.fetching.acquire().await;
        try_all(shared, "a large result", blob.size as usize, get).await
    };
    tokio::select! { biased;
        _ = shared.closing.acquire() => Err(Error::Stopped { what: "client".into() }),
        fetched = fetch => fetched,
    }
}
