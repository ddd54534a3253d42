//! How fast a data directory confirms, beside the disk itself: appends of several sizes, alone and many at once.
//!
//! ```text
//! cargo bench --bench storage [-- FOLDER]     FOLDER lies on the disk to measure; default: target/
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures, and stops at any error"
)]

use hustings::core::cluster::command::{Batch, Command, FunctionRef, TaskSpec};
use hustings::core::ids::{FunctionHash, SessionId, TaskId};
use hustings::node::consensus::Stores;
use hustings::node::consensus::log_store::LogStore;
use hustings::node::consensus::types::{Entry, LogId, SnapshotMeta, TypeConfig};
use hustings::node::storage::Storage;
use hustings::node::storage::disk::{Disk, Open};
use hustings::node::storage::folder::Folder;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one cell is measured.
const CELL: Duration = Duration::from_secs(2);
/// Entries after which the log is cut, as a node would.
const CUT_EVERY: u64 = 2_000;

fn entry(index: u64, tasks: usize) -> Entry {
    let spec = |i: usize| {
        Arc::new(TaskSpec {
            payload: vec![b'x'; 100].into(),
            ..TaskSpec::new(
                TaskId(u128::from(index) << 32 | i as u128),
                SessionId(1),
                FunctionRef { name: "app.tasks.nothing".into(), hash: FunctionHash(1) },
            )
        })
    };
    let commands = (0..tasks).map(|i| Command::Submit { spec: spec(i), to: None }).collect();
    Entry::new_normal(log_id(index), Batch { at_ms: 1, commands })
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId::<u64, u64>::new(1, 1).to_committed(), index)
}

fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() - 1) as f64 * share) as usize;
    times[at].as_secs_f64() * 1e3
}

fn report(what: &str, count: usize, tasks: usize, spent: Duration, times: &mut [Duration]) {
    let rate = count as f64 / spent.as_secs_f64();
    let (p50, p99) = (percentile(times, 0.5), percentile(times, 0.99));
    println!("{what:44} {rate:>9.0} {:>11.0} {p50:>9.3} {p99:>9.3}", rate * tasks as f64);
}

/// Appends with `depth` of them on their way at any time.
async fn appends(stores: &Stores, what: &str, tasks: usize, depth: usize, next: &mut u64) {
    let mut log: LogStore = stores.log.clone();
    let (mut waiting, mut times) = (VecDeque::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < CELL {
        while waiting.len() < depth {
            let (flushed, receiver) = TypeConfig::oneshot();
            let entry = entry(*next, tasks);
            waiting.push_back((Instant::now(), receiver));
            log.append([entry], IOFlushed::signal(flushed)).await.unwrap();
            *next += 1;
        }
        let (since, receiver) = waiting.pop_front().unwrap();
        receiver.await.unwrap().unwrap();
        times.push(since.elapsed());
        if next.is_multiple_of(CUT_EVERY) {
            cut(stores, &mut log, *next - CUT_EVERY / 2).await;
        }
    }
    for (_, receiver) in waiting {
        receiver.await.unwrap().unwrap();
    }
    report(what, times.len(), tasks, begin.elapsed(), &mut times);
}

async fn cut(stores: &Stores, log: &mut LogStore, upto: u64) {
    let meta = SnapshotMeta { last_log_id: Some(log_id(upto)), ..SnapshotMeta::default() };
    stores.snapshots.keep_encoded(meta, vec![0; 1 << 10]).await.unwrap();
    log.purge(log_id(upto)).await.unwrap();
}

/// The disk alone: one write and one sync after the other.
fn syncs(folder: &Path, bytes: usize) {
    let disk = Folder::new(folder);
    disk.prepare().unwrap();
    let file = disk.open("probe", Open::Fresh).unwrap();
    file.write(0, &vec![0; 64 * bytes]).unwrap();
    file.sync().unwrap();
    let (mut times, data) = (Vec::new(), vec![1; bytes]);
    let begin = Instant::now();
    while begin.elapsed() < CELL {
        let since = Instant::now();
        file.write((times.len() % 64 * bytes) as u64, &data).unwrap();
        file.sync().unwrap();
        times.push(since.elapsed());
    }
    report(
        &format!("write + fdatasync, {bytes} bytes"),
        times.len(),
        0,
        begin.elapsed(),
        &mut times,
    );
    disk.remove("probe").unwrap();
}

fn main() {
    let given = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let base = given.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target").to_owned());
    let base = Path::new(&base).join(format!("storage-bench-{}", std::process::id()));
    std::fs::create_dir(&base).unwrap();
    println!("{:44} {:>9} {:>11} {:>9} {:>9}", "", "per s", "tasks per s", "p50 ms", "p99 ms");
    for bytes in [512, 16 << 10, 64 << 10] {
        syncs(&base.join("disk"), bytes);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        for (tasks, depth) in [(1, 1), (1, 64), (100, 1), (100, 8), (256, 8)] {
            let folder = base.join(format!("log-{tasks}-{depth}"));
            let (storage, stores) = Storage::open(Arc::new(Folder::new(&folder))).unwrap();
            let what = format!("redb: {tasks} tasks per entry, {depth} on their way");
            appends(&stores, &what, tasks, depth, &mut 0).await;
            storage.close().await;
            let what = format!("memory: {tasks} tasks per entry, {depth} on their way");
            appends(&Stores::default(), &what, tasks, depth, &mut 0).await;
        }
    });
    std::fs::remove_dir_all(&base).unwrap();
}
