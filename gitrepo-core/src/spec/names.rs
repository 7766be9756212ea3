//! Which names a tree may contain: the rules of git's `verify_path`, with the HFS+ and NTFS aliases always on.
//!
//! git enforces them when it fills its index, so a repository made with git passes. We repeat them because a hostile
//! server sends trees that git never made, because every library that reimplements them has drifted (CVE-2026-45570,
//! CVE-2026-45571), and because a volume may be copied to a filesystem on which `.g\u{200c}it` *is* `.git`.

/// Longest name on Linux filesystems (`NAME_MAX`), in bytes.
const LONGEST: usize = 255;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The name is empty.
    #[error("an empty name")]
    Empty,
    /// `.` or `..`.
    #[error("a name that means another directory")]
    Dots,
    /// More than 255 bytes.
    #[error("a name of more than 255 bytes")]
    TooLong,
    /// The name contains a slash or NUL.
    #[error("a name with a slash or NUL in it")]
    Separator,
    /// `.git` in any case.
    #[error("git's own directory")]
    DotGit,
    /// A name that HFS+ reads as `.git` (CVE-2014-9390).
    #[error("an alias of git's own directory on HFS+")]
    HfsDotGit,
    /// A name that NTFS reads as `.git` (CVE-2014-9390, CVE-2019-1352).
    #[error("an alias of git's own directory on NTFS")]
    NtfsDotGit,
    /// `.gitmodules`, or an alias of it, as a symbolic link (CVE-2018-11235).
    #[error("a link in place of git's list of submodules")]
    LinkedGitmodules,
}

/// Checks one name of a tree; `link` is true for a symbolic link.
pub(crate) fn check(name: &[u8], link: bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name == b"." || name == b".." {
        return Err(NameError::Dots);
    }
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    if name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(NameError::Separator);
    }
    if is_plain(name) {
        return Ok(());
    }
    if name.eq_ignore_ascii_case(b".git") {
        return Err(NameError::DotGit);
    }
    if is_hfs_dot(name, b"git") {
        return Err(NameError::HfsDotGit);
    }
    if ntfs_paths(name).any(is_ntfs_dotgit) {
        return Err(NameError::NtfsDotGit);
    }
    if link && (is_hfs_dot(name, b"gitmodules") || ntfs_paths(name).any(is_ntfs_dotgitmodules)) {
        return Err(NameError::LinkedGitmodules);
    }
    Ok(())
}

/// Whether a name begins like none of the aliases below. Most do, and millions are checked.
fn is_plain(name: &[u8]) -> bool {
    let may_be_alias = |&byte: &u8| !byte.is_ascii() || matches!(byte, b'.' | b'~' | b'g' | b'G');
    !name.first().is_some_and(may_be_alias) && !name.contains(&b'\\')
}

/// Whether HFS+ reads `name` as `.` followed by `rest`: it folds case and ignores some code points.
fn is_hfs_dot(name: &[u8], rest: &[u8]) -> bool {
    // Only ASCII is folded, which is enough for the values of `rest`. Malformed UTF-8 ends the name, as in git.
    let valid = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let mut seen = valid.chars().filter(|&character| !is_ignored_by_hfs(character));
    seen.next() == Some('.')
        && rest
            .iter()
            .all(|&byte| seen.next().is_some_and(|character| character.eq_ignore_ascii_case(&char::from(byte))))
        && seen.next().is_none()
}

