//! From a blob to a file, as git converts it (git's `convert.c`), with the settings of Linux: `core.autocrlf` is false and
//! line ends are LF.

use git2::Oid;

use super::attributes::Attributes;
use super::attributes::State;
use super::encoding;

/// What was converted is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Which line ends a file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ends {
    /// Those that it has.
    Same,
    /// CRLF.
    Crlf,
    /// CRLF, if it is a text without any CR.
    CrlfOfText,
}

/// How a file is converted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Conversion {
    has_ident: bool,
    ends: Ends,
    encoding: Option<Vec<u8>>,
}

impl Conversion {
    /// The conversion of a file with these attributes; `None` if none can change it.
    pub(super) fn of(attributes: &Attributes) -> Option<Self> {
        let encoding = match attributes.get("working-tree-encoding") {
            Some(State::Value(name)) => Some(name.clone()),
            _ => None,
        };
        let (has_ident, ends) = (attributes.get("ident") == Some(&State::Set), ends(attributes));
        let changes = has_ident || ends != Ends::Same || encoding.is_some();
        changes.then_some(Self { has_ident, ends, encoding })
    }

    /// Returns what a blob becomes in the working tree; `None` if it stays as it is. Neither that, nor anything on the way
    /// to it, has more than `most` bytes.
    pub(super) fn apply(&self, content: &[u8], id: Oid, most: usize) -> Result<Option<Vec<u8>>, TooLong> {
        let mut file = if self.has_ident { with_ident(content, id, most)? } else { None };
        if let Some(converted) = with_ends(file.as_deref().unwrap_or(content), self.ends, most)? {
            file = Some(converted);
        }
        if let Some(name) = &self.encoding
            && let Some(encoded) = encoding::encode(file.as_deref().unwrap_or(content), name, most)?
        {
            file = Some(encoded);
        }
        Ok(file.filter(|file| file != content))
    }
}

fn ends(attributes: &Attributes) -> Ends {
    let is = |name: &str, value: &[u8]| matches!(attributes.get(name), Some(State::Value(found)) if found == value);
    // `crlf` is an old name of `text`.
    let text = ["text", "crlf"].into_iter().find(|name| match attributes.get(name) {
        Some(State::Value(value)) => matches!(value.as_slice(), b"auto" | b"input"),
        state => state.is_some(),
    });
    match text.map(|name| (attributes.get(name), is(name, b"auto"))) {
        Some((Some(State::Unset), _)) => Ends::Same,
        _ if !is("eol", b"crlf") => Ends::Same,
        Some((_, true)) => Ends::CrlfOfText,
        _ => Ends::Crlf,
    }
}

/// Puts a CR before each LF that has none.
fn with_ends(content: &[u8], ends: Ends, most: usize) -> Result<Option<Vec<u8>>, TooLong> {
    if ends == Ends::Same {
        return Ok(None);
    }
    let is_lone = |at: usize| content[at] == b'\n' && (at == 0 || content[at - 1] != b'\r');
    let lone = (0..content.len()).filter(|at| is_lone(*at)).count();
    if lone == 0 || (ends == Ends::CrlfOfText && (content.contains(&b'\r') || is_binary(content))) {
        return Ok(None);
    }
    if content.len().saturating_add(lone) > most {
        return Err(TooLong);
    }
    let mut file = Vec::with_capacity(content.len() + lone);
    for (at, byte) in content.iter().enumerate() {
        if is_lone(at) {
            file.push(b'\r');
        }
        file.push(*byte);
    }
    Ok(Some(file))
}

/// Whether git takes a content without CR for binary.
fn is_binary(content: &[u8]) -> bool {
    let (mut printable, mut nonprintable) = (0_usize, 0_usize);
    for byte in content {
        match byte {
            0 => return true,
            b'\n' => {}
            8 | b'\t' | 27 | 12 => printable += 1,
            127 | 0..=31 => nonprintable += 1,
            _ => printable += 1,
        }
    }
    // The end of a file in DOS.
    nonprintable -= usize::from(content.last() == Some(&26));
    (printable >> 7) < nonprintable
}

