//! Names that some filesystem takes for `.git`.

/// The name is `.git`, or would be on a filesystem of macOS or Windows: any case, HFS+'s ignored code points, NTFS's
/// short name and its trailing dots, spaces and streams. The rules of git's `is_hfs_dotgit` and `is_ntfs_dotgit`
/// (CVE-2014-9390, CVE-2019-1352, CVE-2019-1353).
pub(crate) fn is_dot_git(name: &str) -> bool {
    let visible: String = name.chars().filter(|&character| !ignored_by_hfs(character)).collect();
    if visible.eq_ignore_ascii_case(".git") {
        return true;
    }
    let without_stream = name.split(':').next().unwrap_or(name);
    let stored = without_stream.trim_end_matches(['.', ' ']);
    stored.eq_ignore_ascii_case(".git") || stored.eq_ignore_ascii_case("git~1")
}

/// Code points that HFS+ leaves out when it compares names.
fn ignored_by_hfs(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_dot_git_is_known() {
        let spellings =
            [".git", ".GIT", ".giT", "git~1", "GIT~1", ".git.", ".git ", ".git. .", ".git::$INDEX_ALLOCATION"];
        for name in spellings.into_iter().chain([".g\u{200c}it", "\u{feff}.git", ".git\u{206f}", "git~1:x"]) {
            assert!(is_dot_git(name), "{name:?}");
        }
        for name in ["git", ".gitignore", ".github", "a.git", "git~2", "git~10", ".gi", ".git-x", ""] {
            assert!(!is_dot_git(name), "{name:?}");
        }
    }
}
