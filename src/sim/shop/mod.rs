//! A shop: one leader, many machines, and jobs, as scheduling theory has them; the core's own leader and workers.
//!
//! ```text
//!   client ──tasks──▶ head: core's Leader + ClusterState ──assign, revoke──▶ machines: core's Worker, attempts
//!          ◀─outcomes─      │ ▲ an entry is committed a while later        ◀──reports, releases, calls for work──
//!                           └─┘
//! ```
//!
//! Unlike the rest of `sim` there are no elections, no Raft and no task loop here: an entry of the log is committed
//! after a drawn time, a new leader begins when it is told to. So thousands of machines and thousands of runs are
//! cheap. Decisions take no time; words and entries do.

mod agenda;
mod client;
mod figures;
mod head;
pub mod ideal;
mod machines;
mod spec;
mod starving;
pub mod workload;

pub use figures::{Figures, Stays};
pub use head::{Meter, Phase, Unmeasured};
pub use spec::{Churn, ShopSpec};

use super::diary::{Diary, TaskRow};
use super::loads::exponential;
use super::total_queue::Verdict;
use super::world::Row;
use crate::config::Config;
use crate::core::Moment;
use crate::core::chance::Chance;
use crate::core::ids::NodeId;
use crate::error::Result;
use crate::node::clock::START;
use agenda::{Agenda, Happening};
use client::Client;
use figures::Tally;
use head::Head;
use machines::Machine;
use starving::Starving;
use std::sync::Arc;
use std::time::Duration;

/// The cluster is together by then, and work begins.
const OPENING: Duration = Duration::from_secs(1);
/// When the other machines come, where all tasks fall to one at first.
const LATE: Duration = Duration::from_millis(100);
/// How long nobody leads after a leader died.
const FAILOVER: Duration = Duration::from_millis(20);
/// How long a run may take beyond what the lower bound says, in bounds and at least.
const PATIENCE: (u32, Duration) = (100, Duration::from_secs(600));

/// What one run came to.
#[derive(Debug, Default)]
pub struct ShopRun {
    /// The figures.
    pub figures: Figures,
    /// Rows of history, as leaders wrote them.
    pub rows: Vec<Row>,
    /// What the client and the machines saw of tasks.
    pub task_rows: Vec<TaskRow>,
    /// What the checker says of that.
    pub verdict: Verdict,
    /// When work began, in microseconds of the rows.
    pub began_us: u64,
}

/// A run under way.
pub(super) struct Shop<'a> {
    spec: &'a ShopSpec,
    config: Arc<Config>,
    now: Moment,
    agenda: Agenda,
    /// How long words and entries take.
    wires: Chance,
    /// Who dies when.
    fates: Chance,
    head: Head,
    machines: Vec<Machine>,
    client: Client,
    starving: Starving,
    tally: Tally,
    diary: Diary,
    rows: Vec<Row>,
    meter: &'a mut dyn Meter,
}

/// Runs `spec` to its end; the same spec, the same run.
pub fn run(spec: &ShopSpec) -> Result<ShopRun> {
    run_measured(spec, &mut Unmeasured)
}

/// The same; `meter` is told when the leader begins and ends to decide.
pub fn run_measured(spec: &ShopSpec, meter: &mut dyn Meter) -> Result<ShopRun> {
    spec.check()?;
    let mut shop = Shop::open(spec, meter);
    shop.work_off();
    Ok(shop.close())
}

pub(super) fn id_of(machine: usize) -> NodeId {
    NodeId(machine as u64 + 1)
}

pub(super) fn machine_of(node: NodeId) -> usize {
    (node.0 as usize).wrapping_sub(1)
}

