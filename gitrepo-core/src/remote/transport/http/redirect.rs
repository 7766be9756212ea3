//! Where a redirect leads. One to the same host is followed, if it is for the whole repository; any other is explained to
//! the author of the URL.
//!
//! A `Location` is shown only as a URL fit for a repository, or as a host name. Its query, user and password may be
//! secrets, and are not shown.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::remote::transport::authority;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

/// Longest `Location` that is examined, in bytes.
pub(super) const LONGEST: usize = 2048;

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Redirection {
    /// A repository on the same host.
    Repository {
        /// The URL to write.
        write: String,
        /// Whether the server redirects git's own request, and so can be followed.
        follow: bool,
    },
    /// The same host, without encryption.
    Unencrypted,
    /// Another host.
    OtherHost {
        /// The URL of the repository there, or only of the host.
        write: String,
    },
    /// A page of the same host that is not a repository.
    Page,
    /// The requested URL itself.
    Itself,
    /// Unknown.
    Unclear,
}

impl fmt::Display for Redirection {
    /// Follows "… redirects to".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { write, .. } => write!(f, "{write}; write that as the repository's URL"),
            Self::Unencrypted => {
                f.write_str("plain http on the same host, which is not followed; does this server have https?")
            }
            Self::OtherHost { write } => write!(
                f,
                "another host, {write}, which is not followed; write that as the repository's URL if it has moved there"
            ),
            Self::Page => f.write_str(
                "a page that is no repository, such as a sign-in page; does the URL name a repository, and does that want \
                 a credential?",
            ),
            Self::Itself => f.write_str("itself; ask who runs the server for the repository's URL"),
            Self::Unclear => {
                f.write_str("an address that cannot be read; ask who runs the server for the repository's URL")
            }
        }
    }
}

impl Redirection {
    /// The same, to be explained and not followed.
    pub(super) fn not_followed(self) -> Self {
        match self {
            Self::Repository { write, .. } => Self::Repository { write, follow: false },
            other => other,
        }
    }

    /// The meaning of a response's `Location` fields for a request for `url` and `suffix`, the part of its path after
    /// the repository's.
    pub(super) fn read(url: &RepositoryUrl, suffix: &str, locations: &[&[u8]]) -> Self {
        let &[location] = locations else { return Self::Unclear };
        let visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b'\\';
        match std::str::from_utf8(location) {
            Ok(location) if location.len() <= LONGEST && location.bytes().all(|byte| visible(&byte)) => {
                Self::of(url, suffix, location)
            }
            _ => Self::Unclear,
        }
    }

    fn of(url: &RepositoryUrl, suffix: &str, location: &str) -> Self {
        let asked = format!("{}{suffix}", url.path().trim_end_matches('/'));
        let Some((origin, path)) = resolve(url, &asked, location) else { return Self::Unclear };
        // A dummy path, to check the host name.
        let Ok(there) = RepositoryUrl::parse(&format!("{origin}/x")) else { return Self::Unclear };
        let (Some(host), Some(own_host)) = (there.host(), url.host()) else { return Self::Unclear };
        let repository = path.strip_suffix(suffix).filter(|path| !path.is_empty());
        if host != own_host {
            let moved = repository.and_then(|path| RepositoryUrl::parse(&format!("{origin}{path}")).ok());
            return Self::OtherHost { write: moved.map_or(origin, |there| there.to_string()) };
        }
        let Some(repository) = repository else { return Self::Page };
        match RepositoryUrl::parse(&format!("{origin}{repository}")) {
            Ok(there) if is_same(&there, url) => Self::Itself,
            Ok(there) if there.scheme() == Scheme::Http && url.scheme() == Scheme::Https => Self::Unencrypted,
            Ok(there) => {
                let query = location.split('#').next().and_then(|location| location.split_once('?'));
                let follow =
                    query.is_some_and(|(_, query)| query.split('&').any(|part| part == super::question::SERVICE));
                Self::Repository { write: there.to_string(), follow }
            }
            Err(_) => Self::Unclear,
        }
    }
}

fn is_same(one: &RepositoryUrl, other: &RepositoryUrl) -> bool {
    let path = |url: &RepositoryUrl| url.path().trim_end_matches('/').to_owned();
    (one.scheme(), one.port(), path(one)) == (other.scheme(), other.port(), path(other))
}

