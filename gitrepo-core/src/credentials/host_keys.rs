//! Decides whether an SSH server is authentic.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use super::HostCredential;
use super::HostKeyError;
use super::forges;
use super::known_hosts;
use super::known_hosts::Entry;
use super::known_hosts::Malformed;
use super::known_hosts::Marker;
use super::known_hosts::Unusable;
use super::known_hosts::host_name;

/// How to treat a server without a known key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checking {
    /// Refuse it.
    #[default]
    Strict,
    /// Trust it the first time, and require the same key from then on.
    AcceptNew,
}

/// The trusted host keys, from up to three sources: the secret's `known_hosts`, the file of the configuration, and the
/// built-in keys of the large public forges.
///
/// The first source that knows a host decides: only its keys are trusted, and later sources can neither add nor remove
/// any. A key revoked by any source is refused.
///
/// A server on a port other than 22 is `[host]:port`. If that name is unknown, a key of the bare host name is trusted
/// too, as in OpenSSH: a server with that key is that host. A *different* key of the bare name is ignored.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostKeys {
    checking: Checking,
    secret: Option<String>,
    file: Option<String>,
}

/// The source of a known host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The secret's `known_hosts`.
    Secret,
    /// The file of the configuration's `hostKeys.file`.
    File,
    /// Built into this program.
    BuiltIn,
}

/// A line of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// The source.
    pub source: Source,
    /// Counted from 1.
    pub line: usize,
}

/// The key that a server presents, and has proven to own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey<'a> {
    /// Its type, such as `ssh-ed25519`.
    pub kind: &'a str,
    /// The public key in SSH's wire format (RFC 4253, section 6.6).
    pub blob: &'a [u8],
}

/// Why a server is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Accepted {
    /// Its key is known.
    Known,
    /// The server was unknown, and [`Checking::AcceptNew`] is in effect.
    New {
        /// The line to store, so that this key is required from now on.
        line: String,
    },
}

impl HostKeys {
    /// Trusts only the built-in keys.
    pub fn new(checking: Checking) -> Self {
        Self { checking, ..Self::default() }
    }

    /// Adds the secret's known hosts for this host, as the first source.
    #[must_use]
    pub fn with_secret(mut self, credential: &HostCredential<'_>) -> Self {
        self.secret = credential.known_hosts.map(str::to_owned);
        self
    }

    /// Adds the file of the configuration, as the second source. The lines of [`Accepted::New`] are added to it.
    ///
    /// A malformed line is skipped with a warning, as in OpenSSH.
    ///
    /// # Errors
    ///
    /// If every line is malformed: the first of them.
    pub fn with_file(mut self, text: String) -> Result<Self, Malformed> {
        match known_hosts::check(&text) {
            Ok(()) => {}
            Err(Unusable { malformed, every: false }) => {
                tracing::warn!(%malformed, "lines of the configured known_hosts file are skipped");
            }
            Err(Unusable { malformed, every: true }) => return Err(malformed),
        }
        self.file = Some(text);
        Ok(self)
    }

