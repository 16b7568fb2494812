//! From a line of JSON to an [`Event`], or to the reason why it is none.
//!
//! The line is parsed once, into values that borrow from it and accept any type; then each member is checked by name. So a reason can always
//! name the member, what was expected of it and what came instead.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{ATTRIBUTES, Event, Schema};
use crate::ids::{Id, MAX_TEXT_BYTES};

/// Why a line is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The bytes are not UTF-8 text.
    #[error("the line is not UTF-8 (first bad byte at position {0})")]
    NotUtf8(usize),
    /// The text is not JSON, or not one JSON object.
    #[error("the line is not a JSON object: {0}")]
    NotJson(String),
    /// The line is longer than the limit in bytes.
    #[error("the line is longer than {0} bytes (ingest.max_line_bytes)")]
    TooLong(usize),
    /// A required member is not there.
    #[error("member `{field}` is missing: expected {expected}")]
    Missing {
        /// The member's name.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A member has another type or value than it must have.
    #[error("member `{field}` must be {expected}, got {got}")]
    Wrong {
        /// The member's name.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        got: String,
    },
    /// A member is given twice.
    #[error("member `{0}` is given twice")]
    Duplicate(&'static str),
}

impl Reject {
    /// The reason in one word: the label of the metric `bdr_events_rejected_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotUtf8(_) => "not_utf8",
            Self::NotJson(_) => "not_json",
            Self::TooLong(_) => "too_long",
            Self::Missing { .. } => "missing_member",
            Self::Wrong { .. } => "wrong_member",
            Self::Duplicate(_) => "duplicate_member",
        }
    }
}

const AN_ID: &str = "an integer or a string of 1 to 128 bytes";
const AN_INTEGER: &str = "an integer";
const ZERO_OR_ONE: &str = "0 or 1";
const A_TIME: &str = "an RFC 3339 time such as \"2026-11-23T10:00:00Z\"";

/// The event that `line` (without its line end) holds.
///
/// `arrival_micros` is the time of arrival in microseconds since 1970 UTC: the event's time where the minimal schema allows it to give none.
pub fn parse(line: &[u8], schema: Schema, arrival_micros: i64) -> Result<Event<'_>, Reject> {
    let text = std::str::from_utf8(line).map_err(|error| Reject::NotUtf8(error.valid_up_to() + 1))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = MembersSeed(schema)
        .deserialize(&mut deserializer)
        .and_then(|members| deserializer.end().map(|()| members))
        .map_err(|error| Reject::NotJson(error.to_string()))?;
    members.check(schema, arrival_micros)
}

/// A member's value, before it is known whether it may be there.
#[derive(Debug)]
enum Scalar<'a> {
    Integer(i64),
    Text(Cow<'a, str>),
    Other(&'static str),
}

impl Scalar<'_> {
    fn describe(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
            Self::Text(text) => format!("a string of {} bytes", text.len()),
            Self::Other(kind) => (*kind).to_owned(),
        }
    }
}

/// What a line holds, by name, unchecked.
#[derive(Debug, Default)]
struct Members<'a> {
    user: Option<Scalar<'a>>,
    product: Option<Scalar<'a>>,
    is_purchase: Option<Scalar<'a>>,
    date_time: Option<Scalar<'a>>,
    attributes: [Option<Scalar<'a>>; ATTRIBUTES.len()],
    further: String,
    duplicate: Option<&'static str>,
}

impl<'a> Members<'a> {
    fn check(self, schema: Schema, arrival_micros: i64) -> Result<Event<'a>, Reject> {
        if let Some(field) = self.duplicate {
            return Err(Reject::Duplicate(field));
        }
        let optional = schema == Schema::Minimal;
        let user = id("user_id", self.user)?;
        let product = id("product", self.product)?;
        let is_purchase = match self.is_purchase {
            None if optional => false,
            value => zero_or_one("is_purchase", value)?,
        };
        let time_micros = match self.date_time {
            None if optional => arrival_micros,
            value => time("date_time", value)?,
        };
        let mut attributes = [None; ATTRIBUTES.len()];
        for ((slot, value), field) in attributes.iter_mut().zip(self.attributes).zip(ATTRIBUTES) {
            *slot = match value {
                None if optional => None,
                value => Some(integer(field, value)?),
            };
        }
        let mut further = self.further;
        if !further.is_empty() {
            further.push('}');
        }
        Ok(Event { user, product, is_purchase, time_micros, attributes, further: further.into() })
    }

    fn keep_further(&mut self, name: &str, value: &RawValue) {
        self.further.push(if self.further.is_empty() { '{' } else { ',' });
        self.further.push_str(&serde_json::Value::from(name).to_string());
        self.further.push(':');
        self.further.push_str(value.get());
    }
}

