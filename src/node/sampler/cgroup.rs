//! Reads what control groups (version 2 and 1) allow this process, and how much of it is used up.
//!
//! Every ancestor may set a limit of its own, so the whole path from our group up to the mount counts and the tightest
//! wins. In a container the path in `/proc/self/cgroup` may not exist below the mount; then its existing part counts.

use super::read;
use super::window::Window;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Usage is compared with the reading before.
const USAGE_SPAN: Duration = Duration::ZERO;
/// Throttling comes in bursts; look back as far as for pressure.
const THROTTLE_SPAN: Duration = Duration::from_secs(2);
/// A process may be moved to another group while it runs.
const REDISCOVER: Duration = Duration::from_secs(60);
/// Deepest group looked at.
const MAX_DEPTH: usize = 32;
/// Version 1 says "no limit" by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// The control groups of this process.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: PathBuf,
    discovered_at: Duration,
    cpu: Vec<CpuGroup>,
    memory: Vec<Dir>,
    has_cpu_quota: bool,
    has_memory_limit: bool,
}

/// What the groups leave us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// The unused share of the tightest CPU quota, and that quota in cores.
    pub(super) cpu_headroom: Option<(f64, f64)>,
    /// The share of scheduling periods in which a quota stopped us.
    pub(super) throttled: Option<f64>,
    /// Bytes left below the tightest memory limit; reclaimable page cache is not counted as used.
    pub(super) memory_free: Option<u64>,
    /// That limit.
    pub(super) memory_limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Dir {
    V2(PathBuf),
    /// In version 1, CPU quota and CPU accounting may be mounted apart.
    V1 {
        controller: PathBuf,
        accounting: PathBuf,
    },
}

#[derive(Debug)]
struct CpuGroup {
    dir: Dir,
    usage_s: Window,
    periods: Window,
    throttled: Window,
}

impl Cgroups {
    /// The groups of this process below `root`.
    pub(super) fn new(root: &Path, now: Duration) -> Self {
        let mut groups = Cgroups {
            root: root.to_owned(),
            discovered_at: now,
            cpu: Vec::new(),
            memory: Vec::new(),
            has_cpu_quota: false,
            has_memory_limit: false,
        };
        groups.discover();
        groups
    }

    /// Reads all levels.
    pub(super) fn read(&mut self, now: Duration) -> Reading {
        if now.saturating_sub(self.discovered_at) >= REDISCOVER {
            self.discovered_at = now;
            self.discover();
        }
        let mut reading = Reading::default();
        self.has_cpu_quota = false;
        for group in &mut self.cpu {
            let Some(quota) = group.dir.cpu_quota() else { continue };
            self.has_cpu_quota = true;
            if let Some(free) = group.headroom(now, quota)
                && reading.cpu_headroom.is_none_or(|(least, _)| free < least)
            {
                reading.cpu_headroom = Some((free, quota));
            }
            if let Some(share) = group.throttled_share(now) {
                reading.throttled = Some(reading.throttled.map_or(share, |most| most.max(share)));
            }
        }
        let tightest = self
            .memory
            .iter()
            .filter_map(Dir::memory)
            .min_by(|a, b| (a.0 as f64 / a.1 as f64).total_cmp(&(b.0 as f64 / b.1 as f64)));
        self.has_memory_limit = tightest.is_some();
        reading.memory_free = tightest.map(|(free, _)| free);
        reading.memory_limit = tightest.map(|(_, limit)| limit);
        reading
    }

    pub(super) fn has_cpu_quota(&self) -> bool {
        self.has_cpu_quota
    }

    pub(super) fn has_memory_limit(&self) -> bool {
        self.has_memory_limit
    }

    fn discover(&mut self) {
        let membership = read(&self.root.join("proc/self/cgroup")).unwrap_or_default();
        let cpu = dirs(&self.root, &membership, "cpu");
        if !cpu.iter().eq(self.cpu.iter().map(|group| &group.dir)) {
            self.cpu = cpu.into_iter().map(CpuGroup::new).collect();
        }
        self.memory = dirs(&self.root, &membership, "memory");
    }
}

impl CpuGroup {
    fn new(dir: Dir) -> Self {
        let window = || Window::new(THROTTLE_SPAN);
        CpuGroup { dir, usage_s: Window::new(USAGE_SPAN), periods: window(), throttled: window() }
    }

    fn headroom(&mut self, now: Duration, quota_cores: f64) -> Option<f64> {
        let growth = self.usage_s.push(now, self.dir.cpu_usage_s()?)?;
        Some((1.0 - growth.amount / (growth.seconds * quota_cores)).clamp(0.0, 1.0))
    }

