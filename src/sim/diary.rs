//! What clients and nodes saw of tasks, row by row, for the checker; and which accepted tasks still wait.

use super::total_queue::{Kind, Row, Verdict, judge};
use super::work::attempt_of;
use crate::core::cluster::command::TaskSpec;
use crate::core::ids::{LogIndex, TaskId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Rows one run keeps at most; past that its history is not whole.
pub const MAX_ROWS: usize = 8_000_000;

/// A row of this diary.
pub type TaskRow = Row<TaskId, Arc<str>>;

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Diary {
    rows: Vec<TaskRow>,
    dropped: u64,
    /// Accepted, and no client was told an outcome.
    open: BTreeSet<TaskId>,
    told: BTreeSet<TaskId>,
    /// How far each node has told what it commits: a node that starts again tells it again.
    committed: BTreeMap<Arc<str>, LogIndex>,
    specs: BTreeMap<TaskId, Arc<TaskSpec>>,
}

impl Diary {
    fn push(&mut self, row: TaskRow) {
        if self.rows.len() < MAX_ROWS {
            self.rows.push(row);
        } else {
            self.dropped += 1;
        }
    }

    /// A node saw this.
    pub fn node_saw(
        &mut self,
        at: Duration,
        kind: Kind,
        task: TaskId,
        who: &Arc<str>,
        token: Option<Token>,
    ) {
        let (at_us, who) = (at.as_micros() as u64, who.clone());
        let token = token.map_or(0, |token| token.0);
        self.push(Row { at_us, kind, task, who, client: false, token, outcome: String::new() });
    }

    /// A client saw this.
    pub fn client_saw(&mut self, at: Duration, kind: Kind, task: TaskId, who: &Arc<str>) {
        if kind == Kind::Accepted && !self.told.contains(&task) {
            self.open.insert(task);
        }
        let (at_us, who) = (at.as_micros() as u64, who.clone());
        self.push(Row { at_us, kind, task, who, client: true, token: 0, outcome: String::new() });
    }

    /// Somebody was told, or has committed, an outcome.
    pub fn outcome(
        &mut self,
        at: Duration,
        task: TaskId,
        who: &Arc<str>,
        client: bool,
        word: &str,
    ) {
        if client {
            self.open.remove(&task);
            self.told.insert(task);
        }
        let (at_us, who, outcome) = (at.as_micros() as u64, who.clone(), word.to_owned());
        let token = attempt_of(word).map_or(0, |token| token.0);
        self.push(Row { at_us, kind: Kind::Outcome, task, who, client, token, outcome });
    }

    /// A node begins to tell what the entry at `index` did; false: it told so before.
    pub fn begin_entry(&mut self, who: &Arc<str>, index: LogIndex) -> bool {
        let last = self.committed.entry(who.clone()).or_default();
        let news = index > *last;
        *last = index.max(*last);
        news
    }

    /// The task as it was first submitted under its id; for a bug that is planted.
    pub fn first(&mut self, spec: &Arc<TaskSpec>) -> Arc<TaskSpec> {
        self.specs.entry(spec.id).or_insert_with(|| spec.clone()).clone()
    }

    /// Accepted tasks whose outcome no client knows.
    pub fn open(&self) -> &BTreeSet<TaskId> {
        &self.open
    }

    /// What the checker says; `drained`: everything had its time to come out.
    pub fn judge(&self, drained: bool) -> Verdict {
        judge(&self.rows, drained && self.dropped == 0)
    }

    /// Takes all rows out.
    pub fn take_rows(&mut self) -> Vec<TaskRow> {
        std::mem::take(&mut self.rows)
    }
}
