//! Leader time per task against the number of workers: imagined sessions through the real leader code, one core.
//!
//! ```text
//! cargo bench --bench leader [-- WORKERS,WORKERS,...  [TASKS]]     default: 5,20,100,500,1000,2000,5000 and 20000
//! cargo bench --bench leader -- count [WORKERS,...  [TASKS]]       default: the same and 4000
//! ```
//!
//! The same tasks come at the same rate whatever the number of workers is; each takes longer where there are more of
//! them, so that 80 % of all places are busy. What the leader does for tasks (`decide`, `apply`) is told apart from
//! what workers cost while nothing happens (`listen`: how they are, and timers; `calls` of idle ones for work), which is
//! per worker and second.
//!
//! `count` runs the same under valgrind (which has to be there) and tells instructions instead of time, with the misses
//! of valgrind's model of this machine's caches: what the leader does is told apart from how far its memory is.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures, and stops at any error"
)]

use hustings::sim::shop::workload::{Sizes, Workload};
use hustings::sim::shop::{Meter, Phase, ShopSpec, run_measured};
use std::process::Command;
use std::time::{Duration, Instant};

/// Tasks a second.
const RATE: f64 = 2_000.0;
/// The share of places that are busy.
const RHO: f64 = 0.8;
/// Each cell is run so often; the median is told.
const RUNS: u64 = 5;
/// Set: run that many workers and tasks, with valgrind counting.
const COUNTED: &str = "HUSTINGS_LEADER_COUNTED";

#[derive(Default)]
struct Stopwatch {
    since: Option<Instant>,
    decide: Duration,
    listen: Duration,
    call: Duration,
    apply: Duration,
}

impl Meter for Stopwatch {
    fn work_begins(&mut self) {
        *self = Stopwatch::default();
    }

    fn begin(&mut self, _: Phase) {
        self.since = Some(Instant::now());
    }

    fn end(&mut self, phase: Phase) {
        let took = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match phase {
            Phase::Decide => self.decide += took,
            Phase::Listen => self.listen += took,
            Phase::Call => self.call += took,
            Phase::Apply => self.apply += took,
        }
    }
}

/// Has valgrind count while the leader does something for tasks.
#[derive(Default)]
struct Counting {
    counts: bool,
}

impl Counting {
    fn turn(&mut self, counts: bool) {
        if self.counts != counts {
            self.counts = counts;
            toggle_collect();
        }
    }
}

impl Meter for Counting {
    fn begin(&mut self, phase: Phase) {
        self.turn(matches!(phase, Phase::Decide | Phase::Apply));
    }

    fn end(&mut self, _: Phase) {
        self.turn(false);
    }
}

/// `CALLGRIND_TOGGLE_COLLECT`, the request of that number in `valgrind/callgrind.h`.
#[cfg(target_arch = "x86_64")]
fn toggle_collect() {
    let request: [u64; 6] = [0x4354_0002, 0, 0, 0, 0, 0];
    // SAFETY: the words by which valgrind knows a request turn a register once around and exchange another with itself:
    // without valgrind they do nothing (valgrind.h, "Magic instruction sequence").
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") 0_u64 => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn toggle_collect() {
    panic!("the request to valgrind is written down for x86_64 alone");
}

struct Cell {
    workers: usize,
    /// Microseconds per task.
    decide: f64,
    apply: f64,
    /// Microseconds per worker and second.
    listen: f64,
    call: f64,
}

fn shop(workers: usize, tasks: usize, seed: u64) -> ShopSpec {
    let mean = Duration::from_secs_f64(RHO * workers as f64 / RATE);
    let workload =
        Workload { tasks, sizes: Sizes::Exponential, mean, rho: Some(RHO), ..Workload::default() };
    let mut spec =
        ShopSpec { machines: workers, seed, workload, detail: false, ..ShopSpec::default() };
    spec.config.steal.reach = f64::INFINITY;
    spec.config.limits.members = spec.config.limits.members.max(workers as u64);
    spec
}

