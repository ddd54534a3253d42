//! Whether storage can be trusted. The first failure is final: what a failed sync left on the disk is unknown, so
//! nothing is tried again on it.

use crate::error::Error;
use std::io;
use std::sync::OnceLock;
use tokio::sync::Notify;

/// Shared by everything that writes to one data directory.
#[derive(Debug, Default)]
pub struct Health {
    failure: OnceLock<Error>,
    failed: Notify,
}

impl Health {
    /// Something failed. The first failure is kept.
    pub fn fail(&self, error: Error) {
        if self.failure.set(error).is_ok() {
            self.failed.notify_waiters();
        }
    }

    /// The first failure.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// An error once something failed.
    pub fn check(&self) -> io::Result<()> {
        self.failure.get().map_or(Ok(()), |error| Err(io::Error::other(error.clone())))
    }

    /// Waits for the first failure.
    pub async fn wait(&self) -> Error {
        loop {
            let failed = self.failed.notified();
            if let Some(error) = self.failure.get() {
                return error.clone();
            }
            failed.await;
        }
    }
}
