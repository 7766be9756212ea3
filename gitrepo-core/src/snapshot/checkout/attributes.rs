//! Files of attributes, and what they say about a path (gitattributes(5)).

use std::collections::HashMap;

use super::effort::Effort;
use super::effort::Stop;
use super::pattern::Pattern;
use super::pattern::Subject;

/// Length of a line that git passes over, in bytes.
const LONGEST_LINE: usize = 2048;

/// What it costs to remember an attribute, in steps.
const DECISION: usize = 64;

/// What a line says of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Set,
    Unset,
    /// As if nothing had been said.
    Unspecified,
    Value(Vec<u8>),
}

/// An attribute and its state.
type Assignment = (Vec<u8>, State);

/// The lines of one file.
#[derive(Debug)]
pub(super) struct Rules {
    /// Its directory, with a slash at its end.
    base: Vec<u8>,
    lines: Vec<(Pattern, Vec<Assignment>)>,
    macros: Vec<(Vec<u8>, Vec<Assignment>)>,
}

/// Attributes that stand for others.
#[derive(Debug)]
pub(super) struct Macros(HashMap<Vec<u8>, Vec<Assignment>>);

impl Default for Macros {
    fn default() -> Self {
        let unset = |name: &str| (name.as_bytes().to_vec(), State::Unset);
        Self([(b"binary".to_vec(), ["diff", "merge", "text"].map(unset).to_vec())].into())
    }
}

impl Macros {
    /// Adds the macros of the file at the top.
    pub(super) fn define(&mut self, rules: &Rules) {
        self.0.extend(rules.macros.iter().cloned());
    }
}

/// The attributes of a path that change its content. `None` is what nothing was said about yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    decided: HashMap<Vec<u8>, State>,
}

impl Attributes {
    /// The state of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&State> {
        self.decided.get(name.as_bytes()).filter(|state| **state != State::Unspecified)
    }

    /// What was decided first stands. A macro of a macro may be one, too, and so on, so this is no recursion.
    fn decide(&mut self, assignments: &[Assignment], macros: &Macros, effort: &mut Effort<'_>) -> Result<(), Stop> {
        let mut open = vec![assignments.iter().rev()];
        while let Some(assignments) = open.last_mut() {
            let Some((name, state)) = assignments.next() else {
                open.pop();
                continue;
            };
            effort.spend(1)?;
            if self.decided.contains_key(name) {
                continue;
            }
            effort.spend(DECISION)?;
            self.decided.insert(name.clone(), state.clone());
            if *state == State::Set
                && let Some(expansion) = macros.0.get(name)
            {
                open.push(expansion.iter().rev());
            }
        }
        Ok(())
    }
}

impl Rules {
    /// Reads a file. What git passes over is passed over.
    pub(super) fn parse(text: &[u8], base: &[u8]) -> Self {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut rules = Self { base: base.to_vec(), lines: Vec::new(), macros: Vec::new() };
        for line in text.split(|byte| *byte == b'\n') {
            rules.add(line);
        }
        rules
    }

    fn add(&mut self, line: &[u8]) -> Option<()> {
        // git reads lines as strings, which end at a NUL.
        let line = line.split(|byte| *byte == 0).next()?;
        if line.len() >= LONGEST_LINE {
            return None;
        }
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let (name, rest) = match unquoted(line) {
            Some((name, rest)) => (name, rest),
            None => {
                let (name, rest) = word(line);
                (name.to_vec(), rest)
            }
        };
        let assignments = assignments(rest)?;
        if line.starts_with(b"[attr]") && name.len() > b"[attr]".len() {
            // git defines macros at the top alone.
            let name = &name[b"[attr]".len()..];
            if self.base.is_empty() && is_name(name) {
                self.macros.push((name.to_vec(), assignments));
            }
            return None;
        }
        self.lines.push((Pattern::parse(&name)?, assignments));
        Some(())
    }

