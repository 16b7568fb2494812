//! Kinds of settings: which values are allowed, and the one form in which each is shown.

use std::time::Duration;

use jiff::SignedDuration;
use toml::Value;

use super::checked::Address;

/// Which values a setting may have; bounds are inclusive.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A path.
    Path,
    /// A path, or empty.
    OptionalPath,
    /// `host:port`.
    Address,
    /// An integer within bounds.
    Integer(i64, i64),
    /// A finite number, zero or more.
    Number,
    /// A size in bytes within bounds.
    Bytes(u64, u64),
    /// A duration within bounds.
    Duration(Duration, Duration),
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// The largest number that [`Kind::Number`] allows: far beyond use, and safe in single precision.
const LARGEST_NUMBER: f64 = 1e6;

impl Kind {
    /// What is allowed, to follow "must be".
    pub fn allowed(&self) -> String {
        match self {
            Self::Path => "a path that is not empty".to_owned(),
            Self::OptionalPath => "a path, or empty".to_owned(),
            Self::Address => "host:port, such as \"127.0.0.1:8000\" or \"[::1]:8000\"".to_owned(),
            Self::Integer(least, i64::MAX) => format!("an integer, at least {least}"),
            Self::Integer(least, most) => format!("an integer from {least} to {most}"),
            Self::Number => format!("a number from 0 to {LARGEST_NUMBER}"),
            Self::Bytes(least, most) => {
                let (least, most) = (format_bytes(*least), format_bytes(*most));
                format!("bytes as an integer, or a string in B, KiB, MiB or GiB, from {least} to {most}")
            }
            Self::Duration(least, most) => {
                let (least, most) = (format_duration(*least), format_duration(*most));
                format!("a duration such as \"50ms\", \"5s\", \"10m\" or \"1h\", from {least} to {most}")
            }
            Self::Flag => "true or false".to_owned(),
            Self::Choice(choices) => {
                let quoted: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                match quoted.split_last() {
                    Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
                    _ => quoted.concat(),
                }
            }
        }
    }

    /// The canonical form of `value`, if it is allowed.
    pub fn check(&self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Path, Value::String(path)) => is_path(path).then(|| value.clone()),
            (Self::OptionalPath, Value::String(path)) => (path.is_empty() || is_path(path)).then(|| value.clone()),
            (Self::Address, Value::String(text)) => {
                Address::parse(text).map(|address| Value::String(address.to_string()))
            }
            (Self::Integer(least, most), Value::Integer(integer)) => {
                (least..=most).contains(&integer).then(|| value.clone())
            }
            (Self::Number, Value::Float(number)) => canonical_number(*number),
            (Self::Number, Value::Integer(integer)) => canonical_number(*integer as f64),
            (Self::Bytes(least, most), _) => {
                let bytes = bytes_of(value)?;
                (least..=most).contains(&&bytes).then(|| Value::String(format_bytes(bytes)))
            }
            (Self::Duration(least, most), Value::String(text)) => {
                let duration = parse_duration(text)?;
                (least..=most).contains(&&duration).then(|| Value::String(format_duration(duration)))
            }
            (Self::Flag, Value::Boolean(_)) => Some(value.clone()),
            (Self::Choice(choices), Value::String(word)) => choices.contains(&word.as_str()).then(|| value.clone()),
            _ => None,
        }
    }

    /// The value that `text` stands for in an environment variable or a `--set`: a TOML value, or else the text itself.
    ///
    /// Where only a string can be meant, `2026` is a string too.
    pub fn read(&self, text: &str) -> Value {
        let textual = matches!(self, Self::Path | Self::OptionalPath | Self::Address | Self::Choice(_));
        match text.parse::<Value>() {
            Ok(value @ Value::String(_)) => value,
            Ok(value) if !textual => value,
            _ => Value::String(text.to_owned()),
        }
    }
}

/// Whether a path can name a file: not empty, and without NUL, which no system accepts.
fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.contains('\0')
}

fn canonical_number(number: f64) -> Option<Value> {
    // Adding 0 makes -0 a plain 0.
    (0.0..=LARGEST_NUMBER).contains(&number).then_some(Value::Float(number + 0.0))
}

/// Units of sizes, largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The bytes that an integer or a string such as `16KiB` stands for.
pub(super) fn bytes_of(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => {
            let (digits, size) = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
            let digits = digits.trim_end();
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*size)
        }
        _ => None,
    }
}

/// Bytes in the largest unit in which they are a whole number.
fn format_bytes(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    let (unit, size) = unit.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

/// The duration that a text such as `10m` or `1h 30m` stands for.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let signed: SignedDuration = text.parse().ok()?;
    Duration::try_from(signed).ok()
}

