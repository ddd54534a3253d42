//! Runs `tests/scenarios/election_*.txt`: a rule, commands, and what the electors of a small world then do.
//!
//! The world is a millisecond clock, a network without delay, and Raft's voting rule; the electors are the product's.
//! `UPDATE=1 cargo test scenarios` rewrites the expectations; read the difference before you keep it.

use hustings::config::Config;
use hustings::core::Moment;
use hustings::core::election::boundary::{ElectionEffect, PollAnswer, PollQuestion};
use hustings::core::election::{Elector, RaftRole, RaftView};
use hustings::core::ids::{LogIndex, NodeId, Term};
use hustings::core::record::{Record, RecordKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

struct Node {
    elector: Elector,
    term: Term,
    voted: Term,
    role: RaftRole,
    leader: Option<NodeId>,
    log: (Term, LogIndex),
    score: f64,
    /// It leads, but has handed over: it neither beats nor tells.
    let_go: bool,
}

#[derive(Default)]
struct World {
    now_ms: u64,
    nodes: BTreeMap<NodeId, Node>,
    /// Cannot speak or be spoken to.
    cut: BTreeSet<NodeId>,
    /// Does not run until this millisecond.
    frozen: BTreeMap<NodeId, u64>,
    leaders: BTreeMap<Term, NodeId>,
    told: String,
    since_ms: u64,
}

impl World {
    fn now(&self) -> Moment {
        Moment(1_000_000 + self.now_ms * 1_000)
    }

    fn runs(&self, id: NodeId) -> bool {
        self.frozen.get(&id).is_none_or(|until| self.now_ms >= *until)
    }

    fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        let up = |id| !self.cut.contains(&id) && self.runs(id);
        up(a) && up(b)
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn perform(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<u64>().unwrap();
        let id = || NodeId(number(1));
        (self.since_ms, self.told) = (self.now_ms, String::new());
        match words[0] {
            "voters" => self.create(number(1), words.get(2).copied().unwrap_or("lan")),
            "score" => self.node(id()).score = words[2].parse().unwrap(),
            "log" => self.node(id()).log = (number(2), number(3)),
            "lead" => self.lead(id()),
            "timeout" => self.campaign(id()),
            "drain" => self.drain(id()),
            "kill" => {
                self.cut.insert(id());
                let now = self.now();
                for node in self.nodes.values_mut() {
                    node.elector.on_connection_evidence(now, id());
                }
            }
            "silence" => drop(self.cut.insert(id())),
            "heal" => drop(self.cut.remove(&id())),
            "freeze" => drop(self.frozen.insert(id(), self.now_ms + number(2))),
            "run" => (0..number(1)).for_each(|_| self.step()),
            other => panic!("no command {other:?}"),
        }
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    fn create(&mut self, count: u64, profile: &str) {
        let config = Config::profile(profile).unwrap();
        for n in 1..=count {
            let node = Node {
                elector: Elector::new(NodeId(n), &config, n),
                term: 0,
                voted: 0,
                role: RaftRole::Follower,
                leader: None,
                log: (0, 100),
                score: 0.5,
                let_go: false,
            };
            self.nodes.insert(NodeId(n), node);
        }
    }

    fn lead(&mut self, id: NodeId) {
        let term = self.nodes.values().map(|n| n.term).max().unwrap_or(0) + 1;
        for node in self.nodes.values_mut() {
            (node.term, node.voted) = (term, term);
        }
        let node = self.node(id);
        (node.role, node.leader) = (RaftRole::Leader, Some(id));
        assert_eq!(*self.leaders.entry(term).or_insert(id), id, "two leaders in term {term}");
    }

    fn drain(&mut self, id: NodeId) {
        let now = self.now();
        let elector = &mut self.node(id).elector;
        let to = elector.plan_handover(now).expect("somebody can take over");
        elector.start_handover(now, to, "drain");
    }

    fn observe(&mut self, id: NodeId) {
        let (now, voters) = (self.now(), self.ids());
        let n = self.node(id);
        let view =
            RaftView { term: n.term, role: n.role, leader: n.leader, voters, last_log: n.log };
        n.elector.set_score(n.score);
        n.elector.on_raft_changed(now, view);
    }

    /// One millisecond: the leaders speak, then every node that runs decides.
    fn step(&mut self) {
        self.now_ms += 1;
        for id in self.ids() {
            let leads = self.nodes[&id].role == RaftRole::Leader && !self.nodes[&id].let_go;
            if leads && self.runs(id) {
                self.observe(id);
                if self.now_ms.is_multiple_of(20) {
                    self.append(id);
                }
                if self.now_ms.is_multiple_of(100) {
                    self.broadcast(id);
                }
            }
        }
        for id in self.ids() {
            if !self.runs(id) {
                continue;
            }
            self.observe(id);
            let now = self.now();
            for effect in self.node(id).elector.tick(now) {
                self.effect(id, effect);
            }
        }
    }

    fn append(&mut self, leader: NodeId) {
        let (now, term) = (self.now(), self.nodes[&leader].term);
        for id in self.ids() {
            if id == leader || !self.reaches(leader, id) {
                continue;
            }
            let node = self.node(id);
            if node.term > term {
                let newer = node.term;
                let old = self.node(leader);
                (old.term, old.role, old.leader) = (newer, RaftRole::Follower, None);
                old.let_go = false;
                return;
            }
            (node.term, node.role, node.leader) = (term, RaftRole::Follower, Some(leader));
            node.let_go = false;
            node.elector.on_append(now, leader, term, true);
        }
    }

    fn broadcast(&mut self, leader: NodeId) {
        let now = self.now();
        let Some((term, table)) = self.node(leader).elector.build_table(now) else { return };
        for id in self.ids() {
            if id != leader && self.reaches(leader, id) {
                self.node(id).elector.on_table(term, table.clone());
                let (score, log) = (self.nodes[&id].score, self.nodes[&id].log);
                self.node(leader).elector.on_peer_score(now, id, score, log);
            }
        }
    }

    fn effect(&mut self, id: NodeId, effect: ElectionEffect) {
        match effect {
            ElectionEffect::Record(record) => self.tell(id, &record),
            ElectionEffect::Poll(question, spared) => self.poll(id, &question, spared),
            ElectionEffect::Campaign => self.campaign(id),
            ElectionEffect::TransferLeader { to } => {
                self.node(id).let_go = true;
                if self.reaches(id, to) {
                    self.campaign(to);
                }
            }
            ElectionEffect::Reclaim { .. } => {
                self.node(id).term += 1;
                self.campaign(id);
            }
            ElectionEffect::EnableLibraryElections(on) => {
                let at = self.now_ms - self.since_ms;
                writeln!(self.told, "  {at:>5} n{} library elections: {on}", id.0).unwrap();
            }
        }
    }

    fn poll(&mut self, id: NodeId, question: &PollQuestion, spared: Option<NodeId>) {
        let now = self.now();
        let mut answers: Vec<(NodeId, PollAnswer)> = Vec::new();
        for voter in self.ids() {
            if voter != id && Some(voter) != spared && self.reaches(id, voter) {
                self.observe(voter);
                answers.push((voter, self.node(voter).elector.on_poll(now, question)));
            }
        }
        self.node(id).elector.on_poll_closed(now, &answers);
        for effect in self.node(id).elector.tick(now) {
            self.effect(id, effect);
        }
    }

    /// Raft's rule: one vote per term, never for an older log.
    fn campaign(&mut self, id: NodeId) {
        let now = self.now();
        let node = self.node(id);
        node.term += 1;
        (node.voted, node.role, node.leader) = (node.term, RaftRole::Candidate, None);
        node.let_go = false;
        let (term, log) = (node.term, node.log);
        let mut votes = 1;
        for voter in self.ids() {
            if voter == id || !self.reaches(id, voter) {
                continue;
            }
            let other = self.node(voter);
            if other.voted < term && other.term <= term && other.log <= log {
                (other.voted, other.term, other.role) = (term, term, RaftRole::Follower);
                (other.leader, other.let_go) = (None, false);
                other.elector.on_vote_granted(now, term, id);
                votes += 1;
            }
        }
        if votes > self.nodes.len() / 2 {
            assert_eq!(*self.leaders.entry(term).or_insert(id), id, "two leaders in term {term}");
            let node = self.node(id);
            (node.role, node.leader, node.log) =
                (RaftRole::Leader, Some(id), (term, node.log.1 + 1));
            self.append(id);
            self.replicate(id);
        }
    }

    fn replicate(&mut self, leader: NodeId) {
        let log = self.nodes[&leader].log;
        for id in self.ids() {
            if self.reaches(leader, id) {
                self.node(id).log = log;
            }
        }
    }

    fn tell(&mut self, id: NodeId, record: &Record) {
        let at = self.now_ms - self.since_ms;
        let about = match record.kind {
            RecordKind::Scored => return,
            RecordKind::Polled | RecordKind::Campaigned => {
                format!("rank {} score {:.2}", record.rank, record.score)
            }
            RecordKind::Suspected | RecordKind::FalseSuspicion => {
                let silence = (record.value * 1e3).round();
                format!("n{} after {silence} ms {}", record.subject.0, record.detail)
            }
            RecordKind::PollLost => record.detail.clone(),
            RecordKind::HandoverStarted => format!("to n{}: {}", record.subject.0, record.detail),
            _ => format!("n{} term {}", record.subject.0, record.term),
        };
        let line = format!("  {at:>5} n{} {} {about}", id.0, record.kind.as_str());
        writeln!(self.told, "{}", line.trim_end()).unwrap();
    }
}

/// The file with what really happens below each command.
fn replay(text: &str) -> String {
    let mut world = World::default();
    let mut out = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            world.perform(command);
            writeln!(out, "{line}").unwrap();
            out.push_str(&world.told);
        } else if !line.starts_with("  ") {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

#[test]
fn elections_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_string_lossy().starts_with("election_"));
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {folder:?}");
    let mut wrong = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap();
        assert!(expected.starts_with("# "), "{file:?} must open with the rule it shows");
        let got = replay(&expected);
        assert_eq!(got, replay(&expected), "{file:?} does not replay");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &got).unwrap();
        } else if got != expected {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- got\n{got}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
