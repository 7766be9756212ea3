//! Patterns of paths, as git matches them in files of attributes (gitignore(5), "PATTERN FORMAT").
//!
//! A pattern is matched step by step with the set of all places in the text that it may have reached. So no pattern takes
//! longer than its length times that of the text.

use super::effort::Effort;
use super::effort::Stop;

/// A pattern of a line.
#[derive(Debug)]
pub(super) struct Pattern {
    /// What a path begins with, before the first wildcard.
    literal: Vec<u8>,
    /// The rest; `None` if there is none.
    steps: Option<Vec<Step>>,
    /// Whether it is about the last part of a path, wherever that is.
    is_of_name: bool,
}

/// What comes next in a text.
#[derive(Debug)]
enum Step {
    Byte(u8),
    /// Any byte but a slash.
    One,
    /// Any byte.
    AnyByte,
    Class(Box<Class>),
    /// Any number of bytes but slashes.
    Part,
    /// Any number of bytes.
    Anything,
    /// Any number of whole directories, each with its slash.
    Directories,
    /// Nothing ever.
    Never,
}

/// A set of bytes: a bit for each.
#[derive(Debug, Default)]
struct Class([u64; 4]);

impl Class {
    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    fn negate(&mut self) {
        self.0 = self.0.map(|bits| !bits);
    }
}

impl Pattern {
    /// Reads a pattern; `None` if it is for directories, which have no content, or negative, which git refuses.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.starts_with(b"!") || text.ends_with(b"/") {
            return None;
        }
        let is_of_name = !text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        let end = text.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(text.len());
        let (literal, rest) = text.split_at(end);
        let steps = (!rest.is_empty()).then(|| steps(rest, !is_of_name));
        Some(Self { literal: literal.to_vec(), steps, is_of_name })
    }

    /// Whether it matches a path below the directory of its file.
    pub(super) fn matches(&self, path: Subject<'_>, effort: &mut Effort<'_>) -> Result<bool, Stop> {
        let text = if self.is_of_name { path.name } else { path.path };
        effort.spend_on_comparison(self.literal.len().min(text.len()))?;
        match (text.strip_prefix(self.literal.as_slice()), &self.steps) {
            (None, _) => Ok(false),
            (Some(rest), None) => Ok(rest.is_empty()),
            (Some(rest), Some(steps)) => walk(steps, rest, effort),
        }
    }
}

/// A path that patterns are matched with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    path: &'a [u8],
    /// Its last part.
    name: &'a [u8],
}

impl<'a> Subject<'a> {
    pub(super) fn new(path: &'a [u8]) -> Self {
        Self { path, name: path.rsplit(|byte| *byte == b'/').next().unwrap_or(path) }
    }

    /// The same path from a directory, which is given with a slash at its end; `None` if it is not in there.
    pub(super) fn below(self, base: &[u8], effort: &mut Effort<'_>) -> Result<Option<Self>, Stop> {
        effort.spend_on_comparison(base.len())?;
        Ok(self.path.strip_prefix(base).map(|path| Self { path, ..self }))
    }
}

fn walk(mut steps: &[Step], mut text: &[u8], effort: &mut Effort<'_>) -> Result<bool, Stop> {
    // Most patterns are about the end of a name, and most names have another one.
    while let [before @ .., Step::Byte(wanted)] = steps {
        effort.spend(1)?;
        match text {
            [rest @ .., last] if last == wanted => (steps, text) = (before, rest),
            _ => return Ok(false),
        }
    }
    effort.spend(steps.len().saturating_mul(text.len() + 1))?;
    let mut reached = vec![false; text.len() + 1];
    let mut next = vec![false; text.len() + 1];
    reached[0] = true;
    for step in steps {
        next.fill(false);
        let mut is_inside = false;
        for at in 0..=text.len() {
            let byte = text.get(at).copied();
            match step {
                Step::Never => {}
                Step::Part | Step::Anything => {
                    // From here on, to the next slash or to the end.
                    is_inside |= reached[at];
                    next[at] = is_inside;
                    if matches!(step, Step::Part) && byte == Some(b'/') {
                        is_inside = false;
                    }
                }
                Step::Directories => {
                    next[at] |= reached[at];
                    is_inside |= reached[at];
                    if is_inside && byte == Some(b'/') {
                        next[at + 1] = true;
                    }
                }
                Step::Byte(_) | Step::One | Step::AnyByte | Step::Class(_) => {
                    let Some(byte) = byte else { continue };
                    let fits = match step {
                        Step::Byte(wanted) => byte == *wanted,
                        Step::Class(class) => class.has(byte),
                        Step::AnyByte => true,
                        _ => byte != b'/',
                    };
                    next[at + 1] |= reached[at] && fits;
                }
            }
        }
        std::mem::swap(&mut reached, &mut next);
    }
    Ok(reached[text.len()])
}