fn measure(workers: usize, tasks: usize, seed: u64) -> Cell {
    let spec = shop(workers, tasks, seed);
    let mut watch = Stopwatch::default();
    let figures = run_measured(&spec, &mut watch).unwrap().figures;
    assert_eq!(figures.finished, tasks, "not everything came out");
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let seconds = figures.makespan.unwrap().as_secs_f64();
    Cell {
        workers,
        decide: us(watch.decide) / tasks as f64,
        apply: us(watch.apply) / tasks as f64,
        listen: us(watch.listen) / seconds / workers as f64,
        call: us(watch.call) / seconds / workers as f64,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The slope of the line through the points that is nearest to them, and where it begins.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    let (x, y) = (x / count, y / count);
    let across: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let along: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    (across / along, y - across / along * x)
}

/// Counted under valgrind with so many tasks: instructions, and misses of the first and of the last cache.
fn counted(workers: usize, tasks: usize) -> [f64; 3] {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", "--cache-sim=yes"]);
    valgrind.arg("--callgrind-out-file=/dev/null").arg(std::env::current_exe().unwrap());
    let run = valgrind.env(COUNTED, format!("{workers},{tasks}")).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let Some((_, counts)) = line else { panic!("{said}") };
    // Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw
    let counts: Vec<f64> = counts.split_whitespace().map(|n| n.parse().unwrap()).collect();
    [counts[0], counts[3..6].iter().sum(), counts[6..9].iter().sum()]
}

/// What a task costs: twice as many, less the first half, so that what is done once does not count.
fn count(counts: &[usize], tasks: usize) {
    println!("{tasks} tasks more, at {RATE} a second, {RHO} of all places busy");
    println!("workers  instructions/task  misses of the first cache/task  of the last/task");
    let mut points = Vec::new();
    for &workers in counts {
        let (once, twice) = (counted(workers, tasks), counted(workers, 2 * tasks));
        let [ran, first, last] = [0, 1, 2].map(|i| (twice[i] - once[i]) / tasks as f64);
        println!("{workers:7}  {ran:17.0}  {first:30.1}  {last:16.2}");
        points.push((workers as f64, ran));
    }
    let (slope, start) = line(&points);
    println!("line: {start:.0} instructions + {:.1} per thousand workers", slope * 1e3);
}

fn main() {
    if let Ok(wanted) = std::env::var(COUNTED) {
        let (workers, tasks) = wanted.split_once(',').unwrap();
        let spec = shop(workers.parse().unwrap(), tasks.parse().unwrap(), 0);
        run_measured(&spec, &mut Counting::default()).unwrap();
        return;
    }
    let mut given: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let counts_only = given.first().is_some_and(|word| word == "count");
    given.drain(..usize::from(counts_only));
    let counts = given.first().map_or("5,20,100,500,1000,2000,5000", String::as_str);
    let counts: Vec<usize> = counts.split(',').map(|count| count.parse().unwrap()).collect();
    let tasks = if counts_only { 4_000 } else { 20_000 };
    let tasks: usize = given.get(1).map_or(tasks, |tasks| tasks.parse().unwrap());
    if counts_only {
        return count(&counts, tasks);
    }
    println!("{tasks} tasks at {RATE} a second, {RHO} of all places busy, median of {RUNS} runs");
    println!(
        "workers  decide us/task  apply us/task  together us/task  listen us/(worker s)  calls us/(worker s)"
    );
    let mut points = Vec::new();
    for workers in counts {
        let cells: Vec<Cell> = (0..RUNS).map(|seed| measure(workers, tasks, seed)).collect();
        let of = |part: fn(&Cell) -> f64| median(cells.iter().map(part).collect());
        let (decide, apply) = (of(|cell| cell.decide), of(|cell| cell.apply));
        let together = of(|cell| cell.decide + cell.apply);
        let (listen, call) = (of(|cell| cell.listen), of(|cell| cell.call));
        let per_task = format!("{decide:14.2}  {apply:13.2}  {together:16.2}");
        println!("{workers:7}  {per_task}  {listen:20.2}  {call:19.2}");
        points.push((cells[0].workers as f64, together));
    }
    let (slope, start) = line(&points);
    println!("line: {start:.2} us + {:.3} us per thousand workers", slope * 1e3);
}
