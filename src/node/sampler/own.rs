//! Reads how much CPU this process itself uses, so that leading does not lower a leader's own score.
//!
//! Only where a process hosts one node and nothing else: elsewhere what the process uses may be anybody's work. Runners
//! are processes of their own, so what tasks use stays load.

use super::read;
use super::window::Window;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel counts in hundredths of a second: over less than this the figure would be coarse.
const SPAN: Duration = Duration::from_secs(2);
/// `USER_HZ`, the unit of `/proc`: 100 on every architecture this runs on.
const TICKS_PER_S: f64 = 100.0;
/// Fields after the name: utime is the 14th of the file, stime the 15th, and the name is the 2nd.
const UTIME: usize = 14 - 3;

/// The CPU time of this process.
#[derive(Debug)]
pub(super) struct OwnCpu {
    path: PathBuf,
    window: Window,
}

impl OwnCpu {
    /// That of the process whose kernel files lie below `root`.
    pub(super) fn new(root: &Path) -> Self {
        OwnCpu { path: root.join("proc/self/stat"), window: Window::new(SPAN) }
    }

    /// Cores used, on average over the last seconds; 0 where the kernel does not say.
    pub(super) fn cores(&mut self, now: Duration) -> f64 {
        let used_s = read(&self.path).as_deref().and_then(cpu_s);
        let growth = used_s.and_then(|used| self.window.push(now, used));
        growth.map_or(0.0, |growth| growth.amount / growth.seconds)
    }
}

/// User and system time in seconds. The name stands in parentheses and may hold anything, parentheses too.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(UTIME);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (next()?, next()?);
    Some((user as f64 + system as f64) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_add_up_whatever_the_process_is_called() {
        let rest = "S 1 7 7 0 -1 4194560 900 0 0 0 250 50 9000 9000 20 0 8 0 5 1 2";
        for name in ["hustings", "a b", "x) R 9 (", "()", ""] {
            assert_eq!(cpu_s(&format!("7 ({name}) {rest}")), Some(3.0), "{name:?}");
        }
        for bad in ["", "7", "7 (x)", "7 (x) S 1 2 3", &rest.replace("250", "-1")] {
            assert_eq!(cpu_s(bad), None, "{bad:?}");
        }
    }
}
