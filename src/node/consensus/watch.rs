//! A watch channel that wakes its waiters first come, first served; tokio's spreads them at random, which no seed
//! replays.

use openraft_rt::watch::{self, RecvError, SendError, WatchReceiver, WatchSender};
use openraft_rt::{OptionalSend, OptionalSync};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;

struct Channel<T> {
    value: RwLock<T>,
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    waiters: Notify,
}

impl<T> Channel<T> {
    // A panic while a value is replaced leaves the old or the new one; both are whole.
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.version.fetch_add(1, SeqCst);
        self.waiters.notify_waiters();
    }
}

/// The sending half.
pub struct Sender<T>(Arc<Channel<T>>);

/// The receiving half; it remembers which version it has seen.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

/// A channel that holds `value`.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        value: RwLock::new(value),
        version: AtomicU64::new(0),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
        waiters: Notify::new(),
    });
    (Sender(channel.clone()), Receiver { channel, seen: 0 })
}

impl<T> Sender<T> {
    /// Changes the value in place; receivers are woken if `change` says that it did.
    pub fn modify(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = change(&mut self.0.write());
        if changed {
            self.0.bump();
        }
        changed
    }

    /// A receiver that has seen the present value.
    pub fn receiver(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, SeqCst);
        Receiver { channel: self.0.clone(), seen: self.0.version.load(SeqCst) }
    }

    /// The present value.
    pub fn value(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }
}

impl<T> Receiver<T> {
    /// The present value.
    pub fn value(&self) -> RwLockReadGuard<'_, T> {
        self.channel.read()
    }

    /// Waits until the value is another one than was seen last; false once no sender is left.
    pub async fn wait(&mut self) -> bool {
        loop {
            let mut woken = pin!(self.channel.waiters.notified());
            woken.as_mut().enable();
            let version = self.channel.version.load(SeqCst);
            if version != self.seen {
                self.seen = version;
                return true;
            }
            if self.channel.senders.load(SeqCst) == 0 {
                return false;
            }
            woken.await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, SeqCst);
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.receivers.fetch_add(1, SeqCst);
        Receiver { channel: self.channel.clone(), seen: self.seen }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, SeqCst) == 1 {
            self.0.waiters.notify_waiters();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.receivers.fetch_sub(1, SeqCst);
    }
}

/// The same for openraft.
pub struct FifoWatch;

impl watch::Watch for FifoWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        channel(init)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<FifoWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(SeqCst) == 0 {
            return Err(SendError(value));
        }
        *self.0.write() = value;
        self.0.bump();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        self.modify(modify)
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.value()
    }

    fn subscribe(&self) -> Receiver<T> {
        self.receiver()
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<FifoWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        if self.wait().await { Ok(()) } else { Err(RecvError(())) }
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.value()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        // The version first: a value that is newer than its version is seen again, never missed.
        self.seen = self.channel.version.load(SeqCst);
        self.channel.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn every_change_is_seen_and_the_end_too() {
        let (sender, mut receiver) = channel(0);
        sender.modify(|v| {
            *v = 1;
            true
        });
        assert!(receiver.wait().await);
        assert_eq!(*receiver.value(), 1);
        assert!(!sender.modify(|_| false));
        drop(sender);
        assert!(!receiver.wait().await);
    }

    #[tokio::test]
    async fn waiters_are_woken_in_the_order_they_came() {
        for _ in 0..20 {
            let (sender, receiver) = channel(0);
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for n in 0..16 {
                let (mut receiver, order) = (receiver.clone(), order.clone());
                tasks.push(tokio::spawn(async move {
                    receiver.wait().await;
                    order.lock().unwrap().push(n);
                }));
                tokio::task::yield_now().await;
            }
            sender.modify(|v| {
                *v += 1;
                true
            });
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.lock().unwrap(), (0..16).collect::<Vec<_>>());
        }
    }
}
