//! Variable-length integers (LEB128, zigzag for signed ones): the alphabet of the event log and of the checkpoint pages.
//!
//! Writing appends to a `Vec<u8>`; reading takes from the front of a slice and tells when the bytes do not make sense, because what is
//! read came from a disk.

/// The bytes end too early or do not form a valid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("encoded value is cut short or malformed")]
pub struct Malformed;

/// Appends `value`, seven bits a byte, lowest first.
#[inline]
pub fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` so that small magnitudes of either sign stay short.
#[inline]
pub fn write_signed(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends `bytes` behind their length.
#[inline]
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes one byte from the front of `input`.
#[inline]
pub fn read_byte(input: &mut &[u8]) -> Result<u8, Malformed> {
    let (&first, rest) = input.split_first().ok_or(Malformed)?;
    *input = rest;
    Ok(first)
}

/// Takes what [`write_unsigned`] appended from the front of `input`.
#[inline]
pub fn read_unsigned(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (position, &byte) in input.iter().enumerate().take(10) {
        if position == 9 && byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            *input = &input[position + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Takes what [`write_signed`] appended from the front of `input`.
#[inline]
pub fn read_signed(input: &mut &[u8]) -> Result<i64, Malformed> {
    let value = read_unsigned(input)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Takes `length` bytes from the front of `input`.
#[inline]
pub fn read_exact<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (bytes, rest) = input.split_at_checked(length).ok_or(Malformed)?;
    *input = rest;
    Ok(bytes)
}

/// Takes what [`write_bytes`] appended from the front of `input`.
#[inline]
pub fn read_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = read_unsigned(input)?;
    read_exact(input, usize::try_from(length).map_err(|_| Malformed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(unsigned: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            write_unsigned(&mut out, unsigned);
            write_signed(&mut out, signed);
            write_bytes(&mut out, &bytes);
            let mut input = out.as_slice();
            prop_assert_eq!(read_unsigned(&mut input), Ok(unsigned));
            prop_assert_eq!(read_signed(&mut input), Ok(signed));
            prop_assert_eq!(read_bytes(&mut input), Ok(bytes.as_slice()));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read_unsigned(&mut bytes.as_slice());
            let _ = read_bytes(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_value_beyond_64_bits_is_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        assert_eq!(read_unsigned(&mut bytes.as_slice()), Err(Malformed));
    }
}
