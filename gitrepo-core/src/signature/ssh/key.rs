//! SSH public keys, and the signatures that they make. OpenSSL computes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use openssl::bn::BigNum;
use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::hash::hash;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::pkey::PKey;
use openssl::pkey::Public;
use openssl::sha::sha256;
use openssl::sign::Verifier;

use super::wire::Reader;
use crate::signature::public_key;

/// A public key.
pub(super) struct PublicKey<'a> {
    blob: &'a [u8],
    /// How it is called in the wire format.
    kind: &'a [u8],
    algorithm: Algorithm<'a>,
}

enum Algorithm<'a> {
    Ed25519(PKey<Public>),
    Ecdsa(EcKey<Public>, MessageDigest),
    Rsa(PKey<Public>, usize),
    /// A key in hardware, for an application. It signs more than the message.
    Hardware(Box<Algorithm<'a>>, &'a [u8]),
}

impl<'a> PublicKey<'a> {
    /// Reads a key in the wire format; `None` if it is malformed or of an unknown type.
    pub(super) fn read(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(blob);
        let kind = reader.string()?;
        let algorithm = Algorithm::read(kind, &mut reader)?;
        reader.is_at_end().then_some(Self { blob, kind, algorithm })
    }

    /// As `ssh-keygen -l` prints it.
    pub(super) fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(sha256(self.blob)))
    }

    /// Whether a signature in the wire format is this key's, of this message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let mut reader = Reader(signature);
        let (Some(algorithm), Some(value)) = (reader.string(), reader.string()) else { return false };
        match &self.algorithm {
            Algorithm::Hardware(inner, application) => {
                let (Some(flags), Some(counter)) = (reader.byte(), reader.number()) else { return false };
                let signed =
                    [&sha256(application)[..], &[flags], &counter.to_be_bytes(), &sha256(message)[..]].concat();
                reader.is_at_end() && algorithm == self.kind && inner.has_signed(algorithm, &signed, value)
            }
            Algorithm::Rsa(..) => reader.is_at_end() && self.algorithm.has_signed(algorithm, message, value),
            _ => reader.is_at_end() && algorithm == self.kind && self.algorithm.has_signed(algorithm, message, value),
        }
    }
}

impl<'a> Algorithm<'a> {
    /// Reads what follows the type of a key.
    pub(super) fn read(kind: &[u8], reader: &mut Reader<'a>) -> Option<Self> {
        match kind {
            b"ssh-ed25519" => ed25519(reader),
            b"ecdsa-sha2-nistp256" => ecdsa(reader, b"nistp256", Nid::X9_62_PRIME256V1, MessageDigest::sha256()),
            b"ecdsa-sha2-nistp384" => ecdsa(reader, b"nistp384", Nid::SECP384R1, MessageDigest::sha384()),
            b"ecdsa-sha2-nistp521" => ecdsa(reader, b"nistp521", Nid::SECP521R1, MessageDigest::sha512()),
            b"ssh-rsa" => rsa(reader),
            b"sk-ssh-ed25519@openssh.com" => Some(Self::Hardware(Box::new(ed25519(reader)?), reader.string()?)),
            b"sk-ecdsa-sha2-nistp256@openssh.com" => {
                let key = ecdsa(reader, b"nistp256", Nid::X9_62_PRIME256V1, MessageDigest::sha256())?;
                Some(Self::Hardware(Box::new(key), reader.string()?))
            }
            _ => None,
        }
    }

    fn has_signed(&self, algorithm: &[u8], message: &[u8], value: &[u8]) -> bool {
        let checked = match self {
            Self::Ed25519(key) => {
                Verifier::new_without_digest(key).and_then(|mut verifier| verifier.verify_oneshot(value, message))
            }
            Self::Ecdsa(key, digest) => check_ecdsa(key, *digest, message, value),
            Self::Rsa(key, length) => {
                let digest = match algorithm {
                    b"rsa-sha2-256" => MessageDigest::sha256(),
                    b"rsa-sha2-512" => MessageDigest::sha512(),
                    // ssh-rsa is SHA-1.
                    _ => return false,
                };
                // Some programs leave zeros out.
                let missing = length.saturating_sub(value.len());
                let value = [&vec![0; missing], value].concat();
                Verifier::new(digest, key).and_then(|mut verifier| verifier.verify_oneshot(&value, message))
            }
            Self::Hardware(..) => return false,
        };
        checked.unwrap_or(false)
    }
}

/// Checks a signature of two numbers.
fn check_ecdsa(key: &EcKey<Public>, digest: MessageDigest, message: &[u8], value: &[u8]) -> Result<bool, ErrorStack> {
    let mut reader = Reader(value);
    let (Some(r), Some(s), true) = (reader.positive(), reader.positive(), reader.is_at_end()) else {
        return Ok(false);
    };
    let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    signature.verify(&hash(digest, message)?, key)
}

fn ed25519<'a>(reader: &mut Reader<'a>) -> Option<Algorithm<'a>> {
    PKey::public_key_from_raw_bytes(reader.string()?, Id::ED25519).ok().map(Algorithm::Ed25519)
}

fn ecdsa<'a>(reader: &mut Reader<'a>, name: &[u8], curve: Nid, digest: MessageDigest) -> Option<Algorithm<'a>> {
    if reader.string()? != name {
        return None;
    }
    public_key::ecdsa(curve, reader.string()?).map(|key| Algorithm::Ecdsa(key, digest))
}

fn rsa<'a>(reader: &mut Reader<'a>) -> Option<Algorithm<'a>> {
    let (exponent, modulus) = (reader.positive()?, reader.positive()?);
    public_key::rsa(modulus, exponent).map(|(key, length)| Algorithm::Rsa(key, length))
}

/// Passes over what follows the type of a key, and returns it.
pub(super) fn fields<'a>(kind: &[u8], reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let before = reader.0;
    Algorithm::read(kind, reader)?;
    Some(&before[..before.len() - reader.0.len()])
}
