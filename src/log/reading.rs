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

/// Gives every complete record that ends behind `from_offset` to `each`, until there is no more or it breaks off. Records with no event at
/// `from_offset` are among them.
pub fn read(
    dir: &Path,
    from_offset: u64,
    mut each: impl FnMut(&Head, &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let segments = segment::list(dir).map_err(|source| ReadError::Io { path: dir.to_owned(), source })?;
    for (at, segment) in segments.iter().enumerate() {
        let newer = segments.get(at + 1);
        if newer.is_some_and(|newer| newer.first_offset <= from_offset) {
            continue;
        }
        let at_file = |source| ReadError::Io { path: segment.path.clone(), source };
        let mut reader = Reader::open(&segment.path, segment::HEADER as u64).map_err(at_file)?;
        loop {
            let position = reader.position();
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
