//! Measures this node: host CPU and memory, control-group limits and pressure become one [`Load`].
//!
//! ```text
//!   cpu_available    = (min(host idle, quota headroom) + own) * (1 - stall)
//!                      own: what this process uses, where it is one node and nothing else; leading is no load, tasks
//!                      that run in its threads are
//!                      stall: pressure, throttling or run queue
//!   memory_available = saturate(min(MemAvailable, group headroom)) * (1 - memory pressure)
//! ```
//! `sample` reads a dozen small kernel files and takes well under a millisecond, but it is file I/O all the same: call
//! it at `election.score_period_s` from a task of its own, never while answering an RPC. What a kernel does not offer,
//! or what cannot be parsed, counts as absent: no limit, no pressure. [`Sampler::sources`] says what was found.

mod cgroup;
mod own;
mod pressure;
mod source;
mod window;

pub use own::TasksCpu;
pub use source::{LoadSource, MAX_TRACE_POINTS};

use crate::core::load::Load;
use cgroup::Cgroups;
use own::OwnCpu;
use pressure::Pressure;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

/// What the CPU counts as until two readings exist: neither idle nor busy.
pub const UNKNOWN_RATIO: f64 = 0.5;
/// Free memory at which `memory_available` is 1.
pub const MEMORY_PLENTY: f64 = 0.25;
/// Free memory at which `memory_available` is 0.
pub const MEMORY_EMPTY: f64 = 0.03;
/// The smallest share of a core that a quota is taken for.
const MIN_CORES: f64 = 0.01;
/// Most bytes read of one kernel file.
const MAX_FILE_BYTES: u64 = 64 << 10;
const MIB: f64 = (1u64 << 20) as f64;

/// Measures this machine and this process's share of it.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    /// `None` on a system whose figures cannot be read; then CPU and memory stay unknown.
    system: Option<System>,
    cgroups: Cgroups,
    cpu_pressure: Pressure,
    memory_pressure: Pressure,
    own: Option<OwnCpu>,
    /// Cores that tasks use in threads of this process.
    of_tasks: f64,
    read_at: Duration,
    last: Load,
}

/// What the host says, whatever control group we are in.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Idle share since the last reading; `None` before there are two.
    idle: Option<f64>,
    cores: usize,
    available_bytes: u64,
    total_bytes: u64,
}

/// Which of the optional kernel interfaces were found; for people and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// A CPU quota of a control group limits this process.
    pub cpu_quota: bool,
    /// A memory limit of a control group limits this process.
    pub memory_limit: bool,
    /// Pressure stall information for the CPU.
    pub cpu_pressure: bool,
    /// Pressure stall information for memory.
    pub memory_pressure: bool,
}

impl Sampler {
    /// A sampler of this machine; `now` is the time since the node's start. Takes the first reading, which by itself
    /// says nothing about the CPU. `own_process`: this process is one node and nothing else, so that what it uses is
    /// not counted as load; where several nodes or a script share it, nobody can tell whose work it is.
    pub fn new(now: Duration, own_process: bool) -> Self {
        let mut sampler = Sampler::rooted(Path::new("/"), now);
        sampler.own = own_process.then(|| OwnCpu::new(&sampler.root));
        let host = sampler.read_host(false);
        sampler.last = sampler.combine(now, host);
        sampler
    }

    /// A sampler whose kernel files lie below `root`.
    fn rooted(root: &Path, now: Duration) -> Self {
        Sampler {
            root: root.to_owned(),
            system: System::new().ok(),
            cgroups: Cgroups::new(root, now),
            cpu_pressure: Pressure::new(root, "cpu"),
            memory_pressure: Pressure::new(root, "memory"),
            own: None,
            of_tasks: 0.0,
            read_at: now,
            last: Load::default(),
        }
    }

    /// Measures now. Asked again within [`MINIMUM_CPU_UPDATE_INTERVAL`], it repeats the last reading: counters that
    /// close together are noise. A clock that went back begins anew.
    pub fn sample(&mut self, now: Duration) -> Load {
        let since = now.checked_sub(self.read_at);
        if since.is_some_and(|since| since < MINIMUM_CPU_UPDATE_INTERVAL) {
            return Load { uptime_s: now.as_secs_f64(), ..self.last };
        }
        let host = self.read_host(true);
        self.last = self.combine(now, host);
        self.read_at = now;
        self.last
    }

