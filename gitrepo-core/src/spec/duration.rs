//! Spans of time: `30m`, `1h30m`, `30d`, `500ms`.
//!
//! For use as `#[serde(with = "duration")]` on a [`Duration`].

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serializer;
use serde::de::Error as _;

/// Units and their length in nanoseconds, the longest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The text is not a time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a span of time; write whole numbers, each with d, h, m, s or ms after it, such as 1h30m")]
pub struct DurationError {
    /// As written.
    pub text: String,
}

/// Reads a time span: units in descending order, each at most once.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    sum(text).ok_or_else(|| DurationError { text: text.to_owned() })
}

fn sum(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut shorter = &UNITS[..];
    let mut rest = text;
    loop {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let place = shorter.iter().position(|(unit, _)| *unit == &rest[..end])?;
        let nanoseconds = u128::from(number).checked_mul(shorter[place].1)?;
        let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
        let fraction = u32::try_from(nanoseconds % 1_000_000_000).ok()?;
        total = total.checked_add(Duration::new(seconds, fraction))?;
        shorter = &shorter[place + 1..];
        rest = &rest[end..];
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// Writes a span of time exactly.
pub fn format(span: Duration) -> String {
    let mut left = span.as_nanos();
    let mut text = String::new();
    for (unit, length) in UNITS {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a span of time as a text, for `#[serde(with = "duration")]`.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

/// Reads a span of time from a text, for `#[serde(with = "duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&<Cow<'de, str>>::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_sums_of_units_in_falling_order() {
        let table = [("30m", 1800), ("1h30m", 5400), ("30d", 2_592_000), ("0s", 0), ("90s", 90), ("1d1s", 86_401)];
        for (text, seconds) in table {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("1s500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "30", "m", "-1s", "+1s", "1.5h", "1 h", "30m1h", "1m1m", "1H", "1w", "99999999999999999999s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("18446744073709551615d").is_err());
    }

    proptest! {
        #[test]
        fn a_span_survives_writing(seconds: u64, nanoseconds in 0..1_000_000_000_u32) {
            let span = Duration::new(seconds, nanoseconds);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn reading_never_panics(text in "[0-9dhmsnu]*|.*") {
            drop(parse(&text));
        }
    }
}
