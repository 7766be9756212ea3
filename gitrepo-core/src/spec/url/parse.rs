//! Parses a URL.

use super::RepositoryUrl;
use super::Scheme;
use super::UrlError;
use super::percent;
use crate::spec::Host;
use crate::spec::choice::Choice;
use crate::spec::decimal;

/// The large public forges. They have SSH on no other port, but users whose names are numbers.
const FORGES: [&str; 3] = ["github.com", "gitlab.com", "bitbucket.org"];

/// Why a percent encoding is refused.
const BROKEN_ENCODING: &str = "its percent encoding is broken, or not of UTF-8";

pub(super) fn parse(text: &str) -> Result<RepositoryUrl, UrlError> {
    check_text(text)?;
    let url = read(text)?;
    // Encoding makes some spellings longer, and the canonical one must be accepted as well.
    if url.to_string().len() > RepositoryUrl::MAX_LENGTH { Err(UrlError::TooLong) } else { Ok(url) }
}

fn read(text: &str) -> Result<RepositoryUrl, UrlError> {
    if let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        let scheme = scheme.to_ascii_lowercase();
        let Some(scheme) = Scheme::from_word(&scheme) else {
            return Err(UrlError::UnknownScheme { scheme });
        };
        return match scheme {
            Scheme::File => file(rest),
            _ => url(scheme, rest),
        };
    }
    scp_like(text)
}

/// Checks that apply to the whole text, whatever it means.
fn check_text(text: &str) -> Result<(), UrlError> {
    if text.is_empty() {
        return Err(UrlError::Empty);
    }
    if text.len() > RepositoryUrl::MAX_LENGTH {
        return Err(UrlError::TooLong);
    }
    if text.starts_with('-') {
        return Err(UrlError::Option { part: "URL" });
    }
    let is_refused = |character: &char| is_hidden(*character) || character.is_control();
    for (edge, character) in [("begins", text.chars().next()), ("ends", text.chars().next_back())] {
        if let Some(character) = character.filter(is_refused) {
            return Err(UrlError::Edge { edge, character });
        }
    }
    for (offset, character) in text.char_indices() {
        if is_refused(&character) {
            return Err(UrlError::Character { character, offset });
        }
    }
    let helper = text.split("::").next().filter(|name| name.len() < text.len());
    if helper.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))) {
        return Err(UrlError::RemoteHelper);
    }
    Ok(())
}

/// Whitespace, and characters that are invisible or change the writing direction: they could make a log show a
/// different URL from the one used.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_whitespace()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Git allows a scheme to begin with a digit, RFC 3986 does not.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `scheme://[user@]host[:port]/path`.
fn url(scheme: Scheme, rest: &str) -> Result<RepositoryUrl, UrlError> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // Other parsers end the authority at one of these: `https://seen.example#@used.example/`.
    check_query(authority)?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let user = user.map(|user| url_user(scheme, user)).transpose()?;
    let (host, port) = split_port(host)?;
    let host = Host::parse(host)?;
    if path.is_empty() || path == "/" {
        return Err(UrlError::NoPath);
    }
    let path = match scheme {
        Scheme::Https | Scheme::Http => http_path(path)?,
        Scheme::Ssh | Scheme::Git => home_path(decoded_path(path)?),
        Scheme::File => decoded_path(path)?,
    };
    let port = port.filter(|port| Some(*port) != scheme.default_port());
    Ok(RepositoryUrl { scheme, user, host: Some(host), port, path })
}

/// `file:///path`, and the equivalent `file://localhost/path`.
fn file(rest: &str) -> Result<RepositoryUrl, UrlError> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(UrlError::FileHost);
    }
    if path == "/" {
        return Err(UrlError::NoPath);
    }
    let path = decoded_path(path)?;
    if path.starts_with("//") {
        return Err(UrlError::Path { reason: "it begins with two slashes" });
    }
    Ok(RepositoryUrl { scheme: Scheme::File, user: None, host: None, port: None, path })
}

/// `[user@]host:path`. As in git, a slash before the first colon makes it a local path.
fn scp_like(text: &str) -> Result<RepositoryUrl, UrlError> {
    let (user, rest) = match text.find(['@', ':', '/', '[']) {
        Some(at) if text[at..].starts_with('@') => (Some(&text[..at]), &text[at + 1..]),
        _ => (None, text),
    };
    let colon = match rest.starts_with('[') {
        true => rest.find("]:").map(|bracket| bracket + 1),
        false => rest.find(':'),
    };
    let colon = colon.filter(|colon| !rest[..*colon].contains('/')).ok_or(UrlError::LocalPath)?;
    let (host, path) = (&rest[..colon], &rest[colon + 1..]);
    if holds_password(user, path) {
        return Err(UrlError::Password);
    }
    if user.is_none() {
        refuse_what_looks_like_something_else(host, path)?;
    }
    let user = user.map(|user| check_user(user.to_owned())).transpose()?;
    let host = Host::parse(host)?;
    if path.is_empty() || path == "/" {
        return Err(UrlError::NoPath);
    }
    if path.starts_with(':') {
        return Err(UrlError::Path { reason: "it begins with a colon" });
    }
    check_query(path)?;
    check_path(path)?;
    let url =
        RepositoryUrl { scheme: Scheme::Ssh, user, host: Some(host), port: None, path: home_path(path.to_owned()) };
    refuse_port_in_path(&url)?;
    Ok(url)
}

