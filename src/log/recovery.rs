//! Reads the log at start: checks every record, gives what a checkpoint does not hold yet to the caller, cuts off a torn tail.
//!
//! A machine that stops in the middle of a write leaves a record that is cut short at the very end: nothing behind it was ever acknowledged, so
//! it is cut off. A bad record with good ones behind it is something else: damage, which is refused with its place, or passed over if the
//! settings say so.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::record::Head;
use super::segment::{self, Found, Reader, Segment};
use super::writer::Writer;

/// What to do with damage that no crash explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Stop and say where it is.
    Refuse,
    /// Go on behind it, and say what was lost.
    Skip,
}

/// How to open a log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment longer than this is followed by the next.
    pub segment_bytes: u64,
    /// Check the records before `from_offset` too.
    pub verify_all: bool,
    /// What to do with damage.
    pub on_damage: OnDamage,
    /// Records that begin at this offset or later are given to the caller.
    pub from_offset: u64,
}

/// Why a log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused something.
    #[error("cannot read the event log at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record is damaged.
    #[error(
        "the event log is damaged: {path}, byte {position} (behind event {offset}): {what}; restore the file from a \
         backup, or start with --set event_log.on_damage=skip to go on without the damaged part"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The offset of the event that should follow.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// What was read can't be taken in.
    #[error("event {offset} of the event log cannot be counted: {what}")]
    Rejected {
        /// The first event of the record.
        offset: u64,
        /// Why.
        what: String,
    },
}

/// Opens the log in `dir`, creating it where there is none; calls `apply` with each record from `options.from_offset` on.
///
/// The writer that it returns stands at the end of the log; its marks are for the caller to set, who heard of them through `apply`.
pub fn open<E: std::fmt::Display>(
    dir: &Path,
    options: Options,
    mut apply: impl FnMut(&Head, &[u8]) -> Result<(), E>,
) -> Result<Writer, OpenError> {
    let at_dir = |source| OpenError::Io { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(at_dir)?;
    let mut segments = segment::list(dir).map_err(at_dir)?;
    remove_unborn(&mut segments)?;
    let Some(first) = segments.first() else {
        return Writer::create(dir, options.segment_bytes, options.from_offset).map_err(at_dir);
    };
    let mut scan = Scan { options, offset: first.first_offset, apply: &mut apply, closed_bytes: 0, length: 0 };
    for (at, segment) in segments.iter().enumerate() {
        let next_first = segments.get(at + 1).map(|next| next.first_offset);
        scan.segment(segment, next_first)?;
    }
    let last = segments.swap_remove(segments.len() - 1);
    Writer::resume(dir, options.segment_bytes, last, scan.length, scan.closed_bytes, scan.offset).map_err(at_dir)
}

/// A machine that stopped while a new segment was made leaves one without a whole header, the newest: nothing was ever in it.
fn remove_unborn(segments: &mut Vec<Segment>) -> Result<(), OpenError> {
    if let Some(newest) = segments.last() {
        let at_file = |source| OpenError::Io { path: newest.path.clone(), source };
        if fs::metadata(&newest.path).map_err(at_file)?.len() < segment::HEADER as u64 {
            fs::remove_file(&newest.path).map_err(at_file)?;
            segments.pop();
        }
    }
    Ok(())
}

/// Where reading stands.
struct Scan<'a, F> {
    options: Options,
    /// The offset of the next event.
    offset: u64,
    apply: &'a mut F,
    /// Bytes of the segments before the current one.
    closed_bytes: u64,
    /// Bytes of the current one.
    length: u64,
}

impl<F, E> Scan<'_, F>
where
    F: FnMut(&Head, &[u8]) -> Result<(), E>,
    E: std::fmt::Display,
{
    /// Reads one segment; `next_first` is where the one behind it begins, if there is one.
    fn segment(&mut self, segment: &Segment, next_first: Option<u64>) -> Result<(), OpenError> {
        let at_file = |source| OpenError::Io { path: segment.path.clone(), source };
        self.closed_bytes += self.length;
        self.length = fs::metadata(&segment.path).map_err(at_file)?.len();
        // One that ends just there may hold a request to forget behind its last event.
        let covered = next_first.is_some_and(|next_first| next_first < self.options.from_offset);
        if covered && !self.options.verify_all {
            self.offset = next_first.unwrap_or(self.offset);
            return Ok(());
        }
        self.expect(segment, 0, segment.first_offset, "events are missing before this file")?;
        if !segment::has_header(&segment.path, segment.first_offset).map_err(at_file)? {
            self.damaged(segment, 0, "the header is not one of this file")?;
        }
        let mut reader = Reader::open(&segment.path, segment::HEADER as u64).map_err(at_file)?;
        loop {
            let position = reader.position();
            match reader.read().map_err(at_file)? {
                Found::Record(head, events) => self.take(segment, position, &head, events)?,
                Found::End => return Ok(()),
                Found::Bad(what) => match segment::next_good(&segment.path, position).map_err(at_file)? {
                    None if next_first.is_none() => return self.cut_off(segment, position).map_err(at_file),
                    good => {
                        self.damaged(segment, position, &what.to_string())?;
                        let Some(good) = good else { return Ok(()) };
                        reader = Reader::open(&segment.path, good).map_err(at_file)?;
                    }
                },
            }
        }
    }

    /// Takes in one good record.
    fn take(&mut self, segment: &Segment, position: u64, head: &Head, events: &[u8]) -> Result<(), OpenError> {
        self.expect(segment, position, head.first_offset, "events are missing before this record")?;
        self.offset = head.end_offset();
        if head.first_offset < self.options.from_offset {
            return Ok(());
        }
        (self.apply)(head, events)
            .map_err(|error| OpenError::Rejected { offset: head.first_offset, what: error.to_string() })
    }

    /// Goes on at `found`, which must be the offset of the next event unless damage may be skipped.
    fn expect(&mut self, segment: &Segment, position: u64, found: u64, what: &str) -> Result<(), OpenError> {
        if found != self.offset {
            self.damaged(segment, position, &format!("{what} (found event {found})"))?;
            self.offset = found;
        }
        Ok(())
    }

    fn damaged(&self, segment: &Segment, position: u64, what: &str) -> Result<(), OpenError> {
        let (path, offset) = (segment.path.clone(), self.offset);
        let error = OpenError::Damaged { path, position, offset, what: what.to_owned() };
        match self.options.on_damage {
            OnDamage::Refuse => Err(error),
            OnDamage::Skip => {
                tracing::warn!("{error}: skipped");
                Ok(())
            }
        }
    }

    fn cut_off(&mut self, segment: &Segment, position: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&segment.path)?;
        file.set_len(position)?;
        file.sync_all()?;
        tracing::warn!(
            "{}: cut off {} bytes of an unfinished commit at byte {position}; nothing in it was acknowledged",
            segment.path.display(),
            self.length - position
        );
        self.length = position;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
