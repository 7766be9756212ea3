//! `working-tree-encoding`: UTF-8 in the repository, another encoding in the file.

use std::ops::RangeInclusive;

use encoding_rs::EncoderResult;
use encoding_rs::Encoding;

use super::convert::TooLong;

/// Most bytes of a letter in any encoding, and of what an encoder writes at the end.
const SPARE: usize = 16;

/// Control characters besides those of ASCII.
const CONTROLS: RangeInclusive<char> = '\u{80}'..='\u{9f}';

/// The unit of an encoding of Unicode.
#[derive(Clone, Copy)]
enum Unit {
    Two,
    Four,
}

/// Encodes UTF-8. `None` if it is none, or has a character that the encoding lacks, or the encoding is unknown or UTF-8:
/// then git leaves the bytes as they are. `most` is the most bytes that it may have.
pub(super) fn encode(content: &[u8], name: &[u8], most: usize) -> Result<Option<Vec<u8>>, TooLong> {
    let (Ok(text), Ok(name)) = (std::str::from_utf8(content), std::str::from_utf8(name)) else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    let name = name.to_ascii_uppercase();
    let unicode_of = |unit, is_big, has_mark| unicode_of(text, unit, is_big, has_mark, most).map(Some);
    let unicode = name.strip_prefix("UTF").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    match unicode {
        Some("8") => Ok(None),
        // As the C library of Linux writes them: with a mark, in the machine's order.
        Some("16") => unicode_of(Unit::Two, cfg!(target_endian = "big"), true),
        Some("16LE") => unicode_of(Unit::Two, false, false),
        Some("16BE") => unicode_of(Unit::Two, true, false),
        Some("16LE-BOM") => unicode_of(Unit::Two, false, true),
        Some("16BE-BOM") => unicode_of(Unit::Two, true, true),
        Some("32") => unicode_of(Unit::Four, cfg!(target_endian = "big"), true),
        Some("32LE") => unicode_of(Unit::Four, false, false),
        Some("32BE") => unicode_of(Unit::Four, true, false),
        _ => match name.as_str() {
            "ISO-8859-1" | "ISO8859-1" | "ISO_8859-1" | "LATIN1" | "L1" | "CP819" => {
                let bytes = text.chars().map(|letter| u8::try_from(u32::from(letter)).ok());
                bounded(bytes.collect(), most)
            }
            "US-ASCII" | "ASCII" => bounded(text.is_ascii().then(|| content.to_vec()), most),
            name => legacy(text, name, most),
        },
    }
}

/// What is no longer than its text.
fn bounded(bytes: Option<Vec<u8>>, most: usize) -> Result<Option<Vec<u8>>, TooLong> {
    if bytes.as_ref().is_some_and(|bytes| bytes.len() > most) { Err(TooLong) } else { Ok(bytes) }
}

fn unicode_of(text: &str, unit: Unit, is_big: bool, has_mark: bool, most: usize) -> Result<Vec<u8>, TooLong> {
    let letters = || has_mark.then_some('\u{feff}').into_iter().chain(text.chars());
    let length = |letter: char| match unit {
        Unit::Two => 2 * letter.len_utf16(),
        Unit::Four => 4,
    };
    let length = letters().map(length).fold(0, usize::saturating_add);
    if length > most {
        return Err(TooLong);
    }
    let mut bytes = Vec::with_capacity(length);
    for letter in letters() {
        match (unit, is_big) {
            (Unit::Four, true) => bytes.extend(u32::from(letter).to_be_bytes()),
            (Unit::Four, false) => bytes.extend(u32::from(letter).to_le_bytes()),
            (Unit::Two, _) => letter.encode_utf16(&mut [0; 2]).iter().for_each(|half| {
                bytes.extend(if is_big { half.to_be_bytes() } else { half.to_le_bytes() });
            }),
        }
    }
    Ok(bytes)
}

fn legacy(text: &str, name: &str, most: usize) -> Result<Option<Vec<u8>>, TooLong> {
    let Some(encoding) = Encoding::for_label_no_replacement(name.as_bytes()) else { return Ok(None) };
    if encoding.output_encoding() != encoding {
        return Ok(None);
    }
    // The WHATWG gives bytes that have no letter to control characters. In git's tables they have none.
    if encoding.name().starts_with("windows-") && text.chars().any(|letter| CONTROLS.contains(&letter)) {
        return Ok(None);
    }
    let mut encoder = encoding.new_encoder();
    let longest = encoder.max_buffer_length_from_utf8_without_replacement(text.len()).unwrap_or(usize::MAX);
    // The encoder wants more room than it uses for a letter.
    let mut bytes = Vec::with_capacity(longest.min(most.saturating_add(SPARE)));
    match encoder.encode_from_utf8_to_vec_without_replacement(text, &mut bytes, true) {
        (EncoderResult::InputEmpty, _) => bounded(Some(bytes), most),
        (EncoderResult::OutputFull, _) => Err(TooLong),
        (EncoderResult::Unmappable(_), _) => Ok(None),
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
            assert_eq!(encode(content, name.as_bytes(), 100).unwrap().as_deref(), expected, "{content:?} {name}");
        }
    }
}
