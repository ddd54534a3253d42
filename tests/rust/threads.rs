//! Attempts in threads of the node's own process, whose interpreter is played by threads that do what they are told.

use crate::execution::Bench;
use hustings::core::cluster::command::Codec;
use hustings::core::ids::{TaskId, Token};
use hustings::node::execution::frame::RunResult;
use hustings::node::execution::seat::{Interrupt, Seat, Threads, Work};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Longer than an attempt is given after its interrupt.
const LONG: u64 = 60_000;

/// Threads that answer with what they are given, except for `heed`, which waits for an interrupt, and `hold`, which
/// waits until all are let go.
#[derive(Debug, Default)]
struct Puppets {
    is_broken: bool,
    stage: Arc<Stage>,
}

#[derive(Debug, Default)]
struct Stage {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    interrupts: Vec<(u64, Interrupt)>,
    is_open: bool,
    started: usize,
    left: usize,
}

impl Stage {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.moved.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        drop(self.moved.wait_while(state, |state| !until(state)).unwrap());
    }

    fn serve(&self, seat: &Seat) {
        while let Some(work) = seat.next() {
            self.play(seat, &work);
        }
        self.change(|state| state.left += 1);
        seat.leave();
    }

    fn play(&self, seat: &Seat, work: &Work) {
        let run = work.run();
        let value = match run.payload {
            b"heed" => {
                self.wait(|state| state.interrupts.iter().any(|(seq, _)| *seq == run.seq));
                b"heeded"
            }
            b"hold" => {
                self.wait(|state| state.is_open);
                b"let go"
            }
            other => other,
        };
        seat.end(run.seq, &RunResult::Value { codec: Codec::Json, body: value });
    }
}

impl Threads for Puppets {
    fn start(&self, seat: Arc<Seat>) -> Result<(), String> {
        if self.is_broken {
            return Err("out of puppets".into());
        }
        let stage = self.stage.clone();
        stage.change(|state| state.started += 1);
        std::thread::spawn(move || stage.serve(&seat));
        Ok(())
    }

    fn interrupt(&self, _seat: &Seat, seq: u64, why: Interrupt) {
        self.stage.change(|state| state.interrupts.push((seq, why)));
    }
}

fn bench(slots: usize) -> (Bench, Arc<Stage>) {
    let puppets = Puppets::default();
    let stage = puppets.stage.clone();
    (Bench::with_threads(slots, Arc::new(puppets)), stage)
}

#[tokio::test]
async fn attempts_end_once_each_and_a_slot_is_a_slot_wherever_it_is() {
    let (mut bench, stage) = bench(2);
    for task in 0..50 {
        bench.run_where(task, &format!("t{task}"), 0, task % 2 == 0);
    }
    let mut ends = HashSet::new();
    for _ in 0..50 {
        assert!(ends.insert(bench.next().await));
    }
    assert!((0..50).all(|task| ends.contains(&(task, format!("t{task}")))));
    // Two are held by threads, so that the third waits, though a process were free for it.
    (50..52).for_each(|task| bench.run_where(task, "hold", 0, true));
    bench.wait_running(&[50, 51]).await;
    bench.run(52, "next");
    assert!(bench.pool.take_back(TaskId(52), Token(52)));
    bench.run(53, "next");
    stage.change(|state| state.is_open = true);
    let ended: HashSet<u128> =
        [bench.next().await.0, bench.next().await.0, bench.next().await.0].into();
    assert_eq!(ended, [50, 51, 53].into());
    assert!(stage.state.lock().unwrap().started <= 2);
}

#[tokio::test]
async fn one_over_its_time_is_interrupted_and_given_up_if_it_does_not_heed_that() {
    let (mut bench, stage) = bench(1);
    bench.run_where(1, "heed", 50, true);
    assert_eq!(bench.next().await, (1, "heeded".into()));
    bench.run_where(2, "hold", 50, true);
    assert_eq!(bench.next().await, (2, "TimedOut(50)".into()));
    // Its slot is free; what it says later is not heard.
    bench.run_where(3, "on", 0, true);
    assert_eq!(bench.next().await, (3, "on".into()));
    stage.change(|state| state.is_open = true);
    stage.wait(|state| state.left == 1);
    bench.run_where(4, "on", LONG, true);
    assert_eq!(bench.next().await, (4, "on".into()));
    let state = stage.state.lock().unwrap();
    assert_eq!(
        state.interrupts.iter().map(|(_, why)| *why).collect::<Vec<_>>(),
        [Interrupt::TimedOut, Interrupt::TimedOut]
    );
    assert_eq!(state.started, 2);
}

