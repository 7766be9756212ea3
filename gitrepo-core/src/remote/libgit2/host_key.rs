//! Checks whether the SSH server is authentic, and selects which of its keys to request.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use git2::CertificateCheckStatus;
use git2::cert::Cert;

use crate::credentials::Accepted;
use crate::credentials::HostKeys;
use crate::credentials::PresentedKey;
use crate::error::Cause;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

/// Replaces the key in a line of our own `known_hosts`, with the minimum length that libssh2 requires: [`HostKeys`]
/// alone decides which keys are trusted.
const NO_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The result of checking a server's certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A TLS certificate: libgit2 has verified it, and keeps the result.
    AsVerified,
    /// A known SSH host key, or a new one that is trusted from now on, with its `known_hosts` line.
    Believed(Option<String>),
}

impl Verdict {
    pub(super) fn status(&self) -> CertificateCheckStatus {
        match self {
            // `CertificateOk` would disable TLS verification.
            Self::AsVerified => CertificateCheckStatus::CertificatePassthrough,
            Self::Believed(_) => CertificateCheckStatus::CertificateOk,
        }
    }
}

/// Checks the key or certificate of the server of `url`.
pub(super) fn check(certificate: &Cert<'_>, url: &RepositoryUrl, known: &HostKeys) -> Result<Verdict, RemoteError> {
    let Some(host_key) = certificate.as_hostkey() else { return Ok(Verdict::AsVerified) };
    let (Some(blob), Some(host), Some(port)) = (host_key.hostkey(), url.host(), url.port()) else {
        return Err(RemoteError::Protocol { url: url.to_string(), source: Cause::new("it presents no host key") });
    };
    let Some(kind) = kind(blob) else {
        return Err(RemoteError::Protocol { url: url.to_string(), source: Cause::new("its host key is malformed") });
    };
    match known.check(host, port, &PresentedKey { kind, blob })? {
        Accepted::Known => Ok(Verdict::Believed(None)),
        Accepted::New { line } => Ok(Verdict::Believed(Some(line))),
    }
}

/// The type at the beginning of a public key in SSH's wire format (RFC 4253, section 6.6). libgit2's own answer is
/// wrong for 521-bit ECDSA keys.
fn kind(blob: &[u8]) -> Option<&str> {
    let (length, rest) = blob.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Makes libgit2 request a host key of a known type from the server of `url`.
///
/// libgit2 requests the types listed in `$HOME/.ssh/known_hosts`. Without a line there, a server may present a key of
/// another type than the known one, and would be refused. `home` is the directory given to
/// [`crate::sys::git::prepare_network`], which is ours.
pub(super) fn prefer_known_types(home: &Path, url: &RepositoryUrl, known: &HostKeys) -> io::Result<()> {
    static WRITING: Mutex<()> = Mutex::new(());
    let (Scheme::Ssh, Some(host), Some(port)) = (url.scheme(), url.host(), url.port()) else { return Ok(()) };
    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = home.join(".ssh");
    let file = directory.join("known_hosts");
    let earlier = match fs::read_to_string(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        earlier => earlier.unwrap_or_default(),
    };
    let mut lines = String::new();
    for line in earlier.lines().filter(|line| line.split(' ').next() != Some(&name)) {
        lines.extend([line, "\n"]);
    }
    for kind in known.key_types(host, port) {
        lines.extend([&name, " ", &kind, " ", NO_KEY, "\n"]);
    }
    fs::create_dir_all(&directory)?;
    let new = directory.join("known_hosts.new");
    fs::write(&new, lines)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_key_is_read_from_the_key() {
        assert_eq!(kind(b"\0\0\0\x0bssh-ed25519\0\0\0\x20"), Some("ssh-ed25519"));
        for malformed in [&b""[..], b"\0\0\0", b"\0\0\0\x0bssh", b"\xff\xff\xff\xffssh", b"\0\0\0\x01\xff"] {
            assert_eq!(kind(malformed), None);
        }
    }

    #[test]
    fn the_known_types_of_a_host_replace_its_earlier_ones_only() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".ssh/known_hosts");
        fs::create_dir(home.path().join(".ssh")).unwrap();
        fs::write(&file, "github.com ssh-dss AAAA\nother.example.com ssh-rsa AAAA\n").unwrap();
        let url = RepositoryUrl::parse("git@github.com:a/b").unwrap();
        let known = HostKeys::default();
        prefer_known_types(home.path(), &url, &known).unwrap();
        prefer_known_types(home.path(), &url, &known).unwrap();
        let lines = fs::read_to_string(&file).unwrap();
        assert!(lines.starts_with("other.example.com ssh-rsa AAAA\ngithub.com "), "{lines}");
        assert_eq!(lines.matches("github.com ssh-ed25519 ").count(), 1, "{lines}");
        assert!(!lines.contains("ssh-dss"), "{lines}");
    }
}
