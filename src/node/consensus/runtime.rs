//! The runtime openraft runs on: tokio's, with our FIFO watch and the one source of randomness, which can be seeded.

use super::watch::FifoWatch;
use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng, TryRng};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// While it lives, all randomness of its thread is repeatable: what a simulation makes first.
#[derive(Debug)]
pub struct Seeded {
    before: Option<SmallRng>,
    // A thread's randomness cannot be given back on another thread.
    _this_thread: PhantomData<*const ()>,
}

/// Makes the randomness of this thread follow from `seed` until the guard is dropped.
#[must_use]
pub fn seed(seed: u64) -> Seeded {
    let fresh = SmallRng::seed_from_u64(seed);
    let before = SEEDED.with(|cell| cell.borrow_mut().replace(fresh));
    Seeded { before, _this_thread: PhantomData }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        let before = self.before.take();
        SEEDED.with(|cell| *cell.borrow_mut() = before);
    }
}

/// 64 random bits: from this thread's seed if there is one, else from the operating system.
pub fn random_u64() -> u64 {
    SEEDED.with(|cell| match cell.borrow_mut().as_mut() {
        Some(seeded) => seeded.next_u64(),
        None => unseeded(),
    })
}

/// A random number in `range`.
pub fn random_range(range: RangeInclusive<u64>) -> u64 {
    Randomness.random_range(range)
}

/// A random number in [-1, 1], to a thousandth.
pub fn random_jitter() -> f64 {
    random_range(0..=2_000) as f64 / 1_000.0 - 1.0
}

#[allow(clippy::disallowed_methods, reason = "the one home of randomness")]
fn unseeded() -> u64 {
    rand::rng().next_u64()
}

/// The generator behind [`random_u64`], as a type.
#[derive(Clone, Copy, Debug)]
pub struct Randomness;

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((random_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(random_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let random = random_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

/// tokio, without its randomness: one configuration serves the product and the simulation.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Randomness;
    type Mpsc = TokioMpsc;
    type Watch = FifoWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Randomness {
        Randomness
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_everything() {
        let draw = |n| {
            let _seeded = seed(n);
            let mut bytes = [0; 13];
            Randomness.fill_bytes(&mut bytes);
            (random_u64(), random_range(0..=9), bytes)
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
