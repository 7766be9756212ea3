//! The form of an SSH private key. libssh2 does its cryptography; this finds mistakes early and reports them clearly.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::Secret;

/// A private key in OpenSSH or PEM format, and its passphrase.
#[derive(Debug, Clone)]
pub struct SshKey {
    private: Secret,
    passphrase: Option<Secret>,
    encrypted: bool,
}

/// Why a text is not a usable private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SshKeyError {
    /// A public key.
    #[error("it is a public key; the private one is needed, from the file of the same name without .pub")]
    Public,
    /// A key in PuTTY's own format.
    #[error("it is in PuTTY's format; convert it with: puttygen KEY.ppk -O private-openssh -o KEY")]
    Putty,
    /// A key that is encoded once more.
    #[error(
        "it is a private key encoded as base64 twice; a Secret's `data` has base64 of the file itself, and its `stringData` \
         the file as it is"
    )]
    EncodedTwice,
    /// Not a key at all.
    #[error("it is not a private key in OpenSSH or PEM format")]
    NotAKey,
    /// It begins like a key but is malformed after that.
    #[error(
        "the private key is damaged: lines are missing or joined; put the unchanged file into the secret, as with: kubectl \
         create secret generic NAME --from-file=ssh-privatekey=FILE"
    )]
    Damaged,
    /// An unsupported type.
    #[error("private keys of type {kind} cannot be used here; take ed25519, ECDSA or RSA")]
    Unsupported {
        /// Its name.
        kind: &'static str,
    },
}

impl SshKey {
    /// Checks the form of `text`. Undoes the changes of editors and YAML files: line ends become Unix ones, indentation
    /// and a byte order mark are removed, and the last line is ended.
    pub(super) fn parse(text: &str, passphrase: Option<Secret>) -> Result<Self, SshKeyError> {
        let mut private = Zeroizing::new(String::with_capacity(text.len() + 1));
        for line in text.trim().trim_start_matches('\u{feff}').trim().lines() {
            private.push_str(line.trim());
            private.push('\n');
        }
        let encrypted = Pem::find(&private)?.is_encrypted()?;
        Ok(Self { private: Secret::new(std::mem::take(&mut *private)), passphrase, encrypted })
    }

    /// The key, in the form that libssh2 reads from memory.
    pub fn private(&self) -> &Secret {
        &self.private
    }

    /// Its passphrase, which may be present although the key is not encrypted.
    pub fn passphrase(&self) -> Option<&Secret> {
        self.passphrase.as_ref()
    }

    /// Whether the key needs its passphrase.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }
}

/// The block of a text that contains a private key (RFC 7468).
struct Pem<'a> {
    label: &'a str,
    /// Headers of the older format (RFC 1421).
    headers: Vec<&'a str>,
    body: Zeroizing<Vec<u8>>,
}

impl<'a> Pem<'a> {
    fn find(text: &'a str) -> Result<Self, SshKeyError> {
        let mut lines = text.lines();
        let label = lines
            .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?.strip_suffix("PRIVATE KEY"))
            .ok_or_else(|| otherwise(text))?;
        let mut headers = Vec::new();
        let mut encoded = Zeroizing::new(String::with_capacity(text.len()));
        for line in lines {
            if line.starts_with("-----END ") {
                let mut body = Zeroizing::new(Vec::new());
                let decoded = BASE64_STANDARD.decode_vec(encoded.as_bytes(), &mut body);
                return match decoded {
                    Ok(()) if !body.is_empty() => Ok(Self { label: label.trim(), headers, body }),
                    _ => Err(SshKeyError::Damaged),
                };
            }
            match line.contains(':') {
                true => headers.push(line),
                false => encoded.push_str(line),
            }
        }
        Err(SshKeyError::Damaged)
    }

    fn is_encrypted(&self) -> Result<bool, SshKeyError> {
        match self.label {
            "OPENSSH" => openssh_is_encrypted(&self.body),
            "ENCRYPTED" => Ok(true),
            "RSA" | "EC" | "" => {
                Ok(self.headers.iter().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")))
            }
            "DSA" => Err(SshKeyError::Unsupported { kind: "DSA" }),
            _ => Err(SshKeyError::NotAKey),
        }
    }
}

/// Says what a text without a private key is instead.
fn otherwise(text: &str) -> SshKeyError {
    let public = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "-----BEGIN PUBLIC KEY", "---- BEGIN SSH2 PUBLIC KEY"];
    if text.starts_with("PuTTY-User-Key-File-") {
        SshKeyError::Putty
    } else if public.iter().any(|start| text.starts_with(start)) || text.contains("-----BEGIN RSA PUBLIC KEY") {
        SshKeyError::Public
    } else if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        SshKeyError::Damaged
    } else if is_encoded_key(text) {
        SshKeyError::EncodedTwice
    } else {
        SshKeyError::NotAKey
    }
}

/// Whether the text is base64 of a private key in PEM format.
fn is_encoded_key(text: &str) -> bool {
    let mut digits = Zeroizing::new(String::with_capacity(text.len()));
    digits.extend(text.split_ascii_whitespace());
    let mut content = Zeroizing::new(Vec::with_capacity(digits.len()));
    let has = |content: &[u8], part: &[u8]| content.windows(part.len()).any(|window| window == part);
    BASE64_STANDARD.decode_vec(digits.as_bytes(), &mut content).is_ok()
        && has(&content, b"-----BEGIN ")
        && has(&content, b"PRIVATE KEY-----")
}

