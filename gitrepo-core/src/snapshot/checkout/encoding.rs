//! `working-tree-encoding`: UTF-8 in the repository, another encoding in the file.

use encoding_rs::EncoderResult;
use encoding_rs::Encoding;

/// The unit of an encoding of Unicode.
#[derive(Clone, Copy)]
enum Unit {
    Two,
    Four,
}

/// Encodes UTF-8. `None` if it is none, or has a character that the encoding lacks, or the encoding is unknown or UTF-8:
/// then git leaves the bytes as they are.
pub(super) fn encode(content: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if content.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(content).ok()?;
    let name = std::str::from_utf8(name).ok()?.to_ascii_uppercase();
    let unicode = name.strip_prefix("UTF").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    match unicode {
        Some("8") => None,
        // As the C library of Linux writes them: with a mark, in the machine's order.
        Some("16") => Some(unicode_of(text, Unit::Two, cfg!(target_endian = "big"), true)),
        Some("16LE") => Some(unicode_of(text, Unit::Two, false, false)),
        Some("16BE") => Some(unicode_of(text, Unit::Two, true, false)),
        Some("16LE-BOM") => Some(unicode_of(text, Unit::Two, false, true)),
        Some("16BE-BOM") => Some(unicode_of(text, Unit::Two, true, true)),
        Some("32") => Some(unicode_of(text, Unit::Four, cfg!(target_endian = "big"), true)),
        Some("32LE") => Some(unicode_of(text, Unit::Four, false, false)),
        Some("32BE") => Some(unicode_of(text, Unit::Four, true, false)),
        _ => match name.as_str() {
            "ISO-8859-1" | "ISO8859-1" | "ISO_8859-1" | "LATIN1" | "L1" | "CP819" => {
                text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
            }
            "US-ASCII" | "ASCII" => text.is_ascii().then(|| content.to_vec()),
            name => legacy(text, name),
        },
    }
}

fn unicode_of(text: &str, unit: Unit, is_big: bool, has_mark: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2);
    let mark = has_mark.then_some('\u{feff}');
    for letter in mark.into_iter().chain(text.chars()) {
        match (unit, is_big) {
            (Unit::Four, true) => bytes.extend(u32::from(letter).to_be_bytes()),
            (Unit::Four, false) => bytes.extend(u32::from(letter).to_le_bytes()),
            (Unit::Two, _) => letter.encode_utf16(&mut [0; 2]).iter().for_each(|half| {
                bytes.extend(if is_big { half.to_be_bytes() } else { half.to_le_bytes() });
            }),
        }
    }
    bytes
}

fn legacy(text: &str, name: &str) -> Option<Vec<u8>> {
    let encoding = Encoding::for_label_no_replacement(name.as_bytes())?;
    if encoding.output_encoding() != encoding {
        return None;
    }
    let mut encoder = encoding.new_encoder();
    let mut bytes = Vec::with_capacity(encoder.max_buffer_length_from_utf8_without_replacement(text.len())?);
    match encoder.encode_from_utf8_to_vec_without_replacement(text, &mut bytes, true) {
        (EncoderResult::InputEmpty, _) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_encoded_stays() {
        for (content, name, expected) in [
            (&b"a\xc3\xa9"[..], "UTF-16LE", Some(&b"a\0\xe9\0"[..])),
            (b"a\xc3\xa9", "utf-16be", Some(b"\0a\0\xe9")),
            (b"a", "UTF-16LE-BOM", Some(b"\xff\xfea\0")),
            (b"a", "UTF-16BE-BOM", Some(b"\xfe\xff\0a")),
            (b"a", "UTF-32BE", Some(b"\0\0\0a")),
            (b"a\xc3\xa9", "ISO-8859-1", Some(b"a\xe9")),
            (b"\xe2\x82\xac", "ISO-8859-1", None),
            (b"\xe2\x82\xac", "windows-1252", Some(b"\x80")),
            (b"\xe3\x81\x82", "SHIFT-JIS", Some(b"\x82\xa0")),
            (b"\xe3\x81\x82", "SHIFT_JIS", Some(b"\x82\xa0")),
            (b"\xff", "UTF-16LE", None),
            (b"a", "UTF-8", None),
            (b"a", "utf8", None),
            (b"a", "nonsense", None),
            (b"", "UTF-16", None),
        ] {
            assert_eq!(encode(content, name.as_bytes()).as_deref(), expected, "{content:?} {name}");
        }
    }
}
