//! Lines that arrived together, as encoded events and refusals: the unit in which events travel from here on.

use super::lines::Line;
use crate::event::ndjson::{self, Reject};
use crate::event::{Schema, encoding};

/// A line that is not an event.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its number on its connection or in its request, the first line being 1.
    pub line_number: u64,
    /// Why.
    pub reason: Reject,
    /// The line itself; empty where it was too long to keep.
    pub line: Vec<u8>,
}

/// Encoded events and refused lines, in the order in which they came.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, one after the other, as [`encoding::write`] has them.
    pub events: Vec<u8>,
    /// How many events there are.
    pub accepted: u64,
    /// The lines that are not events.
    pub refused: Vec<Refused>,
}

/// Turns lines into batches, counting them.
#[derive(Debug)]
pub struct BatchReader {
    schema: Schema,
    max_line: usize,
    /// Lines seen so far, blank ones too.
    lines: u64,
    batch: Batch,
    scratch: Vec<u8>,
}

impl BatchReader {
    /// A reader for events of this schema; `max_line` only for the wording of a refusal.
    pub fn new(schema: Schema, max_line: usize) -> Self {
        Self { schema, max_line, lines: 0, batch: Batch::default(), scratch: Vec::new() }
    }

    /// Continues to count lines behind `last`: the number of the last line that an earlier connection delivered.
    pub fn continue_after(&mut self, last: u64) {
        self.lines = last;
    }

    /// The number of the newest line.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Adds one line to the batch in progress. A blank line has a number and is otherwise passed over.
    pub fn add(&mut self, line: &Line<'_>, arrival_micros: i64) {
        self.lines += 1;
        let (bytes, parsed) = match line {
            Line::TooLong => (&b""[..], Err(Reject::TooLong(self.max_line))),
            Line::Complete(bytes) if bytes.trim_ascii().is_empty() => return,
            Line::Complete(bytes) => (*bytes, ndjson::parse(bytes, self.schema, arrival_micros)),
        };
        match parsed {
            Ok(event) => {
                encoding::write(&mut self.batch.events, &mut self.scratch, &event);
                self.batch.accepted += 1;
            }
            Err(reason) => {
                self.batch.refused.push(Refused { line_number: self.lines, reason, line: bytes.to_vec() });
            }
        }
    }

    /// The batch so far; a new one begins.
    pub fn take(&mut self) -> Batch {
        let next = Batch { events: Vec::with_capacity(self.batch.events.len()), ..Batch::default() };
        std::mem::replace(&mut self.batch, next)
    }
}

impl Batch {
    /// Roughly how much memory the batch holds, in bytes.
    pub fn size(&self) -> usize {
        self.events.len() + self.refused.iter().map(|refused| refused.line.len() + 128).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_bad_and_blank_lines_are_told_apart_and_numbered() {
        let mut reader = BatchReader::new(Schema::Minimal, 100);
        reader.continue_after(10);
        let good = Line::Complete(br#"{"user_id":1,"product":2}"#);
        for line in [&good, &Line::Complete(b" "), &Line::Complete(b"x"), &Line::TooLong, &good] {
            reader.add(line, 0);
        }
        let batch = reader.take();
        assert_eq!((batch.accepted, reader.lines()), (2, 15));
        let refused: Vec<_> =
            batch.refused.iter().map(|refused| (refused.line_number, refused.reason.label())).collect();
        assert_eq!(refused, [(13, "not_json"), (14, "too_long")]);
        assert_eq!(batch.refused[0].line, b"x");
        assert_eq!(reader.take().accepted, 0);
    }
}