    /// Adds what the file says about a path to what is known already.
    pub(super) fn apply(
        &self,
        path: Subject<'_>,
        macros: &Macros,
        effort: &mut Effort<'_>,
        found: &mut Attributes,
    ) -> Result<(), Stop> {
        let Some(path) = path.below(&self.base, effort)? else { return Ok(()) };
        for (pattern, assignments) in self.lines.iter().rev() {
            if pattern.matches(path, effort)? {
                found.decide(assignments, macros, effort)?;
            }
        }
        Ok(())
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    &text[start..]
}

/// Splits off the first word.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    text.split_at(end)
}

/// Reads the assignments of a line; `None` if one is malformed, which makes git pass the line over.
fn assignments(text: &[u8]) -> Option<Vec<Assignment>> {
    let mut found = Vec::new();
    let mut rest = trim(text);
    while !rest.is_empty() {
        let (assignment, after) = word(rest);
        let (name, value) = match assignment.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&assignment[..equals], Some(&assignment[equals + 1..])),
            None => (assignment, None),
        };
        let (name, state) = match (name.first(), value) {
            (Some(b'-'), _) => (&name[1..], State::Unset),
            (Some(b'!'), _) => (&name[1..], State::Unspecified),
            (_, Some(value)) => (name, State::Value(value.to_vec())),
            (_, None) => (name, State::Set),
        };
        if !is_name(name) {
            return None;
        }
        found.push((name.to_vec(), state));
        rest = trim(after);
    }
    Some(found)
}

fn is_name(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    !name.is_empty() && !name.starts_with(b"-") && !name.starts_with(b"builtin_") && name.iter().all(is_letter)
}

/// Reads a quoted pattern as git quotes it; `None` if the line does not begin with one.
fn unquoted(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = line.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                name.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    b'\\' | b'"' => *escaped,
                    b'0'..=b'3' => {
                        let (digits, after) = rest.split_first_chunk::<2>()?;
                        rest = after;
                        let digit = |byte: u8| (b'0'..=b'7').contains(&byte).then(|| byte - b'0');
                        (escaped - b'0') << 6 | digit(digits[0])? << 3 | digit(digits[1])?
                    }
                    _ => return None,
                });
            }
            byte => name.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;

    fn of(file: &str, path: &str, name: &str) -> Option<State> {
        let rules = Rules::parse(file.as_bytes(), b"");
        let mut macros = Macros::default();
        macros.define(&rules);
        let mut found = Attributes::default();
        let cancel = Cancel::new();
        rules.apply(Subject::new(path.as_bytes()), &macros, &mut Effort::new(u64::MAX, &cancel), &mut found).unwrap();
        found.get(name).cloned()
    }

    #[test]
    fn the_last_line_decides_and_macros_expand() {
        let value = |text: &str| Some(State::Value(text.as_bytes().to_vec()));
        for (file, expected) in [
            ("* eol=crlf\n*.x eol=lf", value("lf")),
            ("*.x eol=lf\n* eol=crlf", value("crlf")),
            ("* eol=crlf\n*.x !eol", None),
            ("* eol=crlf\n*.x -eol", Some(State::Unset)),
            ("* eol", Some(State::Set)),
            ("* eol=lf eol=crlf", value("crlf")),
            ("[attr]win eol=crlf\n*.x win", value("crlf")),
            ("[attr]win eol=crlf\n*.x win eol=lf", value("lf")),
            ("[attr]win eol=crlf\n*.x -win", None),
            ("\u{feff}*.x eol=crlf\r\n", value("crlf")),
            ("\"\\141.x\" eol=crlf", value("crlf")),
            ("*.x eol=crlf -\n", None),
            ("*.x eol=crlf a*b\n", None),
            ("# *.x eol=crlf\n", None),
        ] {
            assert_eq!(of(file, "a.x", "eol"), expected, "{file:?}");
        }
        assert_eq!(of("*.x binary", "a.x", "text"), Some(State::Unset));
        let long = format!("*.x eol=crlf {}", "a ".repeat(LONGEST_LINE));
        assert_eq!(of(&long, "a.x", "eol"), None);
    }
}
