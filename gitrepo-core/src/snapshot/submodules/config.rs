//! The syntax of git's configuration files (git-config(1), "Syntax"), as far as `.gitmodules` needs it: nothing is
//! included from other files, and no variable has a meaning here.

use std::rc::Rc;

/// Why a text is not a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::snapshot) struct Malformed {
    /// The line, from 1 on.
    pub(in crate::snapshot) line: usize,
    pub(in crate::snapshot) reason: &'static str,
}

/// A variable of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::snapshot) struct Variable {
    /// The section in lower case, and after a dot its subsection as written. Variables of one section share it.
    pub(in crate::snapshot) section: Rc<[u8]>,
    /// In lower case.
    pub(in crate::snapshot) name: String,
    /// `None` for a name alone, which means "true".
    pub(in crate::snapshot) value: Option<Vec<u8>>,
}

/// Longest name of a section with its subsection, in bytes. git takes it for a part of a path.
pub(super) const LONGEST_SECTION: usize = 4096;

/// What begins a file of some editors.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads all variables, in their order.
pub(in crate::snapshot) fn read(text: &[u8]) -> Result<Vec<Variable>, Malformed> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut variables = Vec::new();
    let mut section: Rc<[u8]> = Rc::default();
    while let Some(byte) = reader.next() {
        match byte {
            b'#' | b';' => reader.skip_line(),
            b'[' => section = reader.section()?.into(),
            byte if byte.is_ascii_alphabetic() => {
                let (name, value) = reader.variable(byte)?;
                variables.push(Variable { section: Rc::clone(&section), name, value });
            }
            byte if is_space(byte) => {}
            _ => return Err(reader.malformed("neither a section nor a variable")),
        }
    }
    Ok(variables)
}

