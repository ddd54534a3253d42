//! One Watch stream per known member, merged as received: a killed leader's story survives it (design D5e).

use super::found::own_id;
use super::peers::STATUS_TIMEOUT;
use super::{Shared, lock};
use crate::core::ids::NodeId;
use crate::node::proto::{Record, WatchRequest};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Records kept; the oldest go first.
pub const MAX_RECORDS: usize = 100_000;
/// Members watched at once.
const MAX_WATCHED: usize = 1_000;
/// How often new members are looked for, and how long to wait before a broken stream is opened again.
const PERIOD: Duration = Duration::from_millis(250);
/// An address that answers nothing for this many periods, and is no member any more, is given up.
const GIVEN_UP: u32 = 40;

/// Records of all nodes, in the order in which they arrived here.
#[derive(Default)]
pub(super) struct Records {
    rows: VecDeque<Record>,
    /// Position of the row after the last.
    end: u64,
    /// The last `seq` seen of each node in its present life, so that nothing comes twice.
    seen: BTreeMap<u64, Seen>,
}

#[derive(Default)]
struct Seen {
    incarnation: u64,
    seq: u64,
}

impl Records {
    fn push(&mut self, row: Record) {
        let seen = self.seen.entry(row.node).or_default();
        if row.seq <= seen.seq {
            return;
        }
        seen.seq = row.seq;
        if self.rows.len() >= MAX_RECORDS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
        self.end += 1;
        if self.seen.len() > MAX_WATCHED * 4 {
            self.seen.pop_first();
        }
    }

    /// At most `limit` rows from position `after`, and the position to go on from.
    pub fn after(&self, after: u64, limit: usize) -> (u64, Vec<Record>) {
        let begin = self.end - self.rows.len() as u64;
        let from = after.clamp(begin, self.end);
        let rows: Vec<Record> =
            self.rows.iter().skip((from - begin) as usize).take(limit).cloned().collect();
        (from + rows.len() as u64, rows)
    }

    /// The last `seq` seen of a node that was started so often: each time its numbers begin anew.
    fn last_seq(&mut self, node: NodeId, incarnation: u64) -> u64 {
        let seen = self.seen.entry(node.0).or_default();
        if incarnation > seen.incarnation {
            *seen = Seen { incarnation, seq: 0 };
        }
        seen.seq
    }
}

/// Watches every member, also those that come later, until the client closes.
pub(super) async fn watch_members(shared: Arc<Shared>) {
    let watched = Arc::new(Mutex::new(Vec::<String>::new()));
    loop {
        for address in shared.peers.candidates().into_iter().take(MAX_WATCHED) {
            let new = {
                let mut list = lock(&watched);
                let new = !list.contains(&address) && list.len() < MAX_WATCHED;
                if new {
                    list.push(address.clone());
                }
                new
            };
            if new {
                let (shared, watched) = (shared.clone(), watched.clone());
                tokio::spawn(async move {
                    tokio::select! { biased;
                        _ = shared.closing.acquire() => {}
                        () = watch_member(&shared, &address) => {}
                    }
                    lock(&watched).retain(|other| *other != address);
                });
            }
        }
        tokio::select! { biased;
            _ = shared.closing.acquire() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Follows one address; returns when it is gone and no member any more.
async fn watch_member(shared: &Shared, address: &str) {
    let mut silent = 0;
    while silent < GIVEN_UP || shared.peers.candidates().iter().any(|a| a == address) {
        // The address may be another node by now, whose numbers begin anew: ask who it is first.
        match shared.peers.status(address, STATUS_TIMEOUT).await {
            Ok(status) => {
                silent = 0;
                let incarnation = status.me.as_ref().map_or(0, |me| me.incarnation);
                follow_records(shared, address, own_id(&status), incarnation).await;
            }
            Err(_) => silent += 1,
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn follow_records(shared: &Shared, address: &str, node: NodeId, incarnation: u64) {
    let Ok(mut grpc) = shared.peers.grpc(address) else { return };
    let after_seq = lock(&shared.records).last_seq(node, incarnation);
    let Ok(response) = grpc.watch(WatchRequest { after_seq }).await else { return };
    let mut stream = response.into_inner();
    while let Ok(Some(message)) = stream.message().await {
        let mut records = lock(&shared.records);
        message.records.into_iter().for_each(|row| records.push(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: u64, seq: u64) -> Record {
        Record { node, seq, ..Record::default() }
    }

    #[test]
    fn rows_keep_their_positions_and_come_once() {
        let mut records = Records::default();
        for (node, seq) in [(1, 1), (2, 1), (1, 1), (1, 2)] {
            records.push(row(node, seq));
        }
        let (next, rows) = records.after(0, 2);
        assert_eq!((next, rows.len()), (2, 2));
        let (next, rows) = records.after(next, 10);
        assert_eq!((next, rows.len(), rows[0].seq), (3, 1, 2));
        assert_eq!(records.after(99, 10), (3, Vec::new()));
    }

    #[test]
    fn a_node_that_was_started_again_begins_to_count_anew() {
        let mut records = Records::default();
        assert_eq!(records.last_seq(NodeId(1), 1), 0);
        records.push(row(1, 5));
        assert_eq!(records.last_seq(NodeId(1), 1), 5);
        assert_eq!(records.last_seq(NodeId(1), 2), 0);
        records.push(row(1, 1));
        assert_eq!(records.after(0, 10).1.len(), 2);
    }

    #[test]
    fn the_oldest_rows_go_first_and_positions_stay_true() {
        let mut records = Records::default();
        for seq in 1..=MAX_RECORDS as u64 + 10 {
            records.push(row(1, seq));
        }
        let (next, rows) = records.after(0, usize::MAX);
        assert_eq!(rows.len(), MAX_RECORDS);
        assert_eq!(rows[0].seq, 11);
        assert_eq!(next, MAX_RECORDS as u64 + 10);
    }
}
