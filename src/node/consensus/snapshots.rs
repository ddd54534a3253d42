//! Where the last snapshot is, in memory or in a file, and how one is made, received and read in pieces.

use super::types::SnapshotMeta;
use crate::node::storage::{Draft, PIECE, Shelf, SnapshotFile};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// The data of one snapshot. Clones are the same data.
#[derive(Clone, Debug)]
pub enum SnapshotData {
    /// In memory, on a node without a data directory.
    Memory(Bytes),
    /// In a file.
    File(SnapshotFile, Shelf),
}

impl SnapshotData {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            SnapshotData::Memory(bytes) => bytes.len() as u64,
            SnapshotData::File(file, _) => file.size(),
        }
    }

    /// Of the bytes, so that whoever receives them knows that they are all there.
    pub fn checksum(&self) -> u64 {
        match self {
            SnapshotData::Memory(bytes) => xxh3_64(bytes),
            SnapshotData::File(file, _) => file.checksum(),
        }
    }

    /// All of it in pieces, read as they are wanted. It ends early where it cannot be read.
    pub fn pieces(self) -> BoxStream<'static, Bytes> {
        stream::unfold((self, 0), |(data, offset)| async move {
            let piece = data.piece(offset).await;
            let next = offset + piece.len() as u64;
            (!piece.is_empty()).then_some((piece, (data, next)))
        })
        .boxed()
    }

    async fn piece(&self, offset: u64) -> Bytes {
        match self {
            SnapshotData::Memory(bytes) => {
                let start = (offset as usize).min(bytes.len());
                bytes.slice(start..bytes.len().min(start + PIECE))
            }
            SnapshotData::File(file, shelf) => {
                let file = file.clone();
                let read = shelf.run(move |shelf| {
                    file.piece(offset).inspect_err(|error| shelf.distrust(error))
                });
                read.await.unwrap_or_default().into()
            }
        }
    }

    /// What `decode` makes of all of it.
    pub async fn decode<T: Send + 'static>(
        &self,
        decode: impl FnOnce(&mut dyn Read) -> Result<T, String> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            SnapshotData::Memory(bytes) => decode(&mut bytes.as_ref()).map_err(io::Error::other),
            SnapshotData::File(file, shelf) => {
                let file = file.clone();
                let read = move |_: &Shelf| decode_file(&file, decode);
                shelf.run(read).await
            }
        }
    }

    /// The same where waiting is all right.
    pub fn decode_now<T>(
        &self,
        decode: impl FnOnce(&mut dyn Read) -> Result<T, String>,
    ) -> io::Result<T> {
        match self {
            SnapshotData::Memory(bytes) => decode(&mut bytes.as_ref()).map_err(io::Error::other),
            SnapshotData::File(file, _) => decode_file(file, decode),
        }
    }
}

fn decode_file<T>(
    file: &SnapshotFile,
    decode: impl FnOnce(&mut dyn Read) -> Result<T, String>,
) -> io::Result<T> {
    let mut reader = io::BufReader::with_capacity(PIECE, file.reader());
    decode(&mut reader).map_err(io::Error::other)
}

/// The last snapshot; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    last: Arc<Mutex<Option<(SnapshotMeta, SnapshotData)>>>,
    shelf: Option<Shelf>,
}

impl Snapshots {
    /// Those on a shelf, the newest of which was found there.
    pub fn on(shelf: Shelf, newest: Option<(SnapshotMeta, SnapshotFile)>) -> Self {
        let last = newest.map(|(meta, file)| (meta, SnapshotData::File(file, shelf.clone())));
        Snapshots { last: Arc::new(Mutex::new(last)), shelf: Some(shelf) }
    }

    /// The last one.
    pub fn last(&self) -> Option<(SnapshotMeta, SnapshotData)> {
        self.lock().clone()
    }

    /// Bytes of the last one.
    pub fn size(&self) -> u64 {
        self.lock().as_ref().map_or(0, |(_, data)| data.size())
    }

    /// Room for a snapshot that is being received.
    pub async fn receive(&self) -> io::Result<Receiving> {
        Ok(match &self.shelf {
            None => Receiving::Memory(BytesMut::new()),
            Some(shelf) => {
                let draft = shelf.run(Shelf::begin).await?;
                Receiving::File(Some(Box::new(draft)), shelf.clone())
            }
        })
    }

    /// Keeps `encoded`, durably where there is a data directory.
    pub async fn keep_encoded(
        &self,
        meta: SnapshotMeta,
        encoded: Vec<u8>,
    ) -> io::Result<SnapshotData> {
        let data = match &self.shelf {
            None => SnapshotData::Memory(encoded.into()),
            Some(shelf) => {
                let write = move |shelf: &Shelf| {
                    let mut draft = shelf.begin()?;
                    encoded.chunks(PIECE).try_for_each(|piece| draft.write(piece))?;
                    Ok(draft.finish())
                };
                SnapshotData::File(shelf.run(write).await?, shelf.clone())
            }
        };
        self.keep(meta, data).await
    }

    /// Keeps `data`, unless a newer snapshot was kept meanwhile.
    pub async fn keep(&self, meta: SnapshotMeta, data: SnapshotData) -> io::Result<SnapshotData> {
        let newer = |last: &Option<(SnapshotMeta, SnapshotData)>| {
            last.as_ref().is_some_and(|(known, _)| known.last_log_id > meta.last_log_id)
        };
        let data = match data {
            SnapshotData::File(file, shelf) if !newer(&self.lock()) => {
                let about = meta.clone();
                let placed = shelf.run(move |shelf| shelf.place(&about, file)).await?;
                SnapshotData::File(placed, shelf)
            }
            other => other,
        };
        let mut last = self.lock();
        if !newer(&last) {
            *last = Some((meta.clone(), data.clone()));
        }
        Ok(data)
    }

    // Replaced as a whole; no panic leaves it half done.
    fn lock(&self) -> MutexGuard<'_, Option<(SnapshotMeta, SnapshotData)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that arrives in pieces.
#[derive(Debug)]
pub enum Receiving {
    /// Into memory.
    Memory(BytesMut),
    /// Into a file; without its draft after a failure.
    File(Option<Box<Draft>>, Shelf),
}

impl Receiving {
    /// Takes the next piece.
    pub async fn take(&mut self, piece: Bytes) -> io::Result<()> {
        match self {
            Receiving::Memory(bytes) => bytes.extend_from_slice(&piece),
            Receiving::File(draft, shelf) => {
                let mut writing =
                    draft.take().ok_or_else(|| io::Error::other("an earlier piece was lost"))?;
                let write = move |_: &Shelf| writing.write(&piece).map(|()| writing);
                *draft = Some(shelf.run(write).await?);
            }
        }
        Ok(())
    }

    /// All pieces are there.
    pub fn finish(self) -> io::Result<SnapshotData> {
        match self {
            Receiving::Memory(bytes) => Ok(SnapshotData::Memory(bytes.freeze())),
            Receiving::File(draft, shelf) => {
                let draft = draft.ok_or_else(|| io::Error::other("a piece was lost"))?;
                Ok(SnapshotData::File(draft.finish(), shelf))
            }
        }
    }
}
