//! What the nodes do: work, ask, die; and what a leader hears of it.

use super::*;

impl Model {
    pub(super) fn work(&mut self, node: NodeId, event: Option<Event>) {
        let Some(hand) = self.hands.get_mut(&node).filter(|hand| hand.alive) else { return };
        let mut effects = Vec::new();
        if let Some(event) = event {
            hand.worker.on_event(self.now, event, &mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Run(a) => {
                    let attempt = (a.spec.id, a.token);
                    assert!(self.seen.begun.insert(attempt), "{attempt:?} began twice");
                    hand.running.insert(attempt);
                }
                Effect::SendInventory { held, .. } => {
                    let running = hand.running.iter().map(|(task, _)| *task).collect();
                    let status = NodeStatus { running, ..NodeStatus::default() };
                    hand.outbox.push_back(Event::StatusArrived { node, status });
                    let held = held.into_iter().map(|(task, token, _)| (task, token)).collect();
                    hand.outbox.push_back(Event::InventoryArrived { node, incarnation: 0, held });
                }
                Effect::SendReports { reports } => {
                    hand.outbox.push_back(Event::Reported { node, reports });
                }
                Effect::SendRelease { released, kept } => {
                    if !released.is_empty() {
                        hand.outbox.push_back(Event::Released { node, tasks: released });
                    }
                    if !kept.is_empty() {
                        hand.outbox.push_back(Event::Kept { node, tasks: kept });
                    }
                }
                Effect::AskForWork { free_slots } => {
                    let cpu_available = 1.0;
                    let asked = Event::WorkAsked { thief: node, free_slots, cpu_available };
                    hand.calls.push_back(asked);
                }
                _ => {}
            }
        }
    }

    pub(super) fn finish(&mut self, node: NodeId, task: TaskId, token: Token) {
        if let Some(hand) = self.hands.get_mut(&node) {
            hand.running.remove(&(task, token));
        }
        let report = Report::Value(Payload::inline(Codec::Json, Bytes::from(token.0.to_string())));
        let duration = Duration::from_millis(100);
        let output = Bytes::new();
        self.work(node, Some(Event::AttemptEnded { task, token, report, output, duration }));
    }

    /// Its own clock has come to the time it set; all others stand still.
    pub(super) fn ask(&mut self, node: NodeId) {
        self.left.asks -= 1;
        let due = self.hands.get(&node).and_then(|hand| hand.worker.next_deadline());
        let now = self.now;
        self.now = due.unwrap_or(now);
        self.work(node, Some(Event::TimerFired));
        self.now = now;
    }

    pub(super) fn die(&mut self, node: NodeId) {
        self.left.deaths -= 1;
        self.note_disturbance(Some(node));
        if let Some(hand) = self.hands.get_mut(&node) {
            hand.alive = false;
            hand.inbox.clear();
            hand.running.clear();
        }
    }

    pub(super) fn notice(&mut self, node: NodeId) {
        if let Some(hand) = self.hands.get_mut(&node) {
            hand.outbox.clear();
        }
        self.tell(vec![Event::SessionBroken { node, refused: true }]);
    }

    pub(super) fn break_session(&mut self, node: NodeId) {
        self.left.breaks -= 1;
        self.note_disturbance(Some(node));
        self.tell(vec![Event::SessionBroken { node, refused: false }]);
        self.open(node);
    }

    /// A steal is under way from `node`, to it, or between any two.
    pub(super) fn note_disturbance(&mut self, node: Option<NodeId>) {
        let concerns = |victim: NodeId, thief: &Option<NodeId>| {
            thief.is_some() && node.is_none_or(|node| node == victim || *thief == Some(node))
        };
        let posts = self.leader.roster().values();
        let under_way = posts
            .flat_map(|post| post.revoking.values().map(|thief| (post.member.id, thief)))
            .any(|(victim, thief)| concerns(victim, thief));
        self.disturbed += usize::from(under_way);
    }
}