    fn throttled_share(&mut self, now: Duration) -> Option<f64> {
        let (periods, throttled) = self.dir.throttling()?;
        let periods = self.periods.push(now, periods);
        let throttled = self.throttled.push(now, throttled);
        let (periods, throttled) = (periods?.amount, throttled?.amount);
        (periods > 0.0).then(|| (throttled / periods).clamp(0.0, 1.0))
    }
}

impl Dir {
    /// The quota in cores, if there is one.
    fn cpu_quota(&self) -> Option<f64> {
        let (quota, period) = match self {
            Dir::V2(dir) => {
                let text = read(&dir.join("cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
            }
            Dir::V1 { controller, .. } => (
                number::<f64>(&controller.join("cpu.cfs_quota_us"))?,
                number::<f64>(&controller.join("cpu.cfs_period_us"))?,
            ),
        };
        let cores = quota / period;
        (cores.is_finite() && cores > 0.0).then_some(cores)
    }

    fn cpu_usage_s(&self) -> Option<f64> {
        match self {
            Dir::V2(dir) => Some(field(&read(&dir.join("cpu.stat"))?, "usage_usec")? as f64 / 1e6),
            Dir::V1 { accounting, .. } => {
                Some(number::<u64>(&accounting.join("cpuacct.usage"))? as f64 / 1e9)
            }
        }
    }

    /// Scheduling periods so far, and those in which the quota ran out.
    fn throttling(&self) -> Option<(f64, f64)> {
        let dir = match self {
            Dir::V2(dir) => dir,
            Dir::V1 { controller, .. } => controller,
        };
        let text = read(&dir.join("cpu.stat"))?;
        Some((field(&text, "nr_periods")? as f64, field(&text, "nr_throttled")? as f64))
    }

    /// Free bytes and limit, if there is one.
    fn memory(&self) -> Option<(u64, u64)> {
        let (dir, limit, used, cache) = match self {
            Dir::V2(dir) => (dir, "memory.max", "memory.current", "inactive_file"),
            Dir::V1 { controller, .. } => (
                controller,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
        };
        let limit = number::<u64>(&dir.join(limit)).filter(|&n| n > 0 && n < NO_LIMIT)?;
        let used = number::<u64>(&dir.join(used))?;
        let cache =
            read(&dir.join("memory.stat")).and_then(|text| field(&text, cache)).unwrap_or(0);
        Some((limit.saturating_sub(used.saturating_sub(cache)), limit))
    }
}

/// The directories of our group for `controller` and of its ancestors, innermost first.
fn dirs(root: &Path, membership: &str, controller: &str) -> Vec<Dir> {
    let mount = root.join("sys/fs/cgroup");
    // `hierarchy:controllers:path`; version 2 has the hierarchy 0 and no controllers.
    let lines = || membership.lines().filter_map(|l| l.split_once(':')?.1.split_once(':'));
    let v1 = |name: &str| {
        let (names, path) = lines().find(|(names, _)| names.split(',').any(|n| n == name))?;
        let home = [names, name].iter().map(|n| mount.join(n)).find(|dir| dir.is_dir())?;
        Some((home, path))
    };
    if let Some((home, path)) = v1(controller) {
        let accounts = v1("cpuacct").map_or_else(|| home.clone(), |(home, _)| home);
        return levels(path)
            .into_iter()
            .map(|level| Dir::V1 {
                controller: home.join(&level),
                accounting: accounts.join(&level),
            })
            .filter(|dir| matches!(dir, Dir::V1 { controller, .. } if controller.is_dir()))
            .collect();
    }
    let Some((_, path)) = lines().find(|(names, _)| names.is_empty()) else { return Vec::new() };
    // Beside version 1, version 2 is mounted one level deeper.
    let mount = Some(mount.join("unified")).filter(|dir| dir.is_dir()).unwrap_or(mount);
    levels(path)
        .into_iter()
        .map(|level| mount.join(level))
        .filter(|d| d.is_dir())
        .map(Dir::V2)
        .collect()
}

/// `/a/b` gives `a/b`, `a` and the empty path. A path that climbs out of the mount has only the mount itself.
fn levels(path: &str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let inner = if plain { path } else { Path::new("") };
    let depth = inner.components().count();
    inner.ancestors().skip(depth.saturating_sub(MAX_DEPTH)).map(Path::to_owned).collect()
}

/// A file that holds one number.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    read(path)?.trim().parse().ok()
}

/// The number after `name` in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
