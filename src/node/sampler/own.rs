//! Reads how much CPU a node itself uses: its process, so that leading does not lower a leader's own score, and its
//! runners, so that a thief's own tasks do not make it look busy to itself.
//!
//! The former only where a process hosts one node and nothing else: elsewhere what the process uses may be anybody's
//! work. To the score, what tasks use stays load.

use super::read;
use super::window::Window;
use std::collections::BTreeMap;
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

/// The CPU time of a node's runners, or of its threads that run tasks, which come and go.
#[derive(Debug)]
pub struct TasksCpu {
    folder: PathBuf,
    seen_s: BTreeMap<u32, f64>,
    total_s: f64,
    window: Window,
}

impl Default for TasksCpu {
    fn default() -> Self {
        TasksCpu::below(Path::new("/proc"))
    }
}

impl TasksCpu {
    /// That of threads of this process.
    pub fn of_threads() -> Self {
        TasksCpu::below(Path::new("/proc/self/task"))
    }

    fn below(folder: &Path) -> Self {
        let (folder, window) = (folder.to_owned(), Window::new(SPAN));
        TasksCpu { folder, seen_s: BTreeMap::new(), total_s: 0.0, window }
    }

    /// Cores used, on average over the last seconds, by the processes or threads `ids`.
    pub fn cores(&mut self, now: Duration, ids: &[u32]) -> f64 {
        let mut seen = BTreeMap::new();
        for id in ids {
            let stat = read(&self.folder.join(format!("{id}/stat")));
            let Some(used_s) = stat.as_deref().and_then(cpu_s) else { continue };
            // What one used before it was first seen is not known to be recent.
            let before = self.seen_s.get(id).copied().unwrap_or(used_s);
            self.total_s += (used_s - before).max(0.0);
            seen.insert(*id, used_s);
        }
        self.seen_s = seen;
        let growth = self.window.push(now, self.total_s);
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
    fn runners_that_come_and_go_add_up() {
        let root = std::env::temp_dir().join(format!("hustings-own-{}", std::process::id()));
        let write = |pid: u32, ticks: u32| {
            let folder = root.join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            let text = format!("{pid} (x) S 1 7 7 0 -1 4194560 900 0 0 0 {ticks} 0 0 0 20 0 8 0");
            std::fs::write(folder.join("stat"), text).unwrap();
        };
        let mut tasks = TasksCpu::below(&root.join("proc"));
        let at = Duration::from_secs;
        write(1, 5_000);
        assert_eq!(tasks.cores(at(0), &[1]), 0.0, "what it used before says nothing");
        write(1, 5_050);
        assert_eq!(tasks.cores(at(1), &[1]), 0.5);
        write(2, 0);
        assert_eq!(tasks.cores(at(1), &[1, 2]), 0.5);
        write(1, 5_100);
        write(2, 100);
        assert_eq!(tasks.cores(at(2), &[1, 2]), 1.0, "over two seconds");
        assert_eq!(tasks.cores(at(4), &[2, 77]), 0.0, "one is gone, the other rests");
        std::fs::remove_dir_all(&root).unwrap();
    }

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
