//! Percent encoding, as far as URLs of repositories need it.

use std::borrow::Cow;

use super::parse::is_hidden;

/// Decodes `%xx`; `None` if that is malformed or not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(value(digits)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// The byte for two hexadecimal digits.
fn value(digits: &[u8]) -> Option<u8> {
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(*digit).to_digit(16)?;
    }
    u8::try_from(value).ok()
}

/// Encodes characters not allowed here in the path of a URL.
pub(super) fn encode_path(path: &str) -> Cow<'_, str> {
    encode(path, |character| matches!(character, '%' | '?' | '#') || is_hidden(character))
}

/// Encodes characters not allowed before the `@`.
pub(super) fn encode_user(user: &str) -> Cow<'_, str> {
    encode(user, |character| !(character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(character)))
}

fn encode(text: &str, must_be: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&must_be) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if must_be(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        } else {
            encoded.push(character);
        }
    }
    encoded.into()
}
