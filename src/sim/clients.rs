//! Imagined clients: they submit under ids of their own, try again when nobody answers, move with the leader, follow,
//! acknowledge, cancel, and now and then submit an id again, with the same arguments or with others.

use super::bugs::Bug;
use super::invariants::{Fact, TaskFact};
use super::loads::{exponential, unit};
use super::places::Place;
use super::total_queue::Kind;
use super::work::{self, Work, content, word};
use super::world::World;
use crate::core::boundary::Event;
use crate::core::chance::Chance;
use crate::core::cluster::command::TaskSpec;
use crate::core::ids::{SessionId, TaskId};
use crate::node::client::answers::{Answer, of_outcomes, of_submit};
use crate::node::driver::Input;
use crate::node::transport::sessions::OUTBOX;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long a client waits for a word before it looks for another node.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon it looks again for somebody who leads.
const LOOK: Duration = Duration::from_millis(50);
/// How often it looks what is to be said again.
const TICK: Duration = Duration::from_millis(250);
/// Finished tasks a client may submit again.
const REMEMBERED: usize = 64;

/// What all clients of one world share.
#[derive(Debug, Default)]
pub struct Crowd {
    /// No new tasks: what is under way shall come to its end.
    closing: AtomicBool,
    unfinished: AtomicUsize,
}

impl Crowd {
    /// From now on nobody submits anything new.
    pub fn close(&self) {
        self.closing.store(true, SeqCst);
    }

    /// Tasks that some client still waits for.
    pub fn unfinished(&self) -> usize {
        self.unfinished.load(SeqCst)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be sent, perhaps again.
    New,
    /// Sent on the open connection.
    Sent,
    Accepted,
}

struct Entry {
    spec: Arc<TaskSpec>,
    stage: Stage,
    /// Submitted before, by an earlier entry.
    again: bool,
}

/// One client.
pub struct Client {
    world: Arc<World>,
    crowd: Arc<Crowd>,
    work: Work,
    name: Arc<str>,
    session: SessionId,
    chance: Chance,
    table: BTreeMap<TaskId, Entry>,
    finished: Vec<Arc<TaskSpec>>,
    acknowledge: Vec<TaskId>,
    /// Which tasks it will not want any more, and from when on.
    unwanted: Vec<(Duration, TaskId)>,
    next_task: Duration,
    heard: Duration,
}

/// An open connection: what is said to a node, and what comes back.
struct Connection {
    says: UnboundedSender<Input>,
    hears: UnboundedReceiver<Option<Answer>>,
    breaks: Duration,
}

impl Client {
    /// The `number`-th client.
    pub fn new(
        world: Arc<World>,
        crowd: Arc<Crowd>,
        work: Work,
        number: usize,
        mut chance: Chance,
    ) -> Self {
        let session = SessionId(u128::from(chance.draw()) << 64 | u128::from(chance.draw()) | 1);
        Client {
            world,
            crowd,
            work,
            name: Arc::from(format!("c{}", number + 1)),
            session,
            chance,
            table: BTreeMap::new(),
            finished: Vec::new(),
            acknowledge: Vec::new(),
            unwanted: Vec::new(),
            next_task: Duration::ZERO,
            heard: Duration::ZERO,
        }
    }

    /// Runs until the world ends.
    pub async fn run(mut self) {
        self.next_task = self.world.elapsed() + self.pause();
        loop {
            let Some(place) = self.find_leader().await else { continue };
            let mut connection = self.connect(place);
            self.restart(&connection);
            while self.step(&mut connection).await {}
            self.lose();
        }
    }

    fn pause(&mut self) -> Duration {
        if self.work.per_s <= 0.0 {
            return Duration::from_secs(3_600);
        }
        let mean = Duration::from_secs_f64(self.work.clients as f64 / self.work.per_s);
        exponential(&mut self.chance, mean)
    }

    /// Asks one node after the other, until one says that it leads.
    async fn find_leader(&mut self) -> Option<Place> {
        let places = self.world.places();
        let place = places.get(self.chance.below(places.len()))?.clone();
        self.world.clock.sleep(self.world.draw_latency()).await;
        let leads = |place: &Place| place.leads() && !place.life.is_frozen();
        let leader = match &place.consensus {
            _ if place.life.has_ended() || place.life.is_frozen() => None,
            _ if leads(&place) => Some(place),
            Some(consensus) => {
                let leader = consensus.view().leader;
                leader.and_then(|leader| self.world.place_of(leader)).filter(leads)
            }
            None => None,
        };
        let wait = if leader.is_some() { self.world.draw_latency() } else { LOOK };
        self.world.clock.sleep(wait).await;
        leader
    }

