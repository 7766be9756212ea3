//! Amounts of bytes, written as Kubernetes writes them: `10Gi`, `500M`, `4096`.
//!
//! For use as `#[serde(with = "quantity")]` on a `u64`.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serializer;
use serde::de::Error as _;

use crate::spec::decimal;

/// Suffixes and what they multiply by, the largest first.
const UNITS: [(&str, u64); 12] = [
    ("Ei", 1 << 60),
    ("E", 1_000_000_000_000_000_000),
    ("Pi", 1 << 50),
    ("P", 1_000_000_000_000_000),
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
];

/// The text is not an amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// Not digits and an optional suffix.
    #[error("{text:?} is not an amount of bytes; write a whole number, and k, M, G, T or Ki, Mi, Gi, Ti after it")]
    Malformed {
        /// As written.
        text: String,
    },
    /// Does not fit in 64 bits.
    #[error("{text:?} is too large")]
    TooLarge {
        /// As written.
        text: String,
    },
}

/// Reads an amount, in bytes.
pub fn parse(text: &str) -> Result<u64, QuantityError> {
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
        .unwrap_or((text, 1));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::Malformed { text: text.to_owned() });
    }
    decimal::<u64>(digits)
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| QuantityError::TooLarge { text: text.to_owned() })
}

/// Writes an amount with the largest binary suffix that keeps it exact.
pub fn format(bytes: u64) -> String {
    UNITS
        .iter()
        .filter(|(suffix, _)| suffix.ends_with('i'))
        .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor))
        .map_or_else(|| bytes.to_string(), |(suffix, factor)| format!("{}{suffix}", bytes / factor))
}

/// For serde.
pub(crate) fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*bytes))
}

/// For serde: text, or a plain number.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    match (value.as_str(), value.as_u64()) {
        (Some(text), _) => parse(text).map_err(D::Error::custom),
        (None, Some(bytes)) => Ok(bytes),
        (None, None) => Err(D::Error::custom(format_args!("{value} is not an amount of bytes such as \"10Gi\""))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        let table = [("0", 0), ("4096", 4096), ("1k", 1000), ("500M", 500_000_000), ("1Ki", 1024), ("10Gi", 10 << 30)];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "Gi", "-1", "+1", "1.5Gi", "1 Gi", "1gi", "1KB", "1K", "0x10", "1e3", "١"] {
            assert!(matches!(parse(bad), Err(QuantityError::Malformed { .. })), "{bad}");
        }
        for large in ["16Ei", "18446744073709551616", "99999999999999999999Gi"] {
            assert!(matches!(parse(large), Err(QuantityError::TooLarge { .. })), "{large}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_survives_writing(bytes: u64) {
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
        }

        #[test]
        fn reading_never_panics(text in ".*") {
            drop(parse(&text));
        }
    }
}
