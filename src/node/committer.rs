//! The task loop's way into Raft: batches enter the log in the order in which they were proposed.

use super::consensus::Consensus;
use super::proposals::Commit;
use crate::core::cluster::command::Batch;
use crate::core::ids::Term;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Proposes batches one after the other, so that they enter the log in order, and answers when each is applied.
pub struct Committer {
    batches: mpsc::UnboundedSender<(Term, Batch, oneshot::Sender<bool>)>,
    consensus: Arc<Consensus>,
}

impl Committer {
    /// What waits here is bounded by the entries `Proposals` lets be on their way.
    pub fn start(consensus: Arc<Consensus>) -> Self {
        let (batches, mut waiting) =
            mpsc::unbounded_channel::<(Term, Batch, oneshot::Sender<bool>)>();
        let log = consensus.clone();
        tokio::spawn(async move {
            while let Some((term, batch, answer)) = waiting.recv().await {
                let proposal = log.propose(term, batch).await;
                tokio::spawn(async move {
                    let _ = answer.send(proposal.await.is_ok());
                });
            }
        });
        Committer { batches, consensus }
    }
}

impl Commit for Committer {
    fn commit(&self, term: Term, batch: Batch) -> BoxFuture<'static, bool> {
        let (answer, answered) = oneshot::channel();
        let (consensus, begun) = (self.consensus.clone(), self.consensus.now());
        let _ = self.batches.send((term, batch, answer));
        Box::pin(async move {
            let committed = answered.await.unwrap_or(false);
            if committed {
                consensus.note_commit(begun);
            }
            committed
        })
    }

    fn confirm(&self) -> BoxFuture<'static, bool> {
        let consensus = self.consensus.clone();
        Box::pin(async move { consensus.confirm().await.is_ok() })
    }

    fn may_dispatch(&self) -> bool {
        self.consensus.may_dispatch()
    }
}
