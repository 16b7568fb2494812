//! The one place that reads the wall clock; everything else is told the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 on a machine whose clock stands before that.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// The time as RFC 3339 in UTC, milliseconds; empty for a time that no calendar knows.
pub fn rfc_3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// The time that `text` names in RFC 3339, in microseconds since 1970 UTC.
pub fn parse_rfc_3339(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc_3339(1_357_522_284_000_000), "2013-01-07T01:31:24.000Z");
        assert!(now_micros() > 1_767_225_600_000_000, "this was written after 2026 began");
    }
}