/// `host:7999/path` is a common slip for `ssh://host:7999/path`.
fn refuse_port_in_path(url: &RepositoryUrl) -> Result<(), UrlError> {
    let Some((number, rest)) = url.path.split_once('/').filter(|(_, rest)| !rest.is_empty()) else { return Ok(()) };
    let port = decimal(number).filter(|port: &u16| *port != 0 && !number.starts_with('0'));
    if port.is_none() || url.host().is_some_and(|host| FORGES.contains(&host)) {
        return Ok(());
    }
    let with_port = RepositoryUrl { port, path: format!("/{rest}"), ..url.clone() };
    let with_path = RepositoryUrl { path: format!("/{}", url.path), ..url.clone() };
    Err(UrlError::PortInPath { with_port: with_port.to_string(), with_path: with_path.to_string() })
}

/// `c:/x` is a Windows path and `https:/x` a typo.
fn refuse_what_looks_like_something_else(host: &str, path: &str) -> Result<(), UrlError> {
    if host.len() == 1 {
        return Err(UrlError::Drive);
    }
    match Scheme::from_word(&host.to_ascii_lowercase()) {
        // Some hosts do have such names.
        Some(Scheme::Ssh | Scheme::Git) if !path.starts_with('/') => Ok(()),
        Some(scheme) => Err(UrlError::MissingSlashes { scheme }),
        None => Ok(()),
    }
}

/// `user:password@host:path`, which git would read as a path on the host `user`.
fn holds_password(user: Option<&str>, path: &str) -> bool {
    path.split_once('@').is_some_and(|(before, after)| after.contains(':') || user.is_none() && !before.contains('/'))
}

/// The user of a URL. A colon, even with nothing after it, begins a password.
fn url_user(scheme: Scheme, user: &str) -> Result<String, UrlError> {
    if user.contains(':') {
        return Err(UrlError::Password);
    }
    if scheme == Scheme::Git {
        return Err(UrlError::User { reason: "the git protocol has none" });
    }
    if user.contains('@') {
        return Err(UrlError::User { reason: "it has an @; write %40" });
    }
    let user = check_user(percent::decode(user).ok_or(UrlError::User { reason: BROKEN_ENCODING })?)?;
    if matches!(scheme, Scheme::Https | Scheme::Http) && looks_like_token(&user) {
        return Err(UrlError::Token);
    }
    Ok(user)
}

/// Forges accept a token in place of the user. Recognised by the prefixes of the large forges, or by its length: user
/// names seldom have 32 letters and digits in a row.
fn looks_like_token(user: &str) -> bool {
    const PREFIXES: [&str; 8] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-"];
    PREFIXES.iter().any(|prefix| user.starts_with(prefix))
        || user.len() >= 32 && user.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn check_user(user: String) -> Result<String, UrlError> {
    if user.is_empty() {
        return Err(UrlError::User { reason: "it is empty" });
    }
    if user.starts_with('-') {
        return Err(UrlError::Option { part: "user" });
    }
    if user.contains(':') {
        return Err(UrlError::Password);
    }
    if user.contains(|character: char| character.is_control() || is_hidden(character) || character == '\\') {
        return Err(UrlError::User { reason: "it has a control character, a space or a backslash" });
    }
    Ok(user)
}

/// Splits the host from `:port`; the colons of an IPv6 address are in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), UrlError> {
    let end_of_host = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = text[end_of_host..].find(':').map(|colon| colon + end_of_host) else {
        return Ok((text, None));
    };
    let port = decimal(&text[colon + 1..]).filter(|port| *port != 0).ok_or(UrlError::Port)?;
    Ok((&text[..colon], Some(port)))
}

/// A path that is sent as written. Its decoded form is checked as well.
fn http_path(path: &str) -> Result<String, UrlError> {
    check_query(path)?;
    let decoded = percent::decode(path);
    check_path(decoded.as_deref().ok_or(UrlError::Path { reason: BROKEN_ENCODING })?)?;
    Ok(path.to_owned())
}

/// A path that git decodes before sending it.
fn decoded_path(path: &str) -> Result<String, UrlError> {
    check_query(path)?;
    let decoded = percent::decode(path).ok_or(UrlError::Path { reason: BROKEN_ENCODING })?;
    // The decoded path becomes a C string, which would end there.
    check_query(&decoded)?;
    check_path(&decoded)?;
    Ok(decoded)
}

/// Git removes the leading slash of `/~user/…` before it sends the path to an SSH or git server.
fn home_path(path: String) -> String {
    let home = path.strip_prefix('/').filter(|rest| rest.starts_with('~'));
    home.map(str::to_owned).unwrap_or(path)
}

fn check_query(path: &str) -> Result<(), UrlError> {
    match path.chars().find(|character| matches!(character, '?' | '#')) {
        Some(character) => Err(UrlError::QueryOrFragment { character }),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), UrlError> {
    if path.starts_with('-') {
        return Err(UrlError::Option { part: "path" });
    }
    if path.contains('\\') {
        return Err(UrlError::Backslash);
    }
    if path.contains(char::is_control) {
        return Err(UrlError::Path { reason: "it has a control character" });
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(UrlError::Path { reason: "it has . or .. as a part; write the path that is meant" });
    }
    Ok(())
}