    fn connect(&mut self, place: Place) -> Connection {
        let world = self.world.clone();
        let (session, stream) = (self.session, world.number());
        let (submit, answers) = mpsc::channel(OUTBOX);
        let (outcomes, told) = mpsc::channel(OUTBOX);
        let (says, said) = unbounded_channel();
        let (tell, hears) = unbounded_channel();
        let closed = Input::StreamClosed(session, stream);
        tokio::spawn(speak(world.clone(), place, said, (closed, tell.clone())));
        let _ = says.send(Input::SubmitOpened(session, stream, submit));
        let _ = says.send(Input::OutcomesOpened(session, stream, outcomes));
        tokio::spawn(listen(world.clone(), answers, tell.clone(), of_submit));
        tokio::spawn(listen(world.clone(), told, tell, of_outcomes));
        self.heard = world.elapsed();
        let breaks = world.elapsed() + exponential(&mut self.chance, self.work.connection);
        Connection { says, hears, breaks }
    }

    /// On a new connection: what has no answer goes again, what is accepted is followed.
    fn restart(&mut self, connection: &Connection) {
        self.send_new(connection);
        let accepted =
            |(id, entry): (&TaskId, &Entry)| (entry.stage == Stage::Accepted).then_some(*id);
        let tasks: Vec<TaskId> = self.table.iter().filter_map(accepted).collect();
        if !tasks.is_empty() {
            let followed = Event::Followed { session: self.session, tasks };
            let _ = connection.says.send(Input::Core(followed));
        }
    }

    /// One thing happens; false: the connection is over.
    async fn step(&mut self, connection: &mut Connection) -> bool {
        let now = self.world.elapsed();
        let silent = !self.table.is_empty() && now > self.heard + PATIENCE;
        if now >= connection.breaks || (silent && self.waits()) {
            return false;
        }
        let next = self.next_task.min(now + TICK).min(connection.breaks);
        tokio::select! {
            biased;
            answer = connection.hears.recv() => {
                let Some(Some(answer)) = answer else { return false };
                self.heard = self.world.elapsed();
                self.take(answer, connection);
            }
            () = self.world.clock.sleep(next.saturating_sub(now)) => self.tick(connection),
        }
        true
    }

    /// Something was said that wants an answer.
    fn waits(&self) -> bool {
        self.table.values().any(|entry| entry.stage == Stage::Sent)
    }

    fn tick(&mut self, connection: &Connection) {
        if self.world.elapsed() >= self.next_task {
            self.next_task = self.world.elapsed() + self.pause();
            if !self.crowd.closing.load(SeqCst) {
                self.invent();
            }
        }
        self.send_new(connection);
        self.cancel(connection);
        if !self.acknowledge.is_empty() {
            let tasks = std::mem::take(&mut self.acknowledge);
            let held = Event::Acknowledged { session: self.session, tasks };
            let _ = connection.says.send(Input::Core(held));
        }
    }

    /// A new task, or an old id again.
    fn invent(&mut self) {
        let again = unit(&mut self.chance) < self.work.again && !self.finished.is_empty();
        let spec = if again {
            let old = self.finished[self.chance.below(self.finished.len())].clone();
            match unit(&mut self.chance) < self.work.conflict {
                true => work::task(old.id, self.session, &mut self.chance),
                false => old,
            }
        } else {
            // The time in milliseconds stands first, as in a UUID of version 7.
            let ms = u128::from(self.world.clock.today_us() / 1_000);
            let random = u128::from(self.chance.draw());
            let id = TaskId((ms << 80) | (7 << 76) | (2 << 62) | (random >> 2));
            work::task(id, self.session, &mut self.chance)
        };
        // An answer names the id alone: one submission of it at a time, or it is not known which was meant.
        if self.table.contains_key(&spec.id) {
            return;
        }
        self.crowd.unfinished.fetch_add(1, SeqCst);
        if !again && unit(&mut self.chance) < self.work.cancel {
            let due = self.world.elapsed() + exponential(&mut self.chance, self.work.mean);
            self.unwanted.push((due, spec.id));
        }
        let entry = Entry { spec: spec.clone(), stage: Stage::New, again };
        self.table.insert(spec.id, entry);
    }

    fn send_new(&mut self, connection: &Connection) {
        let mut tasks = Vec::new();
        let at = self.world.elapsed();
        for (id, entry) in self.table.iter_mut().filter(|(_, entry)| entry.stage == Stage::New) {
            entry.stage = Stage::Sent;
            tasks.push(entry.spec.clone());
            self.world.diary(|diary| diary.client_saw(at, Kind::Submitted, *id, &self.name));
        }
        if tasks.is_empty() {
            return;
        }
        let (session, functions) = (self.session, vec![work::function()]);
        let submitted = Event::Submitted { session, functions, tasks };
        let _ = connection.says.send(Input::Core(submitted));
    }

