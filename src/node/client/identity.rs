//! The random part of a client: its session, the ids of its tasks (UUIDv7), the jitter of its back-off.

use crate::core::ids::{SessionId, TaskId};
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use std::time::Duration;

/// Seeded by the operating system; a client is never simulated.
pub(super) struct Identity {
    random: StdRng,
}

impl Identity {
    pub fn new() -> Result<Self> {
        let random = StdRng::try_from_rng(&mut SysRng).map_err(|error| {
            Error::config("session", format!("the operating system has no random bytes: {error}"))
        })?;
        Ok(Identity { random })
    }

    /// A session id, never 0.
    pub fn session_id(&mut self) -> SessionId {
        SessionId(self.bits() | 1)
    }

    /// A UUIDv7 whose 12 sub-millisecond bits keep ids of one client in order (RFC 9562, section 6.2, method 3).
    pub fn task_id(&mut self) -> TaskId {
        let now = Clock::wall_us();
        let millis = u128::from(now / 1_000) & 0xffff_ffff_ffff;
        let fraction = u128::from((now % 1_000) * 4_096 / 1_000);
        let random = self.bits() & ((1 << 62) - 1);
        TaskId(millis << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)
    }

    fn bits(&mut self) -> u128 {
        u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64())
    }

    /// Between half of `d` and `d`, so that many clients do not come back together.
    pub fn jitter(&mut self, d: Duration) -> Duration {
        d.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

/// Bounded exponential back-off.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    const LEAST: Duration = Duration::from_millis(2);
    const MOST: Duration = Duration::from_millis(200);

    pub fn new() -> Self {
        Backoff { next: Self::LEAST }
    }

    pub fn reset(&mut self) {
        self.next = Self::LEAST;
    }

    /// The next wait, before jitter.
    pub fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(Self::MOST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_are_uuids_of_version_7_with_their_time() {
        let mut identity = Identity::new().unwrap();
        let before = Clock::wall_us() / 1_000;
        let text = identity.task_id().to_string();
        let id = uuid::Uuid::parse_str(&text).unwrap();
        assert_eq!(id.get_version_num(), 7, "{text}");
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        let millis = (id.as_u128() >> 80) as u64;
        assert!((before..=Clock::wall_us() / 1_000).contains(&millis));
        assert_ne!(identity.session_id(), identity.session_id());
    }

    #[test]
    fn back_off_doubles_up_to_its_bound() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..9).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 200, 200]);
        let mut identity = Identity::new().unwrap();
        let jittered = identity.jitter(Duration::from_millis(100));
        assert!((50..=100).contains(&jittered.as_millis()));
    }
}
