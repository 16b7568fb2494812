//! One commit as bytes:
//!
//! ```text
//! magic    4 bytes   "BDR1"
//! length   4 bytes   of the body, little endian
//! crc32c   4 bytes   of length and body
//! body               head (bincode 1.3, fixed integers), then the encoded events to the end
//! ```

use bincode::Options;
use serde::{Deserialize, Serialize};

/// What a record begins with.
pub const MAGIC: [u8; 4] = *b"BDR1";
/// Bytes before the body.
pub const PREFIX: usize = 12;
/// No body is longer: a commit is cut well below this, so a larger length is damage.
pub const MAX_BODY: usize = 64 << 20;

/// What a record says beside its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many events came before, since the beginning: the offset of the first event in here.
    pub first_offset: u64,
    /// How many events there are.
    pub events: u64,
    /// When it was committed, in microseconds since 1970 UTC.
    pub committed_micros: i64,
    /// Producers whose lines are in here (events or refused), each with the number of its last one.
    pub marks: Vec<(String, u64)>,
    /// The window that ends behind this record, if one does.
    pub window: Option<u64>,
}

impl Head {
    /// The offset behind the last event.
    pub fn end_offset(&self) -> u64 {
        self.first_offset + self.events
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    /// The bytes end before the record does.
    #[error("the record is cut short")]
    Short,
    /// It does not begin as a record does.
    #[error("no record begins here")]
    Magic,
    /// Its length is beyond any that is written.
    #[error("the record's length is impossible")]
    Length,
    /// The bytes changed since they were written.
    #[error("the record's checksum does not match")]
    Checksum,
    /// The checksum matches, but the head can't be read: another version wrote it.
    #[error("the record's head is not understood")]
    Head,
}

fn options() -> impl Options {
    bincode::options().with_fixint_encoding().with_limit(MAX_BODY as u64).allow_trailing_bytes()
}

/// Appends a record to `out`; `parts` are its events in pieces.
pub fn write<'a>(out: &mut Vec<u8>, head: &Head, parts: impl Iterator<Item = &'a [u8]>) -> Result<(), bincode::Error> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    options().serialize_into(&mut *out, head)?;
    for part in parts {
        out.extend_from_slice(part);
    }
    let length = ((out.len() - start - PREFIX) as u32).to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), &out[start + PREFIX..]);
    out[start..start + 4].copy_from_slice(&MAGIC);
    out[start + 4..start + 8].copy_from_slice(&length);
    out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// The length of the body that belongs to this prefix.
pub fn body_length(prefix: &[u8; PREFIX]) -> Result<usize, NotARecord> {
    if prefix[..4] != MAGIC {
        return Err(NotARecord::Magic);
    }
    let length = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
    if length > MAX_BODY { Err(NotARecord::Length) } else { Ok(length) }
}

/// The head and the encoded events of a body whose prefix was read before.
pub fn read_body<'a>(prefix: &[u8; PREFIX], body: &'a [u8]) -> Result<(Head, &'a [u8]), NotARecord> {
    let expected = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    if crc32c::crc32c_append(crc32c::crc32c(&prefix[4..8]), body) != expected {
        return Err(NotARecord::Checksum);
    }
    let mut rest = body;
    let head = options().deserialize_from(&mut rest).map_err(|_| NotARecord::Head)?;
    Ok((head, rest))
}

/// The record at the front of `bytes`: its head, its events, and its whole length.
pub fn read(bytes: &[u8]) -> Result<(Head, &[u8], usize), NotARecord> {
    let prefix: &[u8; PREFIX] = bytes.first_chunk().ok_or(NotARecord::Short)?;
    let length = body_length(prefix)?;
    let body = bytes.get(PREFIX..PREFIX + length).ok_or(NotARecord::Short)?;
    let (head, events) = read_body(prefix, body)?;
    Ok((head, events, PREFIX + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Head, Vec<u8>) {
        let head = Head {
            first_offset: 7,
            events: 2,
            committed_micros: 1,
            marks: vec![("shop-1".into(), 9)],
            window: Some(3),
        };
        let mut out = Vec::new();
        write(&mut out, &head, [&b"first"[..], b"second"].into_iter()).unwrap();
        (head, out)
    }

    #[test]
    fn a_record_is_read_back() {
        let (head, bytes) = sample();
        assert_eq!(read(&bytes), Ok((head, &b"firstsecond"[..], bytes.len())));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let (_, bytes) = sample();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = read(&bytes);
            bytes.splice(0..0, MAGIC);
            let _ = read(&bytes);
        }
    }
}
