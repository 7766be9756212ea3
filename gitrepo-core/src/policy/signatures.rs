//! Which repositories need signed commits, and by whose keys.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::Policy;
use super::PolicyError;
use super::UrlPattern;
use super::UrlPatternError;
use crate::error::Cause;
use crate::signature;
use crate::signature::On;
use crate::signature::Requirement;
use crate::signature::TrustFile;
use crate::spec::RepositoryUrl;
use crate::spec::serde_as_text;
use crate::spec::url::percent;
use crate::spec::wildcard;

/// Most bytes of a file of keys: some thousand keys.
const FILE_LIMIT: u64 = 512 * 1024;

/// A rule of the configuration: the commits of these repositories must be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureRule {
    /// The repositories that it is for.
    #[serde(rename = "match")]
    pub matches: RepositoryPattern,
    /// Which object must be signed.
    #[serde(default)]
    pub on: On,
    /// A file of trusted SSH keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_signers: Option<PathBuf>,
    /// A file of trusted OpenPGP keys, armored or binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openpgp_keys: Option<PathBuf>,
}

impl SignatureRule {
    /// The files of keys.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.allowed_signers.iter().chain(&self.openpgp_keys)
    }

    fn requirement(&self) -> Result<Requirement, PolicyError> {
        let allowed_signers = self.allowed_signers.as_deref().map(|path| read(path, ssh_keys)).transpose()?;
        let openpgp_keys = self.openpgp_keys.as_deref().map(|path| read(path, openpgp_keys)).transpose()?;
        Ok(Requirement { on: self.on, allowed_signers, openpgp_keys })
    }
}

/// Repositories of a host by their paths, or `*` for all repositories.
///
/// It is written as a [`UrlPattern`], but who writes a volume must not get around it by another spelling. So scheme, user
/// and port do not matter, nor do case, an ending `.git`, or repeated slashes. A path that a server may read as another
/// one, as with `..`, is covered by every pattern of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPattern {
    text: String,
    /// `None` for all hosts.
    of_host: Option<OfHost>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OfHost {
    /// `None` for files.
    host: Option<String>,
    path: String,
}

impl RepositoryPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, UrlPatternError> {
        if text == "*" {
            return Ok(Self { text: text.to_owned(), of_host: None });
        }
        let pattern = UrlPattern::parse(text)?;
        let path = plain_path(pattern.path()).ok_or(UrlPatternError::Path)?;
        let host = pattern.host().map(plain_host);
        Ok(Self { text: text.to_owned(), of_host: Some(OfHost { host, path }) })
    }

    /// Whether it covers the URL.
    pub fn covers(&self, url: &RepositoryUrl) -> bool {
        let Some(OfHost { host, path }) = &self.of_host else { return true };
        *host == url.host().map(plain_host)
            && plain_path(url.path()).is_none_or(|found| wildcard::matches(path.as_bytes(), found.as_bytes()))
    }

    /// The number of characters that are no wildcards: of two patterns that cover a URL, the longer one is meant.
    fn length(&self) -> usize {
        let path = self.of_host.as_ref().map(|of_host| of_host.path.as_str());
        // Any pattern of a host is closer than the one of all.
        path.map_or(0, |path| 1 + path.chars().filter(|character| !matches!(character, '*' | '?')).count())
    }
}

fn plain_host(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}

