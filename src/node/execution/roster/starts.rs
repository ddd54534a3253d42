//! How processes are started, and what becomes of those that do not come up.

use super::super::Act;
use super::super::slot::Slot;
use super::{Report, Roster, START_LIMIT, Timer};
use crate::core::Moment;

impl Roster {
    pub(super) fn start(&mut self, now: Moment, acts: &mut Vec<Act>) {
        let id = self.number();
        self.runners.insert(id, Slot::default());
        self.arm(now.after(START_LIMIT), id, Timer::Start(id), acts);
        acts.push(Act::Start(id));
    }

    /// Waits before the next start; gives up what waits if there is no hope.
    pub(super) fn start_failed(
        &mut self,
        now: Moment,
        report: Option<Report>,
        said: Option<String>,
        acts: &mut Vec<Act>,
    ) {
        let Some(report) = report else { return };
        if let Some(wait) = self.backoff.fail() {
            let number = self.number();
            self.arm(now.after(wait), number, Timer::Restart, acts);
        }
        let mut processes = self.runners.values().filter(|slot| !slot.is_thread());
        let hopeless = processes.all(|slot| slot.doom.is_some());
        if let Some(rounds) = self.backoff.exhausted().filter(|_| hopeless) {
            let why = match &report {
                Report::Crashed(words) => words.as_str(),
                _ => "unknown",
            };
            let said = said.map_or_else(String::new, |said| format!("; it said: {said}"));
            let words = format!("no runner could be started in {rounds} tries: {why}{said}");
            self.refuse_waiting(false, &words, acts);
        }
    }
}
