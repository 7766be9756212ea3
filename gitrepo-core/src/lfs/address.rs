//! Where the server of a repository is (git-lfs's `docs/api/server-discovery.md`), and which URLs are followed.

use std::time::SystemTime;

use crate::credentials::Secret;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

/// Longest URL of an object, and longest value of a header for it, in bytes.
pub(crate) const LONGEST: usize = 3000;

/// A server, and what it wants to be sent along.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Endpoint {
    /// Without a secret. `/objects/batch` comes after it.
    pub url: String,
    /// Headers that authorise a request. If there are none, the repository's credential does.
    pub headers: Vec<(String, Secret)>,
    /// When the headers cease to authorise, if their server says so.
    pub expires: Option<SystemTime>,
}

impl Endpoint {
    /// A server with these headers.
    pub(crate) fn new(url: String, headers: Vec<(String, Secret)>) -> Self {
        Self { url, headers, expires: None }
    }

    /// The server beside a repository over HTTP; `None` over anything else.
    pub(crate) fn beside(repository: &RepositoryUrl) -> Option<Self> {
        if !is_web(repository) {
            return None;
        }
        let url = repository.to_string();
        let url = url.trim_end_matches('/');
        let suffix = if url.ends_with(".git") { "/info/lfs" } else { ".git/info/lfs" };
        Some(Self::new(format!("{url}{suffix}"), Vec::new()))
    }

    /// The server that the `.lfsconfig` of a commit names, for a repository at this URL. That is content of the
    /// repository, gets the repository's credential, and what comes is kept for whoever may read the repository. So it may
    /// name only the server beside the repository: another path would give the objects of one repository to the readers of
    /// another. Of a repository over SSH, it is `https` at the usual port of the same host.
    ///
    /// # Errors
    ///
    /// Which rule it breaks.
    pub(crate) fn named(server: &str, repository: &RepositoryUrl) -> Result<Self, &'static str> {
        let server = server.trim_end_matches('/');
        let there =
            Origin::of(server).ok_or("it is no URL that begins with https:// or http://, without user and query")?;
        let is_own = match repository.scheme() {
            Scheme::Ssh => {
                let there = &there.0;
                there.scheme() == Scheme::Https
                    && there.host() == repository.host()
                    && there.port() == Scheme::Https.default_port()
            }
            _ => Origin(repository.clone()).is(&there),
        };
        if !is_own || server.contains('?') {
            return Err("it is not at the repository's own host and port");
        }
        let own = trimmed(repository);
        let is_beside = |path: &str| {
            let above = path.strip_suffix("/info/lfs").unwrap_or_default();
            above.strip_suffix(".git").unwrap_or(above) == own
        };
        match is_beside(trimmed_slashes(there.0.path())) {
            true => Ok(Self::new(server.to_owned(), Vec::new())),
            false => {
                Err("it is not the repository's own, which is at the repository's path with .git/info/lfs after it")
            }
        }
    }
}

/// The scheme, host and port of a URL, with its path.
#[derive(Debug, Clone)]
pub(crate) struct Origin(pub(crate) RepositoryUrl);

impl Origin {
    /// Reads an absolute URL over HTTP; `None` if programs could disagree about its host. What may be a secret, its query, is
    /// left out.
    pub(crate) fn of(url: &str) -> Option<Self> {
        if url.len() > LONGEST || !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return None;
        }
        let place = url.split(['?', '#']).next().unwrap_or_default();
        let parsed = RepositoryUrl::parse(place).ok()?;
        (is_web(&parsed) && parsed.user().is_none()).then_some(Self(parsed))
    }

    /// Whether this is the same scheme, host and port.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let parts = |Self(url): &Self| (url.scheme(), url.host().map(str::to_owned), url.port());
        parts(self) == parts(other)
    }
}

/// Returns what a message may show of a URL that nobody has checked: neither a user and a password nor a query.
pub(crate) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // A password may contain what ends a URL's path.
    let place = rest.rsplit('@').next().unwrap_or_default();
    let place = place.split(['?', '#']).next().unwrap_or_default();
    scheme.chars().chain(place.chars()).take(LONGEST_SHOWN).collect()
}

/// Characters of such a URL that a message shows.
const LONGEST_SHOWN: usize = 200;

/// The path of a repository, without what spellings of it differ in.
fn trimmed(repository: &RepositoryUrl) -> &str {
    let path = trimmed_slashes(repository.path());
    path.strip_suffix(".git").unwrap_or(path)
}

