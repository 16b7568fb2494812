//! Appends commits to the newest segment and makes them durable, one `fdatasync` each; begins a new segment when one is full.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, Head};
use super::segment::{self, Segment};

/// How far each producer has come: the number of its last durable line.
pub type Marks = HashMap<Arc<str>, u64>;

/// A producer's lines that belong to a batch of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Who sent them.
    pub producer: Arc<str>,
    /// The line before the first of them.
    pub after: u64,
    /// The last of them.
    pub last: u64,
}

/// Why a commit was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written: the log is as before and can go on.
    #[error("cannot append to {path}: {source}")]
    Refused {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is unknown what is on the disk: only a restart, which reads the log again, can tell.
    #[error("cannot make {path} durable: {source}")]
    Unknown {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The end of the log.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    segment: Segment,
    file: File,
    /// Durable bytes of the segment.
    length: u64,
    /// Bytes of all segments before it.
    closed_bytes: u64,
    /// The offset of the next event.
    offset: u64,
    marks: Marks,
    buffer: Vec<u8>,
}

impl Writer {
    /// A log without any segment yet.
    pub fn create(dir: &Path, segment_bytes: u64, offset: u64) -> io::Result<Self> {
        let (segment, file) = segment::create(dir, offset)?;
        let (dir, marks) = (dir.to_owned(), Marks::new());
        let length = segment::HEADER as u64;
        Ok(Self { dir, segment_bytes, segment, file, length, closed_bytes: 0, offset, marks, buffer: Vec::new() })
    }

    /// Goes on at the end of `segment`, `length` bytes long, where the next event has this offset and the segments before it hold
    /// `closed_bytes` bytes.
    pub fn resume(
        dir: &Path,
        segment_bytes: u64,
        segment: Segment,
        length: u64,
        closed_bytes: u64,
        offset: u64,
    ) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(&segment.path)?;
        file.seek(SeekFrom::Start(length))?;
        let (dir, marks) = (dir.to_owned(), Marks::new());
        Ok(Self { dir, segment_bytes, segment, file, length, closed_bytes, offset, marks, buffer: Vec::new() })
    }

    /// Takes over how far the producers had come.
    pub fn set_marks(&mut self, marks: Marks) {
        self.marks = marks;
    }

    /// How far the producers have come.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The offset of the next event.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.closed_bytes + self.length
    }

    /// Whether lines that follow `mark.after` are the producer's next ones. If not, something before them was lost on the way.
    pub fn continues(&self, mark: &Mark) -> bool {
        self.marks.get(&mark.producer).copied().unwrap_or(0) == mark.after
    }

    /// Appends one commit and makes it durable. The marks must continue those before; see [`Writer::continues`].
    pub fn commit<'a>(
        &mut self,
        events: u64,
        parts: impl Iterator<Item = &'a [u8]>,
        marks: &HashMap<Arc<str>, u64>,
        window: Option<u64>,
        now_micros: i64,
    ) -> Result<(), WriteError> {
        self.roll_if_full()?;
        let marks_of_head = marks.iter().map(|(producer, &last)| (producer.to_string(), last)).collect();
        let head =
            Head { first_offset: self.offset, events, committed_micros: now_micros, marks: marks_of_head, window };
        self.buffer.clear();
        record::write(&mut self.buffer, &head, parts).map_err(|error| self.refused(io::Error::other(error)))?;
        fail::fail_point!("log::write", |_| Err(self.refused(io::ErrorKind::StorageFull.into())));
        if let Err(source) = self.file.write_all(&self.buffer) {
            return Err(self.take_back(source));
        }
        fail::fail_point!("log::before_sync");
        self.file.sync_data().map_err(|source| self.unknown(source))?;
        self.length += self.buffer.len() as u64;
        self.offset += events;
        self.marks.extend(marks.iter().map(|(producer, &last)| (Arc::clone(producer), last)));
        Ok(())
    }

    fn roll_if_full(&mut self) -> Result<(), WriteError> {
        if self.length < self.segment_bytes { Ok(()) } else { self.close_segment() }
    }

    /// Closed segments were made so many bytes shorter.
    pub fn shrink(&mut self, bytes: u64) {
        self.closed_bytes = self.closed_bytes.saturating_sub(bytes);
    }

    /// Goes on in a new segment, unless the newest holds no event yet: an offset names a segment, so such a one can't be followed by another.
    pub fn close_segment(&mut self) -> Result<(), WriteError> {
        if self.segment.first_offset == self.offset {
            return Ok(());
        }
        let (segment, file) = segment::create(&self.dir, self.offset).map_err(|source| self.refused(source))?;
        self.closed_bytes += self.length;
        (self.segment, self.file, self.length) = (segment, file, segment::HEADER as u64);
        Ok(())
    }

    /// A write failed half way (a full disk): cuts off what of it got through, so that the log ends where it did before.
    fn take_back(&mut self, source: io::Error) -> WriteError {
        let restored = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        match restored {
            Ok(_) => self.refused(source),
            Err(source) => self.unknown(source),
        }
    }

    fn refused(&self, source: io::Error) -> WriteError {
        WriteError::Refused { path: self.segment.path.clone(), source }
    }

    fn unknown(&self, source: io::Error) -> WriteError {
        WriteError::Unknown { path: self.segment.path.clone(), source }
    }
}
