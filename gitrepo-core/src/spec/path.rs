//! A path that stays inside its root.

use std::fmt;
use std::path::Path;

use crate::spec::names;
use crate::spec::names::NameError;
use crate::spec::serde_as_text;

/// A relative path that cannot leave its base: no `..`, not absolute, and only names that a tree may contain, so no
/// `.git`. Stored without empty and `.` parts; `.` is the root itself.
///
/// The check is lexical. Code that opens such a path must still not follow symbolic links (CVE-2017-1002101,
/// CVE-2021-25741).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not accepted as a path: {reason}")]
pub struct PathError {
    /// As written.
    pub text: String,
    /// The rule it violates.
    pub reason: &'static str,
}

impl RelativePath {
    /// Longest path, in bytes.
    pub const MAX_LENGTH: usize = 4096;

    /// The directory itself.
    pub fn root() -> Self {
        Self(".".to_owned())
    }

    /// Reads a path; `""`, `.` and `./` are the root.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        match normalise(text) {
            Ok(path) => Ok(Self(path)),
            Err(reason) => Err(PathError { text: text.chars().take(256).collect(), reason }),
        }
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// The parts between the slashes; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| *component != ".")
    }

    /// The path as text; `.` for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path; `.` for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// What has this name, which is one of the [components](Self::components) of a path, inside this path.
    pub(crate) fn child(&self, component: &str) -> Self {
        Self(if self.is_root() { component.to_owned() } else { format!("{self}/{component}") })
    }

    /// `other`, inside this path.
    ///
    /// # Errors
    /// If both together are longer than [`Self::MAX_LENGTH`].
    pub fn join(&self, other: &Self) -> Result<Self, PathError> {
        Self::parse(&format!("{self}/{other}"))
    }
}

fn normalise(text: &str) -> Result<String, &'static str> {
    if text.len() > RelativePath::MAX_LENGTH {
        return Err("it is longer than 4096 bytes");
    }
    if text.starts_with('/') {
        return Err("it is absolute; write it relative");
    }
    if text.contains(char::is_control) {
        return Err("it has a control character");
    }
    if text.contains('\\') {
        return Err("it has a backslash; separate directories by /");
    }
    let mut kept = Vec::new();
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err("it has .. in it"),
            name => match names::check(name.as_bytes(), false) {
                Ok(()) => kept.push(name),
                Err(NameError::TooLong) => return Err("a part of it is longer than 255 bytes"),
                Err(_) => return Err(".git, in whatever spelling, is git's own"),
            },
        }
    }
    Ok(if kept.is_empty() { ".".to_owned() } else { kept.join("/") })
}

impl Default for RelativePath {
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RelativePath);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        RelativePath::parse(text).unwrap().to_string()
    }

    #[test]
    fn empty_parts_and_dots_are_left_out() {
        let table = [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a", "a"),
            ("a/", "a"),
            ("a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("...", "..."),
            ("..a", "..a"),
            ("a b", "a b"),
            ("ä", "ä"),
            (".github", ".github"),
            ("-x", "-x"),
        ];
        for (text, path) in table {
            assert_eq!(parsed(text), path, "{text:?}");
        }
    }

    #[test]
    fn s9_paths_that_leave_their_place_are_refused() {
        let words = r"/ /etc //x .. ../x a/.. a/../b a/../../b ..\x a\b .git .GIT a/.Git/b git~1 GIT~1/x .git/hooks .git. .git:x";
        let others = ["a\0b", "a\nb", "a\x1bb", "a\u{85}b", ".g\u{200c}it", ".git "];
        for text in words.split_whitespace().chain(others) {
            assert!(RelativePath::parse(text).is_err(), "{text:?}");
        }
        assert!(RelativePath::parse(&"a".repeat(255)).is_ok());
        assert!(RelativePath::parse(&"a".repeat(256)).is_err());
        assert!(RelativePath::parse(&"a/".repeat(2049)).is_err());
    }

    #[test]
    fn a_path_inside_a_path_is_their_join() {
        let [root, a, bc] = [".", "a", "b/c"].map(|text| RelativePath::parse(text).unwrap());
        assert_eq!(a.join(&bc).unwrap().as_str(), "a/b/c");
        assert_eq!(root.join(&a).unwrap(), a);
        assert_eq!(a.join(&root).unwrap(), a);
        assert!(root.join(&root).unwrap().is_root());
        assert_eq!(bc.components().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(root.components().count(), 0);
    }

    proptest! {
        #[test]
        fn a_path_stays_below_and_reads_back_as_itself(text in "[a./~git-]{0,16}|.*") {
            if let Ok(path) = RelativePath::parse(&text) {
                let below = path.as_path().components().all(|component| matches!(
                    component,
                    std::path::Component::Normal(_) | std::path::Component::CurDir
                ));
                prop_assert!(below);
                prop_assert_eq!(RelativePath::parse(path.as_str()), Ok(path.clone()));
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelativePath>(&json).unwrap(), path);
            }
        }
    }
}