fn trimmed_slashes(path: &str) -> &str {
    path.trim_matches('/')
}

fn is_web(url: &RepositoryUrl) -> bool {
    matches!(url.scheme(), Scheme::Https | Scheme::Http)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(url: &str) -> RepositoryUrl {
        RepositoryUrl::parse(url).unwrap()
    }

    #[test]
    fn a_server_is_beside_its_repository() {
        for (url, expected) in [
            ("https://git.example.com/a", Some("https://git.example.com/a.git/info/lfs")),
            ("https://git.example.com/a.git", Some("https://git.example.com/a.git/info/lfs")),
            ("https://git.example.com/a.git/", Some("https://git.example.com/a.git/info/lfs")),
            ("http://git.example.com:8080/b/a", Some("http://git.example.com:8080/b/a.git/info/lfs")),
            ("ssh://git@git.example.com/a", None),
            ("git://git.example.com/a", None),
            ("file:///a", None),
        ] {
            let found = Endpoint::beside(&repository(url)).map(|endpoint| endpoint.url);
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn s13_content_of_the_repository_names_no_other_server() {
        let named = |url: &str, server: &str| Endpoint::named(server, &repository(url)).is_ok();
        let own = "https://git.example.com/a";
        for server in [
            "https://git.example.com/a.git/info/lfs",
            "https://GIT.example.com:443/a.git/info/lfs/",
            "https://git.example.com/a/info/lfs",
        ] {
            assert!(named(own, server), "{server}");
        }
        for server in [
            "http://git.example.com/a.git/info/lfs",
            "https://git.example.com:8443/a.git/info/lfs",
            "https://evil.example.com/a.git/info/lfs",
            "https://git.example.com@evil.example.com/a.git/info/lfs",
            "https://git.example.com/a.git/info/lfs?x",
            "https://git.example.com\\@evil.example.com/a.git/info/lfs",
            "ssh://git@git.example.com/a.git/info/lfs",
            "https://git.example.com/b.git/info/lfs",
            "https://git.example.com/a/b.git/info/lfs",
            "https://git.example.com/a/../b.git/info/lfs",
            "https://git.example.com/%61.git/info/lfs",
            "https://git.example.com/a.git",
            "https://git.example.com/lfs",
            "https://git.example.com/info/lfs",
            "file:///lfs",
            "/lfs",
            "",
        ] {
            assert!(!named(own, server), "{server}");
        }
        let ssh = "ssh://git@git.example.com:2222/a";
        assert!(named(ssh, "https://git.example.com/a.git/info/lfs"));
        for server in ["http://git.example.com", "https://git.example.com:2222", "https://example.com"] {
            assert!(!named(ssh, &format!("{server}/a.git/info/lfs")), "{server}");
        }
        assert!(!named(ssh, "https://git.example.com/b.git/info/lfs"));
        assert!(named("git@git.example.com:team/a.git", "https://git.example.com/team/a.git/info/lfs"));
    }

    #[test]
    fn s13_a_message_shows_no_password_and_no_query() {
        for (url, shown) in [
            ("https://git.example.com/a", "https://git.example.com/a"),
            ("https://user:hunter2@git.example.com/a?token=hunter2#x", "https://git.example.com/a"),
            ("https://user:hun?#/ter2@git.example.com/a", "https://git.example.com/a"),
            ("user:hunter2@git.example.com", "git.example.com"),
            ("nonsense", "nonsense"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
        assert_eq!(without_secrets(&"\u{e4}".repeat(1000)).chars().count(), LONGEST_SHOWN);
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        let origin = |url: &str| Origin::of(url);
        let own = origin("https://s3.example.com/bucket/x?X-Signature=secret#f").unwrap();
        assert_eq!(own.0.to_string(), "https://s3.example.com/bucket/x");
        assert!(own.is(&origin("https://S3.example.com:443/other").unwrap()));
        for other in ["http://s3.example.com/x", "https://s3.example.com:444/x", "https://example.com/x"] {
            assert!(!own.is(&origin(other).unwrap()), "{other}");
        }
        for bad in
            ["ftp://x/y", "https://user@x/y", "https://x/ y", "https://x/\u{e4}", "https://x/\r\nHost: y", "//x/y"]
        {
            assert!(origin(bad).is_none(), "{bad}");
        }
        assert!(origin(&format!("https://x/{}", "y".repeat(LONGEST))).is_none());
    }
}
