//! Trees of kernel files as fixtures: version 2, version 1, pressure, nothing at all, and nonsense.

use super::*;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of kernel files that goes away with the test.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(format!("hustings-sampler-{unique}"));
        fs::create_dir_all(&root).unwrap();
        Tree(root)
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn sampler(&self) -> Sampler {
        Sampler::rooted(&self.0, Duration::ZERO)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GIB: u64 = 1 << 30;
const V2: &str = "sys/fs/cgroup/app/node";

fn host(idle: f64) -> Host {
    Host { idle: Some(idle), cores: 2, available_bytes: 4 * GIB, total_bytes: 8 * GIB }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Three digits are what a score can feel.
fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-3, "got {got}, want {want}");
}

fn v2(quota: &str, usage_us: u64, throttling: (u64, u64)) -> Tree {
    let tree = Tree::new();
    tree.put("proc/self/cgroup", "0::/app/node\n").put(&format!("{V2}/cpu.max"), quota);
    stat(&tree, usage_us, throttling);
    tree
}

fn stat(tree: &Tree, usage_us: u64, (periods, throttled): (u64, u64)) {
    let text = format!(
        "usage_usec {usage_us}\nuser_usec 0\nnr_periods {periods}\nnr_throttled {throttled}\n"
    );
    tree.put(&format!("{V2}/cpu.stat"), text);
}

#[test]
fn a_machine_that_tells_nothing_is_as_idle_as_its_host() {
    let tree = Tree::new();
    let mut sampler = tree.sampler();
    let load = sampler.combine(ms(250), host(0.75));
    assert_eq!((load.cpu_available, load.memory_available), (0.75, 1.0));
    assert_eq!((load.cpu_percent, load.available_mb), (25.0, 4_096.0));
    assert_eq!((load.uptime_s, load.synthetic), (0.25, false));
    let none = Sources {
        cpu_quota: false,
        memory_limit: false,
        cpu_pressure: false,
        memory_pressure: false,
    };
    assert_eq!(sampler.sources(), none);
}

#[test]
fn before_two_readings_the_cpu_is_unknown() {
    let load = Tree::new().sampler().combine(ms(0), Host { idle: None, ..host(0.0) });
    assert_eq!((load.cpu_available, load.cpu_percent), (UNKNOWN_RATIO, 50.0));
}

#[test]
fn a_version_2_quota_counts_although_the_host_is_idle() {
    let tree = v2("50000 100000\n", 1_000_000, (0, 0));
    let mut sampler = tree.sampler();
    assert_eq!(sampler.combine(ms(0), host(1.0)).cpu_available, 1.0);
    // Half a core allowed, 0.1 core-seconds of the 0.5 used.
    stat(&tree, 1_100_000, (10, 0));
    let load = sampler.combine(ms(1_000), host(1.0));
    near(load.cpu_available, 0.8);
    near(load.cpu_percent, 20.0);
    assert!(sampler.sources().cpu_quota);
    // Over the quota (the kernel allows bursts) is still not below zero.
    stat(&tree, 9_100_000, (20, 0));
    assert_eq!(sampler.combine(ms(2_000), host(1.0)).cpu_available, 0.0);
}

#[test]
fn throttled_periods_count_as_stall() {
    let tree = v2("100000 100000", 0, (0, 0));
    let mut sampler = tree.sampler();
    sampler.combine(ms(0), host(1.0));
    stat(&tree, 500_000, (10, 4));
    // Half of the quota is left, but in 4 of 10 periods it had run out.
    near(sampler.combine(ms(1_000), host(1.0)).cpu_available, 0.5 * 0.6);
}

#[test]
fn the_tightest_ancestor_wins() {
    let tree = v2("max 100000\n", 0, (0, 0));
    let parent = |usage: u64| {
        tree.put("sys/fs/cgroup/app/cpu.max", "100000 100000")
            .put("sys/fs/cgroup/app/cpu.stat", format!("usage_usec {usage}\n"));
    };
    parent(0);
    tree.put(&format!("{V2}/memory.max"), format!("{}\n", 4 * GIB))
        .put(&format!("{V2}/memory.current"), "0\n")
        .put("sys/fs/cgroup/app/memory.max", format!("{GIB}\n"))
        .put("sys/fs/cgroup/app/memory.current", format!("{}\n", GIB - GIB / 10));
    let mut sampler = tree.sampler();
    sampler.combine(ms(0), host(1.0));
    parent(250_000);
    let load = sampler.combine(ms(1_000), host(1.0));
    near(load.cpu_available, 0.75);
    near(load.memory_available, (0.1 - 0.03) / 0.22);
    near(load.available_mb, 102.4);
}

