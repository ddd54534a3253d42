//! This node's copy of the replicated state, and how its tasks share it without keeping others waiting.

use super::state_machine::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The replicated state; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Replica(Arc<Mutex<State>>);

impl Replica {
    /// The state, for reading; only the state machine writes to it. Waits while it is cloned for a snapshot, which may
    /// take some milliseconds: a thread that waits lets go of the tasks it was to run next, for heartbeats are among
    /// them.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        match self.0.try_lock() {
            Ok(state) => state,
            // A panic inside `apply` stops Raft on this node; readers may still look at what it left.
            Err(TryLockError::Poisoned(left)) => left.into_inner(),
            Err(TryLockError::WouldBlock) => {
                aside(|| self.0.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

/// Does long `work` where it keeps no other task of this runtime waiting: heartbeats must not stop for it.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Frees something large, the same way. A log's worth of commands takes a tenth of a second, for which the library
/// would otherwise do nothing else.
pub(super) fn let_go<T: Send + 'static>(large: T) {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            runtime.spawn_blocking(move || drop(large));
        }
        _ => drop(large),
    }
}

/// Whether freed memory is worth giving back here: in a simulation it is not.
pub(super) fn can_give_back() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    cfg!(target_env = "gnu") && matches!(flavor, Ok(RuntimeFlavor::MultiThread))
}

/// Gives freed memory back to the system. The C library keeps what a log took, some hundred MiB in its many pieces.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    if let Ok(runtime) = Handle::try_current() {
        // SAFETY: it may be called at any time from any thread (malloc_trim(3)).
        runtime.spawn_blocking(|| unsafe { libc::malloc_trim(0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// The bound of a wait that only a defect lasts as long as.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn whoever_waits_for_it_keeps_no_task_waiting_that_it_woke_itself() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let replica = Replica::default();
        let held = replica.lock();
        let (told, hears) = mpsc::channel();
        let waits = replica.clone();
        runtime.spawn(async move {
            // It is to run next on this very thread, and no other thread would take it from there.
            tokio::spawn(async move { told.send(()).unwrap() });
            drop(waits.lock());
        });
        let heard = hears.recv_timeout(PATIENCE);
        drop(held);
        heard.expect("the task stands behind the one that waits");
    }

    #[test]
    fn a_thread_outside_of_any_runtime_waits_as_for_any_lock() {
        let replica = Replica::default();
        let held = replica.lock();
        let waits = replica.clone();
        let other = std::thread::spawn(move || waits.lock().applied());
        drop(held);
        assert_eq!(other.join().unwrap(), 0);
    }
}
