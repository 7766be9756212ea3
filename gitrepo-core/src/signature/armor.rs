//! ASCII armor: base64 between two lines of dashes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Decodes the one block `kind` that the text consists of, such as `SSH SIGNATURE`; white space may follow. `None` if it
/// is anything else: what stands around a signature is signed by nobody.
pub(super) fn decode(text: &[u8], kind: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let body = text.strip_prefix(&format!("-----BEGIN {kind}-----"))?;
    let (body, after) = body.split_once(&format!("-----END {kind}-----"))?;
    if !after.trim().is_empty() || !body.starts_with(['\n', '\r']) {
        return None;
    }
    let body: String = body.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_decoded_and_nothing_around_it_is_taken() {
        let block = "-----BEGIN X-----\nYWJj\nZGU=\n-----END X-----\n";
        assert_eq!(decode(block.as_bytes(), "X").as_deref(), Some(&b"abcde"[..]));
        for text in [
            format!("{block}{block}"),
            format!("{block}after"),
            format!("before{block}"),
            "-----BEGIN X-----YWJj-----END X-----".to_owned(),
            "-----BEGIN X-----\nYW.j\n-----END X-----".to_owned(),
            "-----BEGIN X-----\nYWJj\n".to_owned(),
            "-----BEGIN X-----\nYWJj\n-----END Y-----\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(decode(text.as_bytes(), "X"), None, "{text:?}");
        }
        assert_eq!(decode(b"-----BEGIN X-----\n\xff\n-----END X-----", "X"), None);
    }
}
