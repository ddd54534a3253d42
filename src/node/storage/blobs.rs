//! Blobs as files beside the log: written beside, synced, then named. Whoever reads one checks its hash.

use super::disk::{Pace, UNFINISHED, read_all, replace};
use super::{Owner, Storage, failed};
use crate::core::ids::{BlobId, BlobRef};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, PoisonError};

/// Files of blobs begin with this.
pub const BLOB: &str = "blob-";

fn file_of(id: BlobId) -> String {
    format!("{BLOB}{id}")
}

fn id_of(name: &str) -> Option<BlobId> {
    let hex = name.strip_prefix(BLOB).filter(|hex| hex.len() == 64 && hex.is_ascii())?;
    let mut id = [0; 32];
    for (byte, at) in id.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(BlobId(id))
}

impl Storage {
    /// The blobs found in the directory.
    pub fn blobs(&self) -> Result<Vec<BlobRef>> {
        let owner = self.take_owner()?;
        let disk = owner.disk.as_ref();
        let names = disk.names().map_err(|error| failed(disk, "", &error))?;
        let mut found = Vec::new();
        for name in names.iter().filter(|name| !name.ends_with(UNFINISHED)) {
            if let Some(id) = id_of(name) {
                let file = disk.open(name, super::disk::Open::Existing);
                let size = file.and_then(|file| file.len());
                let size = size.map_err(|error| failed(disk, name, &error))?;
                found.push(BlobRef { id, size });
            }
        }
        Ok(found)
    }

    /// Writes a blob; durable when this returns. A disk that fails here is trusted no more.
    pub async fn write_blob(&self, id: BlobId, content: Bytes) -> Result<()> {
        let name = file_of(id);
        let written = self
            .on_disk(move |owner| {
                let name = file_of(id);
                replace(owner.disk.as_ref(), &name, &content)
            })
            .await?;
        self.judge(&name, written)
    }

    /// A blob's content; `None` if there is no such file, or it has another length.
    pub async fn read_blob(&self, id: BlobId, size: u64) -> Result<Option<Bytes>> {
        let read = self.on_disk(move |owner| read_all(owner.disk.as_ref(), &file_of(id), size));
        let content = self.judge(&file_of(id), read.await?)?;
        Ok(content.filter(|content| content.len() as u64 == size).map(Bytes::from))
    }

    /// Removes blobs; one that comes back after a crash is found again, and goes again.
    pub async fn remove_blobs(&self, ids: Vec<BlobId>) {
        if ids.is_empty() {
            return;
        }
        let removed = self.on_disk(move |owner| {
            for id in ids {
                let _ = owner.disk.remove(&file_of(id));
            }
        });
        let _ = removed.await;
    }

    fn take_owner(&self) -> Result<Arc<Owner>> {
        if let Some(error) = self.health.failure() {
            return Err(error.clone());
        }
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        owner.ok_or(Error::Stopped { what: "storage".into() })
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Owner) -> T + Send + 'static,
    ) -> Result<T> {
        let owner = self.take_owner()?;
        match owner.disk.pace() {
            Pace::Blocking => tokio::task::spawn_blocking(move || work(&owner))
                .await
                .map_err(|error| Error::Consensus { problem: error.to_string() }),
            Pace::Virtual(pause) => {
                tokio::time::sleep(pause).await;
                Ok(work(&owner))
            }
        }
    }

    fn judge<T>(&self, name: &str, result: io::Result<T>) -> Result<T> {
        result.map_err(|error| {
            let path = format!("{}{name}", self.path);
            let error = Error::Storage { path, problem: error.to_string() };
            self.health.fail(error.clone());
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_content() {
        let id = BlobId(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id_of(&file_of(id)), Some(id));
        assert_eq!(id_of("blob-12"), None);
        assert_eq!(id_of(&format!("blob-{}", "g".repeat(64))), None);
    }
}
