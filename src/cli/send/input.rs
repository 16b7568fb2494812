//! Reads the input in large pieces that end at line ends, on a thread of its own, ahead of the sending.

use std::io::{self, Read};

use crossbeam_channel::Sender;

/// Read at once.
const PIECE: usize = 256 << 10;

/// Whole lines, one after the other.
#[derive(Debug)]
pub(super) struct Piece {
    /// The number of its first line, the input's first being 1.
    pub(super) first: u64,
    /// How many lines there are.
    pub(super) lines: u64,
    /// The lines with their ends.
    pub(super) bytes: Vec<u8>,
}

impl Piece {
    /// The number of its last line.
    pub(super) fn last(&self) -> u64 {
        self.first + self.lines - 1
    }

    /// Its bytes without the lines up to `line`.
    pub(super) fn behind(&self, line: u64) -> &[u8] {
        let skip = (line + 1).saturating_sub(self.first);
        match skip.checked_sub(1) {
            None => &self.bytes,
            Some(nth) => match memchr::memchr_iter(b'\n', &self.bytes).nth(nth as usize) {
                Some(end) => &self.bytes[end + 1..],
                None => &[],
            },
        }
    }
}

/// Reads to the end; tells how many lines were blank. Ends early when nobody takes the pieces any more.
pub(super) fn read(mut input: impl Read, most_lines: Option<u64>, pieces: &Sender<Piece>) -> io::Result<u64> {
    let mut cutter = Cutter { most_lines, pieces, next_line: 1, blank: 0 };
    let mut rest = Vec::new();
    loop {
        let kept = rest.len();
        rest.resize(kept + PIECE, 0);
        let read = match input.read(&mut rest[kept..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        rest.truncate(kept + read);
        if read == 0 {
            if !rest.is_empty() {
                rest.push(b'\n');
                cutter.pass_on(rest);
            }
            return Ok(cutter.blank);
        }
        if let Some(end) = memchr::memrchr(b'\n', &rest) {
            let after = rest.split_off(end + 1);
            if !cutter.pass_on(std::mem::replace(&mut rest, after)) {
                return Ok(cutter.blank);
            }
        }
    }
}

/// Counts lines and passes them on in pieces of the wanted size.
struct Cutter<'a> {
    most_lines: Option<u64>,
    pieces: &'a Sender<Piece>,
    next_line: u64,
    blank: u64,
}

impl Cutter<'_> {
    /// Passes whole lines on; false when nobody takes them.
    fn pass_on(&mut self, bytes: Vec<u8>) -> bool {
        let (mut start, mut lines, mut line_start) = (0, 0, 0);
        for end in memchr::memchr_iter(b'\n', &bytes) {
            lines += 1;
            // Only a short line can be blank; looking at the others would cost a second pass.
            if end - line_start < 16 && bytes[line_start..end].trim_ascii().is_empty() {
                self.blank += 1;
            }
            line_start = end + 1;
            if Some(lines) == self.most_lines {
                if !self.send(bytes[start..=end].to_vec(), lines) {
                    return false;
                }
                (start, lines) = (end + 1, 0);
            }
        }
        match (start, lines) {
            (_, 0) => true,
            (0, _) => self.send(bytes, lines),
            _ => self.send(bytes[start..].to_vec(), lines),
        }
    }

    fn send(&mut self, bytes: Vec<u8>, lines: u64) -> bool {
        let piece = Piece { first: self.next_line, lines, bytes };
        self.next_line += lines;
        self.pieces.send(piece).is_ok()
    }
}
