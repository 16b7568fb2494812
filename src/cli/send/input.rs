//! Reads the input in large pieces that end at line ends, on a thread of its own, ahead of the sending.

use std::io::{self, ErrorKind, Read};

use crossbeam_channel::Sender;

/// Read at once.
const PIECE: usize = 256 << 10;
/// Without a line end in so many bytes it is no NDJSON, and memory stays bounded.
const LONGEST_LINE: usize = 16 << 20;

/// Whole lines, one after the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The number of its first line, the input's first being 1.
    pub(super) first: u64,
    /// How many lines there are, at least one.
    pub(super) lines: u64,
    /// How many of them are blank: they have a number and are no events.
    pub(super) blank: u64,
    /// The lines with their ends.
    pub(super) bytes: Vec<u8>,
}

impl Piece {
    fn new(first: u64, bytes: Vec<u8>) -> Self {
        let (lines, blank) = count(&bytes);
        Self { first, lines, blank, bytes }
    }

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

    /// How many lines there are behind `line`, and how many of them are blank.
    pub(super) fn count_behind(&self, line: u64) -> (u64, u64) {
        if line < self.first { (self.lines, self.blank) } else { count(self.behind(line)) }
    }
}

/// How many lines, and how many blank ones.
fn count(bytes: &[u8]) -> (u64, u64) {
    let (mut lines, mut blank, mut start) = (0, 0, 0);
    for end in memchr::memchr_iter(b'\n', bytes) {
        lines += 1;
        // An event has more bytes than this; so its line is not looked at twice.
        if end - start < 16 && bytes[start..end].trim_ascii().is_empty() {
            blank += 1;
        }
        start = end + 1;
    }
    (lines, blank)
}

/// Reads to the end, and gives a last line its end. Ends early when nobody takes the pieces any more.
///
/// With `most_lines` the pieces have no more lines than that.
pub(super) fn read(mut input: impl Read, most_lines: Option<u64>, pieces: &Sender<Piece>) -> io::Result<()> {
    let mut cutter = Cutter { most_lines, pieces, next_line: 1 };
    let mut buffer = vec![0; PIECE];
    let mut filled = 0;
    loop {
        let read = match input.read(&mut buffer[filled..]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            if filled > 0 {
                buffer.truncate(filled);
                buffer.push(b'\n');
                cutter.pass_on(buffer);
            }
            return Ok(());
        }
        let before = filled;
        filled += read;
        if let Some(end) = memchr::memrchr(b'\n', &buffer[before..filled]) {
            let rest = before + end + 1..filled;
            filled = rest.len();
            if !cutter.pass_on(take_front(&mut buffer, rest)) {
                return Ok(());
            }
        } else if filled == buffer.len() {
            if filled >= LONGEST_LINE {
                let line = cutter.next_line;
                return Err(io::Error::other(format!("line {line} is longer than {} MiB", LONGEST_LINE >> 20)));
            }
            buffer.resize(2 * filled, 0);
        }
    }
}

/// Takes the bytes before `rest` out of the buffer and moves `rest` to its front.
fn take_front(buffer: &mut Vec<u8>, rest: std::ops::Range<usize>) -> Vec<u8> {
    // A pipe gives little at once: what waits for its acknowledgement must not hold a mostly empty buffer.
    if rest.start < PIECE / 2 {
        let front = buffer[..rest.start].to_vec();
        buffer.copy_within(rest, 0);
        return front;
    }
    let mut next = vec![0; PIECE.max(2 * rest.len())];
    next[..rest.len()].copy_from_slice(&buffer[rest.clone()]);
    let mut front = std::mem::replace(buffer, next);
    front.truncate(rest.start);
    front
}

/// Numbers lines and passes them on in pieces of the wanted size.
struct Cutter<'a> {
    most_lines: Option<u64>,
    pieces: &'a Sender<Piece>,
    next_line: u64,
}