/// Takes a pattern apart. In that of a path, a star stops at slashes.
fn steps(pattern: &[u8], is_path: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        steps.push(match byte {
            b'?' if is_path => Step::One,
            b'?' => Step::AnyByte,
            b'*' => {
                let begins = at == 1 || pattern[at - 2] == b'/';
                let stars = 1 + pattern[at..].iter().take_while(|byte| **byte == b'*').count();
                at += stars - 1;
                let rest = &pattern[at..];
                match stars > 1 && begins {
                    _ if !is_path => Step::Anything,
                    true if rest.starts_with(b"/") => {
                        at += 1;
                        Step::Directories
                    }
                    true if rest.is_empty() || rest.starts_with(b"\\/") => Step::Anything,
                    _ => Step::Part,
                }
            }
            b'[' => match class(&pattern[at..], is_path) {
                Some((class, length)) => {
                    at += length;
                    Step::Class(Box::new(class))
                }
                None => return vec![Step::Never],
            },
            b'\\' => match pattern.get(at) {
                Some(&escaped) => {
                    at += 1;
                    Step::Byte(escaped)
                }
                None => Step::Never,
            },
            byte => Step::Byte(byte),
        });
    }
    steps
}

/// Reads a class after its bracket. Returns the bytes that it matches, and its length; `None` if it has no end.
fn class(text: &[u8], is_path: bool) -> Option<(Class, usize)> {
    let is_negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut at = usize::from(is_negated);
    let mut found = Class::default();
    let mut previous = 0_u8;
    loop {
        let mut byte = *text.get(at)?;
        if byte == b'\\' {
            at += 1;
            byte = *text.get(at)?;
            found.insert(byte);
        } else if byte == b'-' && previous != 0 && text.get(at + 1).is_some_and(|next| *next != b']') {
            at += 1;
            let mut last = *text.get(at)?;
            if last == b'\\' {
                at += 1;
                last = *text.get(at)?;
            }
            (previous..=last).for_each(|byte| found.insert(byte));
            byte = 0;
        } else if byte == b'[' && text.get(at + 1) == Some(&b':') {
            let start = at + 2;
            let end = start + text.get(start..)?.iter().position(|byte| *byte == b']')?;
            if end > start && text[end - 1] == b':' {
                let is_in = named(&text[start..end - 1])?;
                (0..=u8::MAX).filter(is_in).for_each(|byte| found.insert(byte));
                at = end;
                byte = 0;
            } else {
                found.insert(b'[');
            }
        } else {
            found.insert(byte);
        }
        previous = byte;
        at += 1;
        if *text.get(at)? == b']' {
            break;
        }
    }
    if is_negated {
        found.negate();
    }
    if is_path {
        found.remove(b'/');
    }
    Some((found, at + 1))
}

