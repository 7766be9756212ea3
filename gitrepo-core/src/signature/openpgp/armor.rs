//! OpenPGP's ASCII armor (RFC 9580, section 6.2).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::KeysError;

const KEYS: &str = "PGP PUBLIC KEY BLOCK";
const SIGNATURE: &str = "PGP SIGNATURE";

/// Decodes the block of signatures that the text consists of; white space may follow. What stands around it is signed by
/// nobody.
pub(super) fn signature(text: &[u8]) -> Option<Vec<u8>> {
    // A comment of the armor may be in any encoding.
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim_end);
    if lines.next()? != begin(SIGNATURE) {
        return None;
    }
    let decoded = block(&mut lines, SIGNATURE)?;
    lines.all(str::is_empty).then_some(decoded)
}

/// Decodes the blocks of keys of a text, one after the other. Between them may be empty lines and comments with `#`.
pub(super) fn keys(text: &str) -> Result<Vec<u8>, KeysError> {
    let mut lines = text.lines().map(str::trim_end).zip(1_usize..);
    let mut decoded = Vec::new();
    while let Some((line, number)) = lines.next() {
        if line == begin(KEYS) {
            let mut rest = lines.by_ref().map(|(line, _)| line);
            decoded.extend(block(&mut rest, KEYS).ok_or(KeysError::Block { line: number })?);
        } else if line.contains("PRIVATE KEY") {
            return Err(KeysError::Secret);
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(foreign(text, number));
        }
    }
    Ok(decoded)
}

/// Why a text with a line outside of the armor cannot be used. In front of a revocation that gpg makes with each key, it
/// writes for whom that is, and a colon, so that nobody imports it by mistake.
fn foreign(text: &str, line: usize) -> KeysError {
    let colon = format!(":{}", begin(KEYS));
    match text.lines().position(|line| line.trim_end() == colon) {
        Some(before) => KeysError::Colon { line: before + 1 },
        None => KeysError::Line { line },
    }
}

/// Puts keys into one block.
pub(super) fn of_keys(keys: &[u8]) -> String {
    format!("{}\n\n{}\n-----END {KEYS}-----\n", begin(KEYS), BASE64_STANDARD.encode(keys))
}

fn begin(kind: &str) -> String {
    format!("-----BEGIN {kind}-----")
}

/// Decodes what follows the first line of a block, up to its last.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, kind: &str) -> Option<Vec<u8>> {
    for line in lines.by_ref() {
        match line {
            "" => break,
            line if line.contains(": ") || line.ends_with(':') => {}
            _ => return None,
        }
    }
    let end = format!("-----END {kind}-----");
    let mut body = String::new();
    let mut has_checksum = false;
    loop {
        let line = lines.next()?;
        if line == end {
            return BASE64_STANDARD.decode(body).ok();
        }
        // The checksum says nothing about who signed, and is not to be looked at (RFC 9580, section 6.1).
        if has_checksum {
            return None;
        }
        match line.strip_prefix('=') {
            Some(_) => has_checksum = true,
            None => body.push_str(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "-----BEGIN PGP SIGNATURE-----\nVersion: x\nComment:\n\nYWJj\nZGU=\n=abcd\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn one_block_is_decoded_and_nothing_around_it_is_taken() {
        for text in [
            GOOD.to_owned(),
            GOOD.replace('\n', "\r\n"),
            GOOD.replace('\n', " \t\n"),
            GOOD.replace("=abcd\n", ""),
            GOOD.replace("Version: x\nComment:\n", ""),
            format!("{GOOD}\n \n"),
        ] {
            assert_eq!(signature(text.as_bytes()).as_deref(), Some(&b"abcde"[..]), "{text:?}");
        }
        let latin = GOOD.replace("Version: x", "Version: \u{1}").into_bytes();
        let latin: Vec<u8> = latin.iter().map(|byte| if *byte == 1 { 0xfc } else { *byte }).collect();
        assert!(signature(&latin).is_some());
        for text in [
            format!("{GOOD}{GOOD}"),
            format!("{GOOD}after"),
            format!(" {GOOD}"),
            GOOD.replace("\n\n", "\n"),
            GOOD.replace("YWJj", "YW.j"),
            GOOD.replace("=abcd\n", "=abcd\nYWJj\n"),
            GOOD.replace("END PGP SIGNATURE", "END PGP MESSAGE"),
            GOOD.replace("PGP SIGNATURE", "PGP MESSAGE"),
            GOOD.replace("-----END PGP SIGNATURE-----\n", ""),
            String::new(),
        ] {
            assert_eq!(signature(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_file_has_any_number_of_blocks_and_comments() {
        let block = of_keys(b"abc");
        let text = format!("# one\n{block}\n\r\n# two\n{block}");
        assert_eq!(keys(&text).unwrap(), b"abcabc");
        assert_eq!(keys("").unwrap(), b"");
        assert!(matches!(keys(&format!("{block}\nAlice:\n{block}")), Err(KeysError::Line { line: 6 })));
        let in_advance = format!("{block}This is a revocation certificate\n\n:{block}");
        assert_eq!(keys(&in_advance), Err(KeysError::Colon { line: 7 }));
        assert_eq!(keys(&in_advance.replace("This", "# This")), Err(KeysError::Colon { line: 7 }));
        let cut = format!("# one\n{}", block.replace("-----END", "----END"));
        assert!(matches!(keys(&cut), Err(KeysError::Block { line: 2 })));
    }
}
