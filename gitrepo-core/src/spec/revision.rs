//! What to serve: a branch, a tag, a full ref, or a commit.

use std::fmt;

use crate::spec::CommitId;
use crate::spec::serde_as_text;

/// What to serve from a repository. Never a revision expression (`v1~3`, `:/text`): git's parser of those never runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Revision {
    /// The remote's default branch.
    #[default]
    Head,
    /// The short name of a branch or tag, such as `main`, `v1.0` or `feature/x`.
    Named(String),
    /// A full ref name, such as `refs/heads/main` or `refs/pull/7/head`.
    Ref(String),
    /// A full commit id.
    Commit(CommitId),
}

/// Why a text is not a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// The revision is empty.
    #[error("the revision is empty; leave it out for the remote's default branch")]
    Empty,
    /// A commit id of a SHA-256 repository.
    #[error("this is a SHA-256 commit id; SHA-256 repositories are not supported yet")]
    Sha256,
    /// Longer than a ref name can be.
    #[error("the revision is longer than {} bytes", Revision::MAX_LENGTH)]
    TooLong,
    /// Not a ref name by the rules of `git check-ref-format`.
    #[error("{text:?} is not the name of a branch, tag or ref: {reason}")]
    Malformed {
        /// As written.
        text: String,
        /// The rule it violates.
        reason: &'static str,
    },
}

impl Revision {
    /// Longest ref name accepted, in bytes.
    pub const MAX_LENGTH: usize = 1024;

    /// Reads a branch, tag, `refs/…`, full commit id, or `HEAD`.
    pub fn parse(text: &str) -> Result<Self, RevisionError> {
        let all_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.len() {
            0 => return Err(RevisionError::Empty),
            64 if all_hex => return Err(RevisionError::Sha256),
            length if length > Self::MAX_LENGTH => return Err(RevisionError::TooLong),
            _ => {}
        }
        if text == "HEAD" {
            return Ok(Self::Head);
        }
        if let Ok(commit) = CommitId::parse(text) {
            return Ok(Self::Commit(commit));
        }
        check_ref_format(text).map_err(|reason| RevisionError::Malformed { text: text.to_owned(), reason })?;
        Ok(if text.starts_with("refs/") { Self::Ref(text.to_owned()) } else { Self::Named(text.to_owned()) })
    }
}

/// Whether a name that no branch or tag has was probably meant as the beginning of a commit id: git abbreviates ids to
/// seven digits or more.
pub(crate) fn looks_abbreviated(name: &str) -> bool {
    (7..=39).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The rules of `git check-ref-format --allow-onelevel`, and no leading `-`, which git refuses for branches.
fn check_ref_format(name: &str) -> Result<(), &'static str> {
    if name.starts_with('-') {
        return Err("it begins with -");
    }
    if name == "@" {
        return Err("@ alone is git's shorthand for HEAD; write HEAD");
    }
    if name.chars().any(|character| character.is_control() || character == ' ') {
        return Err("it has a space or a control character");
    }
    if name.contains(['~', '^', ':', '?', '*', '[', '\\']) {
        return Err(r"it has one of ~ ^ : ? * [ \; revision expressions are not supported");
    }
    if name.contains("..") || name.contains("@{") {
        return Err("it has .. or @{; revision expressions are not supported");
    }
    if name.ends_with('.') {
        return Err("it ends with a dot");
    }
    for component in name.split('/') {
        if component.is_empty() {
            return Err("it begins or ends with a slash, or has two in a row");
        }
        if component.starts_with('.') {
            return Err("one of its parts begins with a dot");
        }
        if component.ends_with(".lock") {
            return Err("one of its parts ends with .lock");
        }
    }
    Ok(())
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("HEAD"),
            Self::Named(name) | Self::Ref(name) => f.write_str(name),
            Self::Commit(commit) => commit.fmt(f),
        }
    }
}

serde_as_text!(Revision);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_revision_is_a_branch_a_tag_a_ref_or_a_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let named = |name: &str| Revision::Named(name.to_owned());
        let table = [
            ("HEAD", Revision::Head),
            ("main", named("main")),
            ("v1.0-rc.1", named("v1.0-rc.1")),
            ("feature/x@y", named("feature/x@y")),
            ("heads/main", named("heads/main")),
            ("überraschung", named("überraschung")),
            ("beef", named("beef")),
            ("deadbeefs", named("deadbeefs")),
            ("refs/heads/deadbeef", Revision::Ref("refs/heads/deadbeef".to_owned())),
            ("refs/pull/7/head", Revision::Ref("refs/pull/7/head".to_owned())),
            (commit, Revision::Commit(CommitId::parse(commit).unwrap())),
        ];
        for (text, revision) in table {
            assert_eq!(Revision::parse(text).as_ref(), Ok(&revision), "{text}");
            assert_eq!(revision.to_string(), text);
        }
        assert_eq!(Revision::parse(&commit.to_uppercase()), Revision::parse(commit));
    }

    #[test]
    fn a_name_of_hexadecimal_digits_is_a_name() {
        for text in ["deadbee", "DEADBEEF", "20240101", &"a".repeat(39)] {
            assert_eq!(Revision::parse(text), Ok(Revision::Named(text.to_owned())));
            assert!(looks_abbreviated(text), "{text}");
        }
        for text in ["deadbe", "deadbeefs", "v1", &"a".repeat(40)] {
            assert!(!looks_abbreviated(text), "{text}");
        }
    }

    #[test]
    fn a_sha256_id_is_refused_clearly() {
        let error = Revision::parse(&"0".repeat(64)).unwrap_err();
        assert_eq!(error, RevisionError::Sha256);
        assert!(error.to_string().contains("not supported"));
    }

    #[test]
    fn what_git_takes_for_no_ref_name_or_for_an_expression_is_refused() {
        let words = [
            r"-main --upload-pack=x @ main~1 main^ main^{tree} a:b :/text a? a* a[b a\b a..b main@{1} @{u} a. /a",
            r"a/ a//b .a a/.b a.lock a.lock/b refs/ refs/heads/ refs/heads/a..b refs/heads/*",
        ];
        let others = ["a b", "a\tb", "a\nb", "a\0b", "a\x7fb"];
        for text in words.into_iter().flat_map(str::split_whitespace).chain(others) {
            let error = Revision::parse(text).unwrap_err();
            assert!(matches!(error, RevisionError::Malformed { .. }), "{text}: {error:?}");
        }
        assert_eq!(Revision::parse(""), Err(RevisionError::Empty));
        assert_eq!(Revision::parse(&"x".repeat(2000)), Err(RevisionError::TooLong));
    }

    proptest! {
        #[test]
        fn a_revision_reads_back_as_itself(text in "[ -~]{0,12}|(refs/)?[a-z/.@{-]{1,12}|[0-9a-fA-F]{4,64}|\\PC{0,8}") {
            if let Ok(revision) = Revision::parse(&text) {
                prop_assert_eq!(Revision::parse(&revision.to_string()), Ok(revision.clone()));
                let json = serde_json::to_string(&revision).unwrap();
                prop_assert_eq!(serde_json::from_str::<Revision>(&json).unwrap(), revision);
            }
        }
    }
}
