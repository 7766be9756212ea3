//! The format of OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): names, wildcards, negation, ports,
//! hashed names, `@revoked` and `@cert-authority`.
//!
//! Not supported: ssh_config(5) options that change the meaning of the file. Lines with key types that libssh2 lacks
//! are skipped.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::Hmac;
use hmac::Mac;
use sha1::Sha1;

use super::ssh_key::wire_string;
use crate::spec::wildcard;

/// The key types that a server can present to libssh2.
const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// A line with a mistake, which makes it meaningless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {reason}")]
pub struct Malformed {
    /// Counted from 1.
    pub line: usize,
    /// The problem. Quotes nothing of the line.
    pub reason: &'static str,
}

/// Lines that have to be skipped, as OpenSSH does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// The first of them.
    pub(super) malformed: Malformed,
    /// Whether no other line is left.
    pub(super) every: bool,
}

/// The meaning of a line for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// The host's own key.
    Host,
    /// A revoked key.
    Revoked,
    /// A key that signs host keys.
    CertAuthority,
}

/// A line.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    pub(super) marker: Marker,
    pub(super) kind: &'a str,
    pub(super) blob: Vec<u8>,
    hosts: Hosts<'a>,
}

#[derive(Debug)]
enum Hosts<'a> {
    Patterns(&'a str),
    Hashed { salt: Vec<u8>, digest: Vec<u8> },
}

/// The meaningful lines of a file, and the malformed ones.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<Entry<'_>, Malformed>> {
    // Some editors begin a file with a byte order mark.
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    lines.zip(1..).filter_map(|(text, line)| {
        let entry = Entry::parse(text, line).map_err(|reason| Malformed { line, reason });
        entry.transpose()
    })
}

/// Looks for malformed lines.
pub(super) fn check(text: &str) -> Result<(), Unusable> {
    match entries(text).find_map(Result::err) {
        None => Ok(()),
        Some(malformed) => Err(Unusable { malformed, every: entries(text).all(|entry| entry.is_err()) }),
    }
}

/// The name of a server in the file: includes the port unless it is SSH's default.
pub(super) fn host_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str, line: usize) -> Result<Option<Self>, &'static str> {
        let mut fields = text.split_ascii_whitespace().peekable();
        let marker = match fields.peek() {
            None => return Ok(None),
            Some(first) if first.starts_with('#') => return Ok(None),
            Some(&"@revoked") => Marker::Revoked,
            Some(&"@cert-authority") => Marker::CertAuthority,
            Some(first) if first.starts_with('@') => return Err("has an unknown marker"),
            Some(_) => Marker::Host,
        };
        if marker != Marker::Host {
            fields.next();
        }
        let hosts = fields.next().ok_or("has a marker and nothing else")?;
        if KEY_TYPES.contains(&hosts) {
            return Err("begins with a key, where the host's name should be");
        }
        let (Some(kind), Some(encoded)) = (fields.next(), fields.next()) else {
            return Err("is not of the form: host type key");
        };
        let hosts = Hosts::parse(hosts)?;
        if !KEY_TYPES.contains(&kind) {
            return Ok(None);
        }
        let blob = BASE64_STANDARD.decode(encoded).map_err(|_| "has a key that is not valid base64")?;
        match wire_string(&blob) {
            Some((name, _)) if name == kind.as_bytes() => Ok(Some(Self { line, marker, kind, blob, hosts })),
            _ => Err("has a key that is not of the type it says"),
        }
    }

    /// Whether the line applies to the server that [`host_name`] names.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.hosts.matches(name)
    }
}

