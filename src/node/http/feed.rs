//! What the page's viewers are told: the cluster's status and what happens in it, on all nodes, as a client of the
//! cluster hears it. There is one client for all viewers, and none while nobody looks.
//!
//! ```text
//!   client (follows the leader, watches all nodes) ──▶ kept: last status, last rows ──▶ viewers, each at its own pace
//! ```

use super::json;
use crate::error::{Error, Result};
use crate::node::client::messages::Record;
use crate::node::client::words::condense;
use crate::node::client::{Client, ClientOptions};
use crate::node::shared::Shared;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Viewers of one node at once.
pub const VIEWERS: usize = 16;
/// Questions of viewers under way at once.
const ASKING: usize = 8;
/// Rows kept for those who come later.
const KEPT_ROWS: usize = 2_000;
/// Rows in one message.
const ROWS_PER_MESSAGE: usize = 300;
/// Rows read at once.
const READ: usize = 4_096;
/// How often rows are read.
const TICK: Duration = Duration::from_millis(200);
/// Pause between two looks at the status.
const STATUS_EVERY: Duration = Duration::from_millis(400);
/// How long a status may take.
const STATUS_TTL: Duration = Duration::from_millis(1_500);
/// Ticks for which the client stays when the last viewer has gone.
const LINGER: u32 = 50;
/// How long to look for the cluster, and to wait before another try.
const CONNECT_TTL: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);
/// The one source of all viewers of a node.
pub struct Feed {
    shared: Arc<Shared>,
    /// The folder of its certificate.
    tls: Option<PathBuf>,
    kept: Mutex<Kept>,
    /// Rings when there is news.
    rung: Notify,
    /// Rings when somebody looks.
    wanted: Notify,
    viewers: AtomicUsize,
    asking: AtomicUsize,
}

#[derive(Default)]
struct Kept {
    client: Option<Arc<Client>>,
    status: Arc<str>,
    /// Counts statuses.
    told: u64,
    rows: VecDeque<Arc<str>>,
    /// Position after the last row.
    end: u64,
}

impl Feed {
    /// A feed that sleeps until somebody looks.
    pub fn start(shared: Arc<Shared>, tls: Option<PathBuf>) -> Arc<Self> {
        let feed = Arc::new(Feed {
            shared,
            tls,
            kept: Mutex::new(Kept { status: "null".into(), ..Kept::default() }),
            rung: Notify::new(),
            wanted: Notify::new(),
            viewers: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
        });
        tokio::spawn(feed.clone().run());
        feed
    }

    /// A seat for one more viewer, if there is one.
    pub fn seat(self: &Arc<Self>) -> Option<Viewer> {
        take_place(&self.viewers, VIEWERS)?;
        self.wanted.notify_one();
        let begin = {
            let kept = self.kept();
            kept.end - kept.rows.len() as u64
        };
        Some(Viewer { feed: self.clone(), told: None, at: begin })
    }

