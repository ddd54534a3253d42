//! Tells the task loop when this node leads and when it no longer does, and keeps the leader's whereabouts current.

use super::consensus::View;
use super::driver::Input;
use super::shared::{Shared, Whereabouts};
use crate::core::ids::{NodeId, Term};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The term this node leads and may dispatch in, as its task loop was told.
#[derive(Debug, Default)]
pub struct Reign(Option<Term>);

impl Reign {
    /// What the task loop must be told when the group looks like `view` from here.
    pub fn follow(&mut self, view: &View) -> Vec<Input> {
        let (before, now) = (self.0, view.ready.then_some(view.term));
        self.0 = now;
        if before == now {
            return Vec::new();
        }
        let lost = before.map(|_| Input::LeadLost(view.successor()));
        let gained = now.map(Input::LeadGained);
        lost.into_iter().chain(gained).collect()
    }
}

/// Keeps the leader's whereabouts current on voters, and tells the task loop when this node leads or no longer does.
pub async fn follow_leadership(shared: Arc<Shared>) {
    let Some(consensus) = shared.consensus.clone() else { return };
    let mut reign = Reign::default();
    let mut changes = consensus.subscribe();
    loop {
        let view = consensus.view();
        let voters: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        shared.look(move |task_loop| task_loop.see_voters(voters));
        for input in reign.follow(&view) {
            // A client is let in once the loop knows, and not after it was told that it is over.
            let gained = matches!(input, Input::LeadGained(_));
            shared.leads.fetch_and(gained, Ordering::AcqRel);
            shared.tell(input);
            shared.leads.store(gained, Ordering::Release);
        }
        if let Some(node) = view.leader.filter(|_| !view.leader_address.is_empty()) {
            shared.saw_leader(Whereabouts { term: view.term, node, address: view.leader_address });
        }
        shared.moved.notify_waiters();
        if !changes.wait().await {
            return;
        }
    }
}
