//! Names and identities made of hashes.
//!
//! Text chosen by a user or the kubelet (URLs, volume ids, targets) never becomes part of a path; its hash does.

use std::fmt::Write;

use sha2::Digest;
use sha2::Sha256;

/// Encodes bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the SHA-256 of one value, in hexadecimal.
pub(crate) fn sha256_hex(value: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(value.as_ref()))
}

/// Returns one SHA-256 for a sequence of values, in hexadecimal.
pub(crate) fn of_fields<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    length_prefixed(fields, |part| hash.update(part));
    hex(&hash.finalize())
}

/// Whether `text` is exactly `length` lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Joins fields for a hash so that different sequences of fields never look alike: each is preceded by its length.
pub(crate) fn length_prefixed<'a>(fields: impl IntoIterator<Item = &'a [u8]>, mut feed: impl FnMut(&[u8])) {
    for field in fields {
        feed(&(field.len() as u64).to_be_bytes());
        feed(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(is_hex(&sha256_hex(""), 64));
        assert!(!is_hex("ABCD", 4));
        assert!(!is_hex("../..", 5));
    }

    #[test]
    fn fields_that_join_to_the_same_bytes_are_encoded_differently() {
        let encode = |fields: &[&str]| {
            let mut bytes = Vec::new();
            length_prefixed(fields.iter().map(|field| field.as_bytes()), |part| bytes.extend_from_slice(part));
            bytes
        };
        assert_ne!(encode(&["ab", "c"]), encode(&["a", "bc"]));
        assert_ne!(encode(&["", "a"]), encode(&["a", ""]));
        assert_ne!(encode(&["a"]), encode(&["a", ""]));
    }
}
