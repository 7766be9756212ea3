//! Patterns of repository URLs.

use std::fmt;

use crate::spec::RepositoryUrl;
use crate::spec::UrlError;
use crate::spec::serde_as_text;
use crate::spec::wildcard;

/// The URL of an origin and a pattern of paths: `https://git.example.com/team/*`, `git@git.example.com:*`.
///
/// Scheme, user, host and port are literal: a wildcard there could cover a host that somebody else controls. In the path
/// `*` is any number of characters, also slashes, and `?` is one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    text: String,
    /// A URL of the same origin.
    origin: RepositoryUrl,
    path: String,
}

/// The text is not a pattern of URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlPatternError {
    /// There is no path.
    #[error("a pattern of repositories ends with a path, such as https://git.example.com/* or git@git.example.com:*")]
    NoPath,
    /// There is a wildcard before the path.
    #[error("a pattern of repositories has wildcards only in its path")]
    Wildcard,
    /// The path may mean another one to a server.
    #[error(
        "the path of this pattern of repositories must have no part `..`, no backslash, and no doubly encoded character"
    )]
    Path,
    /// The part before the path is not that of a repository's URL.
    #[error("a pattern of repositories begins like a repository's URL: {0}")]
    Origin(#[from] UrlError),
}

impl UrlPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, UrlPatternError> {
        let (origin, path) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let slash = rest.find('/').ok_or(UrlPatternError::NoPath)? + scheme.len() + "://".len();
                (format!("{}/x", &text[..slash]), &text[slash..])
            }
            None => {
                let (host, path) = text.split_once(':').ok_or(UrlPatternError::NoPath)?;
                (format!("{host}:x"), path)
            }
        };
        if path.is_empty() {
            return Err(UrlPatternError::NoPath);
        }
        if origin.contains(['*', '?']) {
            return Err(UrlPatternError::Wildcard);
        }
        Ok(Self { text: text.to_owned(), origin: RepositoryUrl::parse(&origin)?, path: path.to_owned() })
    }

    /// Whether it covers the URL. A path that could lead out of the pattern at the server, as `/team/../other`, is not
    /// covered.
    pub fn covers(&self, url: &RepositoryUrl) -> bool {
        let origin = |url: &RepositoryUrl| {
            (url.scheme(), url.user().map(str::to_owned), url.host().map(str::to_owned), url.port())
        };
        origin(&self.origin) == origin(url)
            && !may_climb(url.path())
            && wildcard::matches(self.path.as_bytes(), url.path().as_bytes())
    }

    /// The host, in lower case; `None` for files.
    pub(super) fn host(&self) -> Option<&str> {
        self.origin.host()
    }

    /// The pattern of paths.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the number of characters that are no wildcards: of two patterns that cover a URL, the longer one is meant.
    pub fn length(&self) -> usize {
        self.path.chars().filter(|character| !matches!(character, '*' | '?')).count()
    }
}

/// Whether a server may read the path as one with `.` or `..` in it.
fn may_climb(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let hides_one = ["%2e", "%2f", "%5c", "\\"].iter().any(|sign| path.contains(sign));
    hides_one || path.split('/').any(|part| matches!(part, "." | ".."))
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(UrlPattern);

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        UrlPattern::parse(pattern).unwrap().covers(&RepositoryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_pattern_covers_paths_of_one_origin() {
        for (pattern, url) in [
            ("git@git.example.com:*", "git@git.example.com:team/a.git"),
            ("git@git.example.com:*", "ssh://git@git.example.com/team/a.git"),
            ("git@git.example.com:team/*", "git@git.example.com:team/a/b"),
            ("https://git.example.com/*", "https://GIT.example.com:443/a"),
            ("https://git.example.com/team/?.git", "https://git.example.com/team/a.git"),
            ("https://git.example.com/a.git", "https://git.example.com/a.git"),
            ("https://git.example.com:8443/*", "https://git.example.com:8443/a"),
        ] {
            assert!(covers(pattern, url), "{pattern} {url}");
        }
        for (pattern, url) in [
            ("git@git.example.com:*", "root@git.example.com:a"),
            ("git@git.example.com:*", "git.example.com:a"),
            ("git@git.example.com:*", "git@git.example.com.evil.example:a"),
            ("git@git.example.com:team/*", "git@git.example.com:teams/a"),
            ("git@git.example.com:*", "https://git.example.com/a"),
            ("https://git.example.com/*", "http://git.example.com/a"),
            ("https://git.example.com/*", "https://git.example.com:8443/a"),
            ("https://git.example.com/*", "https://user@git.example.com/a"),
            ("https://git.example.com/a", "https://git.example.com/a.git"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn a_path_that_may_climb_is_not_covered() {
        for path in ["team/../other", "team/./a", "team/%2e%2e/other", "team/..%2Fother", "team/..%5Cother"] {
            let url = format!("https://git.example.com/{path}");
            // Some of them are no repository's URL.
            if let Ok(url) = RepositoryUrl::parse(&url) {
                assert!(!UrlPattern::parse("https://git.example.com/team/*").unwrap().covers(&url), "{url}");
            }
        }
        assert!(may_climb("/team/../other") && may_climb("/a%2E%2E/b") && !may_climb("/a..b/.c"));
    }

    #[test]
    fn the_longer_of_two_patterns_is_the_closer_one() {
        let length = |pattern| UrlPattern::parse(pattern).unwrap().length();
        assert!(length("git@h:team/*") > length("git@h:*") && length("git@h:a") > length("git@h:*"));
    }

    #[test]
    fn wildcards_before_the_path_are_refused() {
        for pattern in [
            "*",
            "https://*",
            "https://*.example.com/*",
            "https://h*/a",
            "git@*:a",
            "*@h:a",
            "https://h",
            "h:",
            "*://h/a",
        ] {
            assert!(UrlPattern::parse(pattern).is_err(), "{pattern}");
        }
        assert_eq!(UrlPattern::parse("git@h:*").unwrap().to_string(), "git@h:*");
    }
}