#[test]
fn page_cache_is_not_used_memory() {
    let tree = v2("max 100000\n", 0, (0, 0));
    tree.put(&format!("{V2}/memory.max"), format!("{GIB}\n"))
        .put(&format!("{V2}/memory.current"), format!("{GIB}\n"))
        .put(&format!("{V2}/memory.stat"), format!("anon 1\ninactive_file {}\n", GIB / 2));
    let load = tree.sampler().combine(ms(0), host(1.0));
    assert_eq!((load.memory_available, load.available_mb), (1.0, 512.0));
}

#[test]
fn version_1_quota_and_memory_are_read_where_they_are_mounted() {
    let tree = Tree::new();
    tree.put("proc/self/cgroup", "4:memory:/docker/gone\n2:cpuacct:/box\n1:cpu:/box\n0::/\n")
        .put("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000\n")
        .put("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
        .put("sys/fs/cgroup/cpu/box/cpu.stat", "nr_periods 0\nnr_throttled 0\n")
        .put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
        .put("sys/fs/cgroup/cpuacct/box/cpuacct.usage", "0\n")
        .put("sys/fs/cgroup/memory/memory.limit_in_bytes", format!("{GIB}\n"))
        .put("sys/fs/cgroup/memory/memory.usage_in_bytes", format!("{GIB}\n"))
        .put("sys/fs/cgroup/memory/memory.stat", format!("total_inactive_file {}\n", GIB / 4));
    let mut sampler = tree.sampler();
    sampler.combine(ms(0), host(0.9));
    tree.put("sys/fs/cgroup/cpuacct/box/cpuacct.usage", "1000000000\n");
    let load = sampler.combine(ms(1_000), host(0.9));
    near(load.cpu_available, 0.5);
    near(load.available_mb, 256.0);
    assert!(sampler.sources().cpu_quota && sampler.sources().memory_limit);
}

#[test]
fn version_1_without_a_limit_is_no_limit() {
    let tree = Tree::new();
    tree.put("proc/self/cgroup", "2:cpu,cpuacct:/\n1:memory:/\n")
        .put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
        .put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        .put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        .put("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
    let mut sampler = tree.sampler();
    let load = sampler.combine(ms(0), host(0.6));
    assert_eq!((load.cpu_available, load.available_mb), (0.6, 4_096.0));
    assert!(!sampler.sources().cpu_quota && !sampler.sources().memory_limit);
}

fn pressure(tree: &Tree, resource: &str, total_us: u64) {
    let text = format!("some avg10=99.00 avg60=0.00 avg300=0.00 total={total_us}\nfull total=0\n");
    tree.put(&format!("proc/pressure/{resource}"), text);
}

#[test]
fn pressure_is_the_growth_of_its_total_over_two_seconds() {
    let tree = Tree::new();
    let mut sampler = tree.sampler();
    pressure(&tree, "cpu", 0);
    pressure(&tree, "memory", 0);
    // Runnable threads are not consulted where pressure is known.
    tree.put("proc/loadavg", "9.0 9.0 9.0 99/200 1\n");
    assert_eq!(sampler.combine(ms(0), host(1.0)).cpu_available, 1.0);
    pressure(&tree, "cpu", 250_000);
    pressure(&tree, "memory", 100_000);
    let load = sampler.combine(ms(1_000), host(0.8));
    near(load.cpu_available, 0.8 * 0.75);
    near(load.memory_available, 0.9);
    near(load.cpu_percent, 20.0);
    // Three seconds of calm later nothing of it is left.
    for now in [2_000, 3_000, 4_000] {
        sampler.combine(ms(now), host(0.8));
    }
    near(sampler.combine(ms(4_250), host(0.8)).cpu_available, 0.8);
}

#[test]
fn without_pressure_the_run_queue_speaks() {
    let tree = Tree::new();
    let with_running = |running: u32| {
        tree.put("proc/loadavg", format!("0.1 0.1 0.1 {running}/95 11078\n"));
        tree.sampler().combine(ms(0), host(1.0)).cpu_available
    };
    assert_eq!(with_running(3), 1.0);
    assert_eq!(with_running(9), 0.25);
}

#[test]
fn nonsense_counts_as_absent_and_no_ratio_is_ever_nan() {
    let files = ["cpu.max", "cpu.stat", "memory.max", "memory.current", "memory.stat"];
    for bad in ["", "max", "-1", "0 0\n", "0", "usage_usec NaN", "1e999 1", "inf nan", "\u{0}"] {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "0::/app/node\n:::\nx\n1:cpu\n");
        for file in files {
            tree.put(&format!("{V2}/{file}"), bad);
        }
        for file in ["proc/loadavg", "proc/pressure/cpu", "proc/pressure/memory"] {
            tree.put(file, bad);
        }
        let mut sampler = tree.sampler();
        for now in [0, 250, 500] {
            let empty = Host { idle: Some(0.5), cores: 0, available_bytes: 0, total_bytes: 0 };
            for host in [host(0.5), empty] {
                let load = sampler.combine(ms(now), host);
                assert_eq!(load.cpu_available, 0.5, "{bad:?}");
                assert!((0.0..=1.0).contains(&load.memory_available), "{bad:?} {load:?}");
            }
        }
    }
    let tree = v2("50000 100000", 0, (0, 0));
    tree.put(&format!("{V2}/cpu.max"), [0xff, 0xfe]);
    assert_eq!(tree.sampler().combine(ms(0), host(0.5)).cpu_available, 0.5);
}

#[test]
fn a_path_outside_the_mount_leads_to_the_mount_itself() {
    for path in ["/../../other", "/not/here", "/"] {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", format!("0::{path}\n"))
            .put("sys/fs/cgroup/memory.max", format!("{GIB}\n"))
            .put("sys/fs/cgroup/memory.current", "0\n");
        assert_eq!(tree.sampler().combine(ms(0), host(1.0)).available_mb, 1_024.0, "{path}");
    }
}

#[test]
fn a_process_moved_to_another_group_is_followed() {
    let tree = v2("max 100000\n", 0, (0, 0));
    let mut sampler = tree.sampler();
    tree.put("proc/self/cgroup", "0::/other\n")
        .put("sys/fs/cgroup/other/memory.max", format!("{GIB}\n"))
        .put("sys/fs/cgroup/other/memory.current", "0\n");
    assert_eq!(sampler.combine(ms(1_000), host(1.0)).available_mb, 4_096.0);
    assert_eq!(sampler.combine(ms(61_000), host(1.0)).available_mb, 1_024.0);
}

/// A sampler of a process that is one node and nothing else.
fn own_sampler(tree: &Tree) -> Sampler {
    let mut sampler = tree.sampler();
    sampler.own = Some(OwnCpu::new(&tree.0));
    sampler
}

/// The process has used so many hundredths of a second, `user` and `system`.
fn own(tree: &Tree, user: u64, system: u64) {
    let text = format!("7 (node (1)) S 1 7 7 0 -1 4194560 900 0 0 0 {user} {system} 9000 9000 20");
    tree.put("proc/self/stat", text);
}

#[test]
fn what_the_node_itself_uses_is_no_load() {
    let tree = Tree::new();
    let mut sampler = own_sampler(&tree);
    own(&tree, 1_000, 500);
    near(sampler.combine(ms(0), host(0.7)).cpu_available, 0.7);
    // 0.4 of the 2 cores in this second.
    own(&tree, 1_030, 510);
    let load = sampler.combine(ms(1_000), host(0.7));
    near(load.cpu_available, 0.7 + 0.2);
    // The raw figure, which the classic score takes, stays what was measured.
    near(load.cpu_percent, 30.0);
    // More than was busy at all: counters are coarse, ratios are not.
    own(&tree, 1_300, 510);
    assert_eq!(sampler.combine(ms(2_000), host(0.7)).cpu_available, 1.0);
}

#[test]
fn a_process_that_others_share_returns_nothing() {
    let tree = Tree::new();
    let mut sampler = tree.sampler();
    for (now, user) in [(0, 0), (1_000, 100), (2_000, 200)] {
        own(&tree, user, 0);
        near(sampler.combine(ms(now), host(0.5)).cpu_available, 0.5);
    }
}

#[test]
fn what_is_returned_is_a_share_of_what_may_be_used() {
    let tree = v2("50000 100000\n", 0, (0, 0));
    let mut sampler = own_sampler(&tree);
    own(&tree, 0, 0);
    sampler.combine(ms(0), host(1.0));
    // Of the half core 0.4 are used, 0.1 by the node, the rest by its runners.
    own(&tree, 10, 0);
    stat(&tree, 400_000, (10, 0));
    let load = sampler.combine(ms(1_000), host(1.0));
    near(load.cpu_available, 0.2 + 0.2);
    near(load.cpu_percent, 80.0);
}

#[test]
fn own_time_that_is_missing_garbled_or_goes_back_returns_nothing() {
    for bad in ["", "7 (x) S", "7 (x) S 1 7 7 0 -1 4 9 0 0 0 -5 2", "\u{0}", "7 (x"] {
        let tree = Tree::new();
        let mut sampler = own_sampler(&tree);
        for now in [0, 1_000] {
            tree.put("proc/self/stat", bad);
            near(sampler.combine(ms(now), host(0.5)).cpu_available, 0.5);
        }
    }
    let tree = Tree::new();
    let mut sampler = own_sampler(&tree);
    for (now, user) in [(0, u64::MAX), (1_000, 5), (2_000, 5)] {
        own(&tree, user, u64::MAX);
        near(sampler.combine(ms(now), host(0.5)).cpu_available, 0.5);
    }
}

#[test]
fn every_level_of_nested_groups_counts_and_the_tightest_wins() {
    // The node's own group has the looser limit, its parent the tighter one, the grandparent none.
    let tree = v2("150000 100000\n", 0, (0, 0));
    let parent = |usage: u64, throttled: u64| {
        let text = format!(
            "usage_usec {usage}\nnr_periods {}\nnr_throttled {throttled}\n",
            usage / 10_000
        );
        tree.put("sys/fs/cgroup/app/cpu.stat", text);
    };
    tree.put("sys/fs/cgroup/app/cpu.max", "50000 100000\n")
        .put("sys/fs/cgroup/cpu.max", "max 100000\n")
        .put(&format!("{V2}/memory.max"), "max\n")
        .put(&format!("{V2}/memory.current"), format!("{GIB}\n"))
        .put("sys/fs/cgroup/app/memory.max", format!("{}\n", 2 * GIB))
        .put("sys/fs/cgroup/app/memory.current", format!("{}\n", GIB * 3 / 2));
    parent(0, 0);
    let mut sampler = tree.sampler();
    sampler.combine(ms(0), host(1.0));
    // A neighbour in the same parent used most of its half core; this node hardly anything.
    stat(&tree, 10_000, (10, 0));
    parent(400_000, 20);
    let load = sampler.combine(ms(1_000), host(1.0));
    near(load.cpu_available, 0.2 * 0.5);
    near(load.available_mb, 512.0);
    let both = sampler.sources();
    assert!(both.cpu_quota && both.memory_limit);
}

#[test]
fn version_1_accounts_in_a_mount_of_their_own() {
    // `cpu` and `cpuacct` are mounted apart.
    let tree = Tree::new();
    let account = |ns: u64| {
        tree.put("sys/fs/cgroup/cpuacct/pod/cpuacct.usage", format!("{ns}\n"));
    };
    tree.put("proc/self/cgroup", "7:cpuacct:/pod\n3:cpu:/pod\n2:name=systemd:/\n")
        .put("sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", "50000\n")
        .put("sys/fs/cgroup/cpu/pod/cpu.cfs_period_us", "100000\n");
    account(7_000_000_000);
    let mut sampler = tree.sampler();
    // No `cpu.stat`: no throttling is known.
    assert_eq!(sampler.combine(ms(0), host(1.0)).cpu_available, 1.0);
    account(7_250_000_000);
    near(sampler.combine(ms(1_000), host(1.0)).cpu_available, 0.5);
}

#[test]
fn a_version_1_quota_without_its_account_is_no_quota() {
    let tree = Tree::new();
    tree.put("proc/self/cgroup", "3:cpu:/\n")
        .put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
        .put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    let mut sampler = tree.sampler();
    for now in [0, 1_000, 2_000] {
        assert_eq!(sampler.combine(ms(now), host(0.5)).cpu_available, 0.5);
    }
}

#[test]
fn figures_beyond_all_bounds_stay_ratios() {
    let huge = u64::MAX.to_string();
    let figures = ["-1", "0", "1", &huge, "-9223372036854775808", "1e300", "18446744073709551616"];
    for limit in figures {
        for used in figures {
            let tree = v2(&format!("{limit} {used}"), 0, (0, 0));
            tree.put(&format!("{V2}/memory.max"), limit)
                .put(&format!("{V2}/memory.current"), used)
                .put(&format!("{V2}/memory.stat"), format!("inactive_file {used}\n"))
                .put(&format!("{V2}/cpu.stat"), format!("usage_usec {used}\nnr_periods {limit}\n"))
                .put("proc/pressure/cpu", format!("some avg10=-1 total={used}\n"))
                .put("proc/loadavg", format!("0 0 0 {used}/{limit} 1\n"));
            let mut sampler = own_sampler(&tree);
            for now in [0, 1_000, 2_000] {
                let load = sampler.combine(ms(now), host(0.5));
                for ratio in [load.cpu_available, load.memory_available] {
                    assert!((0.0..=1.0).contains(&ratio), "{limit} {used}: {load:?}");
                }
                assert!(load.available_mb >= 0.0 && load.available_mb.is_finite(), "{load:?}");
            }
        }
    }
}

#[test]
fn a_clock_that_goes_back_begins_anew() {
    let tree = v2("50000 100000\n", 0, (0, 0));
    let mut sampler = own_sampler(&tree);
    pressure(&tree, "cpu", 0);
    own(&tree, 0, 0);
    sampler.combine(ms(3_600_000), host(1.0));
    for (now, usage) in [(1_000, 100_000), (2_000, 200_000)] {
        stat(&tree, usage, (0, 0));
        own(&tree, 0, 0);
        sampler.combine(ms(now), host(1.0));
    }
    // The last second alone counts: 0.1 of half a core.
    stat(&tree, 300_000, (0, 0));
    near(sampler.combine(ms(3_000), host(1.0)).cpu_available, 0.8);
    // And the next reading is a new one, not the one of an hour later repeated.
    let mut sampler = Sampler::new(ms(3_600_000), false);
    sampler.sample(ms(3_600_250));
    assert_eq!(sampler.sample(ms(5)).uptime_s, 0.005);
    assert_eq!(sampler.read_at, ms(5));
}

#[test]
fn available_memory_is_the_tighter_of_host_and_group() {
    let check = |free: u64, limit: u64, used: u64, expected_mb: f64| {
        let tree = v2("max 100000\n", 0, (0, 0));
        tree.put(&format!("{V2}/memory.max"), format!("{limit}\n"))
            .put(&format!("{V2}/memory.current"), format!("{used}\n"));
        let host = Host { available_bytes: free, ..host(1.0) };
        near(tree.sampler().combine(ms(0), host).available_mb, expected_mb);
    };
    check(4 * GIB, 2 * GIB, GIB, 1_024.0);
    check(GIB / 2, 2 * GIB, GIB, 512.0);
    // Over its limit, as the kernel allows for a moment.
    check(4 * GIB, GIB, 2 * GIB, 0.0);
    // A limit above the host's memory limits nothing.
    check(GIB, 64 * GIB, 0, 1_024.0);
}

#[test]
fn this_machine_gives_ratios() {
    let mut sampler = Sampler::new(Duration::ZERO, true);
    let first = sampler.sample(ms(0));
    assert_eq!(first.cpu_available, UNKNOWN_RATIO);
    let again = sampler.sample(ms(199));
    assert_eq!(again, Load { uptime_s: 0.199, ..first });
    let load = sampler.sample(ms(250));
    assert!((0.0..=1.0).contains(&load.cpu_available), "{load:?}");
    assert!((0.0..=1.0).contains(&load.memory_available), "{load:?}");
    assert!((0.0..=100.0).contains(&load.cpu_percent), "{load:?}");
    assert!(load.available_mb > 0.0, "{load:?}");
}
