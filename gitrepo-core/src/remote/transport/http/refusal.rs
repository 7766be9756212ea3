//! What an answer without content means, and whether to ask again.

use std::io;
use std::time::Duration;
use std::time::SystemTime;

use crate::cancel::Cancel;
use crate::error::Cause;
use crate::remote::RemoteError;
use crate::remote::Unsupported;

use super::super::Patience;
use super::CertificateProblem;

/// Bytes examined of a body that is not git's.
pub(super) const EXAMINED: usize = 1024;

/// Longest text quoted from a body, in characters.
const QUOTED: usize = 200;

/// Most times that a server is asked again.
const MOST_RETRIES: usize = 10;

/// Shortest pause before a server is asked again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Pauses that a server asks for.
pub(super) struct Retries<'a> {
    cancel: &'a Cancel,
    /// The longest silence. The parent of a worker takes a longer pause for one, and ends the worker.
    stall: Duration,
    count: usize,
}

impl<'a> Retries<'a> {
    pub(super) fn new(cancel: &'a Cancel, stall: Duration) -> Self {
        Self { cancel, stall, count: 0 }
    }

    /// How long to wait before asking again; `None` not to, as when the pause is longer than the time allowed. Only a
    /// server that names a pause, in seconds or by its end, is asked again (RFC 9110, section 10.2.3).
    pub(super) fn pause_before(&mut self, status: u16, retry_after: Option<String>) -> Option<Duration> {
        self.count += 1;
        if !matches!(status, 429 | 503) || self.count > MOST_RETRIES {
            return None;
        }
        let pause = pause(retry_after?.trim())?.max(SHORTEST_PAUSE);
        let left = self.cancel.remaining().map_or(self.stall, |left| left.min(self.stall));
        (pause < left).then_some(pause)
    }
}

/// From the value of `Retry-After`. A time that has passed is no pause.
fn pause(retry_after: &str) -> Option<Duration> {
    match retry_after.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let until = httpdate::parse_http_date(retry_after).ok()?;
            Some(until.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// The meaning of a status other than 200 and 401.
pub(super) fn of(url: String, status: u16, kind: &str, body: &str) -> RemoteError {
    let words = quoted(kind, body).map(|words| format!(": {words}")).unwrap_or_default();
    let cause = Cause::new(format_args!("unexpected http status code: {status}{words}"));
    match status {
        403 => RemoteError::Forbidden { url, source: Some(cause) },
        404 | 410 => RemoteError::RepositoryNotFound { url, source: Some(cause) },
        407 => RemoteError::Unreachable { url, source: Cause::new("the proxy wants a credential") },
        408 | 429 => RemoteError::Busy { url, source: cause },
        500..=599 => RemoteError::Unreachable { url, source: cause },
        _ => RemoteError::Protocol { url, source: cause },
    }
}

/// An answer that is not a list of refs.
pub(super) fn not_git(url: String, media_type: &str, body: &str) -> RemoteError {
    if is_dumb(body) {
        return RemoteError::Unsupported { url, what: Unsupported::DumbHttp };
    }
    let is_page = media_type == "text/html" || media_type == "application/xhtml+xml";
    if is_page {
        return RemoteError::WebPage { url, title: title(body) };
    }
    let words = quoted(media_type, body).map(|words| format!(": {words}")).unwrap_or_default();
    let what = format!("its answer is of the type {:?}{words}", media_type.chars().take(100).collect::<String>());
    RemoteError::Protocol { url, source: Cause::new(what) }
}

/// Whether this is the file `info/refs` of a repository that is served as plain files.
fn is_dumb(body: &str) -> bool {
    let first = body.lines().next().unwrap_or_default();
    first.split_once('\t').is_some_and(|(id, name)| {
        matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && name.starts_with("refs/")
    })
}

/// The title of a web page.
fn title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let words = body.get(start..end)?.split(|character: char| character.is_whitespace() || character.is_control());
    let title = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| title.chars().take(QUOTED).collect())
}

