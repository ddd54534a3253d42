//! Durable state: what was confirmed is there after a restart, whatever the disk did meanwhile, or the node refuses.

mod alone;
mod bounds;
mod fake_disk;
mod faults;
mod power;
mod refusals;
mod restarts;
mod rot;
mod suite;
mod workload;

use hustings::node::storage::folder::Folder;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that goes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hustings-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn disk(&self, name: &str) -> Arc<Folder> {
        Arc::new(Folder::new(&self.path(name)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