    /// What the last reading was made of.
    pub fn sources(&self) -> Sources {
        Sources {
            cpu_quota: self.cgroups.has_cpu_quota(),
            memory_limit: self.cgroups.has_memory_limit(),
            cpu_pressure: self.cpu_pressure.present(),
            memory_pressure: self.memory_pressure.present(),
        }
    }

    fn read_host(&mut self, primed: bool) -> Host {
        let Some(system) = &mut self.system else {
            return Host { idle: None, cores: 0, available_bytes: 0, total_bytes: 0 };
        };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let busy = f64::from(system.global_cpu_usage()) / 100.0;
        Host {
            idle: primed.then(|| unit(1.0 - busy, UNKNOWN_RATIO)),
            cores: system.cpus().len(),
            available_bytes: system.available_memory(),
            total_bytes: system.total_memory(),
        }
    }

    fn combine(&mut self, now: Duration, host: Host) -> Load {
        let group = self.cgroups.read(now);
        let stall = match self.cpu_pressure.read(now) {
            Some(pressure) => pressure,
            None if self.cpu_pressure.present() => 0.0,
            None => self.waiting_share(host.cores),
        };
        let stall = stall.max(group.throttled.unwrap_or(0.0));
        let own = self.own.as_mut().map_or(0.0, |own| own.cores(now));
        let own = (own - self.of_tasks).max(0.0);
        // Of the cores we may use, ours or the host's, the process took `own`.
        let returned = |idle: f64, cores: f64| unit(idle + own / cores.max(MIN_CORES), idle);
        let of_host = host.idle.map(|idle| (idle, returned(idle, host.cores as f64)));
        let of_group = group.cpu_headroom.map(|(free, cores)| (free, returned(free, cores)));
        let (measured, idle) = match (of_host, of_group) {
            (Some(host), Some(group)) => (host.0.min(group.0), host.1.min(group.1)),
            (Some(known), None) | (None, Some(known)) => known,
            (None, None) => (UNKNOWN_RATIO, UNKNOWN_RATIO),
        };
        let (free, available_bytes) = free_memory(&host, group.memory_free, group.memory_limit);
        let memory_stall = self.memory_pressure.read(now).unwrap_or(0.0);
        Load {
            cpu_available: unit(idle * (1.0 - stall), UNKNOWN_RATIO),
            memory_available: unit(saturate(free) * (1.0 - memory_stall), UNKNOWN_RATIO),
            uptime_s: now.as_secs_f64(),
            cpu_percent: unit(1.0 - measured, UNKNOWN_RATIO) * 100.0,
            available_mb: available_bytes / MIB,
            synthetic: false,
            tasks_cpu: 0.0,
        }
    }

    /// Without pressure information: the share of runnable threads that have no core, from `/proc/loadavg`.
    fn waiting_share(&self, cores: usize) -> f64 {
        let running = read(&self.root.join("proc/loadavg")).and_then(|text| {
            let (running, _) = text.split_whitespace().nth(3)?.split_once('/')?;
            running.parse::<f64>().ok()
        });
        match running {
            // The reader itself is one of the running threads.
            Some(running) if cores > 0 && running - 1.0 > cores as f64 => {
                1.0 - cores as f64 / (running - 1.0)
            }
            _ => 0.0,
        }
    }
}

/// The free share of memory and the bytes it stands for: the tighter of host and control group.
fn free_memory(host: &Host, group_free: Option<u64>, group_limit: Option<u64>) -> (f64, f64) {
    let host_share = match host.total_bytes {
        0 => UNKNOWN_RATIO,
        total => host.available_bytes as f64 / total as f64,
    };
    match (group_free, group_limit) {
        (Some(free), Some(limit)) if limit > 0 => (
            host_share.min(free as f64 / limit as f64),
            (host.available_bytes as f64).min(free as f64),
        ),
        _ => (host_share, host.available_bytes as f64),
    }
}

/// Half the memory free is no better than a quarter; the last few percent are as good as none.
fn saturate(free: f64) -> f64 {
    unit((free - MEMORY_EMPTY) / (MEMORY_PLENTY - MEMORY_EMPTY), UNKNOWN_RATIO)
}

/// `value` clamped to [0, 1]; `otherwise` if it is not a number.
fn unit(value: f64, otherwise: f64) -> f64 {
    if value.is_nan() { otherwise } else { value.clamp(0.0, 1.0) }
}

/// A small kernel file as text; `None` if it is absent, unreadable or not text.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