fn present<'a>(field: &'static str, expected: &'static str, value: Option<Scalar<'a>>) -> Result<Scalar<'a>, Reject> {
    value.ok_or(Reject::Missing { field, expected })
}

fn wrong(field: &'static str, expected: &'static str, value: &Scalar<'_>) -> Reject {
    Reject::Wrong { field, expected, got: value.describe() }
}

fn id<'a>(field: &'static str, value: Option<Scalar<'a>>) -> Result<Id<'a>, Reject> {
    match present(field, AN_ID, value)? {
        Scalar::Integer(number) => Ok(Id::Number(number)),
        Scalar::Text(text) if text.is_empty() || text.len() > MAX_TEXT_BYTES => {
            Err(wrong(field, AN_ID, &Scalar::Text(text)))
        }
        Scalar::Text(text) => Id::from_text(text).ok_or(Reject::Missing { field, expected: AN_ID }),
        other @ Scalar::Other(_) => Err(wrong(field, AN_ID, &other)),
    }
}

fn integer(field: &'static str, value: Option<Scalar<'_>>) -> Result<i64, Reject> {
    match present(field, AN_INTEGER, value)? {
        Scalar::Integer(number) => Ok(number),
        other => Err(wrong(field, AN_INTEGER, &other)),
    }
}

fn zero_or_one(field: &'static str, value: Option<Scalar<'_>>) -> Result<bool, Reject> {
    match present(field, ZERO_OR_ONE, value)? {
        Scalar::Integer(0) => Ok(false),
        Scalar::Integer(1) => Ok(true),
        other => Err(wrong(field, ZERO_OR_ONE, &other)),
    }
}

fn time(field: &'static str, value: Option<Scalar<'_>>) -> Result<i64, Reject> {
    let value = present(field, A_TIME, value)?;
    if let Scalar::Text(text) = &value
        && looks_like_rfc_3339(text.as_bytes())
        && let Ok(timestamp) = text.parse::<jiff::Timestamp>()
    {
        return Ok(timestamp.as_microsecond());
    }
    Err(wrong(field, A_TIME, &value))
}

/// Whether the text has RFC 3339's one shape; jiff reads more of ISO 8601 than that.
fn looks_like_rfc_3339(text: &[u8]) -> bool {
    text.len() >= 20
        && text[0].is_ascii_digit()
        && [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')].iter().all(|&(at, mark)| text[at] == mark)
        && !text.contains(&b'[')
}

/// Reads one object into [`Members`].
struct MembersSeed(Schema);

impl<'de> DeserializeSeed<'de> for MembersSeed {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersSeed {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let (field, slot) = match &*name {
                "user_id" => ("user_id", &mut members.user),
                "product" => ("product", &mut members.product),
                "is_purchase" => ("is_purchase", &mut members.is_purchase),
                "date_time" => ("date_time", &mut members.date_time),
                other => match ATTRIBUTES.iter().position(|&attribute| attribute == other) {
                    Some(at) if self.0 == Schema::Talk => (ATTRIBUTES[at], &mut members.attributes[at]),
                    at => {
                        let value: &RawValue = map.next_value()?;
                        match (at, value.get().parse()) {
                            (Some(at), Ok(number)) => members.attributes[at] = Some(Scalar::Integer(number)),
                            _ => members.keep_further(other, value),
                        }
                        continue;
                    }
                },
            };
            if slot.replace(map.next_value_seed(ScalarSeed)?).is_some() {
                members.duplicate = Some(field);
            }
        }
        Ok(members)
    }
}

