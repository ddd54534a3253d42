//! The runner pool with real subprocesses: deaths, kills, timeouts, failed starts. The runner is this test binary
//! itself, speaking the frames without Python.

use hustings::core::boundary::Assignment;
use hustings::core::cluster::command::{Function, FunctionSource, Report, TaskSpec};
use hustings::core::ids::{SessionId, TaskId, Token};
use hustings::node::execution::frame::{self, Frame, PROTOCOL, RunResult};
use hustings::node::execution::seat::Threads;
use hustings::node::execution::stream::FrameReader;
use hustings::node::execution::streams::StreamLimits;
use hustings::node::execution::{AttemptEnded, Pool, PoolOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const LIMIT: usize = 64 << 10;
/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts this binary in the role of [`child`].
pub fn own_argv() -> Vec<String> {
    let program = std::env::current_exe().expect("own path").display().to_string();
    let quiet = r#"exec "$0" execution::child --exact --ignored --nocapture >/dev/null"#;
    ["/bin/sh", "-c", quiet, &program].map(String::from).to_vec()
}

pub struct Bench {
    pub pool: Arc<Pool>,
    ended: UnboundedReceiver<AttemptEnded>,
}

impl Bench {
    /// A pool whose runners are this binary in the role of [`child`], behaving as `mode` says.
    fn new(slots: usize, mode: &str) -> Self {
        Self::with(slots, own_argv(), mode, None)
    }

    /// One that has `threads` as well.
    pub fn with_threads(slots: usize, threads: Arc<dyn Threads>) -> Self {
        Self::with(slots, own_argv(), "", Some(threads))
    }

    pub fn with(
        slots: usize,
        argv: Vec<String>,
        mode: &str,
        threads: Option<Arc<dyn Threads>>,
    ) -> Self {
        let (sender, ended) = unbounded_channel();
        let env = vec![("HUSTINGS_TEST_CHILD".to_owned(), mode.to_owned())];
        let options = PoolOptions {
            slots,
            argv,
            env,
            allow_pickle: false,
            payload_limit: LIMIT,
            nice: 5,
            node: "n1".into(),
            output_limit: 4 << 10,
            stream: StreamLimits { items: 4, bytes: 1 << 10, idle: PATIENCE },
            threads,
        };
        Bench { pool: Pool::start(options, sender), ended }
    }

    pub fn run(&self, task: u128, payload: &str) {
        self.run_limited(task, payload, 0);
    }

    fn run_limited(&self, task: u128, payload: &str, timeout_ms: u64) {
        self.run_where(task, payload, timeout_ms, false);
    }

    pub fn run_where(&self, task: u128, payload: &str, timeout_ms: u64, in_thread: bool) {
        let source = FunctionSource::Reference("app:echo".into());
        let function = Arc::new(Function::new("echo".into(), source));
        let spec = TaskSpec {
            payload: payload.to_owned().into(),
            timeout_ms,
            in_thread,
            ..TaskSpec::new(TaskId(task), SessionId(1), function.to_ref())
        };
        let assignment = Assignment {
            spec: Arc::new(spec),
            token: Token(task as u64),
            attempt: 1,
            end_by_ms: 0,
        };
        self.pool.run(vec![(assignment, function)]);
    }

    pub async fn next(&mut self) -> (u128, String) {
        let ended = tokio::time::timeout(PATIENCE, self.ended.recv()).await;
        let ended = ended.expect("an attempt ends in time").expect("the pool lives");
        let words = match ended.report {
            Report::Value(payload) => String::from_utf8_lossy(&payload.body).into_owned(),
            Report::Failure(failure) => format!("{}: {}", failure.type_name, failure.message),
            other => format!("{other:?}"),
        };
        (ended.task.0, words)
    }

    pub fn is_silent(&mut self) -> bool {
        self.ended.try_recv().is_err()
    }

    pub async fn wait_running(&self, tasks: &[u128]) {
        let wanted: HashSet<u128> = tasks.iter().copied().collect();
        let reached = async {
            while self.pool.running().iter().map(|task| task.0).collect::<HashSet<_>>() != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("these tasks run in time");
    }
}

/// Whether process `pid` exists and is not merely waiting to be reaped.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Not a test: the runner's side, started by the pool.
#[test]
#[ignore = "the role of a runner, played for the other tests"]
fn child() {
    let Ok(mode) = std::env::var("HUSTINGS_TEST_CHILD") else { return };
    if mode == "deaf" {
        // SAFETY: a plain system call.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    }
    // SAFETY: descriptor 0 is the socket the pool gave this process; nothing else uses it.
    let mut socket = unsafe { UnixStream::from_raw_fd(0) };
    let mut frames = FrameReader::new(socket.try_clone().expect("dup"), 4 << 20);
    let mut send = |frame: Frame<'_>| {
        let mut out = Vec::new();
        frame::encode(&frame, usize::MAX, &mut out).expect("fits");
        socket.write_all(&out).expect("the node listens");
    };
    send(Frame::Ready { protocol: if mode == "stranger" { PROTOCOL + 1 } else { PROTOCOL } });
    let mut loads = 0;
    while let Ok(Some(body)) = frames.read_body() {
        let run = match frame::decode(body).expect("a frame") {
            Frame::Run(run) => run,
            _ => {
                loads += 1;
                continue;
            }
        };
        let mut answer = std::str::from_utf8(run.payload).expect("text").to_owned();
        match answer.as_str() {
            "exit 7" => std::process::exit(7),
            "abort" => std::process::abort(),
            "hang" => loop {
                std::thread::park();
            },
            "close" => {
                // SAFETY: closes every stream to the node and stays; the node must not wait for ever.
                (0..64).for_each(|fd| {
                    unsafe { libc::close(fd) };
                });
                loop {
                    std::thread::park();
                }
            }
            "pid" => answer = std::process::id().to_string(),
            "loads" => answer = loads.to_string(),
            "trace" => answer = run.trace.map_or_else(String::new, |trace| trace.to_string()),
            "huge" => answer = "x".repeat(LIMIT + frame::SLACK + 1),
            "grandchild" => {
                let mut command = std::process::Command::new("sleep");
                answer = command.arg("1000").spawn().expect("sleep").id().to_string();
            }
            _ => {}
        }
        let result = RunResult::Value { codec: run.codec, body: answer.as_bytes() };
        send(Frame::Done { seq: run.seq, result });
    }
    std::process::exit(0);
}

#[tokio::test]
async fn attempts_end_once_each_and_functions_are_sent_once() {
    let mut bench = Bench::new(2, "");
    for task in 0..500 {
        bench.run(task, &format!("r{task}"));
    }
    let mut seen = HashSet::new();
    for _ in 0..500 {
        let (task, words) = bench.next().await;
        assert_eq!(words, format!("r{task}"));
        assert!(seen.insert(task), "{task} ended twice");
    }
    assert_eq!(bench.pool.idle_slots(), 2);
    bench.run(1000, "loads");
    assert_eq!(bench.next().await, (1000, "1".into()));
}

#[tokio::test]
async fn a_dead_runner_is_reported_in_words_and_replaced() {
    let mut bench = Bench::new(1, "");
    bench.run(1, "exit 7");
    bench.run(2, "abort");
    bench.run(3, "still here");
    assert_eq!(bench.next().await, (1, r#"Crashed("runner exited with code 7")"#.into()));
    let aborted = r#"Crashed("runner killed by signal 6 (SIGABRT)")"#;
    assert_eq!(bench.next().await, (2, aborted.into()));
    assert_eq!(bench.next().await, (3, "still here".into()));
}

#[tokio::test]
async fn a_crash_leaves_other_attempts_unhurt() {
    let mut bench = Bench::new(2, "");
    bench.run(1, "hang");
    bench.wait_running(&[1]).await;
    bench.run(2, "exit 7");
    assert_eq!(bench.next().await.0, 2);
    assert_eq!(bench.pool.running(), [TaskId(1)]);
    bench.pool.kill(TaskId(1), Token(1));
    assert_eq!(bench.next().await, (1, r#"Crashed("cancelled")"#.into()));
}

#[tokio::test]
async fn a_kill_ends_running_and_waiting_attempts_and_ignores_others() {
    let mut bench = Bench::new(1, "");
    bench.run(1, "hang");
    bench.wait_running(&[1]).await;
    bench.run(2, "waits");
    bench.pool.kill(TaskId(1), Token(99));
    bench.pool.kill(TaskId(77), Token(77));
    bench.pool.kill(TaskId(2), Token(2));
    assert_eq!(bench.next().await, (2, r#"Crashed("cancelled")"#.into()));
    assert_eq!(bench.pool.running(), [TaskId(1)], "another token or task kills nothing");
    bench.pool.kill(TaskId(1), Token(1));
    assert_eq!(bench.next().await, (1, r#"Crashed("cancelled")"#.into()));
    bench.run(3, "after");
    assert_eq!(bench.next().await, (3, "after".into()));
}

#[tokio::test]
async fn what_waits_for_a_runner_is_taken_back_and_not_told_of() {
    let mut bench = Bench::new(1, "");
    bench.run(1, "hang");
    bench.wait_running(&[1]).await;
    bench.run(2, "waits");
    bench.run(3, "waits too");
    assert!(!bench.pool.take_back(TaskId(1), Token(1)), "it has begun");
    assert!(!bench.pool.take_back(TaskId(2), Token(99)), "another attempt");
    assert!(bench.pool.take_back(TaskId(2), Token(2)));
    assert!(!bench.pool.take_back(TaskId(2), Token(2)), "it is not here any more");
    bench.pool.kill(TaskId(1), Token(1));
    assert_eq!(bench.next().await, (1, r#"Crashed("cancelled")"#.into()));
    assert_eq!(bench.next().await, (3, "waits too".into()));
}

#[tokio::test]
async fn a_runner_that_does_not_end_a_cancelled_attempt_is_killed() {
    let mut bench = Bench::new(1, "deaf");
    bench.run(1, "hang");
    bench.run(2, "after");
    bench.wait_running(&[1]).await;
    bench.pool.kill(TaskId(1), Token(1));
    assert_eq!(bench.next().await, (1, r#"Crashed("cancelled")"#.into()));
    assert_eq!(bench.next().await.0, 2, "another runner takes its place");
}

#[tokio::test]
async fn an_attempt_over_its_time_is_killed_and_one_within_it_is_not() {
    let mut bench = Bench::new(1, "");
    bench.run_limited(1, "quick", 60_000);
    assert_eq!(bench.next().await, (1, "quick".into()));
    bench.run_limited(2, "hang", 30);
    assert_eq!(bench.next().await, (2, "TimedOut(30)".into()));
    bench.run(3, "after");
    assert_eq!(bench.next().await, (3, "after".into()));
}

#[tokio::test]
async fn what_a_callback_started_dies_with_its_runner() {
    let mut bench = Bench::new(1, "");
    bench.run(1, "grandchild");
    let pid = bench.next().await.1;
    assert!(lives(&pid));
    bench.run(2, "exit 7");
    bench.next().await;
    let gone = async {
        while lives(&pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the grandchild is killed");
}

#[tokio::test]
async fn a_runner_that_cannot_start_fails_its_attempts_with_the_reason() {
    for (argv, reason) in [
        (vec![], "argv is empty"),
        (vec!["/nonexistent/python"], "No such file or directory"),
        (vec!["/bin/sh", "-c", "exit 9"], "runner exited with code 9"),
    ] {
        let argv = argv.into_iter().map(String::from).collect();
        let mut bench = Bench::with(2, argv, "", None);
        bench.run(1, "x");
        let (task, words) = bench.next().await;
        assert_eq!(task, 1);
        assert!(words.contains("no runner could be started in 3 tries"), "{words}");
        assert!(words.contains(reason), "{words}");
    }
}

#[tokio::test]
async fn a_runner_of_another_version_is_refused() {
    let mut bench = Bench::new(1, "stranger");
    bench.run(1, "x");
    let words = bench.next().await.1;
    assert!(words.contains("use the same hustings version"), "{words}");
}

#[tokio::test]
async fn oversize_arguments_and_answers_fail_their_attempt_alone() {
    let mut bench = Bench::new(1, "");
    bench.run(1, &"x".repeat(4 << 20));
    let words = bench.next().await.1;
    assert!(words.starts_with("hustings.PayloadTooLargeError"), "{words}");
    bench.run(2, "huge");
    let words = bench.next().await.1;
    assert!(words.contains("runner broke its protocol"), "{words}");
    // Larger than the socket takes at once, within the frame's bound.
    let long = "y".repeat(LIMIT);
    bench.run(3, &long);
    assert_eq!(bench.next().await, (3, long));
}

#[tokio::test]
async fn stop_lets_attempts_end_and_cuts_off_the_rest() {
    let mut bench = Bench::new(2, "");
    bench.run(1, "pid");
    let idle = bench.next().await.1;
    bench.run(2, "hang");
    bench.wait_running(&[2]).await;
    let cut = bench.pool.stop(Duration::from_millis(10)).await;
    assert_eq!(cut, [TaskId(2)]);
    assert!(!lives(&idle));
    assert!(bench.ended.try_recv().is_err(), "what was cut off is not reported");
    bench.run(3, "late");
    assert_eq!(bench.next().await, (3, r#"Crashed("the node is stopping")"#.into()));
}

#[tokio::test]
async fn abort_kills_every_runner_and_reports_nothing() {
    let mut bench = Bench::new(1, "");
    bench.run(1, "pid");
    let pid = bench.next().await.1;
    bench.run(2, "hang");
    bench.wait_running(&[2]).await;
    bench.pool.abort();
    let gone = async {
        while lives(&pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the runner is killed");
    // After a stop no runner's thread is left that could still report.
    bench.pool.stop(Duration::ZERO).await;
    assert!(bench.ended.try_recv().is_err());
}

#[tokio::test]
async fn under_random_deaths_kills_and_timeouts_every_attempt_ends_exactly_once() {
    const COUNT: u128 = 300;
    let mut rng = StdRng::seed_from_u64(11);
    let mut bench = Bench::new(3, "");
    for task in 0..COUNT {
        match rng.random_range(0..20) {
            0 => bench.run(task, "exit 7"),
            1 => bench.run_limited(task, "hang", 1),
            2 => {
                bench.run(task, "hang");
                bench.pool.kill(TaskId(task), Token(task as u64));
            }
            3 => bench.run_limited(task, "close", 1),
            _ => bench.run(task, "fine"),
        }
        // A late kill of an attempt that may have ended must not hit its successor.
        if let Some(back) = task.checked_sub(rng.random_range(1..6)).filter(|_| task % 7 == 0) {
            bench.pool.kill(TaskId(back), Token(back as u64));
        }
    }
    let mut ended = HashSet::new();
    for _ in 0..COUNT {
        let (task, words) = bench.next().await;
        assert!(ended.insert(task), "{task} ended twice");
        assert!(!words.contains("no runner could be started"), "{words}");
    }
    assert_eq!(bench.pool.idle_slots(), 3);
    bench.pool.stop(Duration::ZERO).await;
    assert!(bench.ended.try_recv().is_err());
}

#[test]
fn a_stream_reader_passes_on_what_the_source_says() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = FrameReader::new(Broken, 10).read_body().expect_err("broken");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
