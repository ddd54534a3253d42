//! The task half of simulated nodes: the product's own task loop, imagined runners, and the way into the cluster.

use super::network::{Sent, Wire, address_of};
use super::runners::Runners;
use super::tampering;
use super::work::Work;
use super::world::{Life, World};
use crate::config::Config;
use crate::core::boundary::Event;
use crate::core::cluster::command::Member;
use crate::core::ids::NodeId;
use crate::core::load::Load;
use crate::core::record::RecordKind;
use crate::node::clock::Clock;
use crate::node::committer::Committer;
use crate::node::consensus::{Consensus, Replica};
use crate::node::driver::{Input, TaskLoop, TaskLoopOptions};
use crate::node::history::History;
use crate::node::reign::Reign;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Rows of history a node keeps until they are copied.
const ROWS: u64 = 4_096;
/// Wait between two attempts to be admitted, at first and at most.
const ROUND: Duration = Duration::from_millis(25);
const SLOW_ROUND: Duration = Duration::from_millis(500);
/// How often a node that is admitted looks whether it still is.
const CONTENT: Duration = Duration::from_secs(1);
/// What an imagined node measures for its tasks.
const IDLE: f64 = 0.9;

/// One life of a node as its tasks see it.
#[derive(Clone)]
pub struct Place {
    /// Who it is.
    pub member: Member,
    /// While this lasts.
    pub life: Arc<Life>,
    /// Its clock.
    pub clock: Clock,
    /// Its knobs.
    pub config: Arc<Config>,
    /// Its part in Raft, on voters.
    pub consensus: Option<Arc<Consensus>>,
    inputs: UnboundedSender<Input>,
    leads: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
}

/// Who a place is for, and with what.
pub struct Tenant {
    /// Which node.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// How often it was started under that id.
    pub incarnation: u64,
    /// While this lasts.
    pub life: Arc<Life>,
    /// Its clock.
    pub clock: Clock,
    /// Its part in Raft, on voters.
    pub consensus: Option<Arc<Consensus>>,
}

impl Place {
    /// Starts the task loop of a node.
    pub fn open(world: &Arc<World>, config: &Arc<Config>, work: &Work, tenant: Tenant) -> Place {
        let Tenant { id, name, incarnation, life, clock, consensus } = tenant;
        let (inputs, heard) = unbounded_channel();
        let member = Member {
            id,
            name: name.to_string(),
            address: address_of(&name),
            slots: work.slots,
            voter: consensus.is_some(),
            incarnation,
            ..Member::default()
        };
        let place = Place {
            member: member.clone(),
            life: life.clone(),
            clock: clock.clone(),
            config: config.clone(),
            consensus: consensus.clone(),
            inputs: inputs.clone(),
            leads: Arc::default(),
            connected: Arc::default(),
        };
        let history = history_of(id, &name, &clock);
        let hands = Runners::new(
            world.clone(),
            (id, name.clone()),
            life.clone(),
            work.clone(),
            inputs.clone(),
        );
        let commit = consensus.clone().map(|consensus| {
            let committer = Arc::new(Committer::start(consensus.clone()));
            tampering::between(world, committer, consensus)
        });
        let options = TaskLoopOptions {
            me: member,
            config: config.clone(),
            clock,
            history: history.clone(),
            state: consensus.as_ref().map_or_else(Replica::default, |c| c.state()),
            commit,
            hands: Arc::new(hands),
            lines: Arc::new(Wire::new(world.clone(), id, life.clone())),
            allow_pickle: false,
            seed: id.0,
        };
        let task_loop = TaskLoop::new(options, inputs);
        tokio::spawn(live(life, task_loop, heard));
        place.tell(Input::Measured(Load { cpu_available: IDLE, ..Load::default() }, IDLE));
        tokio::spawn(copy_rows(world.clone(), place.clone(), name.clone(), history));
        if let Some(consensus) = consensus {
            tokio::spawn(place.clone().follow(consensus));
        }
        tokio::spawn(place.clone().stay_joined(world.clone()));
        world.take_place(&name, place.clone());
        place
    }

