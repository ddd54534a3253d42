//! Planted bugs of the task plane: they stand between a node's task loop and its log, and change what it says there.

use super::bugs::Bug;
use super::world::World;
use crate::core::boundary::{Assignment, Event};
use crate::core::cluster::command::{AssignCause, Batch, Command, Rules, TaskSpec};
use crate::core::ids::{TaskId, Term, Token};
use crate::node::consensus::Consensus;
use crate::node::driver::Input;
use crate::node::proposals::Commit;
use futures::future::BoxFuture;
use std::sync::Arc;

/// The way of one node into the log, with a bug in it if one was planted there.
pub(super) fn between(
    world: &Arc<World>,
    commit: Arc<dyn Commit>,
    consensus: Arc<Consensus>,
) -> Arc<dyn Commit> {
    use Bug as B;
    match world.bug {
        Some(
            bug @ (B::TokenIgnored | B::DedupeById | B::StealWithoutLog | B::OutcomeForgotten),
        ) => Arc::new(Tampering { bug, world: world.clone(), commit, consensus }),
        _ => commit,
    }
}

struct Tampering {
    bug: Bug,
    world: Arc<World>,
    commit: Arc<dyn Commit>,
    consensus: Arc<Consensus>,
}

impl Commit for Tampering {
    fn commit(&self, term: Term, batch: Batch) -> BoxFuture<'static, bool> {
        let Batch { at_ms, commands } = batch;
        let commands = commands.into_iter().filter_map(|command| self.change(term, command));
        self.commit.commit(term, Batch { at_ms, commands: commands.collect() })
    }

    fn confirm(&self) -> BoxFuture<'static, bool> {
        self.commit.confirm()
    }

    fn may_dispatch(&self) -> bool {
        self.commit.may_dispatch()
    }
}

impl Tampering {
    fn change(&self, term: Term, command: Command) -> Option<Command> {
        Some(match (self.bug, command) {
            (Bug::TokenIgnored, Command::Complete { task, token, node, report, output }) => {
                let token = self.live(task).map_or(token, |(_, live, _)| live);
                Command::Complete { task, token, node, report, output }
            }
            (Bug::DedupeById, Command::Submit { spec, to }) => {
                let first = self.world.diary(|diary| diary.first(&spec));
                let spec = Arc::new(TaskSpec { payload: first.payload.clone(), ..(*spec).clone() });
                Command::Submit { spec, to }
            }
            (
                Bug::StealWithoutLog,
                Command::Assign { task, to, cause: AssignCause::Stolen, replaces },
            ) => {
                let (spec, token, attempt) =
                    self.live(task).filter(|(_, token, _)| *token == replaces)?;
                let assignments = vec![Assignment { spec, token, attempt, end_by_ms: 0 }];
                let assigned = Event::TasksAssigned { term, assignments };
                self.world.place_of(to)?.tell(Input::Core(assigned));
                return None;
            }
            (Bug::OutcomeForgotten, Command::Adopt(rules)) => {
                Command::Adopt(Rules { outcomes: 0, outcome_ttl_ms: 0, ..rules })
            }
            (_, command) => command,
        })
    }

    /// The live attempt of a task.
    fn live(&self, task: TaskId) -> Option<(Arc<TaskSpec>, Token, u32)> {
        let state = self.consensus.state();
        let state = state.lock();
        let live = state.live().get(&task)?;
        live.holder.map(|holder| (live.spec.clone(), holder.token, holder.attempt))
    }
}
