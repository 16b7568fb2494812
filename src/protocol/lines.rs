//! Framing: bytes in, lines out, each a slice of the one buffer they were read into.

/// A quiet connection holds this much.
const SMALLEST_READ: usize = 4 << 10;
/// A busy connection reads this much at once.
const LARGEST_READ: usize = 256 << 10;

/// One line without its line end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line.
    Complete(&'a [u8]),
    /// A line longer than the limit; its bytes are dropped as they come.
    TooLong,
}

/// Bytes read and not yet taken as lines. Holds at most one unfinished line beyond what one read brought.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Bytes before this were taken.
    taken: usize,
    /// Bytes from `taken` up to this hold no line end.
    searched: usize,
    read_size: usize,
    max_line: usize,
    /// Inside a line that was too long, up to its end.
    dropping: bool,
    lines: u64,
}

impl LineBuffer {
    /// An empty buffer for lines of at most `max_line` bytes.
    pub fn new(max_line: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, searched: 0, read_size: SMALLEST_READ, max_line, dropping: false, lines: 0 }
    }

    /// The buffer to append the next read to, with room in it: more of it when the last read filled what there was, less when it is idle.
    pub fn room(&mut self) -> &mut Vec<u8> {
        let filled = self.bytes.len() >= self.read_size;
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.read_size =
            if filled { self.read_size * 2 } else { self.read_size / 2 }.clamp(SMALLEST_READ, LARGEST_READ);
        if self.bytes.capacity() > 4 * self.read_size.max(self.bytes.len()) {
            self.bytes.shrink_to(self.bytes.len() + self.read_size);
        }
        self.bytes.reserve(self.read_size);
        &mut self.bytes
    }

    /// The next whole line, or `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        while let Some(found) = memchr::memchr(b'\n', &self.bytes[self.searched..]) {
            let (start, end) = (self.taken, self.searched + found);
            self.taken = end + 1;
            self.searched = self.taken;
            if std::mem::take(&mut self.dropping) {
                continue;
            }
            self.lines += 1;
            return Some(self.cut(start, end));
        }
        self.searched = self.bytes.len();
        if self.dropping {
            self.taken = self.bytes.len();
        } else if self.bytes.len() - self.taken > self.max_line {
            self.dropping = true;
            self.taken = self.bytes.len();
            self.lines += 1;
            return Some(Line::TooLong);
        }
        None
    }

    /// How many lines were taken with [`LineBuffer::next_line`].
    pub fn cut_so_far(&self) -> u64 {
        self.lines
    }

    /// What is left when the stream has ended: a last line without a line end, if there is one.
    pub fn last_line(&mut self) -> Option<Line<'_>> {
        let (start, end) = (self.taken, self.bytes.len());
        self.taken = end;
        self.searched = end;
        (start < end && !self.dropping).then(|| self.cut(start, end))
    }

    fn cut(&self, start: usize, end: usize) -> Line<'_> {
        let line = &self.bytes[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max_line { Line::TooLong } else { Line::Complete(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by splitting everything at once.
    fn naive(bytes: &[u8], max_line: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let cut = |line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (line.len() <= max_line).then(|| line.to_vec())
        };
        lines.into_iter().map(cut).collect()
    }

    fn owned(line: &Line<'_>) -> Option<Vec<u8>> {
        match line {
            Line::Complete(bytes) => Some(bytes.to_vec()),
            Line::TooLong => None,
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b')], 0..200),
            chunk in 1usize..20,
            max_line in 1usize..12,
        ) {
            let mut buffer = LineBuffer::new(max_line);
            let mut lines = Vec::new();
            for part in bytes.chunks(chunk) {
                buffer.room().extend_from_slice(part);
                while let Some(line) = buffer.next_line() {
                    lines.push(owned(&line));
                }
            }
            lines.extend(buffer.last_line().as_ref().map(owned));
            prop_assert_eq!(lines, naive(&bytes, max_line));
        }
    }

    #[test]
    fn a_line_without_end_does_not_grow_the_buffer() {
        let mut buffer = LineBuffer::new(1000);
        let mut too_long = 0;
        for _ in 0..10_000 {
            buffer.room().extend_from_slice(&[b'x'; 1000]);
            while let Some(line) = buffer.next_line() {
                assert_eq!(line, Line::TooLong);
                too_long += 1;
            }
        }
        assert_eq!(too_long, 1);
        assert!(buffer.bytes.capacity() < 2 * LARGEST_READ);
    }

    #[test]
    fn line_ends_of_both_kinds_are_stripped() {
        let mut buffer = LineBuffer::new(10);
        buffer.room().extend_from_slice(b"one\r\ntwo\nthr");
        assert_eq!(buffer.next_line(), Some(Line::Complete(b"one")));
        assert_eq!(buffer.next_line(), Some(Line::Complete(b"two")));
        assert_eq!(buffer.next_line(), None);
        assert_eq!(buffer.last_line(), Some(Line::Complete(b"thr")));
    }
}