/// Reads the unencrypted part of OpenSSH's own format (its PROTOCOL.key): cipher, key derivation, public key.
fn openssh_is_encrypted(body: &[u8]) -> Result<bool, SshKeyError> {
    let rest = body.strip_prefix(b"openssh-key-v1\0").ok_or(SshKeyError::Damaged)?;
    let damaged = || SshKeyError::Damaged;
    let (cipher, rest) = wire_string(rest).ok_or_else(damaged)?;
    let (_derivation, rest) = wire_string(rest).ok_or_else(damaged)?;
    let (_options, rest) = wire_string(rest).ok_or_else(damaged)?;
    let (_count, rest) = rest.split_at_checked(4).ok_or_else(damaged)?;
    let (public, _private) = wire_string(rest).ok_or_else(damaged)?;
    match wire_string(public).ok_or_else(damaged)?.0 {
        b"ssh-dss" => Err(SshKeyError::Unsupported { kind: "DSA" }),
        kind if kind.starts_with(b"sk-") => Err(SshKeyError::Unsupported { kind: "FIDO (a hardware key)" }),
        _ => Ok(cipher != b"none"),
    }
}

/// Takes a length-prefixed string off the front (RFC 4251, section 5).
pub(super) fn wire_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unencrypted part of a key in OpenSSH's own format.
    fn openssh(cipher: &str, kind: &str) -> String {
        let string = |value: &[u8]| [&(value.len() as u32).to_be_bytes(), value].concat();
        let public = [string(kind.as_bytes()), string(b"public half")].concat();
        let body = [
            b"openssh-key-v1\0".to_vec(),
            string(cipher.as_bytes()),
            string(b"bcrypt"),
            string(b""),
            1u32.to_be_bytes().to_vec(),
            string(&public),
            string(b"private half"),
        ];
        pem("OPENSSH PRIVATE KEY", &BASE64_STANDARD.encode(body.concat()))
    }

    fn pem(label: &str, body: &str) -> String {
        let lines: Vec<_> = body.as_bytes().chunks(70).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    fn encrypted(text: &str) -> Result<bool, SshKeyError> {
        SshKey::parse(text, None).map(|key| key.is_encrypted())
    }

    #[test]
    fn every_format_says_whether_it_is_encrypted() {
        let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\nMIIE";
        for (text, expected) in [
            (openssh("none", "ssh-ed25519"), false),
            (openssh("aes256-ctr", "ssh-ed25519"), true),
            (pem("RSA PRIVATE KEY", "MIIE"), false),
            (format!("-----BEGIN RSA PRIVATE KEY-----\n{old}\n-----END RSA PRIVATE KEY-----"), true),
            (pem("EC PARAMETERS", "BggqhkjOPQMBBw==") + &pem("EC PRIVATE KEY", "MHcC"), false),
            (pem("PRIVATE KEY", "MIIE"), false),
            (pem("ENCRYPTED PRIVATE KEY", "MIIE"), true),
        ] {
            assert_eq!(encrypted(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn line_ends_indentation_and_a_missing_last_newline_are_repaired() {
        let good = openssh("none", "ssh-ed25519");
        let indented: Vec<_> = good.lines().map(|line| format!("  {line}")).collect();
        for text in [
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
            indented.join("\n"),
            format!("\n{good}\n\n"),
            format!("\u{feff}{good}"),
            format!("\n\u{feff}\n{good}"),
        ] {
            let key = SshKey::parse(&text, None).unwrap();
            assert_eq!(key.private().expose(), good);
        }
    }

    #[test]
    fn what_is_not_a_private_key_is_named() {
        let good = openssh("none", "ssh-ed25519");
        let cut = good.lines().take(2).collect::<Vec<_>>().join("\n");
        for (text, expected) in [
            ("ssh-ed25519 AAAAC3Nza me@example.com".to_owned(), SshKeyError::Public),
            ("ecdsa-sha2-nistp256 AAAA".to_owned(), SshKeyError::Public),
            (pem("PUBLIC KEY", "MIIB"), SshKeyError::Public),
            (pem("RSA PUBLIC KEY", "MIIB"), SshKeyError::Public),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA".to_owned(), SshKeyError::Public),
            ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none".to_owned(), SshKeyError::Putty),
            ("hunter2".to_owned(), SshKeyError::NotAKey),
            (BASE64_STANDARD.encode("hunter2"), SshKeyError::NotAKey),
            (BASE64_STANDARD.encode(&good), SshKeyError::EncodedTwice),
            (BASE64_STANDARD.encode(format!("\u{feff}\n{good}")) + "\n", SshKeyError::EncodedTwice),
            (pem("CERTIFICATE", "MIIB"), SshKeyError::NotAKey),
            (pem("PGP PRIVATE KEY", "MIIB"), SshKeyError::NotAKey),
            (cut, SshKeyError::Damaged),
            (good.replace('\n', " "), SshKeyError::Damaged),
            (good.replace('\n', "\\n"), SshKeyError::Damaged),
            (good.replacen('A', "*", 1), SshKeyError::Damaged),
            (pem("RSA PRIVATE KEY", ""), SshKeyError::Damaged),
            (pem("OPENSSH PRIVATE KEY", "MIIE"), SshKeyError::Damaged),
            (openssh("none", "ssh-dss"), SshKeyError::Unsupported { kind: "DSA" }),
            (pem("DSA PRIVATE KEY", "MIIB"), SshKeyError::Unsupported { kind: "DSA" }),
            (openssh("none", "sk-ssh-ed25519@openssh.com"), SshKeyError::Unsupported { kind: "FIDO (a hardware key)" }),
        ] {
            assert_eq!(encrypted(&text), Err(expected), "{text}");
        }
    }
}