/// A class of POSIX by its name.
fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;

    fn matches(pattern: &Pattern, path: &str, base: &str) -> bool {
        let cancel = Cancel::new();
        let mut effort = Effort::new(u64::MAX, &cancel);
        let path = Subject::new(path.as_bytes()).below(base.as_bytes(), &mut effort).unwrap();
        path.is_some_and(|path| pattern.matches(path, &mut effort).unwrap())
    }

    #[test]
    fn patterns_match_as_in_git() {
        for (pattern, base, path, expected) in [
            ("*.bat", "", "a/b.bat", true),
            ("*.bat", "a/", "a/b/c.bat", true),
            ("*.bat", "a/", "b/c.bat", false),
            ("b.bat", "", "a/b.bat", true),
            ("/b.bat", "", "a/b.bat", false),
            ("/b.bat", "a/", "a/b.bat", true),
            ("a/*.bat", "", "a/b.bat", true),
            ("a/*.bat", "", "a/c/b.bat", false),
            ("a/**", "", "a/c/b.bat", true),
            ("a/**", "", "a", false),
            ("**/b", "", "b", true),
            ("**/b", "", "x/y/b", true),
            ("**/b", "", "x/yb", false),
            ("a/**/b", "", "a/b", true),
            ("a/**/b", "", "a/x/y/b", true),
            ("a/**/b", "", "a/xb", false),
            ("a**b/c", "", "axb/c", true),
            ("a**b/c", "", "ax/b/c", false),
            ("[a-c]?", "", "bz", true),
            ("[!a-c]?", "", "bz", false),
            ("[]x]", "", "]", true),
            ("[[:digit:]]", "", "7", true),
            ("[[:nonsense:]]", "", "7", false),
            ("a[", "", "a[", false),
            ("\\*", "", "*", true),
            ("\\*", "", "x", false),
            ("x/[a/]b", "", "x//b", false),
            ("?", "", "a", true),
            ("a?b", "", "a/ab", false),
            ("x/?", "", "x//", false),
            ("a*a", "", "a", false),
            ("a*a", "", "aa", true),
            ("x*x/b", "", "x/x/b", false),
            ("[^\\xff]", "", "z", true),
            ("**/x/b", "", "yx/b", false),
        ] {
            let matches = matches(&Pattern::parse(pattern.as_bytes()).unwrap(), path, base);
            assert_eq!(matches, expected, "{pattern} {base} {path}");
        }
        for pattern in ["!a", "a/", ""] {
            assert!(Pattern::parse(pattern.as_bytes()).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_than_its_length() {
        let pattern = Pattern::parse(format!("x/{}b", "*a".repeat(900)).as_bytes()).unwrap();
        assert!(!matches(&pattern, &format!("x/{}", "a".repeat(4000)), ""));
        assert!(matches(&pattern, &format!("x/{}b", "a".repeat(4000)), ""));
    }

    #[test]
    fn a_long_comparison_is_more_steps_than_a_short_one() {
        let cancel = Cancel::new();
        let path = "d/".repeat(2000) + "name";
        let left = |pattern: &str, base: &str, steps| {
            let mut effort = Effort::new(steps, &cancel);
            let path = Subject::new(path.as_bytes()).below(base.as_bytes(), &mut effort)?.unwrap();
            Pattern::parse(pattern.as_bytes()).unwrap().matches(path, &mut effort)
        };
        let long = format!("/{}e", "d/".repeat(800));
        // 26 for the pattern, and one for the base.
        assert_eq!(left(&long, "", 27), Ok(false));
        assert_eq!(left(&long, "", 26), Err(Stop::TooMuch));
        // The name is short, and so is the text that the pattern is compared with.
        assert_eq!(left(&"x".repeat(2000), "", 2), Ok(false));
        // 63 for the base.
        let base = "d/".repeat(2000);
        assert_eq!(left("x", &base, 64), Ok(false));
        assert_eq!(left("x", &base, 63), Err(Stop::TooMuch));
    }

    #[test]
    fn no_pattern_takes_much_more_memory_than_its_text() {
        for part in ["?", "[a]", "*a", "\\a", "**/"] {
            let text = format!("{}x", part.repeat(500));
            let steps = Pattern::parse(text.as_bytes()).unwrap().steps.unwrap();
            let classes = steps.iter().filter(|step| matches!(step, Step::Class(_))).count();
            let bytes = steps.len() * size_of::<Step>() + classes * size_of::<Class>();
            assert!(bytes <= 20 * text.len(), "{part}: {bytes}");
        }
    }
}