/// Resolves a reference against `https://…` or `http://…` (RFC 3986, section 5.2). Returns the origin and the path,
/// without user, query and fragment.
fn resolve(url: &RepositoryUrl, asked: &str, location: &str) -> Option<(String, String)> {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match location.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (url.scheme().to_string(), location),
    };
    if !matches!(&*scheme, "https" | "http") {
        return None;
    }
    if let Some(rest) = rest.strip_prefix("//") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        return Some((format!("{scheme}://{host}"), without_dots(path)));
    }
    // Parsers disagree about `https:x`.
    if rest.len() != location.len() {
        return None;
    }
    let path = match rest {
        "" => asked.to_owned(),
        rest if rest.starts_with('/') => rest.to_owned(),
        rest => format!("{}/{rest}", asked.rsplit_once('/').map_or("", |(directory, _)| directory)),
    };
    Some((format!("{scheme}://{}", authority(url)), without_dots(&path)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Removes the segments `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFS: &str = "/info/refs";

    fn read(location: &str) -> Redirection {
        let url = RepositoryUrl::parse("https://git.example.com/group/a.git").unwrap();
        Redirection::read(&url, REFS, &[location.as_bytes()])
    }

    #[test]
    fn the_url_to_write_is_named_where_it_is_on_the_same_host() {
        for (location, write) in [
            ("/x/info/refs?service=git-upload-pack", "https://git.example.com/x"),
            ("/x/info/refs", "https://git.example.com/x"),
            ("/x/info/refs?service=git-upload-pack&token=secret#f", "https://git.example.com/x"),
            ("https://git.example.com/b.git/info/refs", "https://git.example.com/b.git"),
            ("HTTPS://user:secret@GIT.example.com/b.git/info/refs?service=x", "https://git.example.com/b.git"),
            ("https://git.example.com:8443/b.git/info/refs", "https://git.example.com:8443/b.git"),
            ("//git.example.com/b.git/info/refs", "https://git.example.com/b.git"),
            ("../../b.git/info/refs", "https://git.example.com/group/b.git"),
            ("/../../b/./info/refs", "https://git.example.com/b"),
        ] {
            let follow = location.contains("service=git-upload-pack");
            assert_eq!(read(location), Redirection::Repository { write: write.to_owned(), follow }, "{location}");
        }
    }

    #[test]
    fn what_is_no_repository_on_the_same_host_is_told_apart() {
        let other = |write: &str| Redirection::OtherHost { write: write.to_owned() };
        let long = format!("/{}/info/refs", "x".repeat(LONGEST));
        for (location, expected) in [
            ("login", Redirection::Page),
            ("/", Redirection::Page),
            ("/info/refs", Redirection::Page),
            ("https://git.example.com", Redirection::Page),
            ("", Redirection::Itself),
            ("?x", Redirection::Itself),
            ("#x", Redirection::Itself),
            ("/group/a.git/info/refs", Redirection::Itself),
            ("/group/a.git//info/refs", Redirection::Itself),
            ("http://git.example.com/group/a.git/info/refs", Redirection::Unencrypted),
            ("https://evil.example.com/b.git/info/refs?token=secret", other("https://evil.example.com/b.git")),
            ("//evil.example.com", other("https://evil.example.com")),
            ("https://git.example.com@evil.example.com/", other("https://evil.example.com")),
            ("https://[::1]/x", other("https://[::1]")),
            ("https:///x/info/refs", Redirection::Unclear),
            ("https:x/info/refs", Redirection::Unclear),
            ("https://", Redirection::Unclear),
            ("ssh://git@git.example.com/a", Redirection::Unclear),
            ("file:///etc/passwd", Redirection::Unclear),
            ("javascript:alert(1)", Redirection::Unclear),
            ("https://git.example.com:99999/x/info/refs", Redirection::Unclear),
            ("/a%zz/info/refs", Redirection::Unclear),
            ("/a b/info/refs", Redirection::Unclear),
            ("/a\\b/info/refs", Redirection::Unclear),
            ("/ä/info/refs", Redirection::Unclear),
            (&long, Redirection::Unclear),
        ] {
            assert_eq!(read(location), expected, "{location}");
        }
        let url = RepositoryUrl::parse("http://git.example.com/a").unwrap();
        for locations in [&[][..], &[b"/x/info/refs".as_slice(), b"/x/info/refs"], &[b"/\xff/info/refs".as_slice()]] {
            assert_eq!(Redirection::read(&url, REFS, locations), Redirection::Unclear);
        }
        let upgrade = Redirection::read(&url, REFS, &[b"https://git.example.com/a/info/refs"]);
        assert_eq!(upgrade, Redirection::Repository { write: "https://git.example.com/a".to_owned(), follow: false });
    }

    proptest! {
        #[test]
        fn any_location_becomes_a_short_message_without_its_query(location in any::<Vec<u8>>(), text in "[a-z:/?#@.%\\[\\]]{0,40}") {
            let url = RepositoryUrl::parse("https://git.example.com/group/a.git").unwrap();
            for location in [location.as_slice(), text.as_bytes(), format!("/x/info/refs?{text}canary").as_bytes()] {
                let shown = Redirection::read(&url, REFS, &[location]).to_string();
                prop_assert!(shown.len() < LONGEST + 200 && !shown.contains("canary"));
                prop_assert!(!shown.contains(char::is_control));
            }
        }
    }
}
