//! The file of allowed signers (ssh-keygen(1), "ALLOWED SIGNERS"): who may sign with which key, for what and when.
//!
//! A time without `Z` is local in OpenSSH. Here it is UTC: a worker knows no time zone.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::certificate::Certificate;
use super::pattern;
use super::wire::Reader;

/// What git signs.
const NAMESPACE: &str = "git";

/// A file. A malformed line is passed over: it allows nothing.
pub(super) struct AllowedSigners<'a>(&'a str);

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    principals: &'a str,
    is_authority: bool,
    namespaces: Option<String>,
    after: Option<u64>,
    before: Option<u64>,
    key: Vec<u8>,
}

impl<'a> AllowedSigners<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// Returns whose key this is, if it may sign for git at this time; otherwise the reason.
    pub(super) fn of_key(&self, key: &[u8], time: u64) -> Result<String, String> {
        self.find(|line| {
            (!line.is_authority && line.key == key).then(|| {
                line.check(time)?;
                Ok(line.principals.to_owned())
            })
        })
    }

    /// The same for a key with a certificate of an authority that the file trusts.
    pub(super) fn of_certificate(&self, certificate: &Certificate<'_>, time: u64) -> Result<String, String> {
        self.find(|line| {
            (line.is_authority && line.key == certificate.authority).then(|| {
                line.check(time)?;
                certificate.check(time)?;
                let mut principals = certificate.principals();
                let covered = principals.find(|name| pattern::covers(line.principals, name));
                covered.map(str::to_owned).ok_or("but its certificate is for none of the principals")
            })
        })
    }

    /// Returns the outcome of the first line that allows the key, or else of the first that is about it.
    fn find(&self, about: impl Fn(&Line<'_>) -> Option<Result<String, &'static str>>) -> Result<String, String> {
        let mut first = None;
        for (text, number) in self.0.lines().zip(1..) {
            let Some(outcome) = Line::parse(text).and_then(|line| about(&line)) else { continue };
            match outcome {
                Ok(name) => return Ok(name),
                Err(reason) => first = first.or(Some(format!("{reason} (line {number} of allowedSigners)"))),
            }
        }
        let malformed = self.0.lines().zip(1..).find(|(text, _)| !is_empty(text) && Line::parse(text).is_none());
        Err(first.unwrap_or_else(|| match malformed {
            Some((_, number)) => {
                format!("which allowedSigners does not name; its line {number} is malformed and passed over")
            }
            None => "which allowedSigners does not name".to_owned(),
        }))
    }
}

impl<'a> Line<'a> {
    /// `None` if the line is empty or malformed.
    fn parse(text: &'a str) -> Option<Self> {
        if is_empty(text) {
            return None;
        }
        let text = text.trim_start();
        let (principals, rest) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => text.split_once([' ', '\t'])?,
        };
        let mut line =
            Self { principals, is_authority: false, namespaces: None, after: None, before: None, key: Vec::new() };
        let rest = rest.trim_start();
        let rest = match key(rest) {
            Some(_) => rest,
            None => line.read_options(rest)?.trim_start(),
        };
        line.key = key(rest)?;
        (!principals.is_empty()).then_some(line)
    }

    /// Reads the options, and returns what follows them. An unknown option makes the line malformed: it might restrict.
    fn read_options(&mut self, mut text: &'a str) -> Option<&'a str> {
        loop {
            let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')?;
            let (name, rest) = text.split_at(end);
            let rest = match name.to_ascii_lowercase().as_str() {
                "cert-authority" => {
                    self.is_authority = true;
                    rest
                }
                "namespaces" if self.namespaces.is_none() => {
                    let (value, rest) = quoted(rest)?;
                    self.namespaces = Some(value);
                    rest
                }
                "valid-after" if self.after.is_none() => {
                    let (value, rest) = quoted(rest)?;
                    self.after = Some(time(&value)?);
                    rest
                }
                "valid-before" if self.before.is_none() => {
                    let (value, rest) = quoted(rest)?;
                    self.before = Some(time(&value)?);
                    rest
                }
                _ => return None,
            };
            match rest.strip_prefix(',') {
                Some(more) => text = more,
                None => return rest.starts_with([' ', '\t']).then_some(rest),
            }
        }
    }

    /// Whether the key may sign for git at this time.
    fn check(&self, time: u64) -> Result<(), &'static str> {
        if self.namespaces.as_ref().is_some_and(|list| !pattern::covers(list, NAMESPACE)) {
            return Err("which may not sign for git");
        }
        if self.after.is_some_and(|after| time < after) {
            return Err("which was not valid yet");
        }
        if self.before.is_some_and(|before| time > before) {
            return Err("which was no longer valid");
        }
        Ok(())
    }
}