/// The one spelling of a path; `None` if a server may take it for another one.
fn plain_path(path: &str) -> Option<String> {
    let path = percent::decode(path)?.to_lowercase();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if path.contains(['%', '\\', '\0']) || parts.iter().any(|part| matches!(*part, "." | "..")) {
        return None;
    }
    let mut plain = parts.join("/");
    while let Some(shorter) = plain.strip_suffix(".git").or_else(|| plain.strip_suffix('/')) {
        plain.truncate(shorter.len());
    }
    Some(plain)
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(RepositoryPattern);

impl Policy {
    /// Returns the rule for the signatures of a repository: the one with the longest matching path, the first of two as
    /// long.
    pub fn signature_rule(&self, url: &RepositoryUrl) -> Option<&SignatureRule> {
        let covering = self.config.signatures.iter().rev().filter(|rule| rule.matches.covers(url));
        covering.max_by_key(|rule| rule.matches.length())
    }

    /// Returns what the commits of a repository need. The files of keys are read anew each time.
    ///
    /// # Errors
    ///
    /// [`PolicyError::SignatureKeys`]: then nothing of the repository may be shown.
    pub fn required_signature(&self, url: &RepositoryUrl) -> Result<Option<Requirement>, PolicyError> {
        self.signature_rule(url).map(SignatureRule::requirement).transpose()
    }

    /// Returns why rules for signatures cannot be used, which refuse everything until their files of keys are corrected.
    pub fn unusable_signature_rules(&self) -> impl Iterator<Item = (&RepositoryPattern, PolicyError)> {
        let rules = self.config.signatures.iter();
        rules.filter_map(|rule| rule.requirement().err().map(|error| (&rule.matches, error)))
    }
}

/// Reads a file of keys that not everybody can write.
fn read(path: &Path, text: impl FnOnce(Vec<u8>) -> io::Result<String>) -> Result<TrustFile, PolicyError> {
    let text = read_file(path)
        .and_then(text)
        .map_err(|error| PolicyError::SignatureKeys { path: path.to_owned(), source: Cause::new(error) })?;
    Ok(TrustFile { path: path.display().to_string(), text })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would block until somebody writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.mode() & 0o002 != 0 {
        return Err(io::Error::other("everybody can write to it; remove that permission"));
    }
    let mut content = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("it has more than {FILE_LIMIT} bytes")));
    }
    Ok(content)
}

/// The text of a file of SSH keys.
fn ssh_keys(content: Vec<u8>) -> io::Result<String> {
    let text = String::from_utf8(content).map_err(|_| io::Error::other("it is not a text"))?;
    if text.contains("PRIVATE KEY") {
        return Err(io::Error::other("it has a private key in it; only public keys belong there"));
    }
    if text.contains(|character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t')) {
        return Err(io::Error::other("it is not a text"));
    }
    Ok(text)
}

