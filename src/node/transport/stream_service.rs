//! Gives what a generator task yields to its reader, who asks the node that runs it.

use super::wire::{codec_out, task_id};
use crate::core::ids::Token;
use crate::node::execution::streams::{Pull, PullRefused, Pulled};
use crate::node::proto as pb;
use crate::node::shared::Shared;
use std::time::Duration;
use tonic::Status;

/// How long a question may wait for an item.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Answers with the items that are there, or come in time.
pub async fn pull(shared: &Shared, request: pb::PullRequest) -> Result<pb::PullResponse, Status> {
    let limits = &shared.config.limits;
    let patience = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
    let pull = Pull {
        task: task_id(&request.task_id)?,
        token: Token(request.token),
        reader: number("reader", &request.reader)?,
        next: request.next,
        chain: number("chain", &request.chain)?,
        items: request.max_items as usize,
        // What an item adds to itself is small beside the other half.
        bytes: u64::from(request.max_bytes).min(limits.message_bytes / 2) as usize,
    };
    let pulled = shared.streams_of_items.pull(pull, patience).await;
    let Pulled { open, codec, items } = pulled.map_err(refused)?;
    let codec = codec.map_or(0, codec_out);
    Ok(pb::PullResponse { open, codec, items })
}

fn number(field: &str, bytes: &[u8]) -> Result<u128, Status> {
    let bytes = bytes.try_into().map_err(|_| {
        Status::invalid_argument(format!("{field}: {} bytes; give 16", bytes.len()))
    })?;
    Ok(u128::from_le_bytes(bytes))
}

fn refused(why: PullRefused) -> Status {
    match why {
        PullRefused::OtherReader => Status::failed_precondition(why.to_string()),
        PullRefused::Gone { .. } => Status::out_of_range(why.to_string()),
    }
}