/// Reads a member's name without copying it, unless it has escapes.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Reads a member's value of any type.
struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Scalar::Other("an integer beyond 64 bits"), Scalar::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Other("a number that is not a 64-bit integer"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other(if value { "true" } else { "false" }))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other("null"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn talk_event() -> Value {
        json!({
            "date_time": "2013-01-07T01:31:24.000Z", "site_name": 8, "user_location_country": 77,
            "user_location_region": 824, "user_location_city": 32261, "user_id": 9491, "is_mobile": 1, "product": 68,
            "channel": 9, "product_generic_category": 1, "product_specific_category": 8279, "is_purchase": 0
        })
    }

    fn reason(line: &[u8], schema: Schema) -> String {
        parse(line, schema, 0).unwrap_err().to_string()
    }

    #[test]
    fn reads_an_event_of_the_talk() {
        let line = talk_event().to_string();
        let event = parse(line.as_bytes(), Schema::Talk, 0).unwrap();
        assert_eq!((event.user, event.product, event.is_purchase), (Id::Number(9491), Id::Number(68), false));
        assert_eq!(event.time_micros, 1_357_522_284_000_000);
        assert_eq!(event.attributes, [1, 8279, 8, 77, 824, 32261, 1, 9].map(Some));
        assert_eq!(event.further, "");
    }

    #[test]
    fn every_member_of_the_talk_is_required_and_named() {
        for (name, _) in talk_event().as_object().unwrap() {
            let mut event = talk_event();
            event.as_object_mut().unwrap().remove(name);
            let reason = reason(event.to_string().as_bytes(), Schema::Talk);
            assert!(reason.starts_with(&format!("member `{name}` is missing: expected ")), "{reason}");
        }
    }

    #[test]
    fn a_wrong_member_is_named_with_what_was_expected_and_what_came() {
        let cases = [
            ("is_purchase", json!(2), "member `is_purchase` must be 0 or 1, got 2"),
            ("is_purchase", json!(true), "member `is_purchase` must be 0 or 1, got true"),
            ("channel", json!("9"), "member `channel` must be an integer, got \"9\""),
            ("channel", json!(1.5), "member `channel` must be an integer, got a number that is not a 64-bit integer"),
            ("site_name", json!(null), "member `site_name` must be an integer, got null"),
            ("user_id", json!([1]), "member `user_id` must be an integer or a string of 1 to 128 bytes, got a list"),
            ("user_id", json!(""), "member `user_id` must be an integer or a string of 1 to 128 bytes, got \"\""),
            (
                "product",
                json!({"a": 1}),
                "member `product` must be an integer or a string of 1 to 128 bytes, got an object",
            ),
            (
                "product",
                json!(u64::MAX),
                "member `product` must be an integer or a string of 1 to 128 bytes, got an integer beyond 64 bits",
            ),
            (
                "product",
                json!("x".repeat(129)),
                "member `product` must be an integer or a string of 1 to 128 bytes, got a string of 129 bytes",
            ),
        ];
        for (name, value, expected) in cases {
            let mut event = talk_event();
            event[name] = value;
            assert_eq!(reason(event.to_string().as_bytes(), Schema::Talk), expected);
        }
    }

    #[test]
    fn only_rfc_3339_is_a_time() {
        for time in ["2013-01-07", "2013-01-07T01:31:24", "yesterday", "2013-13-07T01:31:24Z", "2013-01-07T01Z"] {
            let mut event = talk_event();
            event["date_time"] = json!(time);
            let reason = reason(event.to_string().as_bytes(), Schema::Talk);
            assert!(reason.starts_with("member `date_time` must be an RFC 3339 time"), "{reason}");
        }
        let line = br#"{"user_id":1,"product":2,"date_time":"1970-01-01T01:00:00.5+01:00"}"#;
        assert_eq!(parse(line, Schema::Minimal, 7).unwrap().time_micros, 500_000);
    }

    #[test]
    fn the_minimal_schema_fills_in_what_is_not_given() {
        let event = parse(br#"{"user_id":"17850","product":"85123A"}"#, Schema::Minimal, 7).unwrap();
        assert_eq!((event.user, event.product), (Id::Number(17850), Id::Text("85123A".into())));
        assert_eq!((event.is_purchase, event.time_micros, event.attributes), (false, 7, [None; 8]));
    }

    #[test]
    fn further_members_are_kept_as_they_came() {
        let line = br#"{"user_id":1,"product":2,"pri\"ce":1.50,"channel":3,"site_name":"uk","tags":["a",{"b":null}]}"#;
        let event = parse(line, Schema::Minimal, 0).unwrap();
        assert_eq!(event.further, r#"{"pri\"ce":1.50,"site_name":"uk","tags":["a",{"b":null}]}"#);
        assert_eq!(event.attributes[7], Some(3));
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for line in
            [&b"hello"[..], b"[1,2]", b"{\"user_id\":1,\"product\":2} x", b"{\"user_id\":1,", b"17", b"{\"a\0\":1}"]
        {
            assert_eq!(parse(line, Schema::Minimal, 0).unwrap_err().label(), "not_json", "{}", line.escape_ascii());
        }
        assert_eq!(parse(b"{\"user_id\":\"\xff\",\"product\":2}", Schema::Minimal, 0), Err(Reject::NotUtf8(13)));
        assert_eq!(
            reason(br#"{"user_id":1,"user_id":1,"product":2}"#, Schema::Minimal),
            "member `user_id` is given twice"
        );
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, Schema::Talk, 0);
        }

        #[test]
        fn a_cut_line_is_refused_not_misread(cut in 0usize..250) {
            let line = talk_event().to_string();
            let cut = cut.min(line.len() - 1);
            prop_assert!(parse(&line.as_bytes()[..cut], Schema::Talk, 0).is_err());
        }
    }
}
