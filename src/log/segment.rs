//! The files of the log: each named by the offset of its first event and begun with a header that repeats it.
//!
//! ```text
//! magic         8 bytes   "BDRLOG" 0 1: the format and its version
//! first offset  8 bytes   little endian
//! crc32c        4 bytes   of the sixteen bytes before
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::{self, Head, NotARecord};

const MAGIC: [u8; 8] = *b"BDRLOG\0\x01";
/// Bytes before the first record.
pub const HEADER: usize = 20;

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// The offset of its first event, as its name says.
    pub first_offset: u64,
}

/// All segments in `dir` by offset. Files with other names are none of the log's business.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 20);
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(first_offset) = stem.and_then(|stem| stem.parse().ok())
        {
            segments.push(Segment { path, first_offset });
        }
    }
    segments.sort_by_key(|segment| segment.first_offset);
    Ok(segments)
}

/// Whether the file at `path` begins as the segment that starts at `first_offset` must.
pub fn has_header(path: &Path, first_offset: u64) -> io::Result<bool> {
    let mut found = [0; HEADER];
    let filled = fill(&mut File::open(path)?, &mut found)?;
    Ok(filled == HEADER && found == header(first_offset))
}

/// The header of a segment that begins at this offset.
pub fn header(first_offset: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&first_offset.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Creates the segment that begins at `first_offset`, durable with its name.
pub fn create(dir: &Path, first_offset: u64) -> io::Result<(Segment, File)> {
    let path = dir.join(format!("{first_offset:020}.log"));
    // Truncates: an empty segment of the same offset can be left over when the machine stopped just after a roll.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    file.write_all(&header(first_offset))?;
    file.sync_data()?;
    sync_dir(dir)?;
    Ok((Segment { path, first_offset }, file))
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What a reader finds at its position.
#[derive(Debug)]
pub enum Found<'a> {
    /// A good record: its head and its encoded events.
    Record(Head, &'a [u8]),
    /// The end of the file.
    End,
    /// Something that is no record.
    Bad(NotARecord),
}

/// Reads one segment, record by record.
#[derive(Debug)]
pub struct Reader {
    input: BufReader<File>,
    position: u64,
    body: Vec<u8>,
}

impl Reader {
    /// A reader that stands at `position` of the file.
    pub fn open(path: &Path, position: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        Ok(Self { input: BufReader::with_capacity(1 << 20, file), position, body: Vec::new() })
    }

    /// Where the next record begins, in bytes from the start of the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the record at the position and moves behind it; stays where it is when there is none.
    pub fn read(&mut self) -> io::Result<Found<'_>> {
        let mut prefix = [0; record::PREFIX];
        match fill(&mut self.input, &mut prefix)? {
            0 => return Ok(Found::End),
            record::PREFIX => {}
            _ => return Ok(Found::Bad(NotARecord::Short)),
        }
        let length = match record::body_length(&prefix) {
            Ok(length) => length,
            Err(bad) => return Ok(Found::Bad(bad)),
        };
        self.body.resize(length, 0);
        if fill(&mut self.input, &mut self.body)? < length {
            return Ok(Found::Bad(NotARecord::Short));
        }
        match record::read_body(&prefix, &self.body) {
            Ok((head, events)) => {
                self.position += (record::PREFIX + length) as u64;
                Ok(Found::Record(head, events))
            }
            Err(bad) => Ok(Found::Bad(bad)),
        }
    }
}

/// Fills `buffer` as far as the input goes; tells how far.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where the first good record behind `position` begins, if there is one. Only damage makes anybody ask, so the rest of the file is read whole.
pub fn next_good(path: &Path, position: u64) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let good = memchr::memmem::find_iter(&rest, &record::MAGIC).find(|&at| at > 0 && record::read(&rest[at..]).is_ok());
    Ok(good.map(|at| position + at as u64))
}
