//! Clients' SSH keys.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::git;

/// A key algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Edwards curve.
    Ed25519,
    /// NIST P-256.
    Ecdsa,
    /// 2,048 bits.
    Rsa,
}

/// The format of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `BEGIN OPENSSH PRIVATE KEY`.
    OpenSsh,
    /// `BEGIN RSA PRIVATE KEY` or `BEGIN EC PRIVATE KEY`. There is none for Ed25519.
    Pem,
}

/// A client's key pair.
#[derive(Clone)]
pub struct ClientKey {
    /// The private key's file.
    pub private: String,
    /// The public key's line.
    pub public: String,
    /// The passphrase of the private key.
    pub passphrase: Option<&'static str>,
}

impl ClientKey {
    /// A new Ed25519 key without passphrase.
    pub fn new() -> Self {
        Self::generate(Algorithm::Ed25519, Format::OpenSsh, None)
    }

    /// A new key.
    pub fn generate(algorithm: Algorithm, format: Format, passphrase: Option<&'static str>) -> Self {
        let place = TempDir::new().unwrap();
        let file = place.path().join("key");
        keygen(&file, algorithm, format, passphrase.unwrap_or_default());
        let private = std::fs::read_to_string(&file).unwrap();
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        Self { private, public, passphrase }
    }

    /// One key of every supported kind: each algorithm and format, with and without passphrase.
    pub fn all_kinds() -> Vec<(Algorithm, Format, Self)> {
        const PASSPHRASE: &str = "correct horse";
        let kinds = [
            (Algorithm::Ed25519, Format::OpenSsh),
            (Algorithm::Ecdsa, Format::OpenSsh),
            (Algorithm::Ecdsa, Format::Pem),
            (Algorithm::Rsa, Format::OpenSsh),
            (Algorithm::Rsa, Format::Pem),
        ];
        let variants = kinds.into_iter().flat_map(|kind| [(kind, None), (kind, Some(PASSPHRASE))]);
        variants
            .map(|((algorithm, format), passphrase)| (algorithm, format, Self::generate(algorithm, format, passphrase)))
            .collect()
    }
}

impl Default for ClientKey {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `file`, the private key, and `file`.pub.
pub(super) fn keygen(file: &Path, algorithm: Algorithm, format: Format, passphrase: &str) {
    let (kind, bits) = match algorithm {
        Algorithm::Ed25519 => ("ed25519", "256"),
        Algorithm::Ecdsa => ("ecdsa", "256"),
        Algorithm::Rsa => ("rsa", "2048"),
    };
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-b", bits, "-N", passphrase, "-C", "gitrepo-tests", "-f"]).arg(file);
    if format == Format::Pem {
        command.args(["-m", "PEM"]);
    }
    git::output(&mut command);
}
