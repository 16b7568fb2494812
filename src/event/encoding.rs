//! The compact form of events, about 30 bytes each:
//!
//! ```text
//! flags    1 byte    bit 0 the user is text, bit 1 the product is text, bit 2 a purchase
//! user     zigzag varint, or varint length and UTF-8
//! product  likewise
//! tail     varint length, then:
//!            8 bytes  time in microseconds since 1970 UTC, little endian
//!            1 byte   which of the eight attributes follow, one bit each
//!            zigzag varints, the attributes
//!            the rest: further members as JSON text
//! ```
//!
//! What counting needs stands in front; the tail is skipped by its length.

use std::borrow::Cow;

use super::{ATTRIBUTES, Event};
use crate::ids::Id;
use crate::varint::{self, Malformed};

const USER_IS_TEXT: u8 = 1;
const PRODUCT_IS_TEXT: u8 = 2;
const IS_PURCHASE: u8 = 4;

/// Appends `event` to `out`; `scratch` saves an allocation an event and holds nothing of value.
pub fn write(out: &mut Vec<u8>, scratch: &mut Vec<u8>, event: &Event<'_>) {
    let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
    out.push(
        flag(event.user.is_text(), USER_IS_TEXT)
            | flag(event.product.is_text(), PRODUCT_IS_TEXT)
            | flag(event.is_purchase, IS_PURCHASE),
    );
    event.user.write(out);
    event.product.write(out);
    scratch.clear();
    scratch.extend_from_slice(&event.time_micros.to_le_bytes());
    let given = event.attributes.iter().enumerate().map(|(bit, value)| u8::from(value.is_some()) << bit);
    scratch.push(given.fold(0, |mask, bit| mask | bit));
    for value in event.attributes.iter().flatten() {
        varint::write_signed(scratch, *value);
    }
    scratch.extend_from_slice(event.further.as_bytes());
    varint::write_bytes(out, scratch);
}

/// What counting needs of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Who.
    pub user: Id<'a>,
    /// What.
    pub product: Id<'a>,
    /// A purchase, or else a click.
    pub is_purchase: bool,
}

/// Takes one event from the front of `input`, leaving its tail unread; returns it with the tail's bytes.
#[inline]
pub fn read_counted<'a>(input: &mut &'a [u8]) -> Result<(Counted<'a>, &'a [u8]), Malformed> {
    let flags = varint::read_byte(input)?;
    if flags & !(USER_IS_TEXT | PRODUCT_IS_TEXT | IS_PURCHASE) != 0 {
        return Err(Malformed);
    }
    let user = Id::read(input, flags & USER_IS_TEXT != 0)?;
    let product = Id::read(input, flags & PRODUCT_IS_TEXT != 0)?;
    let tail = varint::read_bytes(input)?;
    Ok((Counted { user, product, is_purchase: flags & IS_PURCHASE != 0 }, tail))
}

/// Takes one whole event from the front of `input`.
pub fn read<'a>(input: &mut &'a [u8]) -> Result<Event<'a>, Malformed> {
    let (Counted { user, product, is_purchase }, mut tail) = read_counted(input)?;
    let time = varint::read_exact(&mut tail, 8)?;
    let time_micros = i64::from_le_bytes(time.try_into().map_err(|_| Malformed)?);
    let mask = varint::read_byte(&mut tail)?;
    let mut attributes = [None; ATTRIBUTES.len()];
    for (bit, value) in attributes.iter_mut().enumerate() {
        if mask & (1 << bit) != 0 {
            *value = Some(varint::read_signed(&mut tail)?);
        }
    }
    let further = Cow::Borrowed(std::str::from_utf8(tail).map_err(|_| Malformed)?);
    Ok(Event { user, product, is_purchase, time_micros, attributes, further })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = Id<'static>> {
        prop_oneof![
            any::<i64>().prop_map(Id::Number),
            "\\PC{1,40}".prop_filter_map("an id", |text: String| Id::from_text(text))
        ]
    }

    fn any_event() -> impl Strategy<Value = Event<'static>> {
        let further = prop_oneof![Just(String::new()), Just(r#"{"note":"ü"}"#.to_owned())];
        (any_id(), any_id(), any::<bool>(), any::<i64>(), any::<[Option<i64>; 8]>(), further).prop_map(
            |(user, product, is_purchase, time_micros, attributes, further)| Event {
                user,
                product,
                is_purchase,
                time_micros,
                attributes,
                further: further.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn events_survive_their_encoding(events in prop::collection::vec(any_event(), 0..20)) {
            let (mut out, mut scratch) = (Vec::new(), Vec::new());
            for event in &events {
                write(&mut out, &mut scratch, event);
            }
            let (mut whole, mut counted) = (out.as_slice(), out.as_slice());
            for event in &events {
                prop_assert_eq!(&read(&mut whole).unwrap(), event);
                let (short, _) = read_counted(&mut counted).unwrap();
                prop_assert_eq!((&short.user, &short.product), (&event.user, &event.product));
                prop_assert_eq!(short.is_purchase, event.is_purchase);
            }
            prop_assert!(whole.is_empty() && counted.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let mut input = bytes.as_slice();
            while !input.is_empty() && read(&mut input).is_ok() {}
        }
    }
}
