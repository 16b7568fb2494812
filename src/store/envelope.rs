//! What every stored value is wrapped in, so that damage and values of other versions are noticed before anything is decoded.
//!
//! ```text
//! magic    4 bytes   "BDRV"
//! kind     1 byte    what it holds
//! version  1 byte    of that kind's format
//! crc32c   4 bytes   of kind, version and payload, little endian
//! payload  the rest
//! ```

const MAGIC: [u8; 4] = *b"BDRV";
const HEADER: usize = 10;

/// What a value holds, with the version of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Distinguishes what is stored.
    pub number: u8,
    /// Changes with the format.
    pub version: u8,
}

/// Why a stored value can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// It was not written by this program.
    #[error("it is not a stored value of this program")]
    Foreign,
    /// It holds something else, or another version of it.
    #[error("it holds kind {0} version {1}, which this version of bdr does not read here")]
    Kind(u8, u8),
    /// It changed since it was written.
    #[error("its checksum does not match")]
    Checksum,
}

/// The checksum of a payload of this kind.
pub fn checksum(kind: Kind, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind.number, kind.version]), payload)
}

/// Wraps a payload.
pub fn seal(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER + payload.len());
    value.extend_from_slice(&MAGIC);
    value.extend_from_slice(&[kind.number, kind.version]);
    value.extend_from_slice(&checksum(kind, payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// The payload of a wrapped value of this kind.
pub fn open(kind: Kind, value: &[u8]) -> Result<&[u8], BadValue> {
    let (header, payload) = value.split_at_checked(HEADER).ok_or(BadValue::Foreign)?;
    if header[..4] != MAGIC {
        return Err(BadValue::Foreign);
    }
    let checksum = checksum(Kind { number: header[4], version: header[5] }, payload);
    if checksum.to_le_bytes() != header[6..] {
        return Err(BadValue::Checksum);
    }
    if header[4..6] != [kind.number, kind.version] {
        return Err(BadValue::Kind(header[4], header[5]));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_strangers_are_noticed() {
        let kind = Kind { number: 1, version: 2 };
        let value = seal(kind, b"payload");
        assert_eq!(open(kind, &value), Ok(&b"payload"[..]));
        assert_eq!(open(Kind { number: 1, version: 3 }, &value), Err(BadValue::Kind(1, 2)));
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 4;
            assert!(open(kind, &damaged).is_err(), "byte {at}");
            assert!(open(kind, &value[..at]).is_err(), "cut at {at}");
        }
    }
}
