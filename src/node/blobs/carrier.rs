//! Brings blobs to a majority of the voters, and back from whoever holds them.

use crate::core::ids::{BlobRef, NodeId};
use crate::error::{Error, Result};
use crate::node::shared::Shared;
use crate::node::transport::blob_calls;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;

/// Rounds over all voters before a blob is given up, and the wait between them.
const ROUNDS: u32 = 30;
const ROUND: Duration = Duration::from_millis(200);

/// The voters as this node knows them, itself left out; `true`: it is one of them.
async fn voters(shared: &Arc<Shared>) -> (bool, Vec<(NodeId, String)>) {
    let me = shared.me.id;
    if let Some(consensus) = &shared.consensus {
        let group = consensus.voters();
        if group.contains_key(&me) {
            let others = group.iter().filter(|(id, _)| **id != me);
            return (true, others.map(|(id, voter)| (*id, voter.address.clone())).collect());
        }
    }
    let told = shared.ask(|task_loop| task_loop.told_members.clone()).await.unwrap_or_default();
    let others = told.into_iter().filter(|member| member.voter && member.id != me);
    (false, others.map(|member| (member.id, member.address)).collect())
}

/// Keeps `content`, whose hash was checked, here.
pub async fn keep(shared: &Shared, blob: BlobRef, content: Bytes) -> Result<()> {
    let applied = shared.consensus.as_ref().map_or(0, |consensus| {
        let state = consensus.state();
        state.lock().applied()
    });
    shared.blobs.put(shared.clock.now(), applied, blob, content).await
}

/// Keeps `content` here and at the other voters; returns once a majority holds it, with their number.
pub async fn spread(shared: &Arc<Shared>, blob: BlobRef, content: Bytes) -> Result<u32> {
    let (seated, others) = voters(shared).await;
    if !seated {
        let detail = format!("{} is no voter and holds no blobs", shared.me.name);
        return Err(Error::NoQuorum { detail });
    }
    keep(shared, blob, content.clone()).await?;
    let voters = others.len() + 1;
    let need = voters / 2 + 1;
    let mut holders = 1;
    // Those beyond the majority get it too, though nobody waits for them.
    let mut puts: FuturesUnordered<_> = others
        .into_iter()
        .map(|(node, address)| {
            let (shared, content) = (shared.clone(), content.clone());
            tokio::spawn(async move { put(&shared, node, &address, blob, content, false).await })
        })
        .collect();
    let mut problem = String::new();
    while holders < need {
        match puts.next().await {
            Some(Ok(Ok(_))) => holders += 1,
            Some(Ok(Err(error))) => problem = error.to_string(),
            Some(Err(error)) => problem = error.to_string(),
            None => {
                let detail = format!("{holders} voters hold the blob, {need} must; {problem}");
                return Err(Error::NoQuorum { detail });
            }
        }
    }
    Ok(holders as u32)
}

async fn put(
    shared: &Arc<Shared>,
    node: NodeId,
    address: &str,
    blob: BlobRef,
    content: Bytes,
    spread: bool,
) -> Result<u32> {
    if !shared.gate.speak(node).await {
        return Err(Error::NoQuorum { detail: format!("{address} does not answer") });
    }
    let cluster = shared.cluster_bytes();
    blob_calls::put(&shared.dialler, address, cluster, blob, content, spread)
        .await
        .map_err(|status| Error::NoQuorum { detail: format!("{address}: {}", status.message()) })
}

/// A result on its way into the log: a majority of the voters holds it when this returns.
pub async fn upload(shared: &Arc<Shared>, blob: BlobRef, content: Bytes) -> Result<()> {
    let mut last = Error::NoQuorum { detail: "no voter is known".into() };
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND).await;
        }
        let (seated, others) = voters(shared).await;
        if seated {
            match spread(shared, blob, content.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
            continue;
        }
        for (node, address) in others {
            match put(shared, node, &address, blob, content.clone(), true).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// The content of `blob`, from here or from the first voter that holds it.
pub async fn fetch(shared: &Arc<Shared>, blob: BlobRef) -> Result<Bytes> {
    let mut last = Error::NoQuorum { detail: "no voter is known".into() };
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND).await;
        }
        match fetch_once(shared, blob).await {
            Ok(content) => return Ok(content),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The same, one round only.
pub async fn fetch_once(shared: &Arc<Shared>, blob: BlobRef) -> Result<Bytes> {
    if let Some(content) = shared.blobs.get(blob.id).await?
        && super::name(&content) == blob
    {
        return Ok(content);
    }
    let mut problem = "no voter is known".to_owned();
    for (node, address) in voters(shared).await.1 {
        if !shared.gate.speak(node).await {
            continue;
        }
        match blob_calls::get(&shared.dialler, &address, shared.cluster_bytes(), blob).await {
            Ok(content) => return Ok(content),
            Err(status) => problem = format!("{address}: {}", status.message()),
        }
    }
    Err(Error::NoQuorum { detail: format!("blob {} was not found; {problem}", blob.id) })
}
