//! Cuts the bytes of a socket into frames and bounds what is held of them.

use super::frame::FrameError;
use std::io::{self, Read};

/// Cuts a byte stream into frames; holds at most one frame more than it was asked for.
pub struct FrameReader<R> {
    source: R,
    pub(super) buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
}

impl<R: Read> FrameReader<R> {
    /// Many small frames fit in one read.
    pub(super) const CHUNK: usize = 32 << 10;

    /// A reader that refuses frames longer than `limit`.
    pub fn new(source: R, limit: usize) -> Self {
        FrameReader { source, buffer: vec![0; Self::CHUNK], start: 0, end: 0, limit }
    }

    /// Where its bytes come from.
    pub(super) fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Gives the source back; what was read of it and is no whole frame is lost.
    pub(super) fn into_source(self) -> R {
        self.source
    }

    /// The next frame's body, `None` at the end of the stream. Blocks as the source does.
    pub fn read_body(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            match self.buffered_length()? {
                Some(length) if self.end - self.start >= 4 + length => {
                    let body = self.start + 4..self.start + 4 + length;
                    self.start = body.end;
                    return Ok(Some(&self.buffer[body]));
                }
                Some(length) => self.make_room(4 + length),
                None => self.make_room(4),
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.start == self.end => return Ok(None),
                Ok(0) => return Err(FrameError::Truncated { field: "body" }.into()),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether [`FrameReader::read_body`] would give a frame, or refuse one, without reading.
    pub fn has_frame(&self) -> bool {
        match self.buffered_length() {
            Ok(Some(length)) => self.end - self.start >= 4 + length,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn buffered_length(&self) -> Result<Option<usize>, FrameError> {
        let Some(head) = self.buffer[self.start..self.end].first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        Ok(Some(length))
    }

    fn make_room(&mut self, need: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // A rare long frame does not hold its memory for ever.
        if self.end == 0 && self.buffer.len() > Self::CHUNK && need <= Self::CHUNK {
            self.buffer = vec![0; Self::CHUNK];
        }
        if self.buffer.len() < need {
            self.buffer.resize(need, 0);
        }
    }
}
