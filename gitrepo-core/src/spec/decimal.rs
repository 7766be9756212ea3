//! Plain decimal numbers.

use std::str::FromStr;

/// Reads a number without a sign, which the standard library's parser allows; `None` if invalid or too large.
pub(crate) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_alone() {
        assert_eq!(decimal("0080"), Some(80_u16));
        for text in ["", "+80", "-80", " 80", "8_0", "0x8", "65536", "٨"] {
            assert_eq!(decimal::<u16>(text), None, "{text}");
        }
    }
}