#[tokio::test]
async fn a_cancelled_one_is_told_and_given_up_likewise() {
    let (mut bench, stage) = bench(1);
    bench.run_where(1, "heed", 0, true);
    bench.wait_running(&[1]).await;
    bench.pool.kill(TaskId(1), Token(1));
    assert_eq!(bench.next().await, (1, "heeded".into()));
    bench.run_where(2, "hold", 0, true);
    bench.run_where(3, "never", 0, true);
    bench.wait_running(&[2]).await;
    bench.pool.kill(TaskId(3), Token(3));
    assert_eq!(bench.next().await, (3, r#"Crashed("cancelled")"#.into()));
    bench.pool.kill(TaskId(2), Token(2));
    assert_eq!(bench.next().await, (2, r#"Crashed("cancelled")"#.into()));
    bench.run_where(4, "on", 0, true);
    assert_eq!(bench.next().await, (4, "on".into()));
    stage.change(|state| state.is_open = true);
}

#[tokio::test]
async fn where_no_thread_can_be_had_the_attempt_says_so() {
    let puppets = Puppets { is_broken: true, ..Puppets::default() };
    let mut bench = Bench::with_threads(1, Arc::new(puppets));
    bench.run_where(1, "x", 0, true);
    let words = r#"Crashed("no thread could be started: out of puppets")"#;
    assert_eq!(bench.next().await, (1, words.into()));
    bench.run(2, "processes do");
    assert_eq!(bench.next().await, (2, "processes do".into()));
}

#[tokio::test]
async fn where_no_process_can_be_had_threads_go_on_and_the_other_attempts_say_so() {
    let puppets: Arc<dyn Threads> = Arc::new(Puppets::default());
    let argv = vec!["/nonexistent/python".to_owned()];
    let mut bench = Bench::with(1, argv, "", Some(puppets));
    bench.run_where(1, "seated", 0, true);
    assert_eq!(bench.next().await, (1, "seated".into()));
    bench.run(2, "in vain");
    let (task, words) = bench.next().await;
    assert!(task == 2 && words.contains("no runner could be started"), "{words}");
    bench.run_where(3, "still", 0, true);
    assert_eq!(bench.next().await, (3, "still".into()));
}

#[tokio::test]
async fn threads_that_were_given_up_are_bounded() {
    let (mut bench, stage) = bench(40);
    (0..40).for_each(|task| bench.run_where(task, "hold", 1, true));
    for _ in 0..40 {
        assert_eq!(bench.next().await.1, "TimedOut(1)");
    }
    bench.run_where(50, "no", 0, true);
    let (task, words) = bench.next().await;
    assert!(task == 50 && words.contains("did not end when they should"), "{words}");
    bench.run(51, "processes do");
    assert_eq!(bench.next().await, (51, "processes do".into()));
    // Once they have ended there is room again.
    stage.change(|state| state.is_open = true);
    stage.wait(|state| state.left == 40);
    let ended = async {
        loop {
            bench.run_where(52, "again", 0, true);
            if bench.next().await.1 == "again" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("there is room again");
}

#[tokio::test]
async fn a_stop_lets_idle_threads_go_and_gives_up_the_rest() {
    let (mut bench, stage) = bench(2);
    bench.run_where(1, "x", 0, true);
    assert_eq!(bench.next().await.0, 1);
    bench.run_where(2, "hold", 0, true);
    bench.run_where(3, "heed", 0, true);
    bench.wait_running(&[2, 3]).await;
    let cut: HashSet<TaskId> = bench.pool.stop(Duration::ZERO).await.into_iter().collect();
    assert_eq!(cut, [TaskId(2), TaskId(3)].into());
    stage.change(|state| state.is_open = true);
    bench.run_where(4, "late", 0, true);
    assert!(bench.next().await.1.contains("the node is stopping"));
}

#[tokio::test]
async fn under_random_interrupts_kills_and_timeouts_every_attempt_ends_exactly_once() {
    const ATTEMPTS: u128 = 400;
    let mut chance = StdRng::seed_from_u64(7);
    let (mut bench, stage) = bench(4);
    let mut held = 0;
    let mut ends = HashSet::new();
    for task in 0..ATTEMPTS {
        match chance.random_range(0..10) {
            0 => bench.run(task, "in a process"),
            1 => bench.run_where(task, "heed", 20, true),
            2 if held < 20 => {
                held += 1;
                bench.run_where(task, "hold", 1, true);
            }
            _ => bench.run_where(task, "x", LONG, true),
        }
        for _ in 0..chance.random_range(0..2) {
            let other = chance.random_range(0..=task);
            bench.pool.kill(TaskId(other), Token(other as u64));
        }
        if chance.random_range(0..50) == 0 {
            let (ended, _) = bench.next().await;
            assert!(ends.insert(ended), "{ended} ended twice");
        }
    }
    while ends.len() < ATTEMPTS as usize {
        let (ended, _) = bench.next().await;
        assert!(ends.insert(ended), "{ended} ended twice");
    }
    // Those that were given up say nothing more.
    stage.change(|state| state.is_open = true);
    assert!(bench.pool.stop(Duration::from_secs(10)).await.is_empty());
    let state = stage.state.lock().unwrap();
    assert!(state.left <= state.started);
    drop(state);
    stage.wait(|state| state.left == state.started);
    assert!(bench.is_silent());
}