    /// Something for its task loop; when that has ended nobody listens, and that is all right.
    pub fn tell(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// Runs `look` in its task loop and returns what it saw; `None` if it has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut TaskLoop) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.tell(Input::Look(Box::new(move |task_loop| {
            let _ = answer.send(look(task_loop));
        })));
        answered.await.ok()
    }

    /// It leads and has its quorum's lease, as its task loop knows.
    pub fn leads(&self) -> bool {
        let leads = self.leads.load(SeqCst) && !self.life.has_ended();
        leads && self.consensus.as_ref().is_some_and(|consensus| consensus.may_dispatch())
    }

    /// A stream of a leader came or went.
    pub(super) fn note_connected(&self) {
        let connected = self.connected.clone();
        self.tell(Input::Look(Box::new(move |task_loop| {
            connected.store(task_loop.upstream.is_some(), SeqCst);
        })));
    }

    /// Tells the task loop when this node leads, and when it no longer does.
    async fn follow(self, consensus: Arc<Consensus>) {
        let mut reign = Reign::default();
        let mut changes = consensus.subscribe();
        loop {
            let view = consensus.view();
            let voters: BTreeSet<NodeId> = view.voters.keys().copied().collect();
            self.tell(Input::Look(Box::new(move |task_loop| task_loop.see_voters(voters))));
            for input in reign.follow(&view) {
                let gained = matches!(input, Input::LeadGained(_));
                self.leads.fetch_and(gained, SeqCst);
                self.tell(input);
                self.leads.store(gained, SeqCst);
            }
            tokio::select! {
                biased;
                () = self.life.over() => return,
                more = changes.wait() => if !more { return },
            }
        }
    }

    /// Asks whoever leads to be admitted, once in any case and then whenever no leader's stream is open.
    async fn stay_joined(self, world: Arc<World>) {
        let (mut wait, mut introduced) = (ROUND, false);
        let wire = Wire::new(world.clone(), self.member.id, self.life.clone());
        loop {
            world.clock.sleep(wait).await;
            if !self.life.awake().await {
                return;
            }
            if introduced && self.connected.load(SeqCst) {
                wait = CONTENT;
                continue;
            }
            wait = (wait * 2).clamp(ROUND, SLOW_ROUND);
            for leader in world.places().into_iter().filter(Place::leads) {
                introduced |= self.join(&wire, &leader).await;
            }
        }
    }

    async fn join(&self, wire: &Wire, leader: &Place) -> bool {
        let (me, them) = (self.member.id, leader.member.id);
        if !matches!(wire.carry(&leader.life, me, them).await, Sent::Arrived) || !leader.leads() {
            return false;
        }
        let newcomer = self.member.clone();
        let refused = leader.ask(move |task_loop| {
            let state = task_loop.state.lock();
            task_loop.leader.refuse_newcomer(&state, &newcomer).is_some()
        });
        if refused.await != Some(false) {
            return false;
        }
        let functions = vec![super::work::function()];
        let asked = Event::JoinAsked { member: self.member.clone(), functions };
        leader.tell(Input::Core(asked));
        matches!(wire.carry(&leader.life, them, me).await, Sent::Arrived)
    }
}

/// A process runs its loop until it dies.
async fn live(life: Arc<Life>, task_loop: TaskLoop, heard: UnboundedReceiver<Input>) {
    tokio::select! {
        biased;
        () = life.over() => {}
        () = task_loop.run(heard) => {}
    }
}

fn history_of(id: NodeId, name: &str, clock: &Clock) -> Arc<History> {
    let wall = clock.clone();
    Arc::new(History::with_clock(id, name, ROWS, move || wall.today_us()))
}

/// What the task loop writes down is history like any other, but for what only says how busy nodes are.
async fn copy_rows(world: Arc<World>, place: Place, name: Arc<str>, history: Arc<History>) {
    let mut after = 0;
    loop {
        tokio::select! {
            biased;
            () = place.life.over() => return,
            () = history.grown(after) => {}
        }
        let (rows, next) = history.after(after, ROWS as usize);
        after = next;
        for row in rows.iter().filter(|row| row.record.kind != RecordKind::Loaded) {
            world.record(place.member.id, &name, row.record.clone());
        }
    }
}