    /// Asks the cluster; the client is made if nobody looked before.
    pub async fn ask<T, A>(&self, question: impl FnOnce(Arc<Client>) -> A) -> Result<T>
    where
        A: Future<Output = Result<T>>,
    {
        let busy = || Error::QueueFull {
            detail: format!("{ASKING} questions are under way on this page"),
            retry_after: TICK,
        };
        take_place(&self.asking, ASKING).ok_or_else(busy)?;
        let _place = Place(&self.asking);
        self.wanted.notify_one();
        let there = async {
            loop {
                let mut rung = pin!(self.rung.notified());
                rung.as_mut().enable();
                if let Some(client) = &self.kept().client {
                    return client.clone();
                }
                rung.await;
            }
        };
        match tokio::time::timeout(CONNECT_TTL, there).await {
            Ok(client) => question(client).await,
            Err(_) => {
                let what = "the cluster to answer this page".to_owned();
                Err(Error::WaitTimeout { what, waited: CONNECT_TTL })
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Text and numbers: whole after any panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        self.viewers.load(Ordering::Acquire) + self.asking.load(Ordering::Acquire) > 0
    }

    async fn run(self: Arc<Self>) {
        loop {
            while !self.is_wanted() {
                self.wanted.notified().await;
            }
            let tls = self.tls.clone();
            let options = ClientOptions { timeout: CONNECT_TTL, tls, ..ClientOptions::default() };
            let address = [self.shared.me.address_for_clients().to_owned()];
            match Client::connect(&address, options).await {
                Ok(client) => self.follow(Arc::new(client)).await,
                Err(error) => {
                    self.tell(json!({ "error": error.to_string() }));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Tells what `client` hears until nobody has looked for a while.
    async fn follow(&self, client: Arc<Client>) {
        self.kept().client = Some(client.clone());
        self.rung.notify_waiters();
        let statuses = async {
            loop {
                match client.status(None, STATUS_TTL).await {
                    Ok(status) => self.tell(json::status(&status)),
                    Err(error) => self.tell(json!({ "error": error.to_string() })),
                }
                tokio::time::sleep(STATUS_EVERY).await;
            }
        };
        let rows = async {
            let (mut after, mut unwatched) = (0, 0);
            while unwatched < LINGER {
                let (next, rows) = client.records(after, READ);
                after = next;
                let full = rows.len() == READ;
                self.add(&rows);
                unwatched = if self.is_wanted() { 0 } else { unwatched + 1 };
                if !full {
                    tokio::time::sleep(TICK).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = rows => {}
            () = statuses => {}
        }
        {
            // Whoever looks next is told nothing old.
            let mut kept = self.kept();
            kept.client = None;
            kept.status = "null".into();
            kept.rows.clear();
        }
        client.close().await;
    }

    fn tell(&self, status: Value) {
        let mut kept = self.kept();
        kept.status = status.to_string().into();
        kept.told += 1;
        drop(kept);
        self.rung.notify_waiters();
    }

    fn add(&self, rows: &[Record]) {
        let rows = condense(rows);
        if rows.is_empty() {
            return;
        }
        let mut kept = self.kept();
        for (row, count) in rows {
            if kept.rows.len() >= KEPT_ROWS {
                kept.rows.pop_front();
            }
            kept.rows.push_back(json::record(row, count).to_string().into());
            kept.end += 1;
        }
        drop(kept);
        self.rung.notify_waiters();
    }
}

fn take_place(taken: &AtomicUsize, most: usize) -> Option<()> {
    let more = |taken: usize| (taken < most).then_some(taken + 1);
    taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(drop)
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One who looks: what was told already. A slow one misses rows, which are counted, and keeps nobody waiting.
pub struct Viewer {
    feed: Arc<Feed>,
    /// The status it knows; `None`: it was told nothing yet.
    told: Option<u64>,
    at: u64,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.feed.viewers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Viewer {
    /// The next message, as JSON, once there is news; safe to drop and call again.
    pub async fn news(&mut self) -> String {
        let feed = self.feed.clone();
        loop {
            // Registered before the look, so that no news in between is missed.
            let mut rung = pin!(feed.rung.notified());
            rung.as_mut().enable();
            if let Some(message) = self.take() {
                return message;
            }
            rung.await;
        }
    }

    fn take(&mut self) -> Option<String> {
        let kept = self.feed.kept();
        let begin = kept.end - kept.rows.len() as u64;
        let at = self.at.max(begin);
        let (first, news) = (self.told.is_none(), self.told != Some(kept.told));
        if !news && at == kept.end {
            return None;
        }
        let missed = if first { 0 } else { at - self.at };
        let rows = kept.rows.iter().skip((at - begin) as usize).take(ROWS_PER_MESSAGE);
        let rows: Vec<&str> = rows.map(|row| &**row).collect();
        let status = if news { &*kept.status } else { "null" };
        (self.at, self.told) = (at + rows.len() as u64, Some(kept.told));
        let rows = rows.join(",");
        Some(format!(r#"{{"first":{first},"missed":{missed},"status":{status},"rows":[{rows}]}}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let taken = AtomicUsize::new(0);
        assert!(take_place(&taken, 1).is_some());
        let place = Place(&taken);
        assert!(take_place(&taken, 1).is_none());
        drop(place);
        assert!(take_place(&taken, 1).is_some());
    }
}
