//! A node that stands still inside a living process: its threads are held, as SIGSTOP holds those of a process.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long the threads may take to come to a halt.
const HALT: Duration = Duration::from_secs(5);

/// Holds every thread of a runtime until it is dropped. Sockets stay open and unread, timers fall due and wait.
pub struct Standstill {
    _held: Vec<Sender<()>>,
}

impl Standstill {
    /// Halts the `threads` of the runtime behind `handle`; `None` if they did not all come to a halt. Blocks.
    pub fn begin(handle: &Handle, threads: usize) -> Option<Self> {
        let (halted, halts) = channel();
        let mut held = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (holder, hold) = channel::<()>();
            held.push(holder);
            let halted = halted.clone();
            // A task that never yields has its thread to itself.
            handle.spawn(async move {
                let _ = halted.send(());
                let _ = hold.recv();
            });
        }
        let still = Standstill { _held: held };
        for _ in 0..threads {
            halts.recv_timeout(HALT).ok()?;
        }
        Some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn nothing_moves_until_it_is_dropped() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let turns = Arc::new(AtomicU64::new(0));
        for _ in 0..4 {
            let turns = turns.clone();
            runtime.spawn(async move {
                loop {
                    turns.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
            });
        }
        for _ in 0..20 {
            let still = Standstill::begin(runtime.handle(), 2).unwrap();
            let before = turns.load(SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(turns.load(SeqCst), before);
            drop(still);
            while turns.load(SeqCst) == before {
                std::thread::yield_now();
            }
        }
        runtime.shutdown_background();
    }
}
