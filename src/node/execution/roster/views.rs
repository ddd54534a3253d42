//! What may be seen of the roster from outside: its counts, its times, and what its runners are at.

use super::super::output::AtWork;
use super::super::slot::Host;
use super::{Phase, Roster, RunnerId};
use crate::core::Moment;
use crate::core::boundary::{Assignment, Progress};
use crate::core::cluster::command::Codec;
use crate::core::ids::{TaskId, Token};

impl Roster {
    pub(in crate::node::execution) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(in crate::node::execution) fn has_runners(&self) -> bool {
        !self.runners.is_empty()
    }

    pub(in crate::node::execution) fn has_work(&self) -> bool {
        self.busy + self.waiting.len() > 0
    }

    pub(in crate::node::execution) fn idle_slots(&self) -> usize {
        self.slots.saturating_sub(self.busy + self.waiting.len())
    }

    pub(in crate::node::execution) fn running(&self) -> Vec<TaskId> {
        let busy = self.runners.values().filter_map(|slot| slot.busy.as_ref());
        busy.map(|busy| busy.job.assignment.spec.id).collect()
    }

    /// How far a runner says it is with its attempt.
    pub(in crate::node::execution) fn on_progress(&mut self, id: RunnerId, progress: Progress) {
        if let Some(busy) = self.runners.get_mut(&id).and_then(|slot| slot.busy.as_mut()) {
            busy.progress = Some(progress);
        }
    }

    /// What was said of progress since it was taken last.
    pub(in crate::node::execution) fn take_progress(&mut self) -> Vec<(TaskId, Token, Progress)> {
        let busy = self.runners.values_mut().filter_map(|slot| slot.busy.as_mut());
        let told = busy.filter_map(|busy| {
            let Assignment { spec, token, .. } = &busy.job.assignment;
            Some((spec.id, *token, busy.progress.take()?))
        });
        told.collect()
    }

    /// What a runner is at.
    pub(in crate::node::execution) fn at_work(&self, id: RunnerId) -> Option<AtWork> {
        let busy = self.runners.get(&id)?.busy.as_ref()?;
        let Assignment { spec, attempt, .. } = &busy.job.assignment;
        let function = busy.job.function.name.as_str().into();
        Some(AtWork { function, task: spec.id, attempt: *attempt })
    }

    /// The attempt in a runner, if it is that run; and the encoding of what it returns or yields.
    pub(in crate::node::execution) fn attempt_in(
        &self,
        id: RunnerId,
        seq: u64,
    ) -> Option<(TaskId, Token, Codec)> {
        let busy = self.runners.get(&id)?.busy.as_ref().filter(|busy| busy.seq == seq)?;
        let Assignment { spec, token, .. } = &busy.job.assignment;
        Some((spec.id, *token, spec.codec))
    }

    /// The processes of all runners.
    pub(in crate::node::execution) fn processes(&self) -> Vec<u32> {
        let hosts = self.runners.values().filter_map(|slot| slot.host.as_ref());
        let process = |host: &Host| match host {
            Host::Process(runner) => Some(runner.process()),
            Host::Thread(_) => None,
        };
        hosts.filter_map(process).collect()
    }

    /// The threads that run attempts.
    pub(in crate::node::execution) fn threads(&self) -> Vec<u32> {
        let hosts = self.runners.values().filter_map(|slot| slot.host.as_ref());
        let thread = |host: &Host| match host {
            Host::Process(_) => None,
            Host::Thread(seat) => Some(seat.control().native).filter(|native| *native > 0),
        };
        hosts.filter_map(thread).collect()
    }

    /// When [`Roster::expire`] shall be called.
    pub(in crate::node::execution) fn next_timer(&self) -> Option<Moment> {
        self.timers.keys().next().map(|(at, _)| *at)
    }
}