fn is_empty(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// Reads the type of a key and the key.
fn key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let (kind, blob) = (words.next()?, BASE64_STANDARD.decode(words.next()?).ok()?);
    (Reader(&blob).string()? == kind.as_bytes()).then_some(blob)
}

/// Reads `="value"`, in which `\"` is a quotation mark.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix("=\"")?;
    let mut value = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                value.push('"');
            }
            letter => value.push(letter),
        }
    }
    None
}

/// Reads `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, with or without `Z`, as seconds since 1970.
fn time(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<u64>().ok());
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let is_date = (1970..).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970, of a year that begins in March: then a leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn blob() -> Vec<u8> {
        key(KEY).unwrap()
    }

    #[test]
    fn lines_are_read_as_ssh_keygen_reads_them() {
        let line = Line::parse("  a@b,*@c \tcert-authority,Namespaces=\"git,file\",valid-after=\"20200101Z\" ");
        assert_eq!(line, None, "no key");
        let text = format!("a@b,*@c cert-authority,Namespaces=\"git,f\\\"ile\",valid-after=\"20200101Z\"  {KEY} x y");
        let line = Line::parse(&text).unwrap();
        assert_eq!((line.principals, line.is_authority, line.after), ("a@b,*@c", true, Some(1_577_836_800)));
        assert_eq!((line.namespaces.as_deref(), line.key), (Some("git,f\"ile"), blob()));
        assert_eq!(Line::parse(&format!("\"a b\" {KEY}")).unwrap().principals, "a b");
        for bad in [
            "".to_owned(),
            "# comment".to_owned(),
            KEY.to_owned(),
            format!("a@b unknown=\"x\" {KEY}"),
            format!("a@b no-touch-required {KEY}"),
            format!("a@b namespaces=git {KEY}"),
            format!("a@b namespaces=\"git {KEY}"),
            format!("a@b valid-before=\"2020\" {KEY}"),
            format!("a@b valid-before=\"20200101\",valid-before=\"20300101\" {KEY}"),
            format!("a@b cert-authority, {KEY}"),
            "a@b ssh-ed25519 AAAA".to_owned(),
            format!("a@b ssh-rsa {}", &KEY["ssh-ed25519 ".len()..]),
            format!("\"\" {KEY}"),
        ] {
            assert_eq!(Line::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_signs_for_its_namespaces_and_within_its_time() {
        let of = |line: &str, time| AllowedSigners::new(&format!("# x\n{line} {KEY}\n")).of_key(&blob(), time);
        for (line, time, expected) in [
            ("a@b", 0, Ok("a@b")),
            ("a@b namespaces=\"git\"", 0, Ok("a@b")),
            ("a@b namespaces=\"file,g*\"", 0, Ok("a@b")),
            ("a@b namespaces=\"file\"", 0, Err("which may not sign for git")),
            ("a@b namespaces=\"*,!git\"", 0, Err("which may not sign for git")),
            ("a@b valid-after=\"20200101\"", 1_577_836_800, Ok("a@b")),
            ("a@b valid-after=\"20200101\"", 1_577_836_799, Err("which was not valid yet")),
            ("a@b valid-before=\"202001010000Z\"", 1_577_836_800, Ok("a@b")),
            ("a@b valid-before=\"20200101000000\"", 1_577_836_801, Err("which was no longer valid")),
            ("a@b cert-authority", 0, Err("which allowedSigners does not name")),
        ] {
            match (of(line, time), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected, "{line}"),
                (Err(reason), Err(expected)) => assert!(reason.starts_with(expected), "{line}: {reason}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn any_line_of_a_key_may_allow_it_and_a_malformed_one_is_named() {
        let two = format!("old valid-before=\"19800101\" {KEY}\nnew {KEY}\n");
        assert_eq!(AllowedSigners::new(&two).of_key(&blob(), 1_577_836_800).unwrap(), "new");
        let broken = format!("a@b {KEY}x\nb@c nonsense\n");
        let reason = AllowedSigners::new(&broken).of_key(&blob(), 0).unwrap_err();
        assert!(reason.contains("line 1 is malformed"), "{reason}");
        assert_eq!(AllowedSigners::new("").of_key(&blob(), 0).unwrap_err(), "which allowedSigners does not name");
    }

    #[test]
    fn times_are_counted_from_1970() {
        for (text, expected) in [
            ("19700101", Some(0)),
            ("20000229Z", Some(951_782_400)),
            ("20240301", Some(1_709_251_200)),
            ("202402291234", Some(1_709_210_040)),
            ("20991231235959Z", Some(4_102_444_799)),
            ("19691231", None),
            ("20201301", None),
            ("2020010", None),
            ("20200101T", None),
            ("+2200101", None),
            ("202001012500", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
