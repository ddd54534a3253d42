//! Judges a history of tasks by what clients and nodes saw, as Jepsen's checker of the same name does: what was
//! accepted comes out, once, and nothing comes out that was not put in. A pure function; knows no simulation.
//!
//! A history is a list of rows in order of time, one JSON object a line where it is a file:
//!
//! ```text
//!   {"at_us": 1200, "kind": "submitted", "task": "018f...", "client": "c1"}
//!   {"at_us": 1900, "kind": "accepted",  "task": "018f...", "client": "c1"}
//!   {"at_us": 2400, "kind": "started",   "task": "018f...", "node": "n2", "token": 786433}
//!   {"at_us": 9000, "kind": "ended",     "task": "018f...", "node": "n2", "token": 786433}
//!   {"at_us": 9900, "kind": "outcome",   "task": "018f...", "client": "c1", "outcome": "value:786433"}
//! ```
//!
//! | kind | who | says |
//! |---|---|---|
//! | `submitted` | client | it sent the task, perhaps again |
//! | `accepted` | client | it was told that a majority holds it |
//! | `refused` | client | it was told for good that this submission is not taken |
//! | `unknown` | client | it will never know what became of this submission |
//! | `started`, `ended` | node | an attempt began or ended there; `token` tells attempts apart |
//! | `outcome` | client or node | it was told, or has committed, this outcome; `token`: of the attempt it comes from |
//! | `cancelled` | client | it asked that the task be cancelled |
//!
//! A history is *whole* if it was kept until everything accepted had come out; only then can a task be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A client sent a task.
    Submitted,
    /// A client was told that it is accepted.
    Accepted,
    /// A client was told that it is not taken.
    Refused,
    /// A client will never know.
    Unknown,
    /// An attempt began.
    Started,
    /// An attempt ended.
    Ended,
    /// An outcome was told or committed.
    Outcome,
    /// A client asked to cancel.
    Cancelled,
}

/// The kinds with their names.
pub const KINDS: &[(&str, Kind)] = &[
    ("submitted", Kind::Submitted),
    ("accepted", Kind::Accepted),
    ("refused", Kind::Refused),
    ("unknown", Kind::Unknown),
    ("started", Kind::Started),
    ("ended", Kind::Ended),
    ("outcome", Kind::Outcome),
    ("cancelled", Kind::Cancelled),
];

impl Kind {
    /// The kind called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// One row of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<Task, Who> {
    /// When, in microseconds.
    pub at_us: u64,
    /// What.
    pub kind: Kind,
    /// Which task.
    pub task: Task,
    /// The node or client that saw it.
    pub who: Who,
    /// Whether `who` is a client.
    pub client: bool,
    /// The attempt; 0 where there is none.
    pub token: u64,
    /// The outcome in one word; empty where there is none.
    pub outcome: String,
}

/// How a history is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Accepted, and it never came out.
    Lost,
    /// One attempt began at two nodes.
    Double,
    /// It came out, or began, or was accepted, and nobody put it in; or an attempt came out that never began; or it was
    /// cancelled and nobody asked.
    Invented,
    /// Two outcomes of one task differ.
    Contradicting,
}

impl Flaw {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Flaw::Lost => "lost",
            Flaw::Double => "double",
            Flaw::Invented => "invented",
            Flaw::Contradicting => "contradicting",
        }
    }
}

/// One flaw of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How.
    pub flaw: Flaw,
    /// Which task.
    pub task: String,
    /// What was seen.
    pub problem: String,
}

/// What was found, and how much was looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Tasks that were submitted.
    pub submitted: u64,
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Tasks that have an outcome.
    pub outcomes: u64,
    /// Attempts that began.
    pub attempts: u64,
    /// Everything wrong, in order of tasks.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// How many tasks have this flaw.
    pub fn count(&self, flaw: Flaw) -> u64 {
        self.findings.iter().filter(|finding| finding.flaw == flaw).count() as u64
    }
}

struct Seen<'r, Who> {
    submitted: bool,
    accepted: Option<u64>,
    cancelled: bool,
    /// Where each attempt began, as often as it did.
    starts: BTreeMap<u64, Vec<&'r Who>>,
    begun: u64,
    outcomes: BTreeSet<String>,
    /// What was seen before it could be.
    early: Option<&'static str>,
    unstarted: Option<u64>,
    uncancelled: bool,
}

impl<Who> Default for Seen<'_, Who> {
    fn default() -> Self {
        Seen {
            submitted: false,
            accepted: None,
            cancelled: false,
            starts: BTreeMap::new(),
            begun: 0,
            outcomes: BTreeSet::new(),
            early: None,
            unstarted: None,
            uncancelled: false,
        }
    }
}

impl<'r, Who: Ord> Seen<'r, Who> {
    fn take<Task>(&mut self, row: &'r Row<Task, Who>) {
        if !self.submitted && !matches!(row.kind, Kind::Submitted | Kind::Cancelled) {
            self.early.get_or_insert(row.kind.as_str());
        }
        match row.kind {
            Kind::Submitted => self.submitted = true,
            Kind::Accepted => {
                self.accepted.get_or_insert(row.at_us);
            }
            Kind::Cancelled => self.cancelled = true,
            Kind::Started => {
                self.starts.entry(row.token).or_default().push(&row.who);
                self.begun += 1;
            }
            Kind::Outcome => {
                if row.token != 0 && !self.starts.contains_key(&row.token) {
                    self.unstarted.get_or_insert(row.token);
                }
                self.uncancelled |= row.outcome == "cancelled" && !self.cancelled;
                self.outcomes.insert(row.outcome.clone());
            }
            Kind::Refused | Kind::Unknown | Kind::Ended => {}
        }
    }