impl<'a> Shop<'a> {
    fn open(spec: &'a ShopSpec, meter: &'a mut dyn Meter) -> Self {
        let config = Arc::new(spec.config.clone());
        let places = spec.places();
        let seeded = |salt: u64| Chance::seeded(spec.seed ^ (salt << 48));
        let machines = (0..spec.machines).map(|i| Machine::new(i, spec, places[i])).collect();
        let mut shop = Shop {
            now: START,
            agenda: Agenda::default(),
            wires: seeded(1),
            fates: seeded(2),
            head: Head::new(id_of(spec.first_leader()), config.clone(), spec.seed),
            client: Client::new(spec),
            starving: Starving::new(&places, spec.config.steal.reach),
            tally: Tally::default(),
            diary: Diary::default(),
            rows: Vec::new(),
            machines,
            config,
            spec,
            meter,
        };
        shop.agenda.add(START, Happening::Elected);
        let late = START.after(OPENING + LATE);
        for machine in 0..spec.machines {
            let waits = spec.workload.pile_up && machine != spec.first_leader();
            let at = if waits { late } else { START.after(Duration::from_millis(1)) };
            shop.agenda.add(at, Happening::Join { machine, life: 0 });
        }
        shop.submit_first();
        for at in &spec.elections {
            shop.agenda.add(START.after(OPENING + *at), Happening::LeaderDies);
        }
        if let Some(churn) = &spec.churn {
            for machine in 0..spec.machines {
                let at = START.after(OPENING + exponential(&mut shop.fates, churn.mtbf));
                shop.agenda.add(at, Happening::Die { machine });
            }
        }
        shop
    }

    fn work_off(&mut self) {
        let bound = self.client.bound(self.spec);
        let last = self.client.last_arrival();
        let limit = START.after(OPENING + last + (bound * PATIENCE.0).max(PATIENCE.1));
        while !self.client.is_done() {
            let Some((at, what)) = self.agenda.next().filter(|(at, _)| *at <= limit) else {
                return;
            };
            self.now = at;
            self.happen(what);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::ToLeader { machine, stream, events } => {
                if self.head.hears(machine, stream) {
                    self.lead(events);
                }
            }
            Happening::Call { machine, life, event } => {
                if self.machines[machine].life == life && self.head.leads() {
                    self.lead(vec![event]);
                }
            }
            Happening::ToMachine { machine, stream, events } => {
                if self.machines[machine].hears(stream) {
                    self.work(machine, events);
                }
            }
            Happening::Hello { machine, stream, term } => self.greet(machine, stream, term),
            Happening::Broken { machine, stream } => self.miss(machine, stream),
            Happening::Committed { reign, batch } => self.commit(reign, &batch),
            Happening::Ended { machine, life, task, token, report } => {
                if self.machines[machine].life == life {
                    self.end_attempt(machine, task, token, report);
                }
            }
            Happening::LeaderWakes => self.wake_leader(),
            Happening::MachineWakes { machine } => self.wake_machine(machine),
            Happening::FromClient(event) => {
                if self.head.leads() {
                    self.lead(vec![event]);
                }
            }
            Happening::Submit(range) => self.submit(range),
            Happening::Acknowledge => self.acknowledge(),
            Happening::Join { machine, life } => self.ask_to_join(machine, life),
            Happening::Die { machine } => self.die(machine),
            Happening::Return { machine } => self.come_back(machine),
            Happening::LeaderDies => self.depose(),
            Happening::Elected => self.elect(),
        }
    }

    /// How long a word is on its way.
    fn latency(&mut self) -> Duration {
        draw(&mut self.wires, self.spec.latency)
    }

    fn close(mut self) -> ShopRun {
        let verdict = self.diary.judge(self.client.is_done());
        let spells = std::mem::take(&mut self.starving).end(self.now);
        let figures = figures::of(&self, &spells);
        ShopRun {
            figures,
            rows: self.rows,
            task_rows: self.diary.take_rows(),
            verdict,
            began_us: self.client.began().since(START).as_micros() as u64,
        }
    }
}

/// A time between the two.
fn draw(chance: &mut Chance, (least, most): (Duration, Duration)) -> Duration {
    let span = most.saturating_sub(least).as_micros() as usize;
    least + Duration::from_micros(chance.below(span + 1) as u64)
}

#[cfg(test)]
mod tests;
