//! The gate on speed: instructions a task costs, counted by callgrind, within written bounds. Instructions are the same
//! on a busy machine and on a quiet one; seconds are not.
//!
//! Every workload runs twice, the second time with more tasks, and the difference is counted: what starting costs does
//! not matter. `cargo test --test rust instructions -- --nocapture` prints the counts. Who makes a task cheaper lowers
//! its bound; who must make it dearer says why.

use hustings::core::cluster::command::{
    Batch, Codec, Command, FunctionRef, Member, Payload, Report, TaskSpec,
};
use hustings::core::cluster::state::ClusterState;
use hustings::core::ids::{FunctionHash, NodeId, SessionId, TaskId, Token};
use hustings::node::consensus::network::{decode, encode};
use hustings::sim::shop::workload::{Sizes, Workload};
use hustings::sim::shop::{ShopSpec, run};
use hustings::sim::work::Work;
use hustings::sim::{Spec, simulate};
use std::collections::BTreeMap;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

/// Which workload a run under callgrind does, and how many tasks.
const CHOICE: &str = "HUSTINGS_COUNTED";

struct Bound {
    workload: &'static str,
    /// Tasks of the shorter run, and of the longer one.
    tasks: (usize, usize),
    /// Instructions a task may cost, in the profile of tests.
    most: f64,
}

/// What was counted (86 502, 21 453 and 6 066 380, valgrind 3.19), and a tenth more.
const BOUNDS: &[Bound] = &[
    Bound { workload: "core", tasks: (500, 2_000), most: 95_200.0 },
    Bound { workload: "entry", tasks: (2_560, 12_800), most: 23_600.0 },
    Bound { workload: "commit", tasks: (100, 400), most: 6_670_000.0 },
];

/// The core alone: a leader decides, three nodes work, the state of the log is applied; one task after the other.
fn core(tasks: usize) {
    let mean = Duration::from_millis(1);
    let (sizes, rho) = (Sizes::Constant, Some(0.8));
    let workload = Workload { tasks, sizes, mean, rho, ..Workload::default() };
    let spec = ShopSpec { machines: 3, seed: 1, workload, detail: false, ..ShopSpec::default() };
    assert_eq!(run(&spec).unwrap().figures.finished, tasks);
}

/// What one voter does for entries of 256 commands: encode, decode, measure, apply; from submit to acknowledgement.
fn entry(tasks: usize) {
    const PER_ENTRY: usize = 256;
    let (node, session) = (NodeId(1), SessionId(9));
    let mut state = ClusterState::default();
    let mut index = 1;
    let member = Member { id: node, slots: 1, ..Member::default() };
    state.apply(index, &Batch { at_ms: 1, commands: vec![Command::Admit(member)] });
    let mut say = |commands: Vec<Command>| {
        let bytes = encode(&Batch { at_ms: 1, commands }).unwrap();
        let batch: Batch = decode(&bytes).unwrap();
        assert!(batch.size() > 0);
        index += 1;
        state.apply(index, &batch);
        index
    };
    let function = FunctionRef { name: "app.tasks.nothing".into(), hash: FunctionHash(1) };
    for first in (0..tasks).step_by(PER_ENTRY) {
        let ids: Vec<TaskId> = (first..first + PER_ENTRY).map(|i| TaskId(i as u128 + 1)).collect();
        let submit = |id: &TaskId| Command::Submit {
            spec: Arc::new(TaskSpec {
                payload: vec![b'x'; 30].into(),
                ..TaskSpec::new(*id, session, function.clone())
            }),
            to: Some(node),
        };
        let at = say(ids.iter().map(submit).collect());
        let complete = |(place, id): (usize, &TaskId)| Command::Complete {
            task: *id,
            token: Token::new(at, place),
            node,
            report: Report::Value(Payload::inline(Codec::Json, vec![b'1'; 5].into())),
            output: Vec::new().into(),
        };
        say(ids.iter().enumerate().map(complete).collect());
        say(vec![Command::Acknowledge { session, tasks: ids }]);
    }
    assert_eq!((state.live().len(), state.counters().succeeded), (0, tasks as u64));
}

/// Single tasks through three voters: client, task loop, log, replication, apply, outcome, with nothing to share their
/// entries with. Wires, clocks and runners are imagined. Most of what is counted is the simulation, which looks at all
/// promises after every fact, so only a gross regression shows here.
fn commit(tasks: usize) {
    let seconds = 5.0;
    let work = Work {
        per_s: tasks as f64 / seconds,
        clients: 1,
        mean: Duration::from_millis(1),
        raise: 0.0,
        crash: 0.0,
        cancel: 0.0,
        again: 0.0,
        connection: Duration::from_secs(3_600),
        ..Work::default()
    };
    let duration = Duration::from_secs_f64(seconds);
    let spec =
        Spec { nodes: 3, seed: 1, duration, writes: 0.0, work: Some(work), ..Spec::default() };
    let run = simulate(spec).unwrap();
    assert!(run.verdict.findings.is_empty() && run.verdict.accepted > 0, "{:?}", run.verdict);
}

fn perform(workload: &str, tasks: usize) {
    match workload {
        "core" => core(tasks),
        "entry" => entry(tasks),
        "commit" => commit(tasks),
        other => panic!("no workload {other:?}"),
    }
}

/// What runs under callgrind; every other run of the tests does each workload once, shortly.
#[test]
fn a_workload_runs() {
    match std::env::var(CHOICE) {
        Ok(choice) => {
            let (workload, tasks) = choice.split_once(':').unwrap();
            perform(workload, tasks.parse().unwrap());
        }
        Err(_) => BOUNDS.iter().for_each(|bound| perform(bound.workload, bound.tasks.0)),
    }
}

/// Instructions of one run of one workload, of the whole process.
fn count(workload: &str, tasks: usize) -> f64 {
    let out = Process::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "instructions::a_workload_runs", "--test-threads=1"])
        .env(CHOICE, format!("{workload}:{tasks}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{workload}: {said}{}", String::from_utf8_lossy(&out.stdout));
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = line.unwrap_or_else(|| panic!("callgrind counted nothing: {said}"));
    number.trim().parse().unwrap()
}

#[test]
fn tasks_cost_no_more_instructions_than_written() {
    let version = Process::new("valgrind").arg("--version").output();
    let Ok(version) = version.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    else {
        eprintln!("SKIPPED: no valgrind here (Debian: apt install valgrind)");
        return;
    };
    let mut dearer = BTreeMap::new();
    for Bound { workload, tasks: (few, many), most } in BOUNDS {
        let per_task = (count(workload, *many) - count(workload, *few)) / (many - few) as f64;
        eprintln!("{version}: {workload}: {per_task:.0} instructions a task, at most {most:.0}");
        if per_task > *most {
            dearer.insert(*workload, (per_task, *most));
        }
    }
    assert!(dearer.is_empty(), "dearer than their bounds (counted, bound): {dearer:?}");
}