    /// Cancels what has become unwanted.
    fn cancel(&mut self, connection: &Connection) {
        let at = self.world.elapsed();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unwanted).into_iter().partition(|(due, _)| *due <= at);
        self.unwanted = later;
        for (_, task) in due.into_iter().filter(|(_, task)| self.table.contains_key(task)) {
            self.world.diary(|diary| diary.client_saw(at, Kind::Cancelled, task, &self.name));
            self.world.note(Fact::Task(TaskFact::CancelAsked { task }));
            let kill = self.chance.below(2) == 0;
            let look = Input::Look(Box::new(move |task_loop| {
                task_loop.cancel(&[task], kill);
            }));
            let _ = connection.says.send(look);
        }
    }

    fn take(&mut self, answer: Answer, connection: &Connection) {
        let at = self.world.elapsed();
        let saw = |kind, task| {
            self.world.diary(|diary| diary.client_saw(at, kind, task, &self.name));
        };
        match answer {
            Answer::Accepted(task) => {
                let Some(entry) = self.table.get_mut(&task) else { return };
                entry.stage = Stage::Accepted;
                let (content, follow) = (content(&entry.spec), entry.again);
                saw(Kind::Accepted, task);
                self.world.note(Fact::Task(TaskFact::Accepted { task, content }));
                if follow {
                    let followed = Event::Followed { session: self.session, tasks: vec![task] };
                    let _ = connection.says.send(Input::Core(followed));
                }
            }
            Answer::Refused { task, conflict } => {
                saw(Kind::Refused, task);
                let Some(entry) = self.remove(task) else { return };
                if conflict {
                    let content = content(&entry.spec);
                    self.world.note(Fact::Task(TaskFact::Conflicted { task, content }));
                }
            }
            Answer::Open(task) => {
                if let Some(entry) = self.table.get_mut(&task)
                    && entry.stage == Stage::Sent
                {
                    saw(Kind::Unknown, task);
                    entry.stage = Stage::New;
                }
            }
            Answer::Outcome(task, outcome) => {
                let word: Arc<str> = word(&outcome).into();
                self.world.diary(|diary| diary.outcome(at, task, &self.name, true, &word));
                self.world.note(Fact::Task(TaskFact::Told { task, outcome: word }));
                self.acknowledge.push(task);
                if let Some(entry) = self.remove(task) {
                    self.finished.push(entry.spec);
                    let excess = self.finished.len().saturating_sub(REMEMBERED);
                    self.finished.drain(..excess);
                }
            }
            Answer::Unknown(task) => {
                let accepted = |entry: &Entry| entry.stage == Stage::Accepted;
                if self.table.get(&task).is_some_and(accepted) {
                    self.remove(task);
                    self.world.note(Fact::Task(TaskFact::Denied { task }));
                }
            }
        }
    }

    fn remove(&mut self, task: TaskId) -> Option<Entry> {
        let entry = self.table.remove(&task)?;
        self.crowd.unfinished.fetch_sub(1, SeqCst);
        Some(entry)
    }

    /// The connection is gone: what was sent on it and not answered, nobody knows.
    fn lose(&mut self) {
        let at = self.world.elapsed();
        for (id, entry) in &mut self.table {
            if entry.stage == Stage::Sent {
                entry.stage = Stage::New;
                self.world.diary(|diary| diary.client_saw(at, Kind::Unknown, *id, &self.name));
            }
        }
    }
}

/// Carries a client's words to a node, in order, while both are there.
async fn speak(
    world: Arc<World>,
    place: Place,
    mut said: UnboundedReceiver<Input>,
    (closed, tell): (Input, UnboundedSender<Option<Answer>>),
) {
    let mut last = Some(closed);
    while let Some(input) = said.recv().await {
        world.clock.sleep(world.draw_latency()).await;
        if !place.life.awake().await {
            return;
        }
        if world.bug == Some(Bug::AckBeforeCommit)
            && place.leads()
            && let Input::Core(Event::Submitted { tasks, .. }) = &input
        {
            let early = tasks.iter().map(|task| Some(Answer::Accepted(task.id)));
            early.for_each(|answer| drop(tell.send(answer)));
        }
        place.tell(input);
    }
    world.clock.sleep(world.draw_latency()).await;
    if let Some(closed) = last.take().filter(|_| !place.life.has_ended()) {
        place.tell(closed);
    }
}

/// Carries a node's words to a client; `None` is their end.
async fn listen<T, E>(
    world: Arc<World>,
    mut answers: mpsc::Receiver<Result<T, E>>,
    tell: UnboundedSender<Option<Answer>>,
    read: fn(T) -> Vec<Answer>,
) {
    loop {
        let answer = tokio::select! {
            biased;
            () = tell.closed() => return,
            answer = answers.recv() => answer,
        };
        world.clock.sleep(world.draw_latency()).await;
        let Some(Ok(answer)) = answer else { break };
        for answer in read(answer) {
            let _ = tell.send(Some(answer));
        }
    }
    let _ = tell.send(None);
}
