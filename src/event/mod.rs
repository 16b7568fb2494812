//! An event: one user's click on, or purchase of, one product, at a time.
//!
//! [`ndjson`] makes one from a line of JSON, or says why the line is none. [`encoding`] is its compact form, which the event log keeps, the
//! counters count from and a replay reads again: there is one way from an event to its count.

pub mod encoding;
pub mod ndjson;

use std::borrow::Cow;

use crate::ids::Id;

/// The integers of the talk's schema that describe an event without deciding who did what, in the order in which they are stored.
pub const ATTRIBUTES: [&str; 8] = [
    "product_generic_category",
    "product_specific_category",
    "site_name",
    "user_location_country",
    "user_location_region",
    "user_location_city",
    "is_mobile",
    "channel",
];

/// One validated event, borrowing from the line it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// Who.
    pub user: Id<'a>,
    /// What.
    pub product: Id<'a>,
    /// A purchase, or else a click.
    pub is_purchase: bool,
    /// When, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// The members named by [`ATTRIBUTES`], where given.
    pub attributes: [Option<i64>; ATTRIBUTES.len()],
    /// Further members as the text of a JSON object, or empty where there are none.
    pub further: Cow<'a, str>,
}

/// Which members an event must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// All twelve members of the talk's events.
    Talk,
    /// Only `user_id` and `product`; `is_purchase` defaults to 0 and `date_time` to the time of arrival.
    Minimal,
}