/// Spaces as git sees them.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    /// The next byte; a line feed for both bytes of a DOS line end. `None` at the end of the text.
    fn next(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        let length = if rest.starts_with(b"\r\n") { 2 } else { 1 };
        let byte = if length == 2 { b'\n' } else { *rest.first()? };
        self.at += length;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    /// Like [`Reader::next`]. The end of the text is the end of a line.
    fn next_in_line(&mut self) -> u8 {
        self.next().unwrap_or(b'\n')
    }

    fn skip_line(&mut self) {
        while self.next_in_line() != b'\n' {}
    }

    /// The rest of `[section]`, `[section.subsection]` or `[section "subsection"]`.
    fn section(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut section = Vec::new();
        loop {
            self.check_length(&section)?;
            match self.next_in_line() {
                b']' => return Ok(section),
                b' ' | b'\t' | b'\r' => break,
                byte if is_in_name(byte) || byte == b'.' => section.push(byte.to_ascii_lowercase()),
                _ => return Err(self.malformed("a section's name that does not end with ]")),
            }
        }
        let mut byte = b' ';
        while matches!(byte, b' ' | b'\t' | b'\r') {
            byte = self.next_in_line();
        }
        if byte != b'"' {
            return Err(self.malformed("a subsection without quotes"));
        }
        section.push(b'.');
        loop {
            self.check_length(&section)?;
            match self.next_in_line() {
                b'\n' => return Err(self.malformed("a line end in a subsection")),
                b'"' => break,
                b'\\' => match self.next_in_line() {
                    b'\n' => return Err(self.malformed("a line end in a subsection")),
                    byte => section.push(byte),
                },
                byte => section.push(byte),
            }
        }
        match self.next_in_line() {
            b']' => Ok(section),
            _ => Err(self.malformed("a subsection that does not end with \"]")),
        }
    }

    fn check_length(&self, section: &[u8]) -> Result<(), Malformed> {
        match section.len() > LONGEST_SECTION {
            true => Err(self.malformed("a section whose name is too long")),
            false => Ok(()),
        }
    }

    /// The rest of `name = value`, after its first letter.
    fn variable(&mut self, first: u8) -> Result<(String, Option<Vec<u8>>), Malformed> {
        let mut name = char::from(first.to_ascii_lowercase()).to_string();
        let mut byte = self.next_in_line();
        while is_in_name(byte) {
            name.push(char::from(byte.to_ascii_lowercase()));
            byte = self.next_in_line();
        }
        while matches!(byte, b' ' | b'\t') {
            byte = self.next_in_line();
        }
        match byte {
            b'\n' => Ok((name, None)),
            b'=' => Ok((name, Some(self.value()?))),
            _ => Err(self.malformed("a variable without =")),
        }
    }

    /// A value to the end of its line. Spaces around it, and a comment after it, are not part of it, unless in quotes.
    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut value = Vec::new();
        // Without the spaces that may turn out to be the last ones.
        let mut length = 0;
        let mut is_quoted = false;
        loop {
            match self.next_in_line() {
                b'\n' if is_quoted => return Err(self.malformed("a line end in quotes")),
                b'\n' => break,
                b'"' => {
                    is_quoted = !is_quoted;
                    length = value.len();
                    continue;
                }
                b'#' | b';' if !is_quoted => {
                    self.skip_line();
                    break;
                }
                byte if !is_quoted && is_space(byte) => {
                    if !value.is_empty() {
                        value.push(byte);
                    }
                    continue;
                }
                b'\\' => match self.next_in_line() {
                    // The value goes on in the next line.
                    b'\n' => {}
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    b'n' => value.push(b'\n'),
                    byte @ (b'\\' | b'"') => value.push(byte),
                    _ => return Err(self.malformed("a backslash before a character that needs none")),
                },
                byte => value.push(byte),
            }
            length = value.len();
        }
        value.truncate(length);
        Ok(value)
    }

    /// The error for the byte that was just read.
    fn malformed(&self, reason: &'static str) -> Malformed {
        // A line end belongs to the line before it.
        let line = self.line - usize::from(self.at > 0 && self.text[self.at - 1] == b'\n');
        Malformed { line, reason }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn variables(text: &[u8]) -> Vec<(String, String, Option<String>)> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = read(text).unwrap().into_iter();
        all.map(|found| (lossy(&found.section), found.name, found.value.as_deref().map(lossy))).collect()
    }

    /// The value of `x` in a section.
    fn value(text: &str) -> Result<Option<String>, Malformed> {
        let found = read(format!("[s]\nx {text}").as_bytes())?;
        Ok(found[0].value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    #[test]
    fn sections_and_names_are_read_as_git_does() {
        let text = b"\xef\xbb\xbf; comment\n[Submodule \"A \\\"b\\\\\"] # more\r\n\tPath = x\r\n url=y ; z\nactive\n\
            [submodule.Old] path = o";
        assert_eq!(
            variables(text),
            [
                ("submodule.A \"b\\".to_owned(), "path".to_owned(), Some("x".to_owned())),
                ("submodule.A \"b\\".to_owned(), "url".to_owned(), Some("y".to_owned())),
                ("submodule.A \"b\\".to_owned(), "active".to_owned(), None),
                ("submodule.old".to_owned(), "path".to_owned(), Some("o".to_owned())),
            ]
        );
    }

    #[test]
    fn values_are_read_as_git_does() {
        for (text, expected) in [
            ("= a b\t\n", "a b"),
            ("=a#b\n", "a"),
            ("= \"a;b\" c ; d", "a;b c"),
            ("= a\\\n  b", "a  b"),
            ("= \" a \" \n", " a "),
            ("= a\\tb\\nc\\\\\\\"", "a\tb\nc\\\""),
            ("= a\r\n", "a"),
            ("= \"a\r\"\n", "a\r"),
            ("= a\rb\n", "a\rb"),
            ("= \"\"", ""),
            ("=", ""),
        ] {
            assert_eq!(value(text), Ok(Some(expected.to_owned())), "{text:?}");
        }
        assert_eq!(value("\n"), Ok(None));
    }

    #[test]
    fn malformed_texts_are_refused_with_their_line() {
        for (text, line) in [
            ("[s]\n[t\n", 2),
            ("[s \"a\nb\"]", 1),
            ("[s \"a\"\n]", 1),
            ("[s a]", 1),
            ("[s_]", 1),
            ("\n\n=x", 3),
            ("[s]\nx y", 2),
            ("[s]\nx = \"a\n\"", 2),
            ("[s]\nx = \\q", 2),
            ("[s", 1),
        ] {
            assert_eq!(read(text.as_bytes()).map_err(|error| error.line), Err(line), "{text:?}");
        }
    }

    #[test]
    fn s25_variables_share_the_name_of_their_section_and_it_is_bounded() {
        let text = |length: usize| format!("[s \"{}\"]\n{}", "n".repeat(length), "a\n".repeat(1 << 16));
        let found = read(text(LONGEST_SECTION - 2).as_bytes()).unwrap();
        assert_eq!((found.len(), found[0].section.len()), (1 << 16, LONGEST_SECTION));
        assert!(found.iter().all(|variable| Rc::ptr_eq(&variable.section, &found[0].section)));
        for text in [text(LONGEST_SECTION - 1), format!("[{}]", "s".repeat(LONGEST_SECTION + 1))] {
            let refused = read(text.as_bytes()).unwrap_err();
            assert_eq!((refused.line, refused.reason), (1, "a section whose name is too long"));
        }
    }

    /// What git reads from a file, or `None` if it refuses it.
    fn by_git(text: &[u8]) -> Option<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let output = Command::new("git")
            .args(["config", "--no-includes", "--null", "--list", "--file"])
            .arg(file.path())
            .output()
            .unwrap();
        output.status.success().then_some(output.stdout)
    }

    fn by_us(text: &[u8]) -> Option<Vec<u8>> {
        let mut listed = Vec::new();
        for Variable { section, name, value } in read(text).ok()? {
            listed.extend_from_slice(&section);
            listed.extend_from_slice(format!(".{name}").as_bytes());
            if let Some(value) = value {
                listed.push(b'\n');
                listed.extend_from_slice(&value);
            }
            listed.push(0);
        }
        Some(listed)
    }

    // Versions of git differ in what a tab between words becomes.
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_text_is_too_odd(text in proptest::collection::vec(any::<u8>(), 0..64), start in "\\[s( \"a)?|\\[s\\]x=") {
            // Whatever it is, it ends with an answer.
            let text = [start.as_bytes(), &text].concat();
            let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
            prop_assert!(read(&text).map_or_else(|error| error.line <= lines, |found| found.len() <= text.len()));
        }

        #[test]
        fn git_reads_the_same(lines in proptest::collection::vec(
            r#"(\[s(\.a| "[a\\"x]{0,3}")?\])?( )?(x|path)?( = |=)[ab"\\tn;# ]{0,8}(\\)?"#, 0..5,
        ), end in "\n|\r\n") {
            let text = format!("[s]\n{}", lines.join(&end));
            prop_assert_eq!(by_us(text.as_bytes()), by_git(text.as_bytes()), "{:?}", text);
        }
    }
}
