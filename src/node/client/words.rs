//! What the messages of the client protocol say, in the words people read: for Python's dicts, and for the page's JSON.

use super::messages::{Record, Role, TaskState};
use crate::core::ids::{NodeId, TaskId};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The words that [`state`] takes.
const STATES: [&str; 7] =
    ["pending", "assigned", "succeeded", "failed", "cancelled", "quarantined", "expired"];
/// Characters that an error repeats of a word it does not know.
const SHOWN_CHARS: usize = 40;
/// Kinds of rows whose news every status has anyway.
const SHOWN: [&str; 2] = ["scored", "loaded"];
/// Kinds of rows that come by the thousand.
const MANY: [&str; 5] = ["stolen", "copied", "retried", "reassigned", "late_completion"];

/// A node's id; `None` for "nobody".
pub fn node_text(id: u64) -> Option<String> {
    (id != 0).then(|| NodeId(id).to_string())
}

/// A task's id as a UUID; `None` where there is none.
pub fn task_text(id: &[u8]) -> Option<String> {
    TaskId::from_bytes(id).map(|id| id.to_string())
}

/// Charts and JSON know neither NaN nor a negative zero.
pub fn number(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value + 0.0 }
}

/// What a node is.
pub fn role_text(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Worker => "worker",
    }
}

/// How a task is.
pub fn state_text(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unknown",
        TaskState::Pending => "pending",
        TaskState::Assigned => "assigned",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Quarantined => "quarantined",
        TaskState::Expired => "expired",
    }
}

/// The state called `name`; the error names those there are.
pub fn state(name: &str) -> Result<TaskState> {
    let mut states = (1..=7).filter_map(|n| TaskState::try_from(n).ok());
    states.find(|state| state_text(*state) == name).ok_or_else(|| {
        let (shown, known) =
            (name.chars().take(SHOWN_CHARS).collect::<String>(), STATES.join(", "));
        Error::config("state", format!("{shown:?} is not a state; choose one of {known}"))
    })
}

/// Rows as a view of what happens takes them: without those that every status shows, and alike ones of what comes by
/// the thousand as the last of them, counted.
pub fn condense(rows: &[Record]) -> Vec<(&Record, u64)> {
    let mut told: Vec<(&Record, u64)> = Vec::new();
    let mut alike: BTreeMap<(&str, NodeId, &str), usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| !SHOWN.contains(&row.kind.as_str())) {
        if !MANY.contains(&row.kind.as_str()) {
            told.push((row, 1));
            continue;
        }
        let key = (row.kind.as_str(), NodeId(row.subject), row.detail.as_str());
        let at = *alike.entry(key).or_insert(told.len());
        match told.get_mut(at) {
            Some(found) => *found = (row, found.1 + 1),
            None => told.push((row, 1)),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, subject: u64, detail: &str) -> Record {
        Record { kind: kind.to_owned(), subject, detail: detail.to_owned(), ..Record::default() }
    }

    #[test]
    fn every_state_is_found_by_its_word() {
        for word in STATES {
            assert_eq!(state(word).ok().map(state_text), Some(word));
        }
        for bad in ["unknown", "", &"x".repeat(1_000)] {
            let problem = state(bad).unwrap_err().to_string();
            assert!(problem.contains("choose one of pending, assigned"), "{problem}");
            assert!(problem.len() < 200, "{problem}");
        }
    }

    #[test]
    fn alike_rows_of_what_comes_by_the_thousand_are_counted() {
        let rows = [
            row("scored", 1, ""),
            row("stolen", 1, "n2"),
            row("voted", 1, ""),
            row("stolen", 1, "n2"),
            row("stolen", 1, "n3"),
            row("voted", 1, ""),
        ];
        let told = condense(&rows);
        let found: Vec<(&str, u64)> = told.iter().map(|(row, n)| (row.kind.as_str(), *n)).collect();
        assert_eq!(found, [("stolen", 2), ("voted", 1), ("stolen", 1), ("voted", 1)]);
    }
}