/// The code points that HFS+ ignores when it compares names (git's `next_hfs_char`).
fn is_ignored_by_hfs(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// `name`, and the rest after each backslash in it: NTFS reads a backslash as a separator.
fn ntfs_paths(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_start = |&at: &usize| at == 0 || name[at - 1] == b'\\';
    (0..name.len()).filter(is_start).map(|at| &name[at..])
}

/// Whether NTFS reads `name` as `.git`: by its short name, with trailing dots and spaces, or with a stream's name.
fn is_ntfs_dotgit(name: &[u8]) -> bool {
    let Some(rest) = strip_prefix_ignoring_case(name, b".git").or_else(|| strip_prefix_ignoring_case(name, b"git~1"))
    else {
        return false;
    };
    let end = rest.iter().find(|&&byte| byte != b'.' && byte != b' ');
    matches!(end, None | Some(b':' | b'\\'))
}

/// Whether NTFS reads `name` as `.gitmodules` (git's `is_ntfs_dotgitmodules`).
fn is_ntfs_dotgitmodules(name: &[u8]) -> bool {
    let rest = strip_prefix_ignoring_case(name, b".gitmodules").or_else(|| strip_gitmodules_short_name(name));
    let end = rest.map(|rest| rest.iter().find(|&&byte| byte != b'.' && byte != b' '));
    matches!(end, Some(None | Some(b':')))
}

/// The rest after a short name that NTFS may give `.gitmodules`: `GITMOD~1` to `~4`, or the hashed `GI7EBA~1`.
fn strip_gitmodules_short_name(name: &[u8]) -> Option<&[u8]> {
    let (short, rest) = name.split_at_checked(8)?;
    let tilde = short.iter().position(|&byte| byte == b'~')?;
    let (stem, number) = (&short[..tilde], &short[tilde + 1..]);
    let is_first = stem.eq_ignore_ascii_case(b"gitmod") && matches!(number, [b'1'..=b'4']);
    let is_hashed = b"gi7eba".get(..tilde).is_some_and(|prefix| stem.eq_ignore_ascii_case(prefix))
        && number.first().is_some_and(|&digit| digit != b'0')
        && number.iter().all(u8::is_ascii_digit);
    (is_first || is_hashed).then_some(rest)
}

/// The rest after `prefix`, compared ignoring ASCII case.
fn strip_prefix_ignoring_case<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;
    use std::process::Stdio;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    const REFUSED: &[(&[u8], NameError)] = &[
        (b"", NameError::Empty),
        (b".", NameError::Dots),
        (b"..", NameError::Dots),
        (&[b'x'; 256], NameError::TooLong),
        (b"a/b", NameError::Separator),
        (b"/", NameError::Separator),
        (b"a\0b", NameError::Separator),
        (b".git", NameError::DotGit),
        (b".GIT", NameError::DotGit),
        (b".gIt", NameError::DotGit),
        ("\u{feff}.git".as_bytes(), NameError::HfsDotGit),
        (".g\u{200c}it".as_bytes(), NameError::HfsDotGit),
        (".GI\u{200d}T".as_bytes(), NameError::HfsDotGit),
        (".git\u{206f}".as_bytes(), NameError::HfsDotGit),
        ("\u{200e}.\u{202a}g\u{202e}i\u{206a}t".as_bytes(), NameError::HfsDotGit),
        (b".git\xff", NameError::HfsDotGit),
        (b"git~1", NameError::NtfsDotGit),
        (b"GIT~1", NameError::NtfsDotGit),
        (b"git~1 .", NameError::NtfsDotGit),
        (b".git ", NameError::NtfsDotGit),
        (b".git.", NameError::NtfsDotGit),
        (b".git . .", NameError::NtfsDotGit),
        (b".git::$INDEX_ALLOCATION", NameError::NtfsDotGit),
        (b".git\\config", NameError::NtfsDotGit),
        (b"a\\.git", NameError::NtfsDotGit),
        (b".\\git~1:x", NameError::NtfsDotGit),
    ];

    const ALLOWED: &[&[u8]] = &[
        b"...",
        b".gitignore",
        b".gitattributes",
        b".gitmodules",
        b".git-blame",
        b"git",
        b"git~2",
        b"git~10",
        b".gi",
        b".gitt",
        b"a.git",
        b"back\\slash",
        b"new\nline",
        b"a:b",
        b" ",
        b"-rf",
        b"\xff\xfe",
        "häßlich".as_bytes(),
        ".g\u{200b}it".as_bytes(),
        &[b'x'; 255],
    ];

    const REFUSED_LINKS: &[&[u8]] = &[
        b".gitmodules",
        b".GitModules",
        b".gitmodules ",
        b".gitmodules:x",
        b"gitmod~1",
        b"GITMOD~4 .",
        b"gi7eba~1",
        b"gi7eb~12",
        b"g~123456",
        b"~1234567",
        b"a\\.gitmodules",
        ".git\u{200c}modules".as_bytes(),
    ];

    const ALLOWED_LINKS: &[&[u8]] = &[
        b".gitmodule",
        b"gitmodules",
        b"gitmod~5",
        b"gi7eba~0",
        b"gi7ebb~1",
        b"gi~1",
        b".gitmodules\\x",
        b"gitmod~1x",
    ];

    #[test]
    fn names_that_leave_the_tree_or_pass_for_git_are_refused() {
        for &(name, reason) in REFUSED {
            assert_eq!(check(name, false), Err(reason), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_that_only_look_odd_are_allowed() {
        for &name in ALLOWED {
            assert_eq!(check(name, false), Ok(()), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_link_may_not_stand_for_gitmodules() {
        for &name in REFUSED_LINKS {
            assert_eq!(check(name, true), Err(NameError::LinkedGitmodules), "{}", name.escape_ascii());
            assert_eq!(check(name, false), Ok(()), "{}", name.escape_ascii());
        }
        for &name in ALLOWED_LINKS {
            assert_eq!(check(name, true), Ok(()), "{}", name.escape_ascii());
        }
    }

    fn empty_repository() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        git2::Repository::init(directory.path()).unwrap();
        directory
    }

    /// Whether git itself accepts the name into an index, with both protections on.
    fn git_allows(repository: &tempfile::TempDir, name: &[u8], link: bool) -> bool {
        let mode = if link { "120000" } else { "100644" };
        let mut entry = format!("{mode},e69de29bb2d1d6434b8b29ae775ad8c2e48c5391,").into_bytes();
        entry.extend_from_slice(name);
        Command::new("git")
            .current_dir(repository.path())
            .args(["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true", "update-index", "--add", "--cacheinfo"])
            .arg(OsStr::from_bytes(&entry))
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Excludes names that cannot be passed to git on a command line, or that git would read as a path.
    fn comparable(name: &[u8]) -> bool {
        !name.is_empty() && name.len() <= 255 && !name.contains(&0) && !name.contains(&b'/')
    }

    #[test]
    fn git_judges_the_tables_alike() {
        let repository = empty_repository();
        let names = REFUSED.iter().map(|(name, _)| *name).chain(ALLOWED.iter().copied());
        for name in names.chain(REFUSED_LINKS.iter().copied()).chain(ALLOWED_LINKS.iter().copied()) {
            for link in [false, true] {
                if comparable(name) {
                    let ours = check(name, link).is_ok();
                    assert_eq!(ours, git_allows(&repository, name, link), "{} link={link}", name.escape_ascii());
                }
            }
        }
    }

    /// Names close to the refused ones: random combinations of their pieces.
    fn near_miss() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"."[..],
            b"g",
            b"G",
            b"i",
            b"t",
            b"git",
            b".git",
            b"modules",
            b"gitmod",
            b"gi7eba",
            b"~",
            b"1",
            b"~1",
            b"9",
            b" ",
            b":",
            b"\\",
            b"\xe2\x80\x8c",
            b"\xef\xbb\xbf",
            b"\xc3\xa4",
            b"\xff",
            b"x",
        ]);
        prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn git_judges_near_misses_alike() {
        let repository = empty_repository();
        let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
        let judged_alike = |(name, link): (Vec<u8>, bool)| {
            let (ours, theirs) = (check(&name, link).is_ok(), git_allows(&repository, &name, link));
            // git does not check after a leading backslash; we do.
            prop_assert!(ours == theirs || !ours && name.starts_with(b"\\"));
            Ok(())
        };
        TestRunner::new(config).run(&(near_miss(), any::<bool>()), judged_alike).unwrap();
    }

    proptest! {
        #[test]
        fn an_allowed_name_is_one_component_of_a_path(name in prop::collection::vec(any::<u8>(), 0..300)) {
            if check(&name, false).is_ok() {
                let path = std::path::Path::new("root").join(OsStr::from_bytes(&name));
                prop_assert_eq!(path.components().count(), 2);
                prop_assert_eq!(path.file_name(), Some(OsStr::from_bytes(&name)));
            }
        }
    }
}
