//! openraft's own tests of a store, on a real folder.

use super::Scratch;
use hustings::node::consensus::Stores;
use hustings::node::consensus::log_store::LogStore;
use hustings::node::consensus::state_machine::StateMachine;
use hustings::node::consensus::types::TypeConfig;
use hustings::node::storage::Storage;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, (Arc<Storage>, Scratch)> for Builder {
    async fn build(
        &self,
    ) -> Result<((Arc<Storage>, Scratch), LogStore, StateMachine), StorageError<TypeConfig>> {
        let scratch = Scratch::new();
        let (storage, Stores { log, snapshots }) = Storage::open(scratch.disk("data")).unwrap();
        let applied = tokio::sync::mpsc::unbounded_channel().0;
        let machine = StateMachine::new(applied, snapshots).unwrap();
        Ok(((storage, scratch), log, machine))
    }
}

#[tokio::test]
async fn the_librarys_own_suite_passes_on_disk() {
    Suite::test_all(Builder).await.unwrap();
}