/// The duration as a text, the same for equal durations.
fn format_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(kind: Kind, value: impl Into<Value>) -> Option<String> {
        kind.check(&value.into()).map(|value| value.to_string())
    }

    #[test]
    fn sizes_are_integers_or_strings_with_a_binary_unit() {
        let kind = Kind::Bytes(256, 1 << 30);
        for (given, shown) in [("256B", "256B"), ("16KiB", "16KiB"), ("2048 B", "2KiB"), ("1GiB", "1GiB")] {
            assert_eq!(checked(kind, given), Some(format!("\"{shown}\"")), "{given}");
        }
        assert_eq!(checked(kind, 65_536).as_deref(), Some("\"64KiB\""));
        assert_eq!(checked(kind, 1000).as_deref(), Some("\"1000B\""));
        let refused =
            ["255B", "2GiB", "16KB", "16kib", "16", "KiB", "-1KiB", "+1KiB", "1.5MiB", "99999999999999999999B", ""];
        for given in refused {
            assert_eq!(checked(kind, given), None, "{given}");
        }
        assert_eq!(checked(kind, -300), None);
        assert_eq!(checked(kind, 300.0), None);
        assert_eq!(checked(Kind::Bytes(0, u64::MAX), "17179869184GiB"), None, "does not fit");
        assert_eq!(checked(Kind::Bytes(0, 1), 0).as_deref(), Some("\"0B\""));
    }

    #[test]
    fn durations_are_shown_in_one_form() {
        let kind = Kind::Duration(Duration::from_millis(1), Duration::from_secs(7200));
        for (given, shown) in
            [("50ms", "50ms"), ("60s", "1m"), ("90s", "1m 30s"), ("1 hour", "1h"), ("1h30m", "1h 30m"), ("PT5S", "5s")]
        {
            assert_eq!(checked(kind, given), Some(format!("\"{shown}\"")), "{given}");
            assert_eq!(checked(kind, shown), Some(format!("\"{shown}\"")), "{shown} again");
        }
        for given in ["999us", "121m", "-5s", "5", "", "1d", "soon", "5s ago"] {
            assert_eq!(checked(kind, given), None, "{given}");
        }
        assert_eq!(checked(kind, 5), None, "a number without a unit says nothing");
    }

    #[test]
    fn numbers_are_finite_and_not_negative() {
        assert_eq!(checked(Kind::Number, 0.01).as_deref(), Some("0.01"));
        assert_eq!(checked(Kind::Number, 3).as_deref(), Some("3.0"));
        assert_eq!(checked(Kind::Number, -0.0).as_deref(), Some("0.0"));
        for given in [-0.1, f64::NAN, f64::INFINITY, 1e7] {
            assert_eq!(checked(Kind::Number, given), None, "{given}");
        }
        assert_eq!(checked(Kind::Number, "3"), None);
    }

    #[test]
    fn other_kinds_take_what_they_say() {
        assert_eq!(checked(Kind::Integer(1, 3), 3).as_deref(), Some("3"));
        assert_eq!(checked(Kind::Integer(1, 3), 4), None);
        assert_eq!(checked(Kind::Integer(1, 3), 2.0), None);
        assert_eq!(checked(Kind::Path, "data").as_deref(), Some("\"data\""));
        assert_eq!(checked(Kind::Path, ""), None);
        assert_eq!(checked(Kind::Path, "a\0b"), None);
        assert_eq!(checked(Kind::OptionalPath, "").as_deref(), Some("\"\""));
        assert_eq!(checked(Kind::Flag, true).as_deref(), Some("true"));
        assert_eq!(checked(Kind::Flag, 1), None);
        assert_eq!(checked(Kind::Choice(&["a", "b"]), "b").as_deref(), Some("\"b\""));
        assert_eq!(checked(Kind::Choice(&["a", "b"]), "B"), None);
        assert_eq!(Kind::Choice(&["a", "b", "c"]).allowed(), "\"a\", \"b\" or \"c\"");
        assert_eq!(Kind::Choice(&["a"]).allowed(), "\"a\"");
    }

    #[test]
    fn texts_from_outside_a_file_are_read_as_toml_or_as_they_are() {
        let duration = Kind::Duration(Duration::ZERO, Duration::MAX);
        assert_eq!(duration.read("5s"), Value::String("5s".to_owned()));
        assert_eq!(duration.read("\"5s\""), Value::String("5s".to_owned()));
        assert_eq!(Kind::Integer(0, 9).read("7"), Value::Integer(7));
        assert_eq!(Kind::Integer(0, 9).read("seven"), Value::String("seven".to_owned()));
        assert_eq!(Kind::Flag.read("true"), Value::Boolean(true));
        assert_eq!(Kind::Path.read("2026"), Value::String("2026".to_owned()));
        assert_eq!(Kind::Path.read("/srv/a b"), Value::String("/srv/a b".to_owned()));
        assert_eq!(Kind::Path.read("'2026'"), Value::String("2026".to_owned()));
    }
}