impl<'a> Hosts<'a> {
    fn parse(field: &'a str) -> Result<Self, &'static str> {
        let Some(hashed) = field.strip_prefix('|') else { return Ok(Self::Patterns(field)) };
        let reason = "has a hashed name that is not of the form: |1|salt|hash";
        let (salt, digest) = hashed.strip_prefix("1|").and_then(|rest| rest.split_once('|')).ok_or(reason)?;
        let decode = |encoded| BASE64_STANDARD.decode(encoded).map_err(|_| reason);
        Ok(Self::Hashed { salt: decode(salt)?, digest: decode(digest)? })
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let (negated, plain): (Vec<_>, Vec<_>) =
                    patterns.split(',').partition(|pattern| pattern.starts_with('!'));
                let hit = |pattern: &str| wildcard::matches(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
                !negated.iter().any(|pattern| hit(&pattern[1..])) && plain.into_iter().any(hit)
            }
            Self::Hashed { salt, digest } => {
                Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|mac| mac.chain_update(name).verify_slice(digest).is_ok())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn matches(hosts: &str, name: &str) -> bool {
        let line = format!("{hosts} {KEY}");
        let mut entries = entries(&line);
        entries.next().unwrap().unwrap().matches(name)
    }

    fn malformed(line: &str) -> Option<&'static str> {
        entries(line).find_map(Result::err).map(|malformed| malformed.reason)
    }

    #[test]
    fn a_name_matches_its_patterns() {
        for (hosts, name, expected) in [
            ("git.example.com", "git.example.com", true),
            ("Git.Example.COM", "git.example.com", true),
            ("git.example.com", "example.com", false),
            ("git.example.com", "git.example.com.evil.org", false),
            ("a.org,git.example.com", "git.example.com", true),
            ("*.example.com", "git.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("g?t.example.com", "git.example.com", true),
            ("g?t.example.com", "gt.example.com", false),
            ("*", "anything", true),
            ("*.example.com,!evil.example.com", "git.example.com", true),
            ("!evil.example.com,*.example.com", "evil.example.com", false),
            ("!evil.example.com", "git.example.com", false),
            ("[git.example.com]:2222", "[git.example.com]:2222", true),
            ("[git.example.com]:2222", "git.example.com", false),
            ("git.example.com", "[git.example.com]:2222", false),
            ("[*.example.com]:*", "[git.example.com]:2222", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(matches(hosts, name), expected, "{hosts} {name}");
        }
    }

    // Made by OpenSSH: ssh-keygen -H
    #[test]
    fn a_hashed_name_matches_the_one_it_was_made_from() {
        let host = "|1|qRHx16bJh1IL91fzk6rapnZ8gmo=|6KNgp5PwW8chYoamNJKHVcZn7S8=";
        assert!(matches(host, "git.example.com"));
        assert!(!matches(host, "[git.example.com]:2222"));
        let port = "|1|qdifQF+LpOIHXBvdOuffVNmuFIU=|OeYgJNyaFNXd/2Ju3KwSCbmGUPU=";
        assert!(matches(port, "[git.example.com]:2222"));
        assert!(!matches(port, "git.example.com"));
    }

    #[test]
    fn a_line_may_have_a_marker_blanks_and_a_comment() {
        let text = format!(
            "# a comment\n\n  \t\n\thost\t {KEY} me@example.com\r\n@revoked host {KEY}\n@cert-authority * {KEY}"
        );
        let entries: Vec<_> = entries(&text).map(Result::unwrap).map(|entry| (entry.line, entry.marker)).collect();
        assert_eq!(entries, [(4, Marker::Host), (5, Marker::Revoked), (6, Marker::CertAuthority)]);
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_name() {
        let text = format!("\u{feff}host {KEY}");
        assert!(entries(&text).next().unwrap().unwrap().matches("host"));
    }

    #[test]
    fn key_types_that_cannot_be_presented_are_skipped() {
        let text = "host ssh-dss AAAA\nhost 1024 35 1234567\nhost sk-ssh-ed25519@openssh.com AAAA";
        assert_eq!(entries(text).count(), 0);
    }

    #[test]
    fn a_malformed_line_says_where_and_why() {
        let text = format!("# first\nhost {KEY}\nhost ssh-ed25519");
        let error = entries(&text).find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), "line 3 is not of the form: host type key");
        for (line, part) in [
            ("host", "not of the form"),
            ("@revoked", "nothing else"),
            ("@revokd host ssh-rsa AAAA", "unknown marker"),
            (KEY, "begins with a key"),
            ("host ssh-ed25519 AAA*", "not valid base64"),
            ("host ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl", "not of the type"),
            ("|1|salt ssh-rsa AAAA", "hashed name"),
            ("|2|AAAA|AAAA ssh-rsa AAAA", "hashed name"),
        ] {
            assert!(malformed(line).is_some_and(|reason| reason.contains(part)), "{line}: {:?}", malformed(line));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*|(([@!|*?,#1 ]|[a-z.]|AAAA|ssh-rsa|@revoked|\n|\r){0,60})", name in "\\PC{0,20}") {
            for entry in entries(&text).flatten() {
                entry.matches(&name);
            }
        }
    }
}
