//! URLs of submodules, which may be relative to that of their superproject.
//!
//! git resolves them as text (`relative_url` in its remote.c): each `../` takes the last part off the superproject's URL.
//! It does not stop at the host, so that `../../x` may name another one. Here it is an error to leave the host.

use super::RepositoryUrl;
use super::Scheme;
use super::UrlError;
use super::parse;

impl RepositoryUrl {
    /// Reads the URL of a submodule of this repository, as `.gitmodules` has it. One that begins with `./` or `../` is
    /// relative to this one.
    ///
    /// # Errors
    ///
    /// As [`RepositoryUrl::parse`]. [`UrlError::LeavesHost`] for more `../` than this URL's path has parts, and
    /// [`UrlError::FileSubmodule`] for a `file` URL in a repository that is not one itself: a server must not choose which
    /// of this machine's repositories are read.
    pub fn submodule(&self, text: &str) -> Result<Self, UrlError> {
        let url = match text.starts_with("./") || text.starts_with("../") {
            true => parse::parse(&self.relative(text)?)?,
            false => parse::parse(text)?,
        };
        match (self.scheme, url.scheme) {
            (Scheme::File, _) => Ok(url),
            (_, Scheme::File) => Err(UrlError::FileSubmodule),
            _ => Ok(url),
        }
    }

    fn relative(&self, text: &str) -> Result<String, UrlError> {
        let whole = self.to_string();
        // What no `../` may take off: `https://host:port`, or `user@host:`.
        let kept = match self.scheme == Scheme::Ssh && self.is_relative() {
            true => whole.len() - self.path.len(),
            false => self.origin().len(),
        };
        let (kept, path) = whole.split_at(kept);
        let mut path = path.strip_suffix('/').unwrap_or(path);
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("../") {
                if path.is_empty() {
                    return Err(UrlError::LeavesHost);
                }
                path = path.rfind('/').map_or("", |slash| &path[..slash]);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else {
                break;
            }
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let separator = if path.is_empty() && kept.ends_with(':') { "" } else { "/" };
        Ok(format!("{kept}{path}{separator}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(superproject: &str, text: &str) -> Result<String, UrlError> {
        RepositoryUrl::parse(superproject).unwrap().submodule(text).map(|url| url.to_string())
    }

    /// What git 2.47 writes into `.git/config` for these (t/t0060-path-utils.sh has more).
    #[test]
    fn relative_urls_are_resolved_as_git_does() {
        for (superproject, text, expected) in [
            ("https://host/group/super.git", "../sub.git", "https://host/group/sub.git"),
            ("https://host/group/super.git/", "../sub.git", "https://host/group/sub.git"),
            ("https://host/group/super.git", "../../other/sub", "https://host/other/sub"),
            ("https://host/group/super.git", "./sub", "https://host/group/super.git/sub"),
            ("https://host/group/super.git", "././../sub/", "https://host/group/sub"),
            ("https://host:8443/super", "../sub", "https://host:8443/sub"),
            ("https://me@host/a/super", "../sub", "https://me@host/a/sub"),
            ("ssh://git@host:2222/a/super.git", "../sub.git", "ssh://git@host:2222/a/sub.git"),
            ("git@host:a/super.git", "../sub.git", "git@host:a/sub.git"),
            ("git@host:super.git", "../sub.git", "git@host:sub.git"),
            ("git@host:a/super.git", "../../sub.git", "git@host:sub.git"),
            ("host:~me/super.git", "../sub.git", "ssh://host/~me/sub.git"),
            ("file:///srv/super.git", "../sub.git", "file:///srv/sub.git"),
            ("https://host/a/super", "https://other/sub", "https://other/sub"),
            ("https://host/a/super", "git@other:sub", "git@other:sub"),
        ] {
            assert_eq!(resolved(superproject, text).as_deref(), Ok(expected), "{superproject} {text}");
        }
    }

    #[test]
    fn a_submodule_cannot_leave_the_host_nor_name_a_path_of_this_machine() {
        for (superproject, text) in [
            ("https://host/super", "../../evil.example/x"),
            ("https://host/super", "../../../x"),
            ("git@host:super", "../../x"),
            ("file:///super", "../../x"),
        ] {
            assert_eq!(resolved(superproject, text), Err(UrlError::LeavesHost), "{superproject} {text}");
        }
        assert_eq!(resolved("https://host/super", "file:///etc"), Err(UrlError::FileSubmodule));
        for text in
            ["/srv/x", "x", "../a/../../x", "-uecho", "ext::sh -c x", "fd::3", "https://u:p@host/x", "a\rb", ".."]
        {
            assert!(resolved("https://host/a/super", text).is_err(), "{text:?}");
        }
        assert!(resolved("file:///srv/super", "file:///srv/sub").is_ok());
    }
}
