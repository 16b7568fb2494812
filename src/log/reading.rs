//! Reads the log of a running node, or of one that rests: what is complete, in order, without changing anything.
//!
//! The newest file may be written to at the same time: what is behind its last complete record is not there yet.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::record::Head;
use super::segment::{self, Found, Reader};

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused something.
    #[error("cannot read the event log at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record is damaged.
    #[error("the event log is damaged: {path}, byte {position}: {what}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        what: String,
    },
}

/// Where reading stopped, to go on there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// The first offset of the file, and the byte in it.
    place: Option<(u64, u64)>,
}

/// Gives every complete record that ends at `from_offset` or behind to `each`, until there is no more or it breaks off. Records without an event
/// just at `from_offset` are among them.
pub fn read(dir: &Path, from_offset: u64, each: impl FnMut(&Head, &[u8]) -> ControlFlow<()>) -> Result<(), ReadError> {
    read_on(dir, &mut Cursor::default(), from_offset, each)
}

/// The same, going on where `cursor` stands if that is in the newest file: older ones can be rewritten, and are read from their beginning.
pub fn read_on(
    dir: &Path,
    cursor: &mut Cursor,
    from_offset: u64,
    mut each: impl FnMut(&Head, &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let segments = segment::list(dir).map_err(|source| ReadError::Io { path: dir.to_owned(), source })?;
    for (at, segment) in segments.iter().enumerate() {
        let newer = segments.get(at + 1);
        if newer.is_some_and(|newer| newer.first_offset < from_offset) {
            continue;
        }
        let at_file = |source| ReadError::Io { path: segment.path.clone(), source };
        let known = cursor.place.filter(|&(first, _)| newer.is_none() && first == segment.first_offset);
        let start = known.map_or(segment::HEADER as u64, |(_, position)| position);
        let mut reader = Reader::open(&segment.path, start).map_err(at_file)?;
        loop {
            let position = reader.position();
            cursor.place = Some((segment.first_offset, position));
            match reader.read().map_err(at_file)? {
                Found::Record(head, events) => {
                    if head.end_offset() >= from_offset && each(&head, events).is_break() {
                        return Ok(());
                    }
                }
                Found::End => break,
                Found::Bad(_) if newer.is_none() => return Ok(()),
                Found::Bad(what) => {
                    return Err(ReadError::Damaged { path: segment.path.clone(), position, what: what.to_string() });
                }
            }
        }
    }
    Ok(())
}