/// The first line of a text, in the server's own words.
fn quoted(kind: &str, body: &str) -> Option<String> {
    if !kind.to_ascii_lowercase().starts_with("text/plain") {
        return None;
    }
    let line = body.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(QUOTED).collect())
}

/// The meaning of a failure of curl, with the system's error if there was one.
pub(super) fn failure(
    url: String,
    error: &curl::Error,
    system: Option<&io::Error>,
    patience: &Patience<'_>,
) -> RemoteError {
    let message = error.extra_description().unwrap_or(error.description());
    let source = Cause::new(message);
    if error.is_peer_failed_verification() || error.is_ssl_cacert() {
        RemoteError::Certificate { url, problem: CertificateProblem::of(message), source }
    } else if error.is_couldnt_connect()
        && let Some(system) = system
    {
        match system.kind() {
            io::ErrorKind::PermissionDenied => RemoteError::NotPermitted { url, source: Cause::new(system) },
            _ => RemoteError::Unreachable { url, source: Cause::new(format_args!("{message}: {system}")) },
        }
    } else if error.is_operation_timedout() {
        let seconds = patience.request.errand.limits.stall.as_secs();
        RemoteError::Stalled { url, seconds, phase: "connecting".to_owned() }
    } else if error.is_got_nothing()
        || error.is_partial_file()
        || error.is_bad_content_encoding()
        || error.is_write_error()
        || error.is_chunk_failed()
    {
        RemoteError::Protocol { url, source }
    } else {
        RemoteError::Unreachable { url, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> String {
        "https://git.example.com/a".to_owned()
    }

    #[test]
    fn what_is_not_git_is_named() {
        let refs = format!("{}\trefs/heads/main\n", "a".repeat(40));
        assert!(matches!(
            not_git(url(), "text/plain", &refs),
            RemoteError::Unsupported { what: Unsupported::DumbHttp, .. }
        ));
        match not_git(url(), "text/html", "<html><TITLE lang=en>\n Sign  in\u{7}</title>") {
            RemoteError::WebPage { title, .. } => assert_eq!(title.as_deref(), Some("Sign in")),
            other => panic!("{other}"),
        }
        assert!(matches!(not_git(url(), "text/html", "<title>"), RemoteError::WebPage { title: None, .. }));
        let error = not_git(url(), "application/json", "{}");
        assert!(
            matches!(&error, RemoteError::Protocol { source, .. } if source.to_string().contains("application/json"))
        );
    }

    #[test]
    fn the_servers_own_words_are_quoted_if_they_are_text() {
        let said = |kind, body| match of(url(), 503, kind, body) {
            RemoteError::Unreachable { source, .. } => source.to_string(),
            other => panic!("{other}"),
        };
        assert!(said("text/plain; charset=utf-8", "\n slow down\nmore").ends_with("503: slow down"));
        assert!(said("text/html", "<h1>deploying</h1>").ends_with("503"));
    }

    #[test]
    fn a_server_is_asked_again_as_it_asks_for_and_as_time_allows() {
        let (cancel, stall) = (Cancel::new(), Duration::from_secs(60));
        let pause = |status, after: &str| Retries::new(&cancel, stall).pause_before(status, Some(after.to_owned()));
        assert_eq!(pause(429, "1"), Some(Duration::from_secs(1)));
        assert_eq!(pause(503, " 30 "), Some(Duration::from_secs(30)));
        assert_eq!(pause(503, "Fri, 31 Dec 1999 23:59:59 GMT"), Some(SHORTEST_PAUSE));
        for (status, after) in [(429, "61"), (429, "Fri, 31 Dec 2999 23:59:59 GMT"), (429, "-1"), (500, "1"), (503, "")]
        {
            assert_eq!(pause(status, after), None, "{status} {after}");
        }
        let late = cancel.within(Duration::from_secs(30));
        assert_eq!(Retries::new(&late, stall).pause_before(429, Some("31".to_owned())), None);
        let mut retries = Retries::new(&cancel, stall);
        assert_eq!(
            (0..100).filter(|_| retries.pause_before(429, Some("0".to_owned())).is_some()).count(),
            MOST_RETRIES
        );
    }
}