    /// Whether to trust the server at `host` and `port`.
    ///
    /// # Errors
    ///
    /// If its key is unknown, changed or revoked. A host known by a key of another type is not new: otherwise
    /// presenting such a key would be enough to impersonate it.
    pub fn check(&self, host: &str, port: u16, presented: &PresentedKey<'_>) -> Result<Accepted, HostKeyError> {
        let name = host_name(host, port);
        let bare = host_name(host, 22);
        let key = presented.to_string();
        if let Some((origin, _)) = self.find(Marker::Revoked, |entry| {
            entry.blob == presented.blob && (entry.matches(&name) || entry.matches(&bare))
        }) {
            return Err(HostKeyError::Revoked { host: name, key, origin });
        }
        let line = presented.line(&name);
        let known = self.deciding(&name);
        let is_presented = |(_, entry): &(SourceLine, Entry<'_>)| entry.blob == presented.blob;
        if known.iter().any(is_presented) || (known.is_empty() && self.deciding(&bare).iter().any(is_presented)) {
            return Ok(Accepted::Known);
        }
        if let Some((origin, entry)) = known.iter().find(|(_, entry)| entry.kind == presented.kind) {
            let known = PresentedKey { kind: entry.kind, blob: &entry.blob }.to_string();
            return Err(HostKeyError::Changed { host: name, key, known, origin: *origin, line });
        }
        if !known.is_empty() {
            return Err(HostKeyError::Unknown { host: name, key, known: types(&known), line });
        }
        if let Some((origin, _)) = self.find(Marker::CertAuthority, |entry| entry.matches(&name)) {
            return Err(HostKeyError::OnlyCertAuthority { host: name, key, origin, line });
        }
        match self.checking {
            Checking::AcceptNew => Ok(Accepted::New { line }),
            Checking::Strict => Err(HostKeyError::Unknown { host: name, key, known: Vec::new(), line }),
        }
    }

    /// Whether `line` is exactly the one that [`check`](Self::check) returns for a new server at `host` and `port`. A
    /// worker hijacked by a remote may send any line, such as one about other hosts.
    pub(crate) fn is_new(&self, host: &str, port: u16, line: &str) -> bool {
        known_hosts::entries(line).flatten().next().is_some_and(|entry| {
            let presented = PresentedKey { kind: entry.kind, blob: &entry.blob };
            matches!(self.check(host, port, &presented), Ok(Accepted::New { line: expected }) if expected == line)
        })
    }

    /// The types of a server's known keys, so that the client can request one of them. Empty if the server is unknown.
    pub fn key_types(&self, host: &str, port: u16) -> Vec<String> {
        let known = self.deciding(&host_name(host, port));
        types(&if known.is_empty() { self.deciding(&host_name(host, 22)) } else { known })
    }

    fn sources(&self) -> impl Iterator<Item = (Source, &str)> {
        [
            (Source::Secret, self.secret.as_deref()),
            (Source::File, self.file.as_deref()),
            (Source::BuiltIn, Some(forges::KNOWN_HOSTS)),
        ]
        .into_iter()
        .filter_map(|(source, text)| Some((source, text?)))
    }

    /// The lines with a server's keys, from the first source that has any.
    fn deciding(&self, name: &str) -> Vec<(SourceLine, Entry<'_>)> {
        self.sources()
            .map(|(source, text)| {
                lines(source, text).filter(|(_, entry)| entry.marker == Marker::Host && entry.matches(name)).collect()
            })
            .find(|found: &Vec<_>| !found.is_empty())
            .unwrap_or_default()
    }

    /// The first line of any source that has this marker and that `wanted` accepts.
    fn find(&self, marker: Marker, wanted: impl Fn(&Entry<'_>) -> bool) -> Option<(SourceLine, Entry<'_>)> {
        self.sources()
            .flat_map(|(source, text)| lines(source, text))
            .find(|(_, entry)| entry.marker == marker && wanted(entry))
    }
}

/// Shows which sources there are; their text does not belong in a log.
impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources().map(|(source, _)| source).collect();
        f.debug_struct("HostKeys").field("checking", &self.checking).field("sources", &sources).finish()
    }
}

impl PresentedKey<'_> {
    /// `SHA256:` and the digest in base64, as printed by OpenSSH.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(self.blob)))
    }

    fn line(&self, name: &str) -> String {
        format!("{name} {} {}", self.kind, BASE64_STANDARD.encode(self.blob))
    }
}

impl fmt::Display for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.fingerprint())
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Secret => write!(f, "line {} of the secret's known_hosts", self.line),
            Source::File => write!(f, "line {} of the configured known_hosts file", self.line),
            Source::BuiltIn => write!(f, "the built-in list"),
        }
    }
}

fn lines(source: Source, text: &str) -> impl Iterator<Item = (SourceLine, Entry<'_>)> {
    known_hosts::entries(text).filter_map(Result::ok).map(move |entry| (SourceLine { source, line: entry.line }, entry))
}

