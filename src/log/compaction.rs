//! Takes the events of forgotten users out of closed segments. Where an event was, a byte that stands for nothing keeps the offsets of all others.
//!
//! Segments are rewritten from the oldest on, each beside its old file and then in its place; a request to forget is itself taken out with its
//! segment, when all segments before are done. So a crash at any point leaves a log that says the same.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use super::reading::ReadError;
use super::record::{self, Head};
use super::segment::{self, Found, Reader, Segment};
use crate::event::encoding::{self, Item};
use crate::ids::Id;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Events that were taken out.
    pub events: u64,
    /// How many bytes shorter the log is.
    pub bytes: u64,
}

/// Of each forgotten user, the position of the last request among all items of the log.
type Requests = HashMap<Id<'static>, u64>;

/// Compacts all segments in `dir` but the newest, which may be written to meanwhile.
pub fn compact(dir: &Path) -> Result<Compacted, ReadError> {
    let segments = segment::list(dir).map_err(|source| ReadError::Io { path: dir.to_owned(), source })?;
    let requests = requests(&segments)?;
    let mut compacted = Compacted::default();
    let closed = segments.len().saturating_sub(1);
    if requests.is_empty() {
        return Ok(compacted);
    }
    let mut position = 0;
    for segment in &segments[..closed] {
        Rewriting { segment, requests: &requests, out: None, events: 0 }.run(dir, &mut position, &mut compacted)?;
    }
    Ok(compacted)
}

fn requests(segments: &[Segment]) -> Result<Requests, ReadError> {
    let (mut requests, mut position) = (Requests::new(), 0);
    for (at, segment) in segments.iter().enumerate() {
        let newest = at + 1 == segments.len();
        each_record(segment, newest, |_, _, mut items| {
            while let Ok(item) = encoding::read(&mut items) {
                if let Item::Forget(user) = item {
                    requests.insert(user.into_owned(), position);
                }
                position += 1;
            }
            Ok(())
        })?;
    }
    Ok(requests)
}

/// Gives each record's place, head and items to `each`.
fn each_record(
    segment: &Segment,
    may_be_torn: bool,
    mut each: impl FnMut(u64, &Head, &[u8]) -> io::Result<()>,
) -> Result<(), ReadError> {
    let at_file = |source| ReadError::Io { path: segment.path.clone(), source };
    let mut reader = Reader::open(&segment.path, segment::HEADER as u64).map_err(at_file)?;
    loop {
        let position = reader.position();
        match reader.read().map_err(at_file)? {
            Found::Record(head, items) => each(position, &head, items).map_err(at_file)?,
            Found::End => return Ok(()),
            Found::Bad(_) if may_be_torn => return Ok(()),
            Found::Bad(what) => {
                return Err(ReadError::Damaged { path: segment.path.clone(), position, what: what.to_string() });
            }
        }
    }
}

/// One segment on its way to a shorter one.
struct Rewriting<'a> {
    segment: &'a Segment,
    requests: &'a Requests,
    /// The new file, once something is taken out.
    out: Option<BufWriter<File>>,
    events: u64,
}

impl Rewriting<'_> {
    fn run(mut self, dir: &Path, position: &mut u64, compacted: &mut Compacted) -> Result<(), ReadError> {
        let at_file = |source| ReadError::Io { path: self.segment.path.clone(), source };
        let (segment, mut buffer) = (self.segment, Vec::new());
        each_record(segment, false, |place, head, items| {
            let (kept, changed) = self.keep(items, position)?;
            if changed && self.out.is_none() {
                self.out = Some(self.begin(place)?);
            }
            if let Some(out) = &mut self.out {
                buffer.clear();
                record::write(&mut buffer, head, std::iter::once(kept.as_slice())).map_err(io::Error::other)?;
                out.write_all(&buffer)?;
            }
            Ok(())
        })?;
        if let Some(out) = self.out {
            compacted.events += self.events;
            compacted.bytes += replace(dir, segment, out).map_err(at_file)?;
        }
        Ok(())
    }

    /// What stays of a record's items, and whether that is less than there was.
    fn keep(&mut self, items: &[u8], position: &mut u64) -> io::Result<(Vec<u8>, bool)> {
        let (mut kept, mut rest, mut changed) = (Vec::with_capacity(items.len()), items, false);
        while !rest.is_empty() {
            let before = rest;
            let item = encoding::read(&mut rest).map_err(io::Error::other)?;
            let is_gone = |user: &Id<'_>| self.requests.get(user).is_some_and(|&request| *position < request);
            match item {
                Item::Event(event) if is_gone(&event.user) => {
                    encoding::write_nothing(&mut kept);
                    self.events += 1;
                    changed = true;
                }
                Item::Forget(_) => changed = true,
                Item::Event(_) | Item::Nothing => kept.extend_from_slice(&before[..before.len() - rest.len()]),
            }
            *position += 1;
        }
        Ok((kept, changed))
    }

    /// A new file with everything before `place`.
    fn begin(&self, place: u64) -> io::Result<BufWriter<File>> {
        let path = self.segment.path.with_extension("compacting");
        let mut out = BufWriter::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?);
        io::copy(&mut File::open(&self.segment.path)?.take(place), &mut out)?;
        Ok(out)
    }
}

/// Puts the new file in the place of the old one; tells how much shorter it is.
fn replace(dir: &Path, segment: &Segment, out: BufWriter<File>) -> io::Result<u64> {
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let shorter = fs::metadata(&segment.path)?.len().saturating_sub(file.metadata()?.len());
    fs::rename(segment.path.with_extension("compacting"), &segment.path)?;
    segment::sync_dir(dir)?;
    Ok(shorter)
}