/// Expands `$Id$`, also where it was expanded before; `None` if it is nowhere.
fn with_ident(content: &[u8], id: Oid, most: usize) -> Result<Option<Vec<u8>>, TooLong> {
    let find = |byte: u8, from: &[u8]| from.iter().position(|found| *found == byte);
    let mut file = Vec::new();
    let mut rest = content;
    let mut is_changed = false;
    while let Some(dollar) = find(b'$', rest) {
        let (before, after) = rest.split_at(dollar + 1);
        file.extend_from_slice(before);
        rest = after;
        let end = match rest {
            [b'I', b'd', b'$', ..] => 2,
            [b'I', b'd', b':', value @ ..] => {
                let Some(length) = find(b'$', value) else { break };
                let value = &value[..length];
                // A line break, or the words of another version control.
                let space = value.iter().skip(1).position(|byte| *byte == b' ');
                if value.contains(&b'\n') || space.is_some_and(|space| space + 2 < length) {
                    continue;
                }
                length + 3
            }
            _ => continue,
        };
        file.extend_from_slice(format!("Id: {id} $").as_bytes());
        rest = &rest[end + 1..];
        is_changed = true;
        if file.len() > most {
            return Err(TooLong);
        }
    }
    file.extend_from_slice(rest);
    if file.len() > most { Err(TooLong) } else { Ok(is_changed.then_some(file)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Oid {
        Oid::from_str(&"ab".repeat(20)).unwrap()
    }

    #[test]
    fn an_id_is_expanded_where_git_would() {
        let expanded = format!("Id: {} ", id());
        for (content, expected) in [
            ("x $Id$ y", Some(format!("x ${expanded}$ y"))),
            ("$Id: old $", Some(format!("${expanded}$"))),
            ("$Id:old$", Some(format!("${expanded}$"))),
            ("$Id: a.c,v 1.1 me Exp $", None),
            ("$Id: one\ntwo $", None),
            ("$Id", None),
            ("$Id: open", None),
            ("$Idx$", None),
            ("$$Id$$Id$", Some(format!("$${expanded}$${expanded}$"))),
            ("", None),
        ] {
            let found = with_ident(content.as_bytes(), id(), 200).unwrap().map(|file| String::from_utf8(file).unwrap());
            assert_eq!(found, expected, "{content}");
        }
    }

    #[test]
    fn a_huge_line_and_many_ids_are_converted_in_one_pass() {
        let line = vec![b'x'; 32 << 20];
        assert_eq!(with_ident(&[b"$Id: ".as_slice(), &line].concat(), id(), 64 << 20), Ok(None));
        let many = "$Id:".repeat(1 << 20);
        with_ident(many.as_bytes(), id(), 64 << 20).unwrap();
        assert_eq!(with_ends(&vec![b'\n'; 1 << 20], Ends::Crlf, 2 << 20).unwrap().unwrap().len(), 2 << 20);
    }

    #[test]
    fn no_part_of_a_conversion_gets_longer_than_it_may() {
        let all = Conversion { has_ident: true, ends: Ends::Crlf, encoding: Some(b"UTF-32".to_vec()) };
        let ends = Conversion { has_ident: false, encoding: None, ..all };
        let encoded = |name: &str| Conversion { encoding: Some(name.into()), ends: Ends::Same, ..ends.clone() };
        for (conversion, content, length) in [
            (&ends, "\n\n", 4),
            (&Conversion { has_ident: true, ends: Ends::Same, ..ends.clone() }, "$Id$ $Id$", 2 * 47 + 1),
            (&all, "$Id$\n", 4 * (1 + 47 + 2)),
            (&encoded("UTF-16LE"), "a\u{10ffff}", 6),
            (&encoded("UTF-32"), "a", 8),
            (&encoded("SHIFT_JIS"), "\u{3042}\u{3042}", 4),
            (&encoded("ISO-8859-1"), "\u{e9}\u{e9}", 2),
        ] {
            let apply = |most: usize| conversion.apply(content.as_bytes(), id(), most);
            assert_eq!(apply(length).unwrap().unwrap().len(), length, "{conversion:?}");
            assert_eq!(apply(length - 1), Err(TooLong), "{conversion:?}");
        }
    }
}
