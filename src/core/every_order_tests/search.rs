//! Looks at every state once, and at what must hold in it.

use super::*;

impl Model {
    /// What holds in every state: without copies nothing ever runs twice at once, and no report comes too late.
    pub(super) fn check(&mut self) {
        let mut hosts: BTreeMap<TaskId, NodeId> = BTreeMap::new();
        let mut twice = self.seen.late > 0;
        for (node, hand) in &self.hands {
            for (task, _) in &hand.running {
                twice |= hosts.insert(*task, *node).is_some();
            }
        }
        self.seen.twice |= twice;
        assert!(!twice || self.copies > 0, "a task runs twice, or did: {hosts:?}");
    }

    /// Nothing happens by itself any more: everything has its outcome, and whoever waits was told.
    pub(super) fn check_end(&self) {
        let done = self.seen.finished.len() as u128;
        assert_eq!(done, self.size.tasks, "lost: {:?}", self.state.live());
        if self.size.budget.elections == 0 {
            assert_eq!(self.seen.delivered.len() as u128, self.size.tasks, "nobody was told");
        }
    }

    /// Everything that decides what can happen from here on.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut digest = Digest(Xxh3::new());
        let Model { left, now, term, leader, state, wishes, hands, seen, .. } = self;
        let told =
            write!(digest, "{left:?}{now:?}{term}{leader:?}{state:?}{wishes:?}{hands:?}{seen:?}");
        assert!(told.is_ok());
        digest.0.digest128()
    }
}

struct Digest(Xxh3);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// What a search came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// States in which nothing happens by itself any more.
    pub(super) ends: usize,
    pub(super) depth: usize,
    /// States after which a steal is in the log.
    pub(super) stolen: usize,
    /// Most steals on one way.
    pub(super) most_steals: usize,
    /// States on whose way a steal was disturbed while it was under way.
    pub(super) disturbed: usize,
    /// States on whose way a task was copied, and on whose way one ran twice.
    pub(super) copied: usize,
    pub(super) twice: usize,
}

/// Looks at every state that can be reached, each once.
pub(super) struct Search {
    size: Size,
    known: BTreeSet<u128>,
    way: Vec<Step>,
    found: Found,
    /// Nothing was broken.
    whole: bool,
}

impl Search {
    pub(super) fn run(size: Size) -> Found {
        let mut search = Search {
            size,
            known: BTreeSet::new(),
            way: Vec::new(),
            found: Found::default(),
            whole: false,
        };
        let start = Box::new(Model::new(size));
        search.known.insert(start.fingerprint());
        search.visit(start);
        search.whole = true;
        std::mem::take(&mut search.found)
    }

    fn visit(&mut self, model: Box<Model>) {
        let steps = model.steps();
        let found = &mut self.found;
        found.states += 1;
        found.depth = found.depth.max(self.way.len());
        found.stolen += usize::from(model.steals > 0);
        found.most_steals = found.most_steals.max(model.steals);
        found.disturbed += usize::from(model.disturbed > 0);
        found.copied += usize::from(model.copies > 0);
        found.twice += usize::from(model.seen.twice);
        if !steps.iter().any(|step| step.is_progress()) {
            found.ends += 1;
            model.check_end();
        }
        let mut here = Some(model);
        for step in steps {
            let mut next = here.take().unwrap_or_else(|| self.again());
            self.way.push(step);
            self.found.steps += 1;
            next.take(step);
            if self.known.insert(next.fingerprint()) {
                self.visit(next);
            }
            self.way.pop();
        }
    }

    fn again(&self) -> Box<Model> {
        let mut model = Box::new(Model::new(self.size));
        self.way.iter().for_each(|step| model.take(*step));
        model
    }
}

// A promise that does not survive ends the test; the way there is what one wants to know.
impl Drop for Search {
    fn drop(&mut self) {
        if !self.whole {
            eprintln!("the way there: {:?}", self.way);
        }
    }
}
