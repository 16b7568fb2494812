//! The compact form of events, about 30 bytes each:
//!
//! ```text
//! flags    1 byte    bit 0 the user is text, bit 1 the product is text, bit 2 a purchase, bit 3 a request, bit 4 nothing
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
//!
//! Among events there can be requests to forget a user: flags and user, nothing behind. They have no offset of their own. Where an event of a
//! forgotten user was, a single byte of flags keeps its offset.

use std::borrow::Cow;

use super::{ATTRIBUTES, Event};
use crate::ids::Id;
use crate::varint::{self, Malformed};

const USER_IS_TEXT: u8 = 1;
const PRODUCT_IS_TEXT: u8 = 2;
const IS_PURCHASE: u8 = 4;
const IS_REQUEST: u8 = 8;
const IS_NOTHING: u8 = 16;

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

/// Appends the request to forget a user.
pub fn write_forget(out: &mut Vec<u8>, user: &Id<'_>) {
    out.push(IS_REQUEST | if user.is_text() { USER_IS_TEXT } else { 0 });
    user.write(out);
}

/// Appends what stands where an event of a forgotten user was.
pub fn write_nothing(out: &mut Vec<u8>) {
    out.push(IS_NOTHING);
}

/// What the event log holds, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event.
    Event(Counted<'a>),
    /// From here on nothing is known of this user.
    Forget(Id<'a>),
    /// An event of a user who was forgotten.
    Nothing,
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
    tail: &'a [u8],
}

/// Takes one item from the front of `input`, leaving an event's tail unread.
#[inline]
pub fn read<'a>(input: &mut &'a [u8]) -> Result<Item<'a>, Malformed> {
    let flags = varint::read_byte(input)?;
    if flags & !(USER_IS_TEXT | PRODUCT_IS_TEXT | IS_PURCHASE) != 0 {
        return read_rare(flags, input);
    }
    let user = Id::read(input, flags & USER_IS_TEXT != 0)?;
    let product = Id::read(input, flags & PRODUCT_IS_TEXT != 0)?;
    let tail = varint::read_bytes(input)?;
    Ok(Item::Event(Counted { user, product, is_purchase: flags & IS_PURCHASE != 0, tail }))
}

#[cold]
fn read_rare<'a>(flags: u8, input: &mut &'a [u8]) -> Result<Item<'a>, Malformed> {
    if flags == IS_NOTHING {
        Ok(Item::Nothing)
    } else if flags & !USER_IS_TEXT == IS_REQUEST {
        Id::read(input, flags & USER_IS_TEXT != 0).map(Item::Forget)
    } else {
        Err(Malformed)
    }
}

impl<'a> Counted<'a> {
    /// When it happened, in microseconds since 1970 UTC.
    pub fn time_micros(&self) -> Result<i64, Malformed> {
        let time = varint::read_exact(&mut &*self.tail, 8)?;
        Ok(i64::from_le_bytes(time.try_into().map_err(|_| Malformed)?))
    }

    /// The whole event.
    pub fn event(self) -> Result<Event<'a>, Malformed> {
        let time_micros = self.time_micros()?;
        let Self { user, product, is_purchase, mut tail } = self;
        varint::read_exact(&mut tail, 8)?;
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
            let mut input = out.as_slice();
            for event in &events {
                let Item::Event(counted) = read(&mut input).unwrap() else { panic!("no event") };
                prop_assert_eq!(counted.time_micros().unwrap(), event.time_micros);
                prop_assert_eq!(&counted.event().unwrap(), event);
            }
            prop_assert!(input.is_empty());
        }

        #[test]
        fn requests_stand_among_events(user in any_id(), event in any_event()) {
            let (mut out, mut scratch) = (Vec::new(), Vec::new());
            write_nothing(&mut out);
            write_forget(&mut out, &user);
            write(&mut out, &mut scratch, &event);
            let mut input = out.as_slice();
            prop_assert_eq!(read(&mut input), Ok(Item::Nothing));
            prop_assert_eq!(read(&mut input), Ok(Item::Forget(user)));
            prop_assert!(matches!(read(&mut input), Ok(Item::Event(counted)) if counted.clone().event().as_ref() == Ok(&event)));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let mut input = bytes.as_slice();
            while let Ok(item) = read(&mut input) {
                if let Item::Event(counted) = item {
                    let _ = counted.event();
                }
            }
        }
    }
}