fn openpgp_keys(content: Vec<u8>) -> io::Result<String> {
    signature::read_openpgp_keys(&content).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::Kind;
    use crate::error::chain;
    use crate::policy::Config;

    fn covers(pattern: &str, url: &str) -> bool {
        RepositoryPattern::parse(pattern).unwrap().covers(&RepositoryUrl::parse(url).unwrap())
    }

    #[test]
    fn s20_no_spelling_of_a_repository_gets_around_a_pattern() {
        for (pattern, url) in [
            ("https://git.example.com/team/*", "https://git.example.com/team/a"),
            ("https://git.example.com/team/*", "http://GIT.example.com:8080/team/a.git"),
            ("https://git.example.com/team/*", "https://user@git.example.com//team///a/"),
            ("https://git.example.com/team/*", "https://git.example.com/Team/A"),
            ("https://git.example.com/team/*", "https://git.example.com/%74eam/a"),
            ("https://git.example.com/team/*", "https://git.example.com/%2574eam/a"),
            ("https://git.example.com/team/*", "git@git.example.com:team/a.git"),
            ("https://git.example.com/team/*", "git@git.example.com:/team/a.git"),
            ("https://git.example.com/team/*", "ssh://root@git.example.com:2222/team/a"),
            ("https://git.example.com/team/*", "git://git.example.com/team/a"),
            ("git@git.example.com:team/*", "https://git.example.com/team/a"),
            ("https://git.example.com/a.git", "https://git.example.com/a"),
            ("https://git.example.com/a", "https://git.example.com/a.git/"),
            ("file:///srv/*", "file:///srv/a"),
            ("*", "https://anywhere.example.com/a"),
            ("*", "file:///srv/a"),
        ] {
            assert!(covers(pattern, url), "{pattern} {url}");
        }
        // A server may read them as any path.
        for path in ["/x/../team/a", "/x/..%2Fteam/a", "/./team/a", "/x\\team", "/%252e%252e/team", "/%zz"] {
            assert_eq!(plain_path(path), None, "{path}");
        }
        for (pattern, url) in [
            ("https://git.example.com/team/*", "https://git.example.com/teams/a"),
            ("https://git.example.com/team/*", "https://git.example.com.evil.example/team/a"),
            ("https://git.example.com/team/a", "https://git.example.com/team/b"),
            ("file:///srv/*", "https://git.example.com/srv/a"),
            ("https://git.example.com/*", "file:///srv/a"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn a_pattern_that_means_no_path_is_refused() {
        for pattern in ["https://h/../*", "https://h/a\\*", "https://h/%2541", "https://*/a", "h", ""] {
            assert!(RepositoryPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_closest_rule_is_meant() {
        let rule = |pattern: &str, on| SignatureRule {
            matches: RepositoryPattern::parse(pattern).unwrap(),
            on,
            allowed_signers: None,
            openpgp_keys: None,
        };
        let signatures = vec![
            rule("*", On::Tag),
            rule("https://h/*", On::Either),
            rule("https://h/team/*", On::Commit),
            rule("https://h/team/*", On::Tag),
        ];
        let policy = Policy::new(Config { signatures, ..Config::for_person() });
        let on = |url: &str| policy.signature_rule(&RepositoryUrl::parse(url).unwrap()).map(|rule| rule.on);
        assert_eq!(on("https://h/team/a"), Some(On::Commit));
        assert_eq!(on("https://h/a"), Some(On::Either));
        assert_eq!(on("https://other/a"), Some(On::Tag));
    }

    #[test]
    fn s20_keys_that_cannot_be_read_or_that_everybody_can_write_refuse_everything() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("allowed_signers");
        let signatures = vec![SignatureRule {
            matches: RepositoryPattern::parse("https://h/*").unwrap(),
            on: On::Either,
            allowed_signers: Some(path.clone()),
            openpgp_keys: None,
        }];
        let policy = Policy::new(Config { signatures, ..Config::for_person() });
        let required = |url: &str| policy.required_signature(&RepositoryUrl::parse(url).unwrap());
        let refused = |words: &str| {
            let error = required("https://h/a").unwrap_err();
            assert_eq!(error.kind(), Kind::FailedPrecondition);
            let text = chain(&error);
            assert!(text.contains(words) && text.contains("allowed_signers"), "{text}");
        };
        assert_eq!(required("https://other/a").unwrap(), None);
        refused("No such file");
        std::fs::write(&path, "a@b ssh-ed25519 AAAA\n").unwrap();
        assert_eq!(required("https://h/a").unwrap().unwrap().allowed_signers.unwrap().text, "a@b ssh-ed25519 AAAA\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        refused("everybody can write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        refused("private key");
        std::fs::write(&path, b"\x99\x01").unwrap();
        refused("");
        std::fs::write(&path, "a".repeat(600_000)).unwrap();
        refused("more than");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        refused("not a file");
    }

    #[test]
    fn s20_openpgp_keys_are_read_armored_and_binary_and_a_bad_file_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.asc");
        let signatures = vec![SignatureRule {
            matches: RepositoryPattern::parse("*").unwrap(),
            on: On::Either,
            allowed_signers: None,
            openpgp_keys: Some(path.clone()),
        }];
        let policy = Policy::new(Config { signatures, ..Config::for_person() });
        let required = || policy.required_signature(&RepositoryUrl::parse("https://h/a").unwrap());
        let armored = include_str!("../signature/vectors/openpgp/keys.asc");
        std::fs::write(&path, armored).unwrap();
        let found = required().unwrap().unwrap();
        assert!(found.allowed_signers.is_none() && found.openpgp_keys.unwrap().text == armored);
        assert_eq!(policy.unusable_signature_rules().count(), 0);
        for content in [&b"-----BEGIN OPENSSH PRIVATE KEY-----\n"[..], b"", b"\x99\x01", &vec![b'#'; 600_000]] {
            std::fs::write(&path, content).unwrap();
            let error = required().unwrap_err();
            assert!(error.kind() == Kind::FailedPrecondition && error.to_string().contains("keys.asc"), "{error}");
            let unusable: Vec<_> = policy.unusable_signature_rules().collect();
            assert!(unusable.len() == 1 && unusable[0].0.to_string() == "*" && unusable[0].1 == error);
        }
    }
}