impl Cutter<'_> {
    /// Passes whole lines on; false when nobody takes them.
    fn pass_on(&mut self, bytes: Vec<u8>) -> bool {
        let Some(most_lines) = self.most_lines else { return self.send(bytes) };
        let mut rest = &bytes[..];
        while let Some(end) = memchr::memchr_iter(b'\n', rest).take(most_lines as usize).last() {
            let (front, behind) = rest.split_at(end + 1);
            if !self.send(front.to_vec()) {
                return false;
            }
            rest = behind;
        }
        true
    }

    fn send(&mut self, bytes: Vec<u8>) -> bool {
        let piece = Piece::new(self.next_line, bytes);
        self.next_line += piece.lines;
        self.pieces.send(piece).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time, now and then interrupted by a signal.
    struct Dripping<'a> {
        rest: &'a [u8],
        step: usize,
        interrupted: bool,
    }

    impl Read for Dripping<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(ErrorKind::Interrupted.into());
            }
            let step = self.step.min(out.len());
            self.rest.read(&mut out[..step])
        }
    }

    fn pieces(bytes: &[u8], step: usize, most_lines: Option<u64>) -> Vec<Piece> {
        let (sender, pieces) = crossbeam_channel::bounded(bytes.len() + 1);
        read(Dripping { rest: bytes, step, interrupted: false }, most_lines, &sender).unwrap();
        drop(sender);
        pieces.iter().collect()
    }

    proptest! {
        #[test]
        fn pieces_are_the_input_cut_at_line_ends_and_numbered(
            mut bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'x')], 0..100),
            step in 1usize..50,
            most_lines in prop::option::of(1u64..4),
        ) {
            let pieces = pieces(&bytes, step, most_lines);
            if bytes.last().is_some_and(|&last| last != b'\n') {
                bytes.push(b'\n');
            }
            prop_assert_eq!(pieces.iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<_>>(), &bytes[..]);
            let mut next = 1;
            for piece in &pieces {
                prop_assert_eq!(piece.first, next);
                prop_assert!(piece.bytes.ends_with(b"\n") && most_lines.is_none_or(|most| piece.lines <= most));
                next = piece.last() + 1;
            }
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            let blank = lines.iter().filter(|line| line.trim_ascii().is_empty()).count();
            prop_assert_eq!(next - 1, lines.len() as u64);
            prop_assert_eq!(pieces.iter().map(|piece| piece.blank).sum::<u64>(), blank as u64);
        }

        #[test]
        fn behind_a_line_is_what_follows_it(lines in 1u64..20, first in 1u64..30, line in 0u64..60) {
            let text = |number: u64| if number.is_multiple_of(3) { " \n".to_owned() } else { format!("{number}\n") };
            let all = first..first + lines;
            let piece = Piece::new(first, all.clone().map(text).collect::<String>().into_bytes());
            let behind: Vec<u64> = all.filter(|&number| number > line).collect();
            let expected: String = behind.iter().map(|&number| text(number)).collect();
            prop_assert_eq!(piece.behind(line), expected.as_bytes());
            let blank = behind.iter().filter(|number| number.is_multiple_of(3)).count();
            prop_assert_eq!(piece.count_behind(line), (behind.len() as u64, blank as u64));
        }
    }

    #[test]
    fn lines_longer_than_the_buffer_are_passed_on_whole() {
        let mut bytes = vec![b'x'; 3 * PIECE];
        bytes.extend_from_slice(b"\ny\n");
        let pieces = pieces(&bytes, usize::MAX, None);
        assert_eq!(pieces.iter().map(|piece| piece.lines).sum::<u64>(), 2);
        assert_eq!(pieces.into_iter().flat_map(|piece| piece.bytes).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn what_has_no_line_ends_is_refused_before_it_fills_the_memory() {
        let (sender, _pieces) = crossbeam_channel::bounded(1);
        let error = read(io::repeat(b'x'), None, &sender).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is longer than 16 MiB");
    }
}