    fn flaws(&self, whole: bool) -> Vec<(Flaw, String)> {
        let mut flaws = Vec::new();
        if let (Some(at), true, true) = (self.accepted, self.outcomes.is_empty(), whole) {
            flaws.push((Flaw::Lost, format!("accepted at {at} us, and it has no outcome")));
        }
        if let Some((token, nodes)) = self.starts.iter().find(|(_, nodes)| nodes.len() > 1) {
            let distinct = nodes.iter().collect::<BTreeSet<_>>().len();
            let problem =
                format!("attempt {token} began {} times, at {distinct} nodes", nodes.len());
            flaws.push((Flaw::Double, problem));
        }
        if let Some(kind) = self.early {
            flaws.push((Flaw::Invented, format!("{kind} before anybody submitted it")));
        }
        if let Some(token) = self.unstarted {
            flaws.push((Flaw::Invented, format!("an outcome of attempt {token}, not begun")));
        }
        if self.uncancelled {
            flaws.push((Flaw::Invented, "cancelled, and nobody had asked".to_owned()));
        }
        if self.outcomes.len() > 1 {
            flaws.push((Flaw::Contradicting, format!("outcomes {:?}", self.outcomes)));
        }
        flaws
    }
}

/// Judges `rows`, which are in order of time; `whole`: everything accepted has had its time to come out.
pub fn judge<'r, Task, Who>(
    rows: impl IntoIterator<Item = &'r Row<Task, Who>>,
    whole: bool,
) -> Verdict
where
    Task: Ord + Display + 'r,
    Who: Ord + 'r,
{
    let mut tasks: BTreeMap<&Task, Seen<'r, Who>> = BTreeMap::new();
    for row in rows {
        tasks.entry(&row.task).or_default().take(row);
    }
    let mut verdict = Verdict::default();
    for (task, seen) in &tasks {
        verdict.submitted += u64::from(seen.submitted);
        verdict.accepted += u64::from(seen.accepted.is_some());
        verdict.outcomes += u64::from(!seen.outcomes.is_empty());
        verdict.attempts += seen.begun;
        verdict.findings.extend(seen.flaws(whole).into_iter().map(|(flaw, problem)| Finding {
            flaw,
            task: task.to_string(),
            problem,
        }));
    }
    verdict
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.flaw.as_str(), self.task, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind who [token] [outcome]`, one row a line, all of task `t`.
    fn check(history: &str, whole: bool, expected: &[Flaw]) {
        let row = |(n, line): (usize, &str)| {
            let mut parts = line.split_whitespace();
            let kind = Kind::parse(parts.next().unwrap()).unwrap();
            let who = parts.next().unwrap().to_owned();
            let rest: Vec<&str> = parts.collect();
            let token = rest.first().and_then(|t| t.parse().ok()).unwrap_or(0);
            let outcome = rest.last().filter(|o| o.parse::<u64>().is_err());
            let outcome = outcome.map_or_else(String::new, |o| (*o).to_owned());
            let client = who.starts_with('c');
            Row { at_us: n as u64, kind, task: "t", who, client, token, outcome }
        };
        let rows: Vec<_> = history.trim().lines().map(str::trim).enumerate().map(row).collect();
        let found: Vec<Flaw> = judge(&rows, whole).findings.iter().map(|f| f.flaw).collect();
        assert_eq!(found, expected, "{history}");
    }

    #[test]
    fn a_task_that_comes_out_once_is_well_whatever_was_repeated() {
        check(
            "submitted c1\n unknown c1\n submitted c1\n accepted c1\n started n1 5\n started n2 6\n ended n2 6
             outcome n1 6 value:6\n outcome n2 6 value:6\n outcome c1 value:6\n outcome c2 value:6",
            true,
            &[],
        );
        check("submitted c1\n refused c1\n submitted c1\n unknown c1", true, &[]);
        check("submitted c1\n accepted c1\n cancelled c2\n outcome c1 cancelled", true, &[]);
    }

    #[test]
    fn what_was_accepted_and_did_not_come_out_is_lost_once_the_history_is_whole() {
        check("submitted c1\n accepted c1\n started n1 5", true, &[Flaw::Lost]);
        check("submitted c1\n accepted c1\n started n1 5", false, &[]);
        check("submitted c1\n unknown c1\n started n1 5", true, &[]);
    }

    #[test]
    fn an_attempt_that_began_twice_is_double_and_two_words_contradict() {
        check("submitted c1\n started n1 5\n started n2 5", true, &[Flaw::Double]);
        check("submitted c1\n started n1 5\n started n1 5", true, &[Flaw::Double]);
        check(
            "submitted c1\n started n1 5\n started n2 6\n outcome c1 5 value:5\n outcome n1 6 value:6",
            true,
            &[Flaw::Contradicting],
        );
    }

    #[test]
    fn what_nobody_put_in_is_invented() {
        check("accepted c1\n submitted c1\n outcome c1 lost", true, &[Flaw::Invented]);
        check("submitted c1\n outcome c1 7 value:7", true, &[Flaw::Invented]);
        check("submitted c1\n outcome c1 cancelled\n cancelled c1", true, &[Flaw::Invented]);
    }
}