fn types(known: &[(SourceLine, Entry<'_>)]) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    for (_, entry) in known {
        if !types.iter().any(|kind| kind == entry.kind) {
            types.push(entry.kind.to_owned());
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;

    /// A key of a given type, distinguished by a number.
    struct TestKey {
        kind: &'static str,
        blob: Vec<u8>,
    }

    fn key(kind: &'static str, number: u8) -> TestKey {
        let string = |value: &[u8]| [&(value.len() as u32).to_be_bytes(), value].concat();
        TestKey { kind, blob: [string(kind.as_bytes()), string(&[number; 32])].concat() }
    }

    fn ed25519(number: u8) -> TestKey {
        key("ssh-ed25519", number)
    }

    impl TestKey {
        fn presented(&self) -> PresentedKey<'_> {
            PresentedKey { kind: self.kind, blob: &self.blob }
        }

        fn line(&self, hosts: &str) -> String {
            self.presented().line(hosts) + "\n"
        }
    }

    fn strict(secret: &str) -> HostKeys {
        let credential = HostCredential { known_hosts: Some(secret), ..HostCredential::default() };
        HostKeys::new(Checking::Strict).with_secret(&credential)
    }

    fn accept_new() -> HostKeys {
        HostKeys::new(Checking::AcceptNew)
    }

    fn check(keys: &HostKeys, host: &str, port: u16, key: &TestKey) -> Result<Accepted, HostKeyError> {
        keys.check(host, port, &key.presented())
    }

    #[test]
    fn any_of_several_keys_of_a_host_is_believed_whatever_the_case_of_its_name() {
        let keys = strict(&(ed25519(1).line("host") + &ed25519(2).line("host") + &key("ssh-rsa", 3).line("host")));
        for known in [ed25519(1), ed25519(2), key("ssh-rsa", 3)] {
            assert_eq!(check(&keys, "Host", 22, &known), Ok(Accepted::Known));
        }
    }

    #[test]
    fn an_unknown_host_is_refused_with_its_fingerprint_and_the_line_to_add() {
        let error = check(&strict(""), "git.example.com", 2222, &ed25519(1)).unwrap_err();
        let (text, presented) = (error.to_string(), ed25519(1));
        assert!(text.contains("of [git.example.com]:2222 is unknown: it presents ssh-ed25519 SHA256:"), "{text}");
        assert!(text.contains(&presented.presented().fingerprint()), "{text}");
        assert!(text.ends_with(presented.line("[git.example.com]:2222").trim_end()), "{text}");
        assert_eq!(error.kind(), Kind::Unauthenticated);
    }

    #[test]
    fn a_changed_key_is_refused_and_both_fingerprints_shown() {
        let lines = format!("# host\n{}", ed25519(1).line("host"));
        let error = check(&strict(&lines), "host", 22, &ed25519(2)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, HostKeyError::Changed { origin: SourceLine { source: Source::Secret, line: 2 }, .. }));
        assert!(text.contains(&ed25519(1).presented().fingerprint()), "{text}");
        assert!(text.contains(&ed25519(2).presented().fingerprint()), "{text}");
        assert!(text.contains("line 2 of the secret's known_hosts"), "{text}");
    }

    #[test]
    fn accept_new_believes_a_new_host_once_and_holds_it_to_that() {
        let Ok(Accepted::New { line }) = check(&accept_new(), "host", 22, &ed25519(1)) else {
            panic!("a new host was refused");
        };
        let keys = accept_new().with_file(format!("half a li\n{line}\n")).unwrap();
        assert_eq!(check(&keys, "host", 22, &ed25519(1)), Ok(Accepted::Known));
        let changed = check(&keys, "host", 22, &ed25519(2));
        assert!(matches!(
            changed,
            Err(HostKeyError::Changed { origin: SourceLine { source: Source::File, line: 2 }, .. })
        ));
    }

    #[test]
    fn a_line_is_new_for_its_own_host_alone_and_only_where_new_hosts_are_accepted() {
        let line = |hosts: &str| ed25519(1).line(hosts).trim_end().to_owned();
        assert!(accept_new().is_new("host", 22, &line("host")));
        assert!(accept_new().is_new("host", 2222, &line("[host]:2222")));
        for forged in [
            line("*"),
            line("other"),
            line("host,other"),
            line("[host]:2222"),
            format!("@cert-authority {}", line("host")),
            format!("{}\n{}", line("host"), line("other")),
            String::new(),
        ] {
            assert!(!accept_new().is_new("host", 22, &forged), "{forged}");
        }
        assert!(!HostKeys::new(Checking::Strict).is_new("host", 22, &line("host")));
        assert!(!accept_new().is_new("github.com", 22, &line("github.com")), "it is known");
    }

    #[test]
    fn a_key_of_another_type_does_not_pass_for_a_new_host() {
        for checking in [Checking::Strict, Checking::AcceptNew] {
            let keys = HostKeys::new(checking).with_file(key("ssh-rsa", 1).line("host")).unwrap();
            let error = check(&keys, "host", 22, &ed25519(1)).unwrap_err();
            assert!(matches!(&error, HostKeyError::Unknown { known, .. } if known == &["ssh-rsa"]));
            assert!(error.to_string().contains("(only its keys of type ssh-rsa are known)"), "{error}");
        }
    }

    #[test]
    fn the_first_source_that_knows_a_host_decides() {
        let keys = strict(&ed25519(1).line("host")).with_file(ed25519(2).line("host,other")).unwrap();
        assert_eq!(check(&keys, "host", 22, &ed25519(1)), Ok(Accepted::Known));
        assert!(matches!(check(&keys, "host", 22, &ed25519(2)), Err(HostKeyError::Changed { .. })));
        assert_eq!(check(&keys, "other", 22, &ed25519(2)), Ok(Accepted::Known));
    }

    #[test]
    fn what_the_secret_says_of_a_forge_replaces_the_built_in_keys() {
        let keys = strict(&ed25519(1).line("github.com"));
        assert_eq!(check(&keys, "github.com", 22, &ed25519(1)), Ok(Accepted::Known));
        let changed = check(&accept_new(), "github.com", 22, &ed25519(1));
        assert!(matches!(
            changed,
            Err(HostKeyError::Changed { origin: SourceLine { source: Source::BuiltIn, .. }, .. })
        ));
    }

    #[test]
    fn a_key_that_any_source_revokes_is_refused() {
        let revoked = format!("@revoked * {}", ed25519(1).line("").trim_start());
        let late = strict(&ed25519(1).line("host")).with_file(revoked.clone()).unwrap();
        let early = strict(&revoked).with_file(ed25519(1).line("host")).unwrap();
        for keys in [late, early, accept_new().with_file(revoked).unwrap()] {
            for port in [22, 2222] {
                assert!(matches!(check(&keys, "host", port, &ed25519(1)), Err(HostKeyError::Revoked { .. })));
            }
        }
    }

    #[test]
    fn a_revocation_on_port_22_holds_on_every_port() {
        let keys = accept_new().with_file(format!("@revoked host {}", ed25519(1).line("").trim_start())).unwrap();
        assert!(matches!(check(&keys, "host", 2222, &ed25519(1)), Err(HostKeyError::Revoked { .. })));
    }

    #[test]
    fn revoking_one_key_does_not_hide_what_a_later_source_knows() {
        let keys = strict(&format!("@revoked host {}", ed25519(1).line("").trim_start()));
        let keys = keys.with_file(ed25519(2).line("host")).unwrap();
        assert_eq!(check(&keys, "host", 22, &ed25519(2)), Ok(Accepted::Known));
    }

    #[test]
    fn a_host_known_only_by_an_authority_is_refused_and_says_why() {
        let authority = format!("@cert-authority *.example.com {}", ed25519(1).line("").trim_start());
        for keys in [strict(&authority), accept_new().with_file(authority.clone()).unwrap()] {
            let error = check(&keys, "git.example.com", 22, &ed25519(1)).unwrap_err();
            assert!(matches!(error, HostKeyError::OnlyCertAuthority { .. }));
        }
        let keys = strict(&(authority + &ed25519(2).line("git.example.com")));
        assert_eq!(check(&keys, "git.example.com", 22, &ed25519(2)), Ok(Accepted::Known));
    }

    #[test]
    fn another_port_is_another_server_but_the_hosts_own_key_serves_there_too() {
        let keys = strict(&(ed25519(1).line("host") + &ed25519(2).line("[port]:2222") + &ed25519(3).line("port")));
        assert_eq!(check(&keys, "host", 2222, &ed25519(1)), Ok(Accepted::Known));
        assert!(matches!(check(&keys, "host", 2222, &ed25519(2)), Err(HostKeyError::Unknown { .. })));
        assert_eq!(check(&keys, "port", 2222, &ed25519(2)), Ok(Accepted::Known));
        assert!(matches!(check(&keys, "port", 2222, &ed25519(3)), Err(HostKeyError::Changed { .. })));
        assert!(matches!(check(&keys, "port", 22, &ed25519(2)), Err(HostKeyError::Changed { .. })));
    }

    #[test]
    fn the_types_to_ask_for_are_those_of_the_deciding_source() {
        let secret = key("ssh-rsa", 1).line("host") + &ed25519(1).line("host") + &key("ssh-rsa", 2).line("host");
        let keys = strict(&secret).with_file(key("ecdsa-sha2-nistp256", 1).line("host")).unwrap();
        assert_eq!(keys.key_types("host", 22), ["ssh-rsa", "ssh-ed25519"]);
        assert_eq!(keys.key_types("host", 2222), ["ssh-rsa", "ssh-ed25519"]);
        assert_eq!(keys.key_types("github.com", 22), ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]);
        assert!(keys.key_types("unknown", 22).is_empty());
    }

    #[test]
    fn a_malformed_line_of_the_file_is_skipped_unless_no_other_is_left() {
        for (line, reason) in [
            ("@revokd host ssh-rsa AAAA\nhalf a li", "line 1 has an unknown marker"),
            ("# hosts\n @revoked host", "line 2 is not of the form: host type key"),
        ] {
            assert_eq!(accept_new().with_file(line.to_owned()).unwrap_err().to_string(), reason);
            let keys =
                HostKeys::new(Checking::Strict).with_file(format!("{line}\n{}", ed25519(1).line("host"))).unwrap();
            assert_eq!(check(&keys, "host", 22, &ed25519(1)), Ok(Accepted::Known));
        }
        let keys =
            HostKeys::new(Checking::Strict).with_file(format!("host ssh-rsa\n{}", ed25519(1).line("host"))).unwrap();
        assert_eq!(check(&keys, "host", 22, &ed25519(1)), Ok(Accepted::Known));
    }

    #[test]
    fn host_keys_and_their_errors_cross_a_process_boundary() {
        let keys = strict(&ed25519(1).line("host")).with_file(ed25519(2).line("other")).unwrap();
        let keys: HostKeys = serde_json::from_str(&serde_json::to_string(&keys).unwrap()).unwrap();
        let error = check(&keys, "host", 22, &ed25519(2)).unwrap_err();
        let same: HostKeyError = serde_json::from_str(&serde_json::to_string(&error).unwrap()).unwrap();
        assert_eq!(same, error);
    }

    #[test]
    fn debug_names_the_sources_and_shows_none() {
        let shown = format!("{:?}", strict(&ed25519(1).line("canary")));
        assert_eq!(shown, "HostKeys { checking: Strict, sources: [Secret, BuiltIn] }");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_host_known_by_accident(text in "\\PC*", host in "[a-z.]{1,20}", port: u16) {
            let keys = strict(&text);
            prop_assert!(check(&keys, &host, port, &ed25519(1)).is_err());
        }
    }
}
